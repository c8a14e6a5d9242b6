"""Numbers that lead to a person: telephones, identity cards, bank cards, passports, plates.

Medical text is full of other long numbers (a viral load 20807000, a date 20100918, a batch), so each needs a check digit, a grouping
that people use, or a word of contact before it, and no unit behind it.
"""

from __future__ import annotations

import re

from medchatzh.curate.privacy.forms import SEPARATOR, Check, Pattern, digits

_ALONE, _DONE = r"(?<![0-9.])", r"(?![0-9]|\.[0-9])"
_UNIT = r"\s?(?:[IU]{1,2}(?![A-Za-z])|iu|u/|copies|cps|m[lLgG]|拷贝|个(?!人)|[百千]?万|亿|毫[升克]|微[升克摩]|克|单位|元|人次|[/%^×*])"
_NO_COUNT = rf"{_DONE}(?!{_UNIT})"
_CALLED = re.compile(
    r"(?:电话|手机|热线|致电|拨打|来电|座机|固话|传真|总机|专线|短信|联系|号码|加我|微信|[Tt][Ee][Ll]|[Pp]hone)[^0-9\n]{0,6}$"
)
_MEASURED = re.compile(
    r"(?:载量|定量|滴度|拷贝数|[DR]NA|准字|批号|批次|编号|条码|标本号?|住院号|门诊号|病[历案]号|流水号|订单号?|单号|序列号|ISBN|ISSN|注册号)"
    r"[^，。；,;\n0-9]{0,6}$"
)
_NEAR_CHARS = 16


def _before(text: str, start: int) -> str:
    return text[max(0, start - _NEAR_CHARS) : start]


def _measures_nothing(text: str, start: int, end: int) -> bool:
    return _MEASURED.search(_before(text, start)) is None


def _grouped(*allowed: tuple[int, ...]) -> Check:
    """The digits stand in one of the groupings, one by one, or in any grouping after a word of contact; and measure nothing."""

    def check(text: str, start: int, end: int) -> bool:
        if _CALLED.search(_before(text, start)):
            return True
        country = _COUNTRY.match(text, start, end)
        groups = tuple(map(len, re.findall(r"[0-9]+", text[country.end() if country else start : end])))
        return _measures_nothing(text, start, end) and (groups in allowed or set(groups) == {1})

    return check


_COUNTRY = re.compile(r"\(?(?:\+|00)?86\)?[ \-]{0,2}")
_is_mobile = _grouped((11,), (3, 4, 4), (3, 8), (7, 4), (3, 3, 5), (4, 3, 4), (4, 4, 3), (5, 6))
_has_hotline_groups = _grouped((10,), (3, 3, 4), (3, 4, 3), (3, 7), (4, 3, 3), (4, 6), (6, 4), (7, 3))


def _is_hotline(text: str, start: int, end: int) -> bool:
    """4000000000 is a round number."""
    return len(set(digits(text[start:end]))) > 2 and _has_hotline_groups(text, start, end)


_REGIONS = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")


def _is_id_card(text: str, start: int, end: int) -> bool:
    """GB 11643-1999: province, date of birth in place 7-14, check character ISO 7064 MOD 11-2. Older: 15 digits, no check character."""
    card = "".join(filter(str.isalnum, text[start:end])).upper()
    born = card[6:12] if len(card) == 15 else card[8:14]
    if not _REGIONS.match(card) or not (1 <= int(born[2:4]) <= 12 and 1 <= int(born[4:6]) <= 31):
        return False
    if len(card) == 15:
        return _measures_nothing(text, start, end)
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(card[:17]))
    return card[6:8] in ("18", "19", "20") and "10X98765432"[total % 11] == card[17]


# UnionPay, Visa, Mastercard, JCB, and the first cards of ICBC.
_ISSUER = re.compile(r"62|60|4|5[1-5]|2[2-7]|35|9558")


def _is_bank_card(text: str, start: int, end: int) -> bool:
    """The check digit of bank cards (Luhn, ISO/IEC 7812) and an issuer's first digits; 4242… are for tests."""
    number = digits(text[start:end])
    card = list(map(int, number))
    doubled = [sum(divmod(2 * digit, 10)) for digit in card[-2::-2]]
    return _ISSUER.match(number) is not None and len(set(card)) > 3 and (sum(card[-1::-2]) + sum(doubled)) % 10 == 0


_GAP = r"(?: - |[ .\-()]{0,2})"
_AREA = r"(?:1 ?0|2 ?[0-57-9]|[3-9] ?[1-9] ?[0-9])"
_LOCAL = r"[2-9](?:[ \-]?[0-9]){6,7}(?:-[0-9]{1,5}(?![0-9\-]))?"
_DESK = "(?:电话|热线|致电|拨打|座机|固话|传真|总机|专线|联系方式|(?i:tel(?:ephone)?|phone))"
_PASSPORT = r"(?P<value>[A-Za-z][A-Za-z0-9]? ?[0-9]{3,4} ?[0-9]{4,5})(?![0-9])"
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_PLATE = r"(?:(?=(?:[A-Z]{0,2}[0-9]){3})[A-HJ-NP-Z0-9]{5,6}|(?=(?:[A-Z]?[0-9]){3})[A-HJ-NP-Z0-9]{4}[警学挂港澳领])(?![A-Za-z0-9])"

PATTERNS = tuple(
    Pattern(kind, re.compile(form, re.ASCII), check)
    for kind, form, check in (
        ("id_card", rf"{_ALONE}[1-9](?:{SEPARATOR}[0-9]){{16}}{SEPARATOR}[0-9Xx](?![0-9A-Za-z])", _is_id_card),
        ("id_card", r"身份证[^0-9\n]{0,8}(?P<value>[1-9][0-9]{13,16}[0-9Xx]{1,2})(?![0-9])", None),
        ("id_card", r"(?:社保|医保|社会保障)卡?(?:卡|账|编)?号[^0-9\n]{0,6}(?P<value>[0-9]{10,18})(?![0-9])", None),
        ("bank_card", rf"{_ALONE}[24-69](?:{SEPARATOR}[0-9]){{15,18}}{_DONE}", _is_bank_card),
        ("bank_card", rf"{_ALONE}35(?:{SEPARATOR}[0-9]){{14}}{_DONE}", _is_bank_card),
        ("id_card", rf"{_ALONE}[1-9](?:[ \-]?[0-9]){{14}}{_NO_COUNT}(?![A-Za-z])", _is_id_card),
        ("passport", rf"(?:护照|通行证|台胞证|(?i:passport))(?i: ?(?:no|number)\.?)?[^0-9A-Za-z\n]{{0,8}}{_PASSPORT}", None),
        ("passport", r"(?<![0-9A-Za-z])(?P<value>[DEGPSdegps][A-Za-z0-9][0-9]{7})[^0-9A-Za-z。\n]{0,4}护照", None),
        ("mobile", rf"{_ALONE}(?:{_COUNTRY.pattern})?0?1{_GAP}[3-9](?:{_GAP}[0-9]){{9}}{_NO_COUNT}", _is_mobile),
        ("hotline", rf"{_ALONE}[48](?:{_GAP}0){{2}}(?:{_GAP}[0-9]){{7}}{_NO_COUNT}", _is_hotline),
        (
            "landline",
            rf"{_ALONE}(?:\(?(?:\+|00)86\)?[ \-]{{0,2}}\(?0?|\(?0 ?){_AREA}[ \-)]{{0,3}}{_LOCAL}{_NO_COUNT}",
            _measures_nothing,
        ),
        ("landline", rf"{_DESK}[^0-9\n]{{0,6}}(?P<value>(?:0{_AREA}[ \-]?)?{_LOCAL}){_NO_COUNT}", None),
        ("plate", rf"[{PROVINCES}] ?[A-HJ-NP-Z] ?[·•.\- ]? ?{_PLATE}", None),
    )
)
