"""What digitisation did to the texts: marks of the typesetter, junk of web sites, characters that were lost on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import NamedTuple

LOST = "□"
"""Stands for one character that was lost, however the file shows the loss."""

LINE_END = re.compile("\r+\n|\r|\x85")


class _Edit(NamedTuple):
    name: str
    signs: tuple[str, ...]
    """One of these stands in every text that the edit could change: a cheap look before the pattern. None: always try."""
    apply: Callable[[str], str]


def _replace(pattern: str, by: str = "", flags: int = 0) -> Callable[[str], str]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.sub(by, text)


def _typesetters_marks(text: str) -> str:
    return _MARKS.sub(lambda found: LOST * (len(found[0].rstrip()) // 2), text)


_MARKS = re.compile("(?<![A-Za-z0-9])(?:KT|HT|FS)+(?![A-Za-z0-9]) ?")
_EDITS = (
    _Edit("control_characters", (), _replace("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff]")),
    _Edit("private_use", (), _replace("[\ue000-\uf8ff\U000f0000-\U0010fffd\ufffd]", LOST)),
    # KT, HT and FS are a typesetting program's font switches; the rare character behind them was dropped (7,000 in 303 real books)
    _Edit("typesetters_marks", ("KT", "HT", "FS"), _typesetters_marks),
    _Edit("ratio_colons", ("∶",), lambda text: text.replace("∶", "：")),
    _Edit("entities", ("&#", "&nbsp;", "&amp;"), unescape),
    # \r羚羊角\ph404.bmp\r is a picture with its caption: the caption is text, 图 alone is none
    _Edit(
        "figures",
        ("\\r",),
        _replace(
            r"\\r(?:[ \u3000]*图(?=\\))?([^\\\n]{0,40})\\(?:p[^\\\n]{1,30}|[^\\\n]{1,30}\.(?:bmp|jpg|gif|png))(?:\\r|$)",
            r"\1",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
    # \x…\x set prescription names and signatures in bold
    _Edit("bold_marks", ("\\x",), lambda text: text.replace("\\x", "")),
    _Edit(
        "site_lines",
        ("瑰宝苑", "民间中医", "民間中醫", "版权所有", "发布人", "建档", "网址"),
        _replace(
            r"^[> \u3000]*(?:中医)?瑰宝苑[> \u3000]*"
            r"|^[^\n。]{0,20}(?:转自民间中医网|民間中醫網恭校|版权所有|发布人[:：]|建档[:：]|网址/)[^\n。]{0,60}$",
            "",
            re.MULTILINE,
        ),
    ),
    _Edit(
        "urls",
        ("http", "www."),
        _replace(
            r"^[^\n。]{0,40}https?[:：]//[A-Za-z0-9./?=&#_%:\-。]+[^\n。]{0,12}$|(?:https?[:：]//|www\.)[A-Za-z0-9./?=&#_%:\-]+",
            "",
            re.MULTILINE,
        ),
    ),
    # rules, page numbers (- 4 -), and signs that stand alone or around a heading
    _Edit(
        "rules",
        ("--", "==", "__", "**", "——", "－－", "──", "##", "@@", "- "),
        _replace(r"^[ \u3000]*(?:[-=_*—－─]{4,}|- ?[0-9]{1,4} ?-|@{3,})[ \u3000]*$|#{3,}", "", re.MULTILINE),
    ),
)
"""In the order in which they are made. Names are facts of the report: each tells in how many chapters it was made."""


def clean(text: str) -> tuple[str, list[str]]:
    """The text without what its digitisation added, and the names of the edits that changed it."""
    made = []
    for edit in _EDITS:
        if edit.signs and not any(sign in text for sign in edit.signs):
            continue
        changed = edit.apply(text)
        if changed != text:
            made.append(edit.name)
        text = changed
    return text, made


CONVERTED = {
    "毒瓦斯": "毒气",
    "快捷方式": "捷径",
    "冷冻饮料": "冷饮",
    "野狼": "狼",
    "根据": "依",
    "香港脚": "脚气",
    "黄胆": "黄疸",
    "短剧": "小品",
    "浓朴": "厚朴",
    "浓味": "厚味",
    "浓薄": "厚薄",
}
"""A conversion between scripts that the marked collection went through swapped words as well: 36,000 times in its 574 books (根据 for 依
5,722 times in 447 books, 58 of 60 looked at; 浓朴, a drug that does not exist, 12,004 times). 浓 for 厚 elsewhere may be meant."""

# A character outside the font became a space. It is told (1) before punctuation: 33,700 times in 554 real books, 25 of 25 looked at; (2) in
# 上㕮咀; (3) between hanzi in a clause that holds no other space and does not begin the line: 55,700 times, 94 of 100 looked at. Else a
# space stands between two drugs, or behind a title.
_GAP = re.compile("(?<=[\u4e00-\u9fff]) (?=[，。、；？！）咀])")
_GAP_IN_CLAUSE = re.compile(
    "(?<=[，。；、：！？])([\u4e00-\u9fff□]+(?<![丸散汤方膏丹饮煎粉酒药法证症钱两分斤升合枚个斗卷曰云注论者])) "
    "(?![治佚存又方上右各即如水每主]|[\u4e00-\u9fff]{1,2}[云曰])(?=[\u4e00-\u9fff□]+[，。；、：！？（])"
)


def restore(text: str) -> tuple[str, list[str]]:
    """Turn back swapped words and mark losses that became spaces, in a text whose lines are rejoined; with the names of the edits."""
    whole = text
    for wrong, right in CONVERTED.items():
        whole = whole.replace(wrong, right)
    marked = _GAP_IN_CLAUSE.sub(r"\1" + LOST, _GAP.sub(LOST, whole)) if " " in whole else whole
    return marked, ["converted_words"] * (whole != text) + ["gaps"] * (marked != whole)


_TRADITIONAL = re.compile("[氣脈陽陰經藥醫爲為傷熱溫濕風從與於則無證湯諸]")
_SIMPLIFIED = re.compile("[气脉阳阴经药医为伤热温湿风从与于则无证汤诸]")


def is_traditional(text: str) -> bool:
    """Whether a text is in traditional script: its commonest characters of two forms stand mostly in the traditional one.

    Such texts are told, not converted: a conversion character by character corrupts words.
    """
    return len(_TRADITIONAL.findall(text)) > len(_SIMPLIFIED.findall(text))


def not_a_book(text: str, max_lost_share: float) -> str:
    """What is wrong with a whole file, '' where it is a text."""
    letters = sum(map(str.isalpha, text[:100_000]))
    if not letters:
        return f"{len(text)} characters, none of them a letter"
    lost = len(re.findall("[\x00-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd□]", text))
    return f"{lost} of {len(text)} characters are lost" if lost > max_lost_share * len(text) else ""
