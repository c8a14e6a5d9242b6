"""What all finders of personal data share: the fold that makes one form of many, and the shape of a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

Check = Callable[[str, int, int], bool]
"""(folded text, start, end of the value) → whether it is what it looks like: check digits, grouping, the words around it."""


class Pattern(NamedTuple):
    """A kind's form. Group `value` is the personal part, the whole match where there is no such group."""

    kind: str
    form: re.Pattern[str]
    check: Check | None = None


SEPARATOR = r"(?: - |[ \-]?)"
"""What may stand between two digits of one number."""
HANZI_DIGITS = "零〇○一二三四五六七八九幺壹贰叁肆伍陆柒捌玖"
_READ = str.maketrans(HANZI_DIGITS, "0001234567891123456789")
SPACES = "\u00a0\u3000\u202f\ufeff" + "".join(map(chr, range(0x2000, 0x200E)))
DASHES = "—–‐‑‒―−"
FOLD: dict[int, int] = (
    {0xFF01 + place: 0x21 + place for place in range(94)}
    | {ord(space): ord(" ") for space in SPACES}
    | {ord(dash): ord("-") for dash in DASHES}
    | {0x1D7CE + place: ord("0") + place % 10 for place in range(50)}
)
"""Full-width to ASCII; every space, the invisible ones too, to a space; mathematical digits (𝟏𝟑𝟖), a way round filters, to digits."""
# Seven and more in a row; what 十, 百, 万 follow is a number that is read as a whole.
_SPOKEN = re.compile(rf"[0-9{HANZI_DIGITS}](?:{SEPARATOR}[0-9{HANZI_DIGITS}]){{6,}}(?![十百千万亿])")


def fold(text: str) -> str:
    """The text in the forms that patterns know, of the same length: ASCII for full-width, digits for hanzi read one by one."""
    return _SPOKEN.sub(lambda match: match.group().translate(_READ), text.translate(FOLD))


def digits(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(character for character in text if character in "0123456789")
