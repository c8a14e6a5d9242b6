"""Answers without logical consistency (the paper, data section): loops, echoes, lists whose numbers jump."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING
from unicodedata import numeric

from medchatzh.curate.lists import Marker, markers
from medchatzh.curate.rules.registry import CONTENT, FORM, Case, Seen, rule
from medchatzh.curate.rules.thresholds import PoolRules

if TYPE_CHECKING:
    from medchatzh.curate.features import Features, Mask

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
_MIN_GRAMS, _MAX_GRAM_SHARE = 12, 0.5
_MAX_LIST_NUMBER = 30
_MAX_MISSING = 2
_HEADS = re.compile(r"[0-9]+|[①-⒛]|[一二三四五六七八九十](?=[、）)是])")
_MARKS = (".", "．", "、", ")", ",", ":", "。")
_FIRST = (*(f"1{mark}" for mark in _MARKS), "1 )", "1 、", "1 .", "①", "⑴", "⒈", "一、", "(一")
# A list that jumps over one or two numbers after 1 has a 3, a 4 or a 5.
_LATER = (
    *(f"{number}{space}{mark}" for number in "345" for space in ("", " ") for mark in _MARKS),
    *"③④⑤⑶⑷⑸⒊⒋⒌",
    "三、",
    "四、",
    "五、",
    "(三",
    "(四",
    "(五",
)


@rule(
    CONTENT + 4,
    gate=lambda features, settings: (features.traits.repeats > settings.max_repeats) | (features.traits.gram_share < _MAX_GRAM_SHARE),
)
def loop(case: Case) -> Seen | None:
    """One answer says the same thing over and over: what a language model does that has lost its way."""
    limit = case.settings.max_repeats
    for place, answer in case.answers():
        for part, count in Counter(map(str.strip, _SENTENCE.split(answer))).most_common():
            if count <= limit:
                break
            if count * len(part) >= case.settings.min_loop_share * len(answer) and sum(map(str.isalnum, part)) >= 2:
                return Seen(f"{count} × {part[:20]!r}", place, answer.index(part), answer.rindex(part) + len(part))
        if _is_monotonous(start := answer[:_LOOK_CHARS]):
            for match in _LOOP.finditer(start):
                if _HANZI.search(match[1]):
                    return Seen(f"over and over {match[1][:20]!r}", place, *match.span())
    return None


def _may_echo(features: Features, settings: PoolRules) -> Mask:
    # Of a share of unknown pairs p, at most p × characters + 1 characters are unknown ones.
    strange = (1 - settings.echo_overlap) * features.answer_chars + 1
    return (features.num_answers == 1) & (features.answer_chars <= 3 * features.question_chars) & (features.traits.new_hanzi <= strange)


@rule(CONTENT + 1, gate=_may_echo)
def question_echo(case: Case) -> str | None:
    """The answer only repeats the question.

    Not so an answer that turns a yes/no question into a statement (病情可能是……吗？ 病情可能是……。), one that brings a number of its own,
    or one that works on a text given in the question (sort, extract, rewrite: its instruction is not repeated).
    """
    if case.is_multi_turn or len(case.answer) > 3 * len(case.question):
        return None
    asked, said = _plain(case.question), _plain(case.answer)
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


def _plain(text: str) -> str:
    """Letters and digits only. Unlike `normalize` it keeps every hanzi as it is, on which the gate relies."""
    return "".join(filter(str.isalnum, text.lower()))


@rule(FORM, signs=_FIRST, gate=lambda features, _: features.has(_LATER), groups=(_LATER,))
def skipped_number(case: Case) -> Seen | None:
    """A list that jumps over a number or two (1 2 4): items were lost, or never belonged together.

    A new start at 1 is another list. A number that stands anywhere else between the two is not missing, it only sits at no boundary; nor
    is one that the question did not ask for (`请讲第1、4、6条`), nor in a text that shows code or tables. The number before the jump's end
    must stand nowhere in the answer: that costs little to see, and spares nearly all lists the closer look.
    """
    asked = _numbers("\n".join(turn.content for turn in case.dialogue.turns if turn.role == "user"))
    for place, answer in case.answers():
        if "```" in answer or "|--" in answer:
            continue
        numbers = _numbers(answer)
        late = {number for number in numbers if number - 1 not in numbers and numbers & set(range(number - 1 - _MAX_MISSING, number - 1))}
        if not late - asked:
            continue
        by_style: dict[str, list[Marker]] = {}
        for marker in markers(answer):
            if marker.strong and marker.number <= _MAX_LIST_NUMBER:
                by_style.setdefault(marker.style, []).append(marker)
        for same in by_style.values():
            for before, after in _jumps(answer, same):
                if after.number in late - asked:
                    return Seen(f"{after.number} follows {before.number}", place, before.start, after.end)
    return None


def _jumps(text: str, same: list[Marker]) -> list[tuple[Marker, Marker]]:
    """The pairs of neighbours between which one or two numbers are missing, in a list that begins with 1."""
    if same[0].number != 1:
        return []
    return [
        (before, after)
        for before, after in pairwise(same)
        if 2 <= after.number - before.number <= _MAX_MISSING + 1
        and not _numbers(text[before.end : after.start]) & set(range(before.number + 1, after.number))
    ]


def _numbers(text: str) -> set[int]:
    """The numbers of the text up to the length of a list, those of list markers in whatever style too (`2。`, `（2)`, `②`, `二、`)."""
    found = (int(head) if head.isdecimal() else int(numeric(head)) for head in _HEADS.findall(text) if len(head) < 3)
    return {number for number in found if number <= _MAX_LIST_NUMBER}


def _is_monotonous(text: str) -> bool:
    """Few different 4-grams: the cheap look before the costly pattern."""
    total = len(text) - _GRAM + 1
    return total >= _MIN_GRAMS and len({text[place : place + _GRAM] for place in range(total)}) < _MAX_GRAM_SHARE * total
