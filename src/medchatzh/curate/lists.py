"""Numbered lists in Chinese answers: find their markers, and write every list as `1.` `2.` `3.`.

The paper (data section) rewrites numbers such as '1' and '(1)' as '1.'. Done naively that damages `维生素B1、B12`, `右旋糖酐40、` or
`0、1、6个月`: of 12 naive edits read, 11 were damage. So only a *run* 1, 2, 3 … of one style is rewritten, each item at a boundary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_HANZI = "一二三四五六七八九十"
_ENCLOSED = {chr(start + offset): offset + 1 for start in (0x2460, 0x2474, 0x2488) for offset in range(20)}

# A style's rank is its level in the usual outline 一、 > 1. > （1） > ①: only a lower level can be nested in a higher one.
_HANZI_COMMA, _HANZI_PAREN, _ARABIC, _CLOSED, _PAREN, _CIRCLED = range(6)

_MARKER = re.compile(
    r"(?P<enclosed>[①-⑳⑴-⒇⒈-⒛])[、.．，,:：]?"
    r"|[（(][ ]?(?P<paren>[0-9０-９]{1,2})[ ]?[）)][、.．]?"
    r"|[（(](?P<hanzi_paren>[一二三四五六七八九十]{1,3})[）)][、.．]?"
    r"|(?P<hanzi>[一二三四五六七八九十]{1,3})、"
    r"|(?P<arabic>[0-9０-９]{1,2})[ ]?(?P<mark>[、）)]|[.．，,：:](?![0-9０-９]))"
)
_FULL_WIDTH_MARKS = str.maketrans("．，：）", ".,:)")
_STRONG = "\n。；;：:！!？?…"
_WEAK = "，,、 \t\u3000.）)”"


class Marker(NamedTuple):
    """One list number in a text: `text[start:end]`, its value, and its style (markers of one style can form a run)."""

    start: int
    end: int
    number: int
    style: str
    rank: int
    strong: bool
    """It opens a line or follows the end of a sentence, so a run may begin here."""


class Run(NamedTuple):
    """Markers 1, 2, 3 … of one style; the last item reaches to `end`."""

    markers: tuple[Marker, ...]
    end: int

    @property
    def rank(self) -> int:
        return self.markers[0].rank

    def holds(self, other: Run) -> bool:
        return self.rank < other.rank and self.markers[0].start < other.markers[0].start < self.end


def markers(text: str) -> Iterator[Marker]:
    """Everything that looks like a list number and stands at a boundary."""
    for match in _MARKER.finditer(text):
        boundary = _boundary(text, match.start())
        if boundary:
            number, style, rank = _read(match)
            if number:
                yield Marker(match.start(), match.end(), number, style, rank, boundary == "strong")


def runs(text: str) -> list[Run]:
    """Every run of at least two items, in order of style and place."""
    by_style: dict[str, list[Marker]] = {}
    for marker in markers(text):
        by_style.setdefault(marker.style, []).append(marker)
    return [run for same in by_style.values() for run in _runs_of_style(text, same)]


def harmonise(text: str) -> str:
    """Rewrite the markers of every list as `1.`; idempotent; a text without lists comes back unchanged.

    Of nested lists one level becomes `1.`: under `一、` the numbers below it, otherwise the outer one. First/second words
    (首先, 第一，) are language, not markers, and stay.
    """
    # A rewritten list may show that another was nested in it; each pass leaves fewer foreign markers, so this ends.
    while (changed := _harmonise_once(text)) != text:
        text = changed
    return text


def _harmonise_once(text: str) -> str:
    found = runs(text)
    marked: list[Marker] = []
    for run in found:
        outline_head = run.rank <= _HANZI_PAREN and any(run.holds(other) for other in found)
        nested = any(other.holds(run) and other.rank > _HANZI_PAREN for other in found)
        if not outline_head and not nested:
            marked += run.markers
    for marker in sorted(marked, reverse=True):
        rest = text[marker.end :]
        # `1、3天后复查` must not become the decimal `1.3`
        gap = " " if rest[:1].isdigit() else ""
        text = f"{text[: marker.start]}{marker.number}.{gap}{rest}"
    return text


def _runs_of_style(text: str, same: list[Marker]) -> Iterator[Run]:
    current: list[Marker] = []
    for marker in [*same, None]:
        if marker and current and marker.number == current[-1].number + 1 and _has_content(text, current[-1].end, marker.start):
            current.append(marker)
            continue
        if marker and current and not marker.strong:
            continue  # a stray number at a weak boundary (每日2、3次) does not end the list around it
        if len(current) >= 2 and _has_content(text, current[-1].end, len(text)):
            yield Run(tuple(current), marker.start if marker else len(text))
        current = [marker] if marker and marker.number == 1 and marker.strong else []


def _has_content(text: str, start: int, end: int) -> bool:
    """An item says something: `1、2、6个月` is an enumeration of numbers, not a list."""
    return sum(character.isalpha() for character in text[start : min(end, start + 40)]) >= 2


def _boundary(text: str, start: int) -> str:
    line = text.rfind("\n", 0, start) + 1
    before = text[line:start].rstrip(" \t\u3000*#>-")
    if not before or before[-1] in _STRONG:
        return "strong"
    return "weak" if text[start - 1] in _WEAK else ""


def _read(match: re.Match[str]) -> tuple[int, str, int]:
    """(number, style, rank) of a marker; number 0 where the numeral is none."""
    kind = match.lastgroup or ""
    if enclosed := match["enclosed"]:
        block = ord(enclosed) - _ENCLOSED[enclosed]
        return _ENCLOSED[enclosed], f"enclosed{block}", {0x245F: _CIRCLED, 0x2473: _PAREN}.get(block, _ARABIC)
    if paren := match["paren"]:
        return int(paren), "paren", _PAREN
    if numeral := match["hanzi_paren"] or match["hanzi"]:
        return _hanzi_number(numeral), kind, _HANZI_PAREN if match["hanzi_paren"] else _HANZI_COMMA
    mark = match["mark"].translate(_FULL_WIDTH_MARKS)
    return int(match["arabic"]), f"arabic{mark}", _CLOSED if mark == ")" else _ARABIC


def _hanzi_number(numeral: str) -> int:
    """一 … 九十九 → 1 … 99; 0 where the numeral is none (一二, 十十)."""
    tens, ten, units = numeral.rpartition("十")
    if len(tens) > 1 or len(units) > 1 or "十" in tens:
        return 0
    return (10 * (_HANZI.index(tens) + 1 if tens else 1) if ten else 0) + (_HANZI.index(units) + 1 if units else 0)
