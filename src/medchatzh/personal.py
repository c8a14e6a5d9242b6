"""Personal data in text that is only shown: raw rows that were set aside, quotes in a report.

Curation's own search is exact. This one is blunt, since nothing is dropped for what it hides. What only a label tells (a name, an account)
is hidden wherever it stands in the text, or in the texts of one record.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator

_HANZI = "\u4e00-\u9fff"
# An address begins where its run of characters does: looked for at each of them, a run of ten million letters would take hours.
_ALONE = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+[@＠][A-Za-z0-9０-９.。_+@＠-]+|[0-9０-９](?:[-－ ]?[0-9０-９]){6,}[XxＸｘ]?")
_LABELLED = re.compile(
    r"(?:我叫|姓名|联系人|收件人|(?:[我他她]的?|患者|孩子|宝宝)名字)[叫是为]?[\s:：=\"']{0,6}"
    rf"(?!某|[他她它你我了不做和与及]|姓名|性别|年龄|电话|手机|住址|地址|身份)(?P<name>[{_HANZI}]{{2,4}}?)"
    rf"(?=[^{_HANZI}]|$|[男女]|性别|年龄|今年|电话|手机|身份|住址|家住|住在|来自)"
    r"|(?:(?<![A-Za-z])(?i:qq|vx|wx|wechat)|微信|[vV]信)号?码?[\s:：=\"'是]{0,4}(?P<account>[A-Za-z0-9_-]{5,20})"
)


def labelled(texts: Iterable[str]) -> set[str]:
    """The names and accounts that stand after their labels in the texts of one record."""
    return {match["name"] or match["account"] for text in texts for match in _LABELLED.finditer(text)}


def hide(text: str, cover: Callable[[str], str], known: Collection[str] | None = None) -> str:
    """The text with `cover` of each e-mail address, number as long as a telephone's, and known value (by default those that it labels)."""
    known = labelled([text]) if known is None else known
    pieces, place = [], 0
    spans = [*(match.span() for match in _ALONE.finditer(text)), *occurrences(text, known)]
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        start = max(start, place)
        if start < end:
            pieces += [text[place:start], cover(text[start:end])]
            place = end
    return "".join([*pieces, text[place:]])


def occurrences(text: str, known: Collection[str]) -> Iterator[tuple[int, int]]:
    """Where known values stand as wholes, the longest first: no digits beside their digits, no ASCII letters beside their letters.

    `known` is a set, or a mapping by value. The time does not grow with the number of values, but with that of their lengths.
    """
    if not known:
        return
    lengths: dict[str, set[int]] = {}
    for value in known:
        lengths.setdefault(value[0], set()).add(len(value))
    longest_first = {first: sorted(found, reverse=True) for first, found in lengths.items()}
    begins = re.compile(f"[{re.escape(''.join(lengths))}]")
    place = 0
    while match := begins.search(text, place):
        start, place = match.start(), match.end()
        if _joins(text, start):
            continue
        for length in longest_first[text[start]]:
            end = start + length
            if text[start:end] in known and not _joins(text, end):
                yield start, end
                place = end
                break


def _joins(text: str, place: int) -> bool:
    """Whether the characters on both sides of a place belong to one number or one word of letters."""
    return 0 < place < len(text) and any(
        text[place - 1] in alphabet and text[place] in alphabet for alphabet in (string.digits, string.ascii_letters)
    )
