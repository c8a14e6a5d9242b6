"""Personal data in Chinese text: find it, name its kind, mask it.

Two traps decide the form of the patterns. `\\b` fails beside hanzi (Python counts them as word characters: the patterns of a
well-known tool missed 932 of 932 mobiles written straight after hanzi), so boundaries are look-arounds on ASCII. And medical
text is full of long numbers (a viral load 20807000, a date 20100918), so numbers need a shape, a check digit, or a word before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from medchatzh.records import Dialogue, Turn


class Finding(NamedTuple):
    """Personal data at `text[start:end]`."""

    start: int
    end: int
    kind: str


class _Pattern(NamedTuple):
    kind: str
    mask: str
    form: re.Pattern[str]
    """Group `value` is what is masked, the whole match where there is no such group."""
    check: Callable[[str], bool] | None = None


def _id_card(digits: str) -> bool:
    """GB 11643-1999: date of birth in place 7-14, check character ISO 7064 MOD 11-2."""
    if not (1 <= int(digits[10:12]) <= 12 and 1 <= int(digits[12:14]) <= 31):
        return False
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(digits[:17]))
    return "10X98765432"[total % 11] == digits[17].upper()


def _is_not_example(address: str) -> bool:
    """`user@example.com` and its like, in answers about programming, is nobody's."""
    return _EXAMPLE.fullmatch(address) is None


def _luhn(text: str) -> bool:
    """The check digit of bank cards (ISO/IEC 7812); cards of two or three digits (4242…) are for tests."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 16 <= len(digits) <= 19 and len(set(digits)) > 3 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


# A count of something (copies, units) is no telephone number.
_NO_UNIT = r"(?![0-9]|\.[0-9]|\s?(?:IU|iu|U/|copies|拷贝|个|万|毫|微|克|单位|/))"
_CALL = r"(?:电话|热线|致电|拨打|座机|联系方式|[Tt][Ee][Ll])[^0-9\n]{0,6}"
_TLD = r"(?:com|cn|net|org|edu|gov|cc|info|me|io|hk|tw)"

_EXAMPLE = re.compile(
    r"(?:example|user(?:name)?|your[a-z._\-]*|my[a-z._\-]*|name|test|someone|e?mail|foo|bar|abc|xxx+|john[a-z._\-]*|jane[a-z._\-]*)[0-9]*"
    r"@(?:[a-z0-9\-]+\.)*(?:example|(?:your|my)?domain|test|e?mail|company|abc|xxx+)\.[a-z]+",
    re.IGNORECASE,
)

_PATTERNS = (
    _Pattern(
        "email",
        "<邮箱>",
        re.compile(
            r"(?<![/A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]+ ?(?:@|\(at\)|\[at\]|艾特) ?"
            rf"[A-Za-z0-9\-]+(?: ?[.。·点] ?[A-Za-z0-9\-]+)*? ?[.。·点] ?{_TLD}(?![A-Za-z])"
        ),
        _is_not_example,
    ),
    _Pattern("id_card", "<身份证>", re.compile(r"(?<![0-9])[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx](?![0-9A-Za-z])"), _id_card),
    _Pattern("id_card", "<身份证>", re.compile(r"身份证[^0-9\n]{0,8}(?P<value>[1-9][0-9]{13,16}[0-9Xx]{1,2})(?![0-9])")),
    _Pattern("bank_card", "<银行卡>", re.compile(r"(?<![0-9.])[3-6][0-9]{3}(?:[ \-]?[0-9]{4}){3}(?:[ \-]?[0-9]{1,3})?(?![0-9.])"), _luhn),
    _Pattern("mobile", "<手机>", re.compile(rf"(?<![0-9.])(?:\+?86[ \-]?)?1[3-9][0-9][ \-]?[0-9]{{4}}[ \-]?[0-9]{{4}}{_NO_UNIT}")),
    _Pattern("mobile", "<手机>", re.compile(r"[一幺][三四五六七八九][零〇一二三四五六七八九幺]{9}(?![零〇一二三四五六七八九幺十百千])")),
    _Pattern("hotline", "<热线>", re.compile(rf"(?<![0-9.])[48]00[ \-]?[0-9]{{3}}[ \-]?[0-9]{{4}}{_NO_UNIT}")),
    _Pattern("hotline", "<热线>", re.compile(rf"(?<![0-9.])[48]00[ \-][0-9]{{4}}[ \-][0-9]{{3}}{_NO_UNIT}")),
    _Pattern(
        "landline",
        "<座机>",
        re.compile(rf"(?<![0-9.])\(?0(?:10|2[0-9]|[3-9][0-9]{{2}})(?:[\-—)]| - ?|\) ?)[2-9][0-9]{{2,3}}[ \-]?[0-9]{{4}}{_NO_UNIT}"),
    ),
    _Pattern(
        "landline",
        "<座机>",
        re.compile(rf"{_CALL}(?P<value>(?:0(?:10|2[0-9]|[3-9][0-9]{{2}}) ?)?[2-9][0-9]{{2,3}}[ \-]?[0-9]{{4}}){_NO_UNIT}"),
    ),
    _Pattern(
        "qq", "<QQ>", re.compile(r"(?:(?<![A-Za-z])[Qq]{1,2}|扣扣|企鹅)[号群码加是为:：,， ]{0,5}(?P<value>[1-9][0-9]{4,10})(?![0-9])")
    ),
    _Pattern(
        "wechat",
        "<微信>",
        re.compile(
            r"(?:微信|威信|薇信|[Vv]信|[Ww]e[Cc]hat|(?<![A-Za-z])(?:vx|VX|Vx|wx|WX))(?:公众|账|帐)?号?[码加是为:：,，（( ]{0,5}"
            r"(?P<value>(?=[A-Za-z0-9_\-]*[0-9_\-])[A-Za-z0-9][A-Za-z0-9_\-]{5,19})"
        ),
    ),
    _Pattern("wechat", "<微信>", re.compile(r"微信号[码是为:：,，（( ]{0,5}(?P<value>[A-Za-z][A-Za-z0-9_\-]{5,19})")),
    _Pattern("passport", "<护照>", re.compile(r"护照[^0-9A-Za-z\n]{0,8}(?P<value>[A-Z][A-Z0-9]?[0-9]{7,8})(?![0-9])")),
    _Pattern(
        "plate",
        "<车牌>",
        re.compile(
            r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·• ]?"
            r"(?=(?:[A-Z]{0,2}[0-9]){3})[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9])"
        ),
    ),
)

_MASKS = {pattern.kind: pattern.mask for pattern in _PATTERNS}
# One cheap look decides for most texts: six digits near each other, or a word that announces contact data.
_GATE = re.compile(
    r"[0-9](?:[ \-—)]{0,2}[0-9]){5}|@|艾特|\(at\)|\[at\]|微信|威信|薇信|[Vv]信|[Ww]e[Cc]hat|[Vv][Xx]|[Ww][Xx]|[Qq]|扣扣|企鹅|护照"
    r"|[零〇一二三四五六七八九幺]{11}|[A-Z][·•]?[A-Z0-9]{5}"
)
# Same length as the text, so that positions hold.
_FOLD = str.maketrans("０１２３４５６７８９＠．－–（）：\u3000ＱｑＸｘＶｖ", "0123456789@.--(): QqXxVv")


def find(text: str) -> Iterator[Finding]:
    """Every piece of personal data in the text; where two patterns meet, the earlier in the table counts."""
    folded = text.translate(_FOLD)
    if not _GATE.search(folded):
        return
    taken: list[tuple[int, int]] = []
    for pattern in _PATTERNS:
        for match in pattern.form.finditer(folded):
            start, end = match.span("value" if "value" in pattern.form.groupindex else 0)
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            if pattern.check is None or pattern.check(folded[start:end]):
                taken.append((start, end))
                yield Finding(start, end, pattern.kind)


def mask(text: str) -> str:
    """The text with each value replaced by the name of its kind: `联系13800001234` → `联系<手机>`."""
    # A masked value can lay bare its neighbour (电话7220332、7220333), so look again; every pass takes characters that none brings back.
    while found := sorted(find(text), reverse=True):
        for start, end, kind in found:
            text = text[:start] + _MASKS[kind] + text[end:]
    return text


def mask_dialogue(dialogue: Dialogue) -> Dialogue:
    """The dialogue with the values in every turn masked; the same object where there are none."""
    turns = tuple(Turn(turn.role, mask(turn.content)) for turn in dialogue.turns)
    return dialogue if turns == dialogue.turns else msgspec.structs.replace(dialogue, turns=turns)
