"""Decontamination: records that hold a benchmark's question or its answer must not be trained on.

Instructions and benchmark are crawled from the same sites, so the leak is the rule, not the exception. A user's turn is compared with the
questions, an answer with the reference answers: equal after normalisation, contained (n-grams), or near (exact Jaccard of shingles).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medchatzh.curate import kernels
from medchatzh.curate.batch import ASSISTANT, USER, Batch
from medchatzh.curate.config import Decontamination
from medchatzh.curate.normal import normal_table, normal_texts
from medchatzh.records import Dialogue, Question, normalize

_SHARE_IF_NEAR = 0.35
"""Two texts of more than `_SHORT_CHARS` that are near share at least this part of their n-grams: similarity .8 means that at most a
fifth of the shingles differ, an edit costs five, so 100 shingles hold at most four edits and, between them, 43 whole 13-grams of 92."""
_SHORT_CHARS = 64
"""Shorter texts are compared by their shingles."""
_CANDIDATES = 8


class Match(NamedTuple):
    """What a record gives away: the benchmark question's id, and how: `exact`, `contained` or `near`."""

    id: str
    kind: str
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.id} {self.kind}" + ("" if self.kind == "exact" else f" {self.share:.3f}")


class _Index(NamedTuple):
    """hashes [distinct], sorted; table: see `kernels.hash_table`; the texts that have hash h are owners[starts[h]:starts[h + 1]]."""

    hashes: NDArray[np.uint64]
    table: NDArray[np.int32]
    starts: NDArray[np.int64]
    owners: NDArray[np.uint32]

    @classmethod
    def of(cls, sets: Sequence[NDArray[np.uint64]]) -> _Index:
        hashes = np.concatenate([*sets, np.empty(0, np.uint64)])
        owners = np.repeat(np.arange(len(sets), dtype=np.uint32), [len(one) for one in sets])
        order = np.argsort(hashes, kind="stable")
        distinct, starts = np.unique(hashes[order], return_index=True)
        return cls(distinct, kernels.hash_table(distinct), np.append(starts, len(hashes)), owners[order])

    def owners_of(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The owners of some hashes, with repeats."""
        places = np.searchsorted(self.hashes, hashes)
        known = places[places < len(self.hashes)][self.hashes[places[places < len(self.hashes)]] == hashes[places < len(self.hashes)]]
        return np.concatenate([np.empty(0, np.uint32), *(self.owners[self.starts[place] : self.starts[place + 1]] for place in known)])


class _Texts:
    """One side of the benchmark, its questions or its answers, with what they are found by."""

    def __init__(self, texts: dict[str, str], gram_chars: int) -> None:
        """`texts`: normalised text → question id."""
        self.exact = texts
        self.ids = list(texts.values())
        codes, starts = normal_texts(list(texts))
        self.codes = [codes[start:end] for start, end in pairwise(starts)]
        self.grams = [np.unique(kernels.grams(text, gram_chars)) for text in self.codes]
        self.shingles = [kernels.shingles(text) for text in self.codes]
        self.by_gram, self.by_shingle = _Index.of(self.grams), _Index.of(self.shingles)
        self.bitmap = _bitmap(self.by_gram.hashes)
        self.num_grams = np.fromiter(map(len, self.grams), np.int64, len(texts))
        lengths = np.fromiter(map(len, self.shingles), np.int64, len(texts))
        self.flat = (np.concatenate([*self.shingles, np.empty(0, np.uint64)]), np.concatenate(([0], np.cumsum(lengths))))

    def candidates(self, grams: NDArray[np.uint64], shingles: NDArray[np.uint64]) -> list[int]:
        """The texts that share most with these, the most first; ties by number."""
        found: dict[int, None] = {}
        for index, mine in ((self.by_gram, grams), (self.by_shingle, shingles if len(shingles) <= _SHORT_CHARS else shingles[:0])):
            numbers, counts = np.unique(index.owners_of(mine), return_counts=True)
            found |= dict.fromkeys(numbers[np.lexsort((numbers, -counts))][:_CANDIDATES].tolist())
        return list(found)


class Benchmark:
    """An index of benchmark questions: `match(dialogue)` tells what a record leaks."""

    def __init__(self, questions: Iterable[Question], settings: Decontamination) -> None:
        self._settings = settings
        asked: dict[str, str] = {}
        said: dict[str, str] = {}
        for question in questions:
            if text := normalize(question.opening):
                asked.setdefault(text, question.id)
            for reference in question.references:
                if len(text := normalize(reference)) >= settings.min_answer_chars:
                    said.setdefault(text, question.id)
        self._questions, self._answers = _Texts(asked, settings.gram_chars), _Texts(said, settings.gram_chars)
        self._lines = _bitmap(np.array([kernels.line_hash(text) for text in self._questions.codes], np.uint64), 1024)

    def __bool__(self) -> bool:
        return bool(self._questions.exact or self._answers.exact)

    def suspects(self, batch: Batch) -> NDArray[np.bool_]:
        """The records [num_records] that could match: all that do, and few others. A pass of some microseconds a record."""
        settings = self._settings
        found = np.zeros(len(batch), bool)
        codes, starts = batch.normal
        for role, side in ((USER, self._questions), (ASSISTANT, self._answers)):
            turns = np.flatnonzero(batch.roles == role)
            hits = np.zeros(len(turns), bool)
            kernels.overlaps(
                codes, starts[turns], starts[turns + 1], settings.gram_chars, settings.min_grams, settings.min_containment,
                min(_SHARE_IF_NEAR, settings.min_containment), _SHORT_CHARS, settings.min_similarity,
                side.bitmap, side.by_gram, side.by_shingle, side.num_grams, side.flat, hits,
            )  # fmt: skip
            if role == USER:
                kernels.line_hits(batch.codes, batch.starts[turns], batch.starts[turns + 1], *normal_table(), self._lines, hits)
            found[batch.owner[turns[hits]]] = True
        return found

    def match(self, dialogue: Dialogue) -> Match | None:
        """The benchmark question that one of this record's user turns or answers gives away, or None."""
        if not self:
            return None
        settings = self._settings
        asked = [turn.content for turn in dialogue.turns if turn.role == "user"]
        whole = list(map(normalize, asked))
        lines = [normalize(line) for text in asked if "\n" in text for line in text.split("\n")]
        for text in (*whole, *(line for line in lines if len(line) >= settings.min_line_chars)):
            if text in self._questions.exact:
                return Match(self._questions.exact[text], "exact")
        said = list(map(normalize, dialogue.answers))
        for text in said:
            if len(text) >= settings.min_answer_chars and text in self._answers.exact:
                return Match(self._answers.exact[text], "exact")
        near = (self._near(text, self._questions, 1, both_ways=True) for text in whole)
        near_answers = (self._near(text, self._answers, settings.min_near_answer_chars, both_ways=False) for text in said)
        return next(filter(None, (*near, *near_answers)), None)

    def _near(self, text: str, side: _Texts, min_chars: int, *, both_ways: bool) -> Match | None:
        settings = self._settings
        if len(text) < min_chars:
            return None
        codes = kernels.code_points([text])[0]
        grams, mine = np.unique(kernels.grams(codes, settings.gram_chars)), kernels.shingles(codes)
        for number in side.candidates(grams, mine):
            other, theirs = side.codes[number], side.grams[number]
            if len(other) < min_chars:
                continue
            if min(len(grams), len(theirs)) >= settings.min_grams:
                shorter = min(len(grams), len(theirs)) if both_ways else len(theirs)
                share = len(np.intersect1d(grams, theirs, assume_unique=True)) / shorter
                if share >= settings.min_containment:
                    return Match(side.ids[number], "contained", share)
            if (similarity := kernels.jaccard(mine, side.shingles[number])) >= settings.min_similarity:
                return Match(side.ids[number], "near", similarity)
        return None


def _bitmap(hashes: NDArray[np.uint64], spread: int = 16) -> NDArray[np.uint64]:
    """A bit for each hash, in a map of `spread` times as many bits or more (one chance hit in so many looks)."""
    bitmap = np.zeros(1 << (max(6, int(np.ceil(np.log2(spread * max(1, len(hashes)))))) - 6), np.uint64)
    kernels.fill(bitmap, hashes)
    return bitmap
