"""Repairs: small edits that make a text clean without changing what it says. Each is idempotent and named in `Dialogue.edits`.

`SIGNS` and `PLACES` say, for each repair, what must stand in a text that it can change. Curation looks for that first, over whole shards at
once: of 39,160 real records 90 % have no sign at all, and no repair runs on them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.curate.lists import FIRST_MARKERS, FOREIGN_MARKERS, SECOND_MARKERS, harmonise
from medchatzh.records import Dialogue, Turn

Repair = Callable[[str], str]


def _each(*ranges: str) -> str:
    """Every character of ranges such as `a-z`."""
    return "".join(chr(code) for each in ranges for code in range(ord(each[0]), ord(each[2]) + 1))


# C1 characters and the letters that Windows-1252 has in their place: what UTF-8 becomes when it is read as Latin-1.
_BYTE_OF = {code: code for code in range(256)} | {
    ord(bytes([code]).decode("cp1252")): code for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_UTF_8_LEADS = range(0xE4, 0xEA)
"""First byte of every hanzi in UTF-8."""
_MIN_REPAIRED = 2
"""Hanzi that must come out of a line. Two: that 4 or more bytes of real GB18030 text are by chance UTF-8 for hanzi does not happen on
any of 86,000 real answers."""

CLASSES: dict[str, str] = {
    # Tab and line feed stay; U+200D stays because it joins emoji; U+FFFD stays because it tells that something was lost.
    "CONTROL": _each("\x00-\x08", "\x0b-\x1f", "\x7f-\x9f", "\u200b-\u200c", "\u200e-\u200f", "\u2028-\u202e") + "\xad\u2060\ufeff",
    "ENTITY": "&<",
    # Letters, digits and signs; punctuation stays full-width, as Chinese is written. ～ stays: it is the usual sign of a range.
    "FULL_WIDTH": _each("０-９", "Ａ-Ｚ", "ａ-ｚ") + "％＋－＝＜＞／＠＃＆＊＿",
    "LATIN_1": bytes(_UTF_8_LEADS).decode("latin-1"),
    "GB18030": "".join(bytes([lead, trail]).decode("gb18030") for lead in _UTF_8_LEADS for trail in range(0x80, 0xC0)),
    "HALF_MARK": ",;:?!(",
    "SPACE": "".join(chr(code) for code in range(0x3001) if chr(code).isspace()),
    "OPENING_MARK": "，。、；,; \n\t",
    # The commonest traditional characters that simplified text does not have: together about a quarter of any traditional text, while
    # 於 係 後 乾 査 麽 給, names and quotations put a few others into simplified text.
    "TRADITIONAL": "個這為們對時會來並發過關現動將麼經當學題業數進開種說應體與問電機設資實點計場請戶樣還間據嗎語內幫員產類無結寫務讓"
    "決愛試確級選備傷謝話檔導項運續許療變識組戲聖調從專總別裡認參細頭歡網報該換獲標師國醫長覺強廣練區術庫劃營氣繼環異"
    "華記習滿聯費魚規軟夠響壓單統萬狀陽質構帶斷藥適責論護親達尋門邊擇簡輕歷鍵傳復見聽況議樂圖顧燒幾兩難鐘訴隨圍優義麵"
    "東錯職準絡書減製兒聲檢評獨負興驗靈隊館顯險溫嚴轉買協價觀屬獎態處團領範詞證討稱車讀舉飲飯歲條則頁閱額誤講擊號輸錢"
    "頻禮衛養麗蓋編譯補豐貢獻紅紹連畫節腳媽針靜樹貨積極漢貝層憶複觸談詳錄島軍濟塊約緊辦陣縣鎮釋懷穩權陰燈驅餅純煩謂萊",
}
"""Characters by name, for SIGNS and PLACES."""

SIGNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "encoding": (("GB18030", "LATIN_1"),),
    "control_characters": (("CONTROL",),),
    "html_entities": (("ENTITY",),),
    "full_width": (("FULL_WIDTH",),),
    "ratio_colons": (("∶",),),
    "traditional": (("TRADITIONAL",),),
    "white_space": (("\xa0", "\u3000", " \n", "\t\n", "\n\n\n"),),
    "list_numbers": (FIRST_MARKERS, SECOND_MARKERS, FOREIGN_MARKERS),
}
"""Repair → groups of signs (strings, or names of classes: one of their characters). See `may_change`."""

PLACES: dict[str, tuple[str, str]] = {
    "half_width_marks": ("between", "HALF_MARK"),
    "white_space": ("edge", "SPACE"),
    "leading_punctuation": ("head", "OPENING_MARK"),
}
"""Repair → where a character of which class is a sign: `head` of the text, either `edge`, or `between` two hanzi or blanks."""

_CONTROL = re.compile(f"[{re.escape(CLASSES['CONTROL'])}]")
_FULL_WIDTH = {ord(character): ord(character) - 0xFEE0 for character in CLASSES["FULL_WIDTH"]}
_FULL_WIDTH_SEEN = re.compile(f"[{CLASSES['FULL_WIDTH']}]")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#[0-9]{2,6}|#[xX][0-9A-Fa-f]{2,5});")
_AMPERSAND = re.compile(r"&(?:(?:amp|AMP|#0{0,3}38|#[xX]0{0,2}26);)+")
_BREAK = re.compile(r"<\s*(?:br|/p|p)\s*(?:/\s*)?>", re.IGNORECASE)
_MARKUP = re.compile(r"```|<(?:html|head|body|div|span|table|script|!DOCTYPE)", re.IGNORECASE)
_HANZI = "\u3400-\u4dbf\u4e00-\u9fff"
_BLANKS = " \t\u3000\xa0"
# Patterns begin with what is rare, not with a look behind: 5 times as fast.
_MARK = re.compile(f"[,;:?!{_BLANKS}](?:(?<=[{_HANZI}][,;:?!])|(?<=[{_HANZI}][{_BLANKS}])[,;:?!])[{_BLANKS}]?(?=[{_HANZI}])")
_PAIR = re.compile(f"\\((?<=[{_HANZI}].)([{_HANZI}][^()（）\n]*)(?<=[{_HANZI}])\\)")
_FULL_MARKS = str.maketrans(",;:?!", "，；：？！")
_MOJIBAKE = {name: re.compile(f"[{CLASSES[name]}]") for name in ("GB18030", "LATIN_1")}
_TRADITIONAL = re.compile(f"[{CLASSES['TRADITIONAL']}]")
_ALL_HANZI = re.compile(f"[{_HANZI}]")
_KANA = re.compile("[\u3040-\u30ff]")
_MIN_TRADITIONAL = 2
"""Traditional characters that a text must have, and more of them than of their simplified forms: so in 204 of 172,000 real turns. One such
character is a name or a slip; the 8 other turns with more than two mix a few into simplified text."""
# t2s writes 噁 as 恶: 磺胺甲噁唑, 喹噁啉 and other ring names keep it. 癥 is 症 save in 癥瘕, 癥积 (masses in the belly, TCM).
_PROTECTED = re.compile("(噁|癥(?=[瘕積积結结]))")
_TRAILING = re.compile(f"[{_BLANKS}](?<![{_BLANKS}].)[{_BLANKS}]*(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")
_PASSES = 4


def encoding(text: str) -> str:
    """Undo UTF-8 read as GB18030 (`浣犲ソ`) or as Latin-1 / Windows-1252 (`ä½\xa0å¥½`), line by line.

    Only where nothing was lost: every byte of the line must come back and be UTF-8 for hanzi.
    """
    if not (_MOJIBAKE["GB18030"].search(text) or _MOJIBAKE["LATIN_1"].search(text)):
        return text
    return "\n".join(_decoded(line) for line in text.split("\n"))


def control_characters(text: str) -> str:
    """Drop control and zero-width characters; write every kind of line end as a line feed."""
    if text.isprintable():
        return text
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n"))


def html_entities(text: str) -> str:
    """`&nbsp;` → space, `<br>` → line end. Texts that show mark-up or code are left alone: there it is the content."""
    if ("&" not in text and "<" not in text) or _MARKUP.search(text):
        return text
    while (changed := _BREAK.sub("\n", _ENTITY.sub(lambda entity: html.unescape(entity[0]), _AMPERSAND.sub("&", text)))) != text:
        if _MARKUP.search(changed):
            return text
        text = changed
    return text


def full_width(text: str) -> str:
    """Ａ１％ → A1%. Punctuation stays full-width: that is how Chinese is written."""
    return text.translate(_FULL_WIDTH) if _FULL_WIDTH_SEEN.search(text) else text


def ratio_colons(text: str) -> str:
    """`∶` (U+2236), which typesetters use for `：`."""
    return text.replace("∶", "：")


def half_width_marks(text: str) -> str:
    """`, ; : ? !` between hanzi, and `( )` around them → full-width (1,139 of 29,972 real records have such commas). Code stays."""
    if "```" in text:
        return text
    text = _MARK.sub(lambda mark: mark[0].strip(_BLANKS).translate(_FULL_MARKS), text)
    return _PAIR.sub(r"（\1）", text) if "(" in text else text


def traditional(text: str) -> str:
    """A text written in traditional characters → simplified (OpenCC t2s); one that only quotes them, and Japanese, stay."""
    seen = len(_TRADITIONAL.findall(text))
    if seen < _MIN_TRADITIONAL or _KANA.search(text) or seen <= len(_simplified().findall(text)):
        return text
    convert = _converter()
    return "".join(part if number % 2 else convert(part) for number, part in enumerate(_PROTECTED.split(text)))


def white_space(text: str) -> str:
    """Strip both ends and line ends; at most one empty line; indentation stays (code, tables)."""
    text = text.replace("\xa0", " ").replace("\u3000", " ").strip()
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text))


def leading_punctuation(text: str) -> str:
    """An answer cannot begin with a comma: `，与走路姿势没有关系` (what a template or a greeting left behind)."""
    return text.lstrip(CLASSES["OPENING_MARK"])


REPAIRS: dict[str, Repair] = {
    "encoding": encoding,
    "control_characters": control_characters,
    "html_entities": html_entities,
    "full_width": full_width,
    "ratio_colons": ratio_colons,
    "half_width_marks": half_width_marks,
    "traditional": traditional,
    "white_space": white_space,
    "leading_punctuation": leading_punctuation,
    "list_numbers": harmonise,
}
"""Every repair by name, in the order in which they work."""

ANSWERS_ONLY = frozenset({"leading_punctuation", "list_numbers"})
"""Repairs that leave questions as their users wrote them."""


Told = Callable[[str, Sequence[Turn], Sequence[Turn]], None]
"""Told of every edit: its name, the turns before and after."""


def repair(dialogue: Dialogue, names: Sequence[str], told: Told = lambda name, before, after: None) -> Dialogue:
    """Apply the named repairs in the order of `REPAIRS`; those that changed a turn are added to `edits`.

    What one repair uncovers for an earlier one (an entity that hid a comma) a further pass mends: a repaired record needs no repair.
    """
    turns = list(dialogue.turns)
    made: set[str] = set()
    num_edits = 0
    done_after: dict[str, int] = {}  # edits that a repair has seen: it need not look again before there are more
    for name in [name for name in REPAIRS if name in names] * _PASSES:
        if done_after.get(name) == num_edits:
            continue
        edit = REPAIRS[name]
        changed = [turn if name in ANSWERS_ONLY and turn.role != "assistant" else _edited(turn, edit) for turn in turns]
        if changed != turns:
            told(name, turns, changed)
            made.add(name)
            turns = changed
            num_edits += 1
        done_after[name] = num_edits
    edits = (*dialogue.edits, *(name for name in REPAIRS if name in made))
    return msgspec.structs.replace(dialogue, turns=tuple(turns), edits=edits) if made else dialogue


def may_change(name: str, text: str) -> bool:
    """Whether a text has the signs of a repair: one of each of its groups, or its character at its place.

    True wherever that repair changes the text as the repairs before it left it. So a text without any sign needs no repair.
    """
    if name in SIGNS and all(any(map(text.__contains__, _signs(group))) for group in SIGNS[name]):
        return True
    return name in PLACES and bool(text) and bool(placed(*_code_points(text), (name,))[0])


def placed(codes: NDArray[np.uint32], starts: NDArray[np.int64], names: Sequence[str] = tuple(PLACES)) -> NDArray[np.bool_]:
    """[T]: whether a character stands at its place (`PLACES`) for one of the named repairs.

    Text t is `codes[starts[t]:starts[t + 1]]` (code points of T texts in one array). About 5 ns a character.
    """
    found = np.zeros(len(starts) - 1, bool)
    full = np.flatnonzero(starts[1:] > starts[:-1])
    for name in names:
        if name not in PLACES:
            continue
        place, of = PLACES[name]
        table = _table(of)
        if place == "between":
            kinds = np.zeros(len(codes) + 2, np.uint8)
            kinds[1:-1] = table[np.minimum(codes, len(table) - 1)]
            places = np.flatnonzero(kinds & 1)
            places = places[(kinds[places - 1] & kinds[places + 1] & 2) != 0]
            found[np.searchsorted(starts, places - 1, side="right") - 1] = True
            continue
        for ends in (starts[:-1], starts[1:] - 1) if place == "edge" else (starts[:-1],):
            found[full[(table[np.minimum(codes[ends[full]], len(table) - 1)] & 1) != 0]] = True
    return found


@cache
def _table(name: str) -> NDArray[np.uint8]:
    """Code point → 1 where it is of the class, 2 where it is a hanzi or a blank."""
    table = np.zeros(0x10000, np.uint8)
    table[[ord(character) for character in CLASSES[name]]] = 1
    table[0x3400:0x4DC0] |= 2
    table[0x4E00:0xA000] |= 2
    table[[ord(character) for character in _BLANKS]] |= 2
    return table


@cache
def _signs(group: tuple[str, ...]) -> tuple[str, ...]:
    """The strings of a group, a class as its characters."""
    return tuple(string for sign in group for string in CLASSES.get(sign, (sign,)))


def _code_points(text: str) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    codes = np.array([ord(character) for character in text], np.uint32)
    return codes, np.array([0, len(codes)])


def _edited(turn: Turn, edit: Repair) -> Turn:
    text = edit(turn.content)
    return turn if text == turn.content else Turn(turn.role, text)


def _decoded(line: str) -> str:
    for name, to_bytes in (("GB18030", _gb18030_bytes), ("LATIN_1", _latin_bytes)):
        if not _MOJIBAKE[name].search(line) or (raw := to_bytes(line)) is None:
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            continue
        foreign = sum(not character.isascii() for character in text)
        hanzi = len(_ALL_HANZI.findall(text))
        if hanzi >= _MIN_REPAIRED and 2 * hanzi >= foreign and "\n" not in text:
            return text
    return line


def _gb18030_bytes(line: str) -> bytes | None:
    try:
        return line.encode("gb18030")
    except UnicodeEncodeError:  # a lone surrogate
        return None


def _latin_bytes(line: str) -> bytes | None:
    codes = [_BYTE_OF.get(ord(character), -1) for character in line]
    return None if -1 in codes else bytes(codes)


@cache
def _simplified() -> re.Pattern[str]:
    """What simplified text has in the place of the class TRADITIONAL."""
    return re.compile(f"[{_converter()(CLASSES['TRADITIONAL'])}]")


@cache
def _converter() -> Callable[[str], str]:
    from opencc import OpenCC

    return OpenCC("t2s").convert
