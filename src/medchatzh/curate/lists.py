"""Numbered lists in Chinese answers: find their markers, and write every list as `1.` `2.` `3.`.

The paper (data section) rewrites numbers such as '1' and '(1)' as '1.'. Done naively that damages `维生素B1、B12`, `右旋糖酐40、` or
`0、1、6个月`: of 12 naive edits read, 11 were damage. So only a *list* is rewritten: markers 1, 2, 3 … that stand at boundaries, each
followed by words. Levels stay distinct: an outer list becomes `1.`, a list inside its items `(1)`, one inside those `①`; an outline of
more levels is left alone.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_HANZI = "一二三四五六七八九十"
_ENCLOSED = {chr(start + offset): offset + 1 for start in (0x2460, 0x2474, 0x2488) for offset in range(20)}

# A style's rank is its level in the usual outline 一、 > （一） > 1. > 1) > （1） > ①.
_HANZI_COMMA, _HANZI_PAREN, _ARABIC, _CLOSED, _PAREN, _CIRCLED = range(6)

_MARKER = re.compile(
    r"(?P<enclosed>[①-⑳⑴-⒇⒈-⒛])[、.．，,:：]?"
    r"|[（(](?:(?P<paren>[0-9０-９]{1,2})|(?P<hanzi_paren>[一二三四五六七八九十]{1,3}))[）)][、.．，,:：]?"
    r"|(?P<arabic>[0-9０-９]{1,2})(?P<mark>[）)][、.．，,:：]?|、|[.．，,:：。](?![0-9０-９]))"
    r"|(?P<hanzi>[一二三四五六七八九十]{1,3})、"
    # `3不定期复查`: no mark at all; what counts, measures or dates is no item
    r"|(?P<bare>(?<![0-9０-９.])[2-9])(?=[\u4e00-\u9fff])(?![个次天日月年周岁小分秒时点级期度型号类种项片粒颗克毫斤两瓶支袋针剂瓣毛米"
    r"公千百万亿元块人名位例条只头倍杯碗勺口顿餐步遍指比左右成到至或以来者代胎孕十多几余层大组盒包滴段套份根张])"
)
FIRST_MARKERS = ("1、", "1.", "1．", "1)", "1）", "1，", "1,", "1：", "1:", "1。", "１", "①", "⑴", "⒈", "一、", "一)", "一）")
SECOND_MARKERS = tuple(marker.translate(str.maketrans("1１①⑴⒈一", "2２②⑵⒉二")) for marker in FIRST_MARKERS)
FOREIGN_MARKERS = (
    *(digit + mark for digit in "0123456789" for mark in "、)）,，:：。"),
    *(numeral + mark for numeral in _HANZI for mark in "、)）"),
    *(chr(ord("０") + digit) for digit in range(10)),
    *_ENCLOSED,
    "．",
)
"""In a text that `harmonise` changes stands one string of each of the three: where all numbers have their point, nothing is to be done."""

_FIRST, _SECOND = (re.compile("|".join(map(re.escape, strings))) for strings in (FIRST_MARKERS, SECOND_MARKERS))
_FULL_WIDTH_MARKS = str.maketrans("．，：）", ".,:)")
_STRONG_ENDS = "\n。；;：:！!？?…"
_BLANKS = " \t\u3000\xa0\u2002\u2003"
_WEAK_ENDS = "，,、.．)）”】》" + _BLANKS
_LEFT_BARE = "*#>-“「『【" + _BLANKS
_QUANTITY = "第约每近达乘加减超过满"
"""A number straight after one of these counts something: 第1、第2、约1，"""
_ITEM_CHARS = 40
_MAX_OPEN = 8
"""Open lists that a marker may continue. Real outlines have up to four; with no bound, a text of `1、` alone would take squared time."""


class Marker(NamedTuple):
    """One list number in a text: `text[start:end]`, its value, and its style (markers of one style can form a list)."""

    start: int
    end: int
    number: int
    style: str
    rank: int
    boundary: str
    """`strong`: opens a line or follows the end of a sentence; `weak`: follows a comma or a space; `attached`: follows a word."""

    @property
    def strong(self) -> bool:
        return self.boundary == "strong"

    @property
    def soft(self) -> bool:
        """Numbers in running text have such a mark too: `每次1，每日2，`."""
        return self.style in ("arabic,", "arabic:", "arabic。")


class _Ambiguous(Exception):
    """A number is due in two open lists: `1.… 2.… 1、… 2、… 3.`"""


class List:
    """Markers 1, 2, 3 … of one style (or nearly: `(1)…(2)…3)`), and the list that was open where this one began."""

    def __init__(self, first: Marker, outer: List | None) -> None:
        self.markers = [first]
        self.styles = {first.style}
        self.outer = outer
        self.inner: list[List] = []
        if outer is not None:
            outer.inner.append(self)

    @property
    def first(self) -> Marker:
        return self.markers[0]

    @property
    def last(self) -> Marker:
        return self.markers[-1]

    @property
    def due(self) -> int:
        """The number that continues the list."""
        return self.last.number + 1

    def add(self, marker: Marker) -> None:
        self.markers.append(marker)
        self.styles.add(marker.style)


def markers(text: str) -> Iterator[Marker]:
    """Everything that looks like a list number and follows the end of a line, a sentence or a clause."""
    return (marker for marker in _candidates(text) if marker.boundary != "attached" and marker.style != "bare")


def lists(text: str) -> list[tuple[List, int]]:
    """Every list of a text with its level (0: the outermost), by place; none where a number might belong to two of them."""
    try:
        found = _parse(text)
    except _Ambiguous:
        return []
    runs = {each for each in found if _is_run(each)}
    outer = {each: _outer(each, runs) for each in found}
    num_like = Counter((outer[each], each.first.style) for each in found)
    levels: dict[List, int] = {}
    for each in found:
        around, first = outer[each], each.first
        # Every heading of an outline may have one item below it: `一、构成 1.… 二、用途 1.…`
        lone = len(each.markers) == 1 and (first.strong or first.rank >= _PAREN) and num_like[around, first.style] > 1
        if each in runs or (around is not None and lone):
            levels[each] = 0 if around is None else levels[around] + 1
    return list(levels.items())


def harmonise(text: str) -> str:
    """Rewrite the markers of every list: `1.`, inside its items `(1)`, inside those `①`; idempotent; all else stays.

    First/second words (首先, 第一，) are language, not markers. A text whose lists cannot be told apart for sure is left as it is.
    """
    if not (_FIRST.search(text) and _SECOND.search(text)):
        return text
    once = _rewritten(text)
    # What is written must be read as it was meant. Where a second reading finds other lists, the first was a guess.
    return once if once == text or _rewritten(once) == once else text


def _rewritten(text: str) -> str:
    edits: list[tuple[int, int, str]] = []
    outline: list[tuple[Marker, int]] = []
    for each, level in [*lists(text), (None, 0)]:
        if level == 0:
            edits += _edits(text, outline)
            outline = []
        if each is not None:
            outline += [(marker, level) for marker in each.markers]
    pieces = []
    done = 0
    for start, end, form in sorted(edits):
        # `1、3天后复查` must not become the decimal `1.3`
        gap = " " if form[-1] == "." and text[end : end + 1].isdigit() else ""
        pieces += [text[done:start], form, gap]
        done = end
    return "".join([*pieces, text[done:]])


def _edits(text: str, outline: list[tuple[Marker, int]]) -> list[tuple[int, int, str]]:
    """(start, end, what to write there) for a list and the lists inside it.

    None for more levels than there are forms; none where all numbers have their point: indentation tells such levels, as in Markdown.
    """
    too_deep = any(level > 2 or (level == 2 and marker.number > 20) for marker, level in outline)
    if too_deep or all(marker.style == "bare" or text[marker.start : marker.end] == f"{marker.number}." for marker, _ in outline):
        return []
    return [(marker.start, marker.end, _form(marker.number, level)) for marker, level in outline]


def _form(number: int, level: int) -> str:
    return f"{number}." if level == 0 else f"({number})" if level == 1 else chr(0x245F + number)


def _parse(text: str) -> list[List]:
    """Every possible list, by place: what opens with 1, and what continues the innermost open list that waits for it."""
    found: list[List] = []
    opened: list[List] = []
    candidates = list(_candidates(text))
    last_place = {(marker.style, marker.number): marker.start for marker in candidates}
    for marker in candidates:
        place = _place(text, opened, marker, last_place)
        if place is not None:
            del opened[place + 1 :]
            opened[place].add(marker)
        elif marker.number == 1 and _may_begin(text, marker):
            found.append(List(marker, opened[-1] if opened else None))
            opened = [*opened[-_MAX_OPEN:], found[-1]]
    for each in found:
        if len(each.markers) > 1 and not _says_something(text, each.last.end, len(text), 1):
            each.markers.pop()
    return found


def _place(text: str, opened: list[List], marker: Marker, last_place: dict[tuple[str, int], int]) -> int | None:
    """Index of the open list that a marker continues: of its own style, else one in which this number is missing."""
    num_letters = 1 if marker.strong else 2
    for test in (_continues, _stands_in):
        for place in reversed(range(len(opened))):
            each = opened[place]
            if not test(text, each, marker, last_place) or not _says_something(text, each.last.end, marker.start, num_letters):
                continue
            if len(each.markers) == 1 and not each.first.strong:
                # `1、药物1、甲乙2、休息`: a doubtful 1 does not take the 2 from a sure one
                rivals = (rival for rival in range(place) if opened[rival].due == marker.number and marker.style in opened[rival].styles)
                return next(rivals, place)
            for inner in opened[place + 1 :]:
                if inner.due == marker.number and inner.first.rank == marker.rank and len(inner.markers) > 1:
                    raise _Ambiguous
            return place
    return None


def _may_begin(text: str, marker: Marker) -> bool:
    """A list may begin inside a sentence, but a number between spaces (增加 1，) has its mark from the sentence."""
    spaced = marker.soft and text[marker.start - 1 : marker.start].isspace()
    return marker.strong or (_opens_words(text, marker) and not spaced)


def _continues(text: str, each: List, marker: Marker, last_place: dict[tuple[str, int], int]) -> bool:
    if marker.style not in each.styles or marker.style == "bare":
        return False
    if marker.number == each.due:
        return marker.strong or (_opens_words(text, marker) and not _is_named(text, each.first, marker))
    if marker.boundary == "attached":
        return False
    # One item was lost: the rest is still this list.
    skips = marker.number == each.due + 1 and len(each.markers) > 1 and marker.strong and not marker.soft
    return skips and last_place.get((marker.style, each.due), 0) < marker.start and _opens_words(text, marker)


def _is_named(text: str, one: Marker, other: Marker) -> bool:
    """例1：…例2：, 阶段1、阶段2、: a name with a number, not an item."""
    ends = [text[max(0, marker.start - 12) : marker.start].rstrip(_LEFT_BARE)[-1:] for marker in (one, other)]
    return ends[0] == ends[1] and ends[0].isalpha()


def _stands_in(text: str, each: List, marker: Marker, last_place: dict[tuple[str, int], int]) -> bool:
    """`(1)…(2)…3)…(4)`, `1、…2、…3不定期…`: the number that is due, in another style, and none later in the list's own."""
    if marker.number != each.due or any(last_place.get((style, marker.number), 0) > marker.start for style in each.styles):
        return False
    if (marker.rank <= _HANZI_PAREN) != (each.first.rank <= _HANZI_PAREN) or not _opens_words(text, marker):
        return False
    if marker.style == "bare":
        due = any(last_place.get((style, marker.number + 1), 0) > marker.start for style in each.styles)
        return len(each.markers) > 1 and due and each.first.rank in (_ARABIC, _CLOSED)
    if len(each.markers) == 1:
        return each.first.strong and abs(marker.rank - each.first.rank) <= 1 and (marker.strong or marker.style == "paren")
    return marker.strong or not marker.soft


def _is_run(each: List) -> bool:
    doubtful = each.first.soft and each.first.boundary == "attached"
    return len(each.markers) >= (3 if doubtful else 2)


def _outer(each: List, runs: set[List]) -> List | None:
    """The list in whose item this one stands.

    After a last item that is so only where the style is of a lower level, or where earlier items have lists of that style; otherwise the
    list follows, and does not belong.
    """
    outer, first = each.outer, each.first
    for _ in range(_MAX_OPEN):
        if outer is None:
            break
        last = outer.last.start
        if outer in runs and (
            last > first.start
            or first.rank > outer.first.rank
            or any(other.first.style == first.style and other.first.start < last for other in outer.inner)
        ):
            return outer
        outer = outer.outer
    return None


def _says_something(text: str, start: int, end: int, num_letters: int) -> bool:
    """An item says something: `1、2、6个月` is an enumeration of numbers, `看（1）和（2）` one of places; neither is a list."""
    return sum(map(str.isalpha, text[start : min(end, start + _ITEM_CHARS)])) >= num_letters


def _opens_words(text: str, marker: Marker) -> bool:
    """`每日2、3次`, `3、4岁`: a number before a number counts."""
    return not text[marker.end : marker.end + 2].lstrip()[:1].isdigit()


def _candidates(text: str) -> Iterator[Marker]:
    """Every marker at any boundary; none in fenced code."""
    fences = [match.start() for match in re.finditer("```", text)] if "```" in text else []
    for match in _MARKER.finditer(text):
        if (boundary := _boundary(text, match)) and bisect(fences, match.start()) % 2 == 0:
            number, style, rank = _read(match)
            if number:
                yield Marker(match.start(), match.end(), number, style, rank, boundary)


def _boundary(text: str, match: re.Match[str]) -> str:
    start = match.start()
    if match["mark"] and match["mark"][0] in "）)" and _is_inside_parentheses(text, start):
        return ""
    line = text.rfind("\n", max(0, start - 12), start) + 1 or (0 if start <= 12 else start - 12)
    before = text[line:start].rstrip(_LEFT_BARE)
    if not before:
        return "strong" if line == 0 or text[line - 1] == "\n" else "weak"
    end = before[-1]
    if end in ":：.．，,、" and before[-2:-1].isdigit():
        return ""  # 1:2、 and 0、1、6个月 and 2.1、 are numbers, not markers
    if end in _STRONG_ENDS:
        return "strong"
    before = text[start - 1]
    if match["arabic"] and end.isascii() and end.isalpha():
        return ""  # Step 1:, Verse 2:, B 12、
    if before in _WEAK_ENDS:
        return "weak"
    attached = match.lastgroup in ("mark", "enclosed", "paren") and "\u4e00" <= before <= "\u9fff" and before not in _QUANTITY
    return "attached" if attached else ""


def _is_inside_parentheses(text: str, start: int) -> bool:
    """`(甲烷, 1)`: the parenthesis closes what was opened before, within a few words."""
    near = text[max(0, start - 30) : start]
    return max(near.rfind("("), near.rfind("（")) > max(near.rfind(")"), near.rfind("）"))


def _read(match: re.Match[str]) -> tuple[int, str, int]:
    """(number, style, rank) of a marker; number 0 where the numeral is none."""
    kind = match.lastgroup or ""
    if kind == "enclosed":
        block = ord(match[kind]) - _ENCLOSED[match[kind]]
        return _ENCLOSED[match[kind]], f"enclosed{block}", {0x245F: _CIRCLED, 0x2473: _PAREN}.get(block, _ARABIC)
    if kind in ("paren", "bare"):
        return int(match[kind]), kind, _PAREN if kind == "paren" else _ARABIC
    if kind in ("hanzi_paren", "hanzi"):
        return _hanzi_number(match[kind]), kind, _HANZI_PAREN if kind == "hanzi_paren" else _HANZI_COMMA
    mark = match["mark"][0].translate(_FULL_WIDTH_MARKS)
    return int(match["arabic"]), f"arabic{mark}", _CLOSED if mark == ")" else _ARABIC


def _hanzi_number(numeral: str) -> int:
    """一 … 九十九 → 1 … 99; 0 where the numeral is none (一二, 十十)."""
    tens, ten, units = numeral.rpartition("十")
    if len(tens) > 1 or len(units) > 1 or "十" in tens:
        return 0
    return (10 * (_HANZI.index(tens) + 1 if tens else 1) if ten else 0) + (_HANZI.index(units) + 1 if units else 0)
