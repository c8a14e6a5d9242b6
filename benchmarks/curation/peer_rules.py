"""The rules that a user would write for a tool that has none of the kind: regular expressions on one text. Both peers call the same."""

from __future__ import annotations

import re

MIN_ANSWER_CHARS = 10
NUM_PERMUTATIONS, NUM_BANDS, ROWS_A_BAND, SHINGLE_CHARS = 128, 16, 8, 5

_PERSONAL = {
    "mobile": re.compile(r"(?<![0-9])1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}(?![0-9])"),
    "landline": re.compile(r"(?<![0-9])0[0-9]{2,3}-[2-9][0-9]{6,7}(?![0-9])"),
    "hotline": re.compile(r"(?<![0-9])[48]00-?[0-9]{3}-?[0-9]{4}(?![0-9])"),
    "email": re.compile(r"[A-Za-z0-9._%+-]+[@＠][A-Za-z0-9.-]+[.。](?:com|cn|net|org|edu)(?![A-Za-z])"),
    "id_card": re.compile(r"(?<![0-9])[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx](?![0-9])"),
    "bank_card": re.compile(r"(?<![0-9])[3-6][0-9]{15,18}(?![0-9])"),
    "qq": re.compile(r"[Qq]{2}[号群：: ]{0,3}[1-9][0-9]{4,10}(?![0-9])"),
    "wechat": re.compile(r"(?:微信|[Vv]信|[Vv][Xx])号?[：: ]{0,3}[A-Za-z0-9][A-Za-z0-9_-]{5,19}"),
}
_MARKER = re.compile(
    r"(?P<before>^|[\n。；;：:！!？?])[ \t]*"
    r"(?:[（(](?P<closed>[0-9０-９]{1,2})[）)]|(?P<plain>[0-9０-９]{1,2})(?:[、）)．，]|\.(?![0-9]))|(?P<enclosed>[①-⒛]))"
)


def is_long_enough(answer: str) -> bool:
    return len(answer) >= MIN_ANSWER_CHARS


def personal_data(text: str) -> str:
    """The first kind that is found, or ''."""
    return next((kind for kind, pattern in _PERSONAL.items() if pattern.search(text)), "")


def harmonise(text: str) -> str:
    """Every list number at the start of a line or sentence as `1.`; no runs, no nesting."""
    return _MARKER.sub(_written, text)


def _written(match: re.Match[str]) -> str:
    number = match["closed"] or match["plain"]
    value = int(number) if number else (ord(match["enclosed"]) - 0x2460) % 20 + 1
    return f"{match['before']}{value}."
