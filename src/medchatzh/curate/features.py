"""What one pass over a shard's characters tells of every record, so that Python looks only where a rule or a repair can find something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medchatzh.curate import kernels
from medchatzh.curate.batch import ASSISTANT, USER, Batch
from medchatzh.curate.privacy.gate import opened
from medchatzh.curate.repair import placed
from medchatzh.curate.traits import Traits, traits

Mask = NDArray[np.bool_]
_TABLE_BITS = 15


@lru_cache(maxsize=1)
def fold_table() -> NDArray[np.uint32]:
    """Code point → the one it is compared as: full-width ASCII becomes ASCII, letters lower case."""
    table = np.arange(kernels.PLANES, dtype=np.uint32)
    for code in range(0xFF01, 0xFF5F):
        table[code] = code - 0xFEE0
    table[0x3000] = 0x20
    for code in range(0x2000):
        table[code] = ord(chr(code).lower()) if len(chr(code).lower()) == 1 else code
    table[0xFF21:0xFF3B] += 0x20
    return table


def folded(text: str) -> str:
    """The text as signs are compared with it."""
    return text.translate(_fold_map())


@lru_cache(maxsize=1)
def _fold_map() -> dict[int, int]:
    table = fold_table()
    return {code: folds_to for code, folds_to in enumerate(table.tolist()) if code != folds_to}


class Signs:
    """Groups of strings to look for, compiled. A group is found where one of its strings stands (folded, or as it is where `exact`)."""

    def __init__(self, groups: Iterable[tuple[tuple[str, ...], bool]]) -> None:
        self.groups = tuple(dict.fromkeys(groups))
        assert len(self.groups) <= 64, "the kernel keeps the groups found in 64 bits"
        table = fold_table()
        sources: dict[int, list[int]] = {}
        for code in np.flatnonzero(table != np.arange(len(table))):
            sources.setdefault(int(table[code]), []).append(int(code))
        self.marks = np.zeros(kernels.PLANES, np.uint64)
        self.first = np.full(1 << _TABLE_BITS, -1, np.int32)
        following: list[int] = []
        texts: list[str] = []
        bits: list[int] = []
        for number, (strings, exact) in enumerate(self.groups):
            for string in strings:
                if len(string) == 1:
                    codes = [ord(string)] if exact else [ord(folded(string)), *sources.get(ord(folded(string)), ())]
                    self.marks[codes] |= np.uint64(1 << number)
                    continue
                text = folded(string)
                place = (ord(text[0]) * 0x9E35 ^ ord(text[1]) * 0x85EB) & 0xFFFFFFFF & (1 << _TABLE_BITS) - 1
                following.append(int(self.first[place]))
                self.first[place] = len(texts)
                texts.append(text)
                bits.append(1 << number)
        self.codes, self.starts = kernels.code_points(texts)
        self.following, self.bits = np.array(following or [-1], np.int32), np.array(bits or [0], np.uint64)

    def bit(self, strings: tuple[str, ...], exact: bool = False) -> np.uint64:
        """The bit of a group."""
        return np.uint64(1 << self.groups.index((strings, exact)))


class Features(NamedTuple):
    """[num_records] each; `turn_bits` and `owner` (its record) are by turn."""

    num_answers: NDArray[np.int64]
    question_chars: NDArray[np.int64]
    """Characters of the first user turn."""
    answer_chars: NDArray[np.int64]
    """Characters of all assistant turns."""
    longest_answer: NDArray[np.int64]
    """Its characters without white space at the ends."""
    counts: dict[str, NDArray[np.int64]]
    """`hanzi_answer` …: what `_COUNTS` names."""
    make_traits: Callable[[], Traits]
    personal: Mask
    """Some turn can hold personal data."""
    placed: Mask
    """Some turn has a character at a place where a repair of `repair.PLACES` looks."""
    bits: NDArray[np.uint64]
    """Groups of signs found in any turn."""
    turn_bits: NDArray[np.uint64]
    owner: NDArray[np.int64]
    signs: Signs

    @property
    def traits(self) -> Traits:
        """Worked out when the first gate asks."""
        return self.make_traits()

    def has(self, strings: tuple[str, ...]) -> Mask:
        """Whether one of the strings stands in some turn. They must be among the compiled signs."""
        return (self.bits & self.signs.bit(strings)) != 0

    def take(self, rows: NDArray[np.int64]) -> Features:
        """The features of some records (turns left out)."""
        if len(rows) == len(self.bits):
            return self
        whole: dict[str, Any] = {
            "counts": {name: values[rows] for name, values in self.counts.items()},
            "make_traits": cache(lambda: Traits._make(values[rows] for values in self.traits)),
            "turn_bits": self.turn_bits[:0],
            "owner": self.owner[:0],
            "signs": self.signs,
        }
        return Features(**{name: whole[name] if name in whole else getattr(self, name)[rows] for name in self._fields})


_CLASSES = ("hanzi", "junk", "substance", "space")
_COUNTS = (("hanzi", "question"), ("hanzi", "answer"), ("junk", "all"), ("substance", "answer"))
"""(class, part): characters of a class in the first question, the answers, or all turns. A gate that needs another adds it here."""


def class_table(junk: str, substance: str) -> NDArray[np.uint8]:
    """Code point → its classes, a bit each."""
    table = np.zeros(kernels.PLANES, np.uint8)
    hanzi = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]  # hexagrams stand between
    spaces = [code for code in range(kernels.PLANES) if chr(code).isspace()]
    for number, codes in enumerate((hanzi, sorted(map(ord, junk)), sorted(map(ord, substance)), spaces)):
        table[list(codes)] |= np.uint8(1 << number)
    return table


def features(batch: Batch, signs: Signs, classes: NDArray[np.uint8], personal_kinds: tuple[str, ...], repairs: Sequence[str]) -> Features:
    """What the characters of the records tell: a pass of some microseconds a record."""
    num_records, num_turns = len(batch), len(batch.roles)
    bits, trimmed = np.zeros(num_turns, np.uint64), np.zeros(num_turns, np.int64)
    counts = np.zeros((num_turns, len(_CLASSES)), np.int64)
    kernels.scan(
        batch.codes, batch.starts, classes, signs.marks, fold_table(), signs.first, signs.following, signs.codes, signs.starts, signs.bits,
        bits, counts, trimmed,
    )  # fmt: skip
    owner, lengths = batch.owner, np.diff(batch.starts)
    is_user, is_answer = batch.roles == USER, batch.roles == ASSISTANT
    first_user = np.full(num_records, num_turns)
    np.minimum.at(first_user, owner[is_user], np.flatnonzero(is_user))
    parts = {"question": first_user[first_user < num_turns], "answer": is_answer, "all": slice(None)}
    longest = np.zeros(num_records, np.int64)
    np.maximum.at(longest, owner[is_answer], trimmed[is_answer])
    record_bits = np.zeros(num_records, np.uint64)
    np.bitwise_or.at(record_bits, owner, bits)

    def summed(values: NDArray[np.int64], part: str) -> NDArray[np.int64]:
        return np.bincount(owner[parts[part]], weights=values[parts[part]], minlength=num_records).astype(np.int64)

    def some(turns: Mask) -> Mask:
        return np.bincount(owner[turns], minlength=num_records) > 0

    return Features(
        num_answers=np.bincount(owner[is_answer], minlength=num_records),
        question_chars=summed(lengths, "question"),
        answer_chars=summed(lengths, "answer"),
        longest_answer=longest,
        counts={f"{name}_{part}": summed(counts[:, _CLASSES.index(name)], part) for name, part in _COUNTS},
        make_traits=cache(lambda: traits(batch.codes, batch.starts, owner, is_answer, first_user)),
        personal=some(opened((batch.codes, batch.starts), personal_kinds)),
        placed=some(placed(batch.codes, batch.starts, repairs)),
        bits=record_bits,
        turn_bits=bits,
        owner=owner,
        signs=signs,
    )
