"""Answers without logical consistency (the paper, data section): loops, echoes, lists whose numbers jump."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from medchatzh.curate.lists import Marker, markers
from medchatzh.curate.rules.registry import CONTENT, FORM, Case, rule
from medchatzh.records import normalize

_SENTENCE = re.compile(r"[。！？!?；;，,\n]+")
_LOOK_CHARS = 1000
# One part of free length, no more than fits in four times (4 ms at worst): with `.*` beside it the search was cubic, seconds for 900
# characters.
_LOOP = re.compile(rf"(.{{2,{_LOOK_CHARS // 4}}}?)\1{{3,}}")
_HANZI = re.compile(r"[\u4e00-\u9fff]")
_YES_NO = re.compile(r"吗|是否|是不是|有没有|能不能|可不可以|会不会|需不需要|要不要|对不对")
_ASKS = re.compile(r"[？?吗呢么][。！!？?]?$")
_NUMBER = re.compile(r"[0-9]+")
_HEAD_CHARS = 6
_GRAM = 4
_MAX_LIST_NUMBER = 30


@rule(CONTENT + 4)
def loop(case: Case) -> str | None:
    """One answer says the same thing over and over: what a language model does that has lost its way."""
    limit = case.settings.max_repeats
    for answer in case.dialogue.answers:
        counts = Counter(part for piece in _SENTENCE.split(answer) if sum(map(str.isalnum, part := piece.strip())) >= 2)
        part, count = max(counts.items(), key=lambda item: item[1] * len(item[0]), default=("", 0))
        if count > limit and count * len(part) >= case.settings.min_loop_share * len(answer):
            return f"{count} × {part[:20]!r}"
        if _is_monotonous(start := answer[:_LOOK_CHARS]):
            for match in _LOOP.finditer(start):
                if _HANZI.search(match[1]):
                    return f"over and over {match[1][:20]!r}"
    return None


@rule(CONTENT + 1)
def question_echo(case: Case) -> str | None:
    """The answer only repeats the question.

    Not so an answer that turns a yes/no question into a statement (病情可能是……吗？ 病情可能是……。), one that brings a number of its own,
    or one that works on a text given in the question (sort, extract, rewrite: its instruction is not repeated).
    """
    if case.is_multi_turn or len(case.answer) > 3 * len(case.question):
        return None
    asked, said = normalize(case.question), normalize(case.answer)
    if len(said) < 4 or len(said) > 1.2 * len(asked) or len(said) < case.settings.echo_length * len(asked):
        return None
    asks = _ASKS.search(case.answer) is not None
    if not asks and (_YES_NO.search(case.question) or asked[:_HEAD_CHARS] not in said):
        return None
    if not set(_NUMBER.findall(said)) <= set(_NUMBER.findall(asked)):
        return None
    pairs = [said[place : place + 2] for place in range(len(said) - 1)]
    known = {asked[place : place + 2] for place in range(len(asked) - 1)}
    overlap = sum(pair in known for pair in pairs) / len(pairs)
    return f"{overlap:.0%} of the answer stands in the question" if overlap >= case.settings.echo_overlap else None


@rule(FORM)
def skipped_number(case: Case) -> str | None:
    """A list whose numbers jump (1 2 4) or fall back in disorder: items were lost, or never belonged together.

    A new start at 1 is another list. A number that stands anywhere else between the two is not missing: it only sits at no boundary.
    """
    for answer in case.dialogue.answers:
        if "```" in answer or "|--" in answer:
            continue
        by_style: dict[str, list[Marker]] = {}
        for marker in markers(answer):
            if marker.strong and marker.number <= _MAX_LIST_NUMBER:
                by_style.setdefault(marker.style, []).append(marker)
        for same in by_style.values():
            if jump := _jump(answer, same):
                return jump
    return None


def _jump(text: str, same: list[Marker]) -> str | None:
    if not same or same[0].number != 1:
        return None
    for before, after in pairwise(same):
        if after.number in (1, before.number + 1):
            continue
        missing = range(before.number + 1, after.number) if after.number > before.number else [before.number + 1]
        if not any(_stands(str(number), text[before.end : after.start]) for number in missing):
            return f"{after.number} follows {before.number}"
    return None


def _stands(number: str, text: str) -> bool:
    return re.search(rf"(?<![0-9.]){number}(?![0-9])\s*[、.．)），,:：]", text) is not None


def _is_monotonous(text: str) -> bool:
    """Few different 4-grams: the cheap look before the costly pattern."""
    total = len(text) - _GRAM + 1
    return total >= 12 and len({text[place : place + _GRAM] for place in range(total)}) < 0.5 * total
