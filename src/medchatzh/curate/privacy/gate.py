"""Which texts can hold personal data at all: a cheap look that no finding escapes, and that few clean texts pass.

The contract, for an engine that looks at millions of texts: a text passes where

- `MIN_DIGITS` digits (ASCII, full-width, hanzi read one by one) stand with at most `MAX_GAP` characters of `GAPS` between neighbours, or
- one of `SEQUENCES[kind]` stands, for a kind that is looked for. A sequence is a string of character classes: place after place, any
  character of the class, compared as it is, unfolded.

`gate` is the reference, in regular expressions; `opened` is what runs (bit-parallel shift-and, one pass, no backtracking). Both pass the
same texts. Neither looks left or right of what it finds, so a text passes if a part of it does. Of 106,055 real medical records 1.3 % pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medchatzh.curate.privacy import names
from medchatzh.curate.privacy.forms import FOLD, HANZI_DIGITS
from medchatzh.curate.privacy.lexicon import COMPOUND_SURNAMES, GIVEN, RARE_SURNAMES, SURNAMES
from medchatzh.curate.privacy.numbers import PROVINCES

MIN_DIGITS = 10
"""The shortest number that counts without a word: a hotline. At 8 one real record in twenty has one, for its dates; at 10 one in 6,000."""
MAX_GAP = 3
NUMBERS = ("id_card", "bank_card", "mobile", "hotline", "landline")
"""Kinds that a number alone can be."""
Sequence = tuple[str, ...]

_VARIANTS: dict[str, str] = {}
for _code, _plain in FOLD.items():
    _VARIANTS[chr(_plain)] = _VARIANTS.get(chr(_plain), "") + chr(_code)


def _raw(characters: str) -> str:
    """The class of all characters that fold to one of these."""
    return "".join(dict.fromkeys(characters + "".join(_VARIANTS.get(character, "") for character in characters)))


def _words(*words: str) -> tuple[Sequence, ...]:
    """Words as sequences, in any case and width."""
    return tuple(tuple(_raw("".join(dict.fromkeys((character.lower(), character.upper())))) for character in word) for word in words)


def _spell(*classes: str | tuple[str, ...]) -> tuple[Sequence, ...]:
    """Classes one after the other; a tuple of classes stands for each of them in turn, '' for nothing."""
    choices = [(part,) if isinstance(part, str) else part for part in classes]
    return tuple(tuple(_raw(part) for part in parts if part) for parts in product(*choices))


DIGITS = _raw("0123456789") + HANZI_DIGITS
GAPS = _raw(" .-()")
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = _UPPER + _UPPER.lower()
_ALNUM = "0123456789" + _LETTERS
_TITLES = ("医 师生", "大 夫", "教 授", "主 任", "院 长", "护博女 士", "先 生", "药老 师", "副 主教院", "中 医")
"""The first two characters of `names.TITLES`, as classes."""
_COMPOUND_FIRST, _COMPOUND_LAST = map("".join, zip(*COMPOUND_SURNAMES, strict=True))
_NAMED = (SURNAMES + _COMPOUND_FIRST, GIVEN + _COMPOUND_LAST)
"""The first two characters of a name."""
_LAST = SURNAMES + _COMPOUND_LAST

SEQUENCES: dict[str, tuple[Sequence, ...]] = {
    "email": (*_spell("@"), *_spell("#", "qQ1sSgGfFhHoO", "qQ62iImMoOuU"), *_spell("([{", "aA", "tT", ")]}"), *_words("艾特", "圈a")),
    "url": _spell(_ALNUM + "-", ".", _LETTERS),
    "link": (*_spell(":", "/", "/"), *_spell("wW", "wW", ".。")),
    "landline": _words("电话", "热线", "致电", "拨打", "座机", "固话", "传真", "总机", "专线", "联系方式", "tel", "phone"),
    "passport": _words("护照", "通行证", "台胞证", "passport"),
    "qq": (
        *_words("qq", "扣扣", "企鹅", "球球"),
        *_spell("加我的系", "qQ"),
        *_spell("qQ", "号群:"),
        *_spell("加我的", "扣"),
        *_spell("扣", "号:"),
    ),
    "wechat": (
        *_spell("微威薇徽vV", ("", " "), "信❤♥"),
        *_words("绿泡"),
        *_spell("vV", ("", " "), ":"),
        *_words("wechat", "weixin", "vx", "wx"),
        *_spell("加", ("", "我"), ("", "的"), "vV薇微"),
        *_spell("+", "vV"),
    ),
    "plate": _spell(PROVINCES, ("", " "), _UPPER, "0123456789" + _UPPER + "·•.- "),
    "name": (
        *_words(*names.LABELS),
        *_spell("叫", ("", "做"), ("", ": "), ("", ": "), SURNAMES + RARE_SURNAMES + _COMPOUND_FIRST),
        *_spell("名", "字", "是为:"),
        *_spell("大全真", "名", "是为:"),
        *_spell(_LAST, GIVEN, ("", GIVEN), ", 、(", ("", ", 、("), "男女0123456789"),
        *(found for title in _TITLES for found in _spell(_LAST, GIVEN, ("", GIVEN), *title.split())),
        *_spell("医", "生师", ("", " :"), *_NAMED),
        *_spell("教院大", "授长夫", ("", " :"), *_NAMED),
        *_spell("我本", "是人", *_NAMED, GIVEN),
    ),
    "hospital": _words("医院", "保健院", "卫生院", "服务中心"),
}


@lru_cache
def _form(kinds: tuple[str, ...]) -> re.Pattern[str]:
    number = f"[{re.escape(DIGITS)}](?:[{re.escape(GAPS)}]{{0,{MAX_GAP}}}[{re.escape(DIGITS)}]){{{MIN_DIGITS - 1}}}"
    return re.compile("|".join([number, *("".join(f"[{re.escape(part)}]" for part in found) for found in _sequences(kinds))]))


def _sequences(kinds: tuple[str, ...]) -> list[Sequence]:
    return [found for kind in kinds for found in SEQUENCES.get(kind, ())]


def gate(text: str, kinds: tuple[str, ...]) -> bool:
    """Whether the text can hold data of these kinds (the reference)."""
    return _form(kinds).search(text) is not None


class _Machine:
    """The sequences of some kinds as bits: place p of a sequence is a bit, and a class of characters is the set of bits it may stand at."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        from medchatzh.curate.kernels import PLANES

        words: list[list[tuple[str, Sequence]]] = []
        every = [(kind, found) for kind in kinds for found in SEQUENCES.get(kind, ())]
        for kind, found in sorted(every, key=lambda pair: len(pair[1]), reverse=True):
            for word in words:
                if sum(len(other) for _, other in word) + len(found) <= 64:
                    word.append((kind, found))
                    break
            else:
                words.append([(kind, found)])
        bits = np.zeros((PLANES, max(1, len(words))), np.uint64)
        self.starts, self.ends = np.zeros((2, bits.shape[1]), np.uint64)
        self.ends_of = {kind: np.zeros(bits.shape[1], np.uint64) for kind, _ in every}
        """Kind → [W]: the last places of its sequences."""
        for number, word in enumerate(words):
            place = 0
            for kind, found in word:
                self.starts[number] |= np.uint64(1 << place)
                for part in found:
                    bits[[ord(character) for character in part], number] |= np.uint64(1 << place)
                    place += 1
                self.ends[number] |= np.uint64(1 << (place - 1))
                self.ends_of[kind][number] |= np.uint64(1 << (place - 1))
        role = np.zeros((PLANES, 1), np.uint64)
        role[[ord(character) for character in GAPS]] = 1
        role[[ord(character) for character in DIGITS]] = 2
        table = np.hstack((role, bits))
        used = np.flatnonzero(table.any(axis=1))
        rows, classes = np.unique(table[used], axis=0, return_inverse=True)
        rows = np.vstack((np.zeros_like(rows[:1]), rows))
        self.classes = np.zeros(PLANES, np.uint16)
        """[PLANES] class of a code point; 0 is the class of what stands nowhere."""
        self.classes[used] = classes.reshape(-1) + 1
        self.roles = rows[:, 0].astype(np.uint8)
        self.bits = np.ascontiguousarray(rows[:, 1:])
        self.begins = (self.bits & self.starts).any(axis=1)


_machine = lru_cache(_Machine)


def opened(texts: Iterable[str] | tuple[NDArray[np.uint32], NDArray[np.int64]], kinds: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which of the texts can hold data of these kinds, [T]. Texts may come as code points (`kernels.code_points`)."""
    return np.any(_seen(texts, kinds), axis=1)


def kinds_of(text: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these kinds of which the text can hold data."""
    seen = _seen([text], kinds)[0]
    if not seen.any():
        return ()
    ends = _machine(kinds).ends_of
    return tuple(kind for kind in kinds if (seen[-1] and kind in NUMBERS) or (kind in ends and (seen[:-1] & ends[kind]).any()))


def _seen(texts: Iterable[str] | tuple[NDArray[np.uint32], NDArray[np.int64]], kinds: tuple[str, ...]) -> NDArray[np.uint64]:
    from medchatzh.curate import kernels  # numba: half a second that planning a run need not spend
    from medchatzh.curate.privacy.kernel import scan

    codes, starts = texts if isinstance(texts, tuple) else kernels.code_points(texts if isinstance(texts, list) else list(texts))
    machine = _machine(kinds)
    found = np.zeros((len(starts) - 1, len(machine.ends) + 1), np.uint64)
    tables = (machine.classes, machine.roles, machine.bits, machine.begins, machine.starts, machine.ends)
    scan(codes, starts, *tables, MIN_DIGITS, MAX_GAP, found)
    return found
