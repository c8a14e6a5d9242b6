"""Duplicates: exact, near, and answers to the same question. Of every group the earliest record stays, and each dropped one names it.

What is compared is the record's text, normalised: all its turns but the system's, without white space and punctuation. Near duplicates are
found as MinHash candidates and then verified: a record is dropped only where the exact Jaccard similarity of its five-character shingles
with a *kept* earlier record reaches the threshold. Global steps work on keys (128 bytes a record, on disk), one band at a time.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medchatzh.curate import kernels
from medchatzh.curate.batch import Batch
from medchatzh.curate.config import Duplicates
from medchatzh.records import Dialogue, normalize

REASONS = ("exact_duplicate", "near_duplicate", "same_question")
_EXACT, _QUESTION, _SIZE, _BANDS = slice(0, 2), 2, 3, slice(4, 4 + kernels.NUM_BANDS)
NUM_KEYS = 4 + kernels.NUM_BANDS
"""Rows of a key table: hash of the text (two), of the question, characters of all answers, MinHash bands."""
_CHUNK = 1 << 16

Keys = NDArray[np.uint64]
"""[NUM_KEYS, num_records]."""
Column = Callable[[int], NDArray[np.uint64]]
"""Number of a key → that key of all records; read when it is needed, so that one is in memory at a time."""
Shingles = tuple[NDArray[np.uint64], NDArray[np.int64]]
"""(hashes, starts): the sorted distinct shingle hashes of some records, one after another; record r has hashes[starts[r]:starts[r + 1]]."""


def keys(batch: Batch, rows: NDArray[np.int64], settings: Duplicates) -> Keys:
    """The keys of some records (what the settings do not ask for stays 0)."""
    table = np.zeros((NUM_KEYS, len(rows)), np.uint64)
    texts = batch.spoken(rows)
    kernels.digests(*texts, table[_EXACT])
    if settings.near:
        kernels.min_hashes(*texts, *_hash_functions(), table[_BANDS])
    if settings.same_question != "keep":
        records = list(map(batch.record, rows.tolist()))
        asked = (blake2b(normalize(one.question).encode("utf-8", "surrogatepass"), digest_size=8).digest() for one in records)
        table[_QUESTION] = np.frombuffer(b"".join(asked), np.uint64)
        is_empty = [not normalize(one.question) for one in records]
        table[_QUESTION, is_empty] = table[_EXACT.start, is_empty]  # `？？？` asks nothing that another could ask too
        table[_SIZE] = [sum(map(len, one.answers)) for one in records]
    return table


def shingles(records: Sequence[Dialogue]) -> Shingles:
    """The shingles of some records, to verify candidates by."""
    codes, begins, ends = (batch := Batch(records)).spoken(np.arange(len(batch)))
    sets = [kernels.shingles(codes[begin:end]) for begin, end in zip(begins, ends, strict=True)]
    lengths = np.fromiter(map(len, sets), np.int64, len(sets))
    return np.concatenate([*sets, np.empty(0, np.uint64)]), np.concatenate(([0], np.cumsum(lengths)))


class Drops(NamedTuple):
    """Who goes, [num_dropped] each, by row: `reason` is a place in REASONS, `similarity` 1 but for near duplicates."""

    rows: NDArray[np.int64]
    reasons: NDArray[np.int8]
    keepers: NDArray[np.int64]
    similarities: NDArray[np.float64]

    def take(self, which: NDArray[np.int64] | slice) -> Drops:
        """Some of them."""
        return Drops(self.rows[which], self.reasons[which], self.keepers[which], self.similarities[which])

    def each(self) -> Iterator[tuple[int, str, int, float]]:
        """(row, reason, keeper's row, similarity) of each."""
        for row, reason, keeper, similarity in zip(*(values.tolist() for values in self), strict=True):
            yield row, REASONS[reason], keeper, similarity


NOTHING = Drops(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int64), np.empty(0))


def detail(reason: str, keeper: str, similarity: float) -> str:
    """What the Reject of a duplicate says: its keeper's id, and of a near one the similarity."""
    return f"{keeper} {similarity:.3f}" if reason == "near_duplicate" else keeper


def find(column: Column, num_records: int, settings: Duplicates, verify: Callable[[NDArray[np.int64]], Shingles]) -> Drops:
    """All duplicates among the records that `column` gives the keys of.

    `verify(rows)` gives the shingles of some records. Memory: about 40 bytes a record, and 12 for each band key that two records share.
    """
    alive = np.ones(num_records, bool)
    found: list[Drops] = []

    def drop(reason: int, rows: NDArray[np.int64], keepers: NDArray[np.int64], similarities: NDArray[np.float64] | None = None) -> None:
        alive[rows] = False
        found.append(
            Drops(rows, np.full(len(rows), reason, np.int8), keepers, np.ones(len(rows)) if similarities is None else similarities)
        )

    if settings.exact and num_records:
        drop(0, *_later_of_equal(column(0), column(1)))
    if settings.same_question != "keep" and num_records:
        rows = np.flatnonzero(alive)
        size = column(_SIZE)[rows] if settings.same_question == "longest" else np.zeros(len(rows), np.uint64)
        order = np.lexsort((rows, size.max(initial=0) - size, questions := column(_QUESTION)[rows]))
        later, keeper = _later_of_equal(questions[order])
        drop(2, rows[order][later], rows[order][keeper])
    if settings.near and num_records:
        drop(1, *_near(column, np.flatnonzero(alive), settings.min_similarity, verify))
    rows, reasons, keepers, similarities = (np.concatenate(values) for values in zip(*(NOTHING, *found), strict=True))
    drops = Drops(rows, reasons, keepers, similarities).take(np.argsort(rows, kind="stable"))
    return _with_kept_keepers(drops)


def _with_kept_keepers(drops: Drops) -> Drops:
    """A record whose keeper was dropped later goes for the same reason as that one, whose text it has."""
    place = np.minimum(np.searchsorted(drops.rows, drops.keepers), max(0, len(drops.rows) - 1))
    while len(chained := np.flatnonzero(drops.rows[place] == drops.keepers)):
        after = place[chained]
        for values in (drops.reasons, drops.keepers, drops.similarities):
            values[chained] = values[after]
        place = np.minimum(np.searchsorted(drops.rows, drops.keepers), len(drops.rows) - 1)
    return drops


def _later_of_equal(*columns: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(places of all but the first of equal values, the first's place for each)."""
    order = np.lexsort(columns[::-1])
    is_new = np.ones(len(order), bool)
    is_new[1:] = False
    for column in columns:
        ordered = column[order]
        is_new[1:] |= ordered[1:] != ordered[:-1]
    first = order[np.flatnonzero(is_new)[np.cumsum(is_new) - 1]]
    return order[~is_new], first[~is_new]


def _near(
    column: Column, rows: NDArray[np.int64], min_similarity: float, verify: Callable[[NDArray[np.int64]], Shingles]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(dropped rows, their keepers, similarities) among `rows`."""
    members: list[NDArray[np.uint32]] = []
    groups: list[NDArray[np.int64]] = []
    num_groups = 0
    for band in range(_BANDS.start, _BANDS.stop):
        for places, group in _shared(column(band)[rows]):
            members.append(places)
            groups.append(group + num_groups)
            num_groups += int(group[-1]) + 1
    if not members:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    member, group = np.concatenate(members), np.concatenate(groups)
    del members, groups
    order = np.argsort(member, kind="stable")
    member, group = member[order], group[order]
    distinct, first_entries = np.unique(member, return_index=True)
    candidates = rows[distinct]
    group_starts = np.append(first_entries, len(member)).astype(np.int64)
    hashes, starts = verify(candidates)
    keeper, similarity = np.empty(len(candidates), np.int64), np.empty(len(candidates))
    state = (
        np.full(num_groups, -1, np.int64),
        np.empty((len(member), 2), np.int64),
        np.zeros(num_groups, np.int32),
        np.full(len(candidates), -1, np.int64),
        keeper,
        similarity,
    )
    for first in range(0, len(candidates), _CHUNK):
        last = min(first + _CHUNK, len(candidates))
        kernels.keep_first(first, last, group_starts, group, starts, hashes, min_similarity, *state)
        if isinstance(hashes.base, mmap.mmap):
            hashes.base.madvise(mmap.MADV_DONTNEED)  # what was looked at need not stay in memory
    dropped = keeper >= 0
    return candidates[dropped], candidates[keeper[dropped]], similarity[dropped]


def _shared(values: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
    """(places, group numbers) of the values that occur more than once; nothing where there are none."""
    order = np.argsort(values).astype(np.uint32)
    ordered = values[order]
    equal = ordered[1:] == ordered[:-1]
    shared = np.zeros(len(values), bool)
    shared[1:] |= equal
    shared[:-1] |= equal
    if shared.any():
        ordered = ordered[shared]
        yield order[shared], np.concatenate(([0], np.cumsum(ordered[1:] != ordered[:-1])))


def _hash_functions() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """xors and odd factors [H] from splitmix64, so that they depend on no library's generator."""
    count = kernels.NUM_HASHES
    mask = (1 << 64) - 1
    made = []
    for number in range(2 * count):
        value = (0x9E3779B97F4A7C15 * (number + 1)) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        made.append((value ^ (value >> 31)) >> 32)
    return np.array(made[:count], np.uint32), np.array(made[count:], np.uint32) | np.uint32(1)
