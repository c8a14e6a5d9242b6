"""What is said twice: chapters and passages that stand in an earlier chapter or book, exactly or nearly.

"Earlier" is in reading order. Each shard leaves hashes (`Keys`); what repeats what is told from them alone, once all are there. Only the
candidates of near-repetition are read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from medchatzh.books.passages import passages
from medchatzh.records import Document, normalize

SHINGLE_CHARS = 5
_BANDS, _ROWS = 8, 3
"""MinHash values of a sketch. A pair of similarity .8 meets in one of the bands with probability 1 - (1 - .8³)⁸ = .997."""

CHAPTER = np.dtype([("digest", "<u8"), ("book", "<i4"), ("sketch", "<u8", (_BANDS * _ROWS,))])
PASSAGE = np.dtype([("digest", "<u8"), ("chapter", "<i4"), ("line", "<i4"), ("chars", "<i4")])
"""Digests of 64 bits: among a million passages two differ and agree by chance once in 40 million runs."""

_MULTIPLIERS = np.array(
    [int.from_bytes(blake2b(b"%d" % row, digest_size=8).digest(), "little") | 1 for row in range(_BANDS * _ROWS)], dtype=np.uint64
)


class Repeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `repeats.jsonl`: `id` (a passage, or a near-repeated chapter) says what `first` says."""

    id: str
    first: str
    num_chars: int = 0
    """Characters of a passage, without punctuation."""
    jaccard: float = 0.0
    """Similarity of a chapter; 0 for a passage, which is equal but for punctuation and space."""


class Chapters(NamedTuple):
    """What repeats what, by chapter index."""

    exact: dict[int, int]
    near: dict[int, tuple[int, float]]


def keys(documents: Sequence[Document], books: Sequence[int], min_repeat_chars: int) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """The hashes of chapters (`CHAPTER`, [num_chapters]) and of their passages that are long enough (`PASSAGE`; chapters count from 0)."""
    chapters = np.zeros(len(documents), CHAPTER)
    found = []
    for index, (document, book) in enumerate(zip(documents, books, strict=True)):
        lines = []
        for identity, text in passages(document):
            lines.append(normalize(text))
            if len(lines[-1]) >= min_repeat_chars:
                found.append((_digest(lines[-1]), index, int(identity.rpartition("#")[2]), len(lines[-1])))
        whole = "".join(lines)
        chapters[index] = (_digest(whole), book, _sketch(shingles(whole)))
    return chapters, np.array(found, PASSAGE)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _sketch(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """MinHash values, [24]: the least of the hashes after each multiplication. By pieces, for a chapter may be a whole book."""
    pieces = range(0, len(hashes), 1 << 16)
    return np.min([(hashes[start : start + (1 << 16)] * _MULTIPLIERS[:, None]).min(axis=1) for start in pieces], axis=0)


def shingles(text: str) -> NDArray[np.uint64]:
    """Hashes of all runs of 5 characters of a normalised text, [max(1, chars - 4)]; a shorter text counts as one."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    num = max(1, len(points) - SHINGLE_CHARS + 1)
    mixed = np.zeros(num, np.uint64)
    for offset in range(min(SHINGLE_CHARS, len(points))):
        mixed = (mixed ^ points[offset : offset + num]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def compare(
    chapters: NDArray[np.void], threshold: float, read: Callable[[set[int]], Iterable[tuple[int, Document]]], *, exact: bool = True
) -> Chapters:
    """Repeated chapters: the exact ones with their first, and of the others the near ones with the nearest earlier one.

    Without `exact`, equal chapters count as near ones (of similarity 1). `read` gives the documents of some chapters. Similarity is the
    Jaccard index of the sets of shingles, and is computed for every pair that meets in a band: nothing is near by chance.
    """
    own = np.arange(len(chapters))
    _, first, which = np.unique(chapters["digest"], return_index=True, return_inverse=True)
    keeper = first[which] if exact else own
    equal = {int(index): int(keeper[index]) for index in np.flatnonzero(keeper != own)}
    candidates = _candidates(chapters["sketch"], np.flatnonzero(keeper == own))
    sets = {index: np.unique(shingles(normalize(document.text))) for index, document in read(set(candidates.flatten().tolist()))}
    near: dict[int, tuple[int, float]] = {}
    for earlier, later in candidates.tolist():
        common = len(np.intersect1d(sets[earlier], sets[later], assume_unique=True))
        jaccard = common / (len(sets[earlier]) + len(sets[later]) - common)
        if jaccard >= threshold and jaccard > near.get(later, (0, 0.0))[1]:
            near[later] = earlier, jaccard
    return Chapters(equal, near)


def _candidates(sketches: NDArray[np.uint64], kept: NDArray[np.intp]) -> NDArray[np.int64]:
    """Pairs (earlier, later) of the kept chapters that agree in a band, [num_pairs, 2], sorted.

    Each is paired with the first of its group and the one before it: a verse repeated a thousand times makes 2,000 pairs, not 500,000.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        rows = sketches[kept, band * _ROWS : (band + 1) * _ROWS]
        order = np.lexsort((kept, *rows.T))
        rows, members = rows[order], kept[order]
        is_same = np.r_[False, (rows[1:] == rows[:-1]).all(axis=1)]
        starts = np.maximum.accumulate(np.where(is_same, 0, np.arange(len(members))))
        later = np.flatnonzero(is_same)
        pairs += [np.stack([members[later - 1], members[later]], axis=1), np.stack([members[starts[later]], members[later]], axis=1)]
    return np.unique(np.concatenate(pairs), axis=0)


def repeated(found: NDArray[np.void], books: NDArray[np.int32], dropped: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(passage, first passage) by index, in order: passages of chapters not dropped whose words stand first in another book.

    `books` is the book of each chapter.
    """
    usable = np.flatnonzero(~np.isin(found["chapter"], np.fromiter(dropped, np.int64)))
    _, first, which = np.unique(found["digest"][usable], return_index=True, return_inverse=True)
    origin = usable[first[which]]
    differs = books[found["chapter"][origin]] != books[found["chapter"][usable]]
    yield from zip(usable[differs].tolist(), origin[differs].tolist(), strict=True)
