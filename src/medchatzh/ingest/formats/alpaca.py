"""Instruction records: {"instruction", "input", "output"} with optional category, system and history (BELLE, Alpaca, BenTsao)."""

from __future__ import annotations

import re
from typing import Any

from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import Unusable, called, dialogue, exchange, first_text, text_of
from medchatzh.records import Dialogue, Role

_PACKED = re.compile(r"<(user|bot)>\s*[:：]")


@form("alpaca", {"instruction", "output"}, {"instruction"}, {"output"})
def convert(record: dict[str, Any]) -> Dialogue:
    """The question is `instruction`, a line break, `input`. BenTsao's liver_cancer.json packs earlier turns into the instruction
    as `<user>: … <bot>: … <user>: …`; they are unpacked. huatuo-26M's test set has a list of one text for each; the first is taken."""
    if isinstance(record.get("instruction"), list) and isinstance(record.get("output"), list):
        return exchange(*(first_text(record[key], key) for key in ("instruction", "output")))
    question = "\n".join(filter(None, (text_of(record.get(key), key) for key in ("instruction", "input"))))
    answer = text_of(record.get("output"), "output")
    category = text_of(record.get("category"), "category")
    system = text_of(record.get("system"), "system")
    history = _history(record.get("history"))
    packed = _unpacked(question) if "<user>" in question else []
    if not history and not packed:
        return exchange(question, answer, category, system)
    if not answer:
        raise Unusable("missing_answer", "no answer text")
    return dialogue([("system", system), *history, *(packed or [("user", question)]), ("assistant", answer)], category)


def _unpacked(text: str) -> list[tuple[Role, str]]:
    before, *pieces = _PACKED.split(text)
    turns: list[tuple[Role, str]] = [("user", before.strip())] if before.strip() else []
    for speaker, content in zip(pieces[::2], pieces[1::2], strict=True):
        turns.append(("user" if speaker == "user" else "assistant", content.strip()))
    return turns


def _history(value: Any) -> list[tuple[Role, str]]:
    """`history`: earlier exchanges as [question, answer] pairs."""
    turns: list[tuple[Role, str]] = []
    if value and not isinstance(value, list):
        raise Unusable("unknown_format", f"history is {called(value)}, not a list of [question, answer] pairs")
    for number, pair in enumerate(value or ()):
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unusable("unknown_format", f"history[{number}] is not a [question, answer] pair")
        turns += [("user", text_of(pair[0], f"history[{number}][0]")), ("assistant", text_of(pair[1], f"history[{number}][1]"))]
    return turns
