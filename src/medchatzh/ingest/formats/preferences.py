"""Rankings ({"prompt", "answers": [{"text", "rank"}]}) and pairs (chosen against rejected, as DPO and reward data have them)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import Unusable, called, normalize_turns, text_of, utterances
from medchatzh.records import Preference, Role, Turn


@form("rankings", {"prompt", "answers"})
def rankings(record: dict[str, Any]) -> Preference:
    answers = record["answers"]
    if not isinstance(answers, list):
        raise Unusable("unknown_format", f"answers is {called(answers)}, not a list of {{text, rank}}")
    ranked: list[tuple[str, int]] = []
    for number, answer in enumerate(answers):
        rank = answer.get("rank") if isinstance(answer, dict) else None
        if not isinstance(rank, int) or isinstance(rank, bool):
            raise Unusable("unknown_format", f"answers[{number}] is not {{text, rank}} with a whole number as rank")
        if text := text_of(answer.get("text"), f"answers[{number}].text"):
            ranked.append((text, rank))
    return preference(_prompt(record), ranked, str(record.get("id", "")), text_of(record.get("category"), "category"))


@form("pairs", {"chosen", "rejected"}, {"response_chosen", "response_rejected"})
def pairs(record: dict[str, Any]) -> Preference:
    prefix = "" if {"chosen", "rejected"} <= record.keys() else "response_"
    ranked = [(text, rank) for rank, key in ((1, "chosen"), (2, "rejected")) if (text := _answer(record, prefix + key))]
    if len(ranked) == 2 and ranked[0][0] == ranked[1][0]:
        raise Unusable("no_preference", "chosen and rejected are the same text")
    return preference(_prompt(record), ranked, category=text_of(record.get("category"), "category"))


def preference(prompt: tuple[Turn, ...], ranked: Sequence[tuple[str, int]], group: str = "", category: str = "") -> Preference:
    """A Preference from (answer, rank) pairs; without a `group` of its own, rankings of one prompt are a group.

    Raises Unusable: `too_few_answers`, or `no_preference` where all ranks are equal.
    """
    if len(ranked) < 2:
        raise Unusable("too_few_answers", f"{len(ranked)} answers with text, needed: 2")
    answers, ranks = zip(*ranked, strict=True)
    if len(set(ranks)) == 1:
        raise Unusable("no_preference", f"all {len(ranks)} answers have rank {ranks[0]}")
    digest = hashlib.sha256("\n".join(turn.content for turn in prompt).encode("utf-8", "replace")).hexdigest()[:16]
    return Preference(id="", prompt=prompt, answers=answers, ranks=ranks, group=group or digest, category=category)


def _answer(record: dict[str, Any], key: str) -> str:
    value = record[key]
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1]
    return text_of(value.get("value", value.get("content")) if isinstance(value, dict) else value, key)


def _prompt(record: dict[str, Any]) -> tuple[Turn, ...]:
    """The open dialogue before the answers: turns, or a text under one of several names."""
    found: list[tuple[Role, str]] = [("system", text_of(record.get("system"), "system"))] if record.get("system") else []
    for key in ("conversations", "messages", "prompt"):
        if isinstance(record.get(key), list):
            return normalize_turns([*found, *utterances(record[key], key)], answered=False)[0]
    texts = (text_of(record.get(key), key) for key in ("prompt", "instruction", "question", "input"))
    return normalize_turns([*found, ("user", "\n".join(filter(None, texts)))], answered=False)[0]
