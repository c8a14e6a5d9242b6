"""What training texts have of each benchmark text: the search behind `overlap`.

Legend: T training texts (turns of one role, and the lines of the users'); O texts of the benchmark; text t is `codes[begins[t]:ends[t]]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medchatzh.contamination import Overlap
from medchatzh.curate import kernels
from medchatzh.curate.batch import ASSISTANT, USER, Batch
from medchatzh.curate.benchmark import _Index
from medchatzh.curate.kernels import _position
from medchatzh.curate.normal import normal_texts
from medchatzh.curate.overlap import Config
from medchatzh.records import Question, Record, normalize
from medchatzh.run import Progress
from medchatzh.shards import byte_ranges

_CHUNK_BYTES = 1 << 24


class Finding(NamedTuple):
    """What the mix has of one text: see `Overlap`."""

    kind: str = ""
    share: float = 0.0
    witness: str = ""
    seen: float = 0.0
    """Of its n-grams, those that stand anywhere."""


class Side:
    """The questions, or the answers, of a benchmark, and the best that the training texts seen so far have of each."""

    def __init__(self, texts: Mapping[str, list[int]], config: Config) -> None:
        """`texts`: normalised text → the questions (by number) that it belongs to."""
        self._config = config
        self._owners = list(texts.values())
        self._codes, self._starts = normal_texts(list(texts))
        each = [self._codes[start:end] for start, end in pairwise(self._starts)]
        grams = [np.unique(kernels.grams(text, config.gram_chars)) for text in each]
        shingles = [kernels.shingles(text) for text in each]
        self._grams, self._shingles = _Index.of(grams), _Index.of(shingles)
        self._num_grams = np.fromiter(map(len, grams), np.int64, len(texts))
        sizes = np.fromiter(map(len, shingles), np.int64, len(texts))
        self._flat = np.concatenate([*shingles, np.empty(0, np.uint64)])
        self._flat_starts = np.concatenate(([0], np.cumsum(sizes)))
        self._positions = [np.searchsorted(self._grams.hashes, one) for one in grams]
        self._last = np.full(len(self._grams.hashes), -1, np.int64)
        """The last training text that has the n-gram."""
        self._shares, self._similarities = np.zeros(len(texts)), np.zeros(len(texts))
        self._is_exact = np.zeros(len(texts), bool)
        self._holders, self._likenesses = [""] * len(texts), [""] * len(texts)
        self._num_texts = 0

    def look(self, codes: NDArray[np.uint32], begins: NDArray[np.int64], ends: NDArray[np.int64], id_of: Callable[[int], str]) -> None:
        """Compare with training texts; `id_of(t)` is the id of the record that text t comes from."""
        held, alike = np.full(len(self._owners), -1, np.int64), np.full(len(self._owners), -1, np.int64)
        _contain(
            codes, begins, ends, self._config.gram_chars, self._num_texts, self._grams, self._num_grams, self._last, self._shares, held
        )
        _resemble(
            codes, begins, ends, self._config.min_similarity, self._shingles, self._flat, self._flat_starts, self._codes, self._starts,
            self._similarities, self._is_exact, alike,
        )  # fmt: skip
        self._num_texts += len(begins)
        for found, ids in ((held, self._holders), (alike, self._likenesses)):
            for number in np.flatnonzero(found >= 0).tolist():
                ids[number] = id_of(found[number])

    def findings(self) -> Iterator[tuple[int, Finding]]:
        """(question, what is known of a text of it), text by text."""
        for number, owners in enumerate(self._owners):
            enough = self._num_grams[number] >= self._config.min_grams
            share, similarity = float(self._shares[number]), float(self._similarities[number])
            if self._is_exact[number]:
                found = Finding("exact", 1.0, self._likenesses[number])
            elif enough and share >= self._config.min_share:
                found = Finding("contained", share, self._holders[number])
            elif similarity >= self._config.min_similarity:
                found = Finding("near", similarity, self._likenesses[number])
            else:
                found = Finding()
            seen = float(np.mean(self._last[self._positions[number]] >= 0)) if enough else 0.0
            for owner in owners:
                yield owner, found._replace(seen=seen)


def find(questions: Sequence[Question], path: Path, config: Config) -> Iterator[Overlap]:
    """The overlap of each question with the Dialogues of a file of JSON lines, in the order of the questions."""
    asked, said = Side(_asked(questions), config), Side(_said(questions, config), config)
    ranges = byte_ranges(path, _CHUNK_BYTES)
    with Progress("overlap", len(ranges), "pieces of 16 MiB") as progress, path.open("rb") as file:
        for start, end in progress.over(ranges):
            file.seek(start)
            batch = Batch.of_lines(file.read(end - start))
            codes, starts = batch.normal
            for role, side in ((USER, asked), (ASSISTANT, said)):
                turns = np.flatnonzero(batch.roles == role)
                side.look(codes, starts[turns], starts[turns + 1], partial(_id_of, batch, batch.owner[turns]))
            _look_at_lines(batch, asked, config)
    found: list[list[tuple[str, Finding]]] = [[] for _ in questions]
    for name, side in (("question", asked), ("answer", said)):
        for number, finding in side.findings():
            found[number].append((name, finding))
    for question, findings in zip(questions, found, strict=True):
        yield _overlap(question, findings)


def _look_at_lines(batch: Batch, asked: Side, config: Config) -> None:
    """The lines of the users' turns that have several."""
    breaks = np.flatnonzero(batch.codes == ord("\n"))
    turns = np.unique(np.searchsorted(batch.starts, breaks, side="right") - 1)
    turns = turns[batch.roles[turns] == USER]
    lines: list[str] = []
    rows: list[int] = []
    for turn in turns.tolist():
        text = batch.codes[batch.starts[turn] : batch.starts[turn + 1]].tobytes().decode("utf-32-le", "surrogatepass")
        whole = [line for line in text.split("\n") if len(line) >= config.min_line_chars]
        lines += whole
        rows += [int(batch.owner[turn])] * len(whole)
    codes, starts = normal_texts(lines)
    kept = np.flatnonzero(np.diff(starts) >= config.min_line_chars)
    asked.look(codes, starts[kept], starts[kept + 1], partial(_id_of, batch, np.array(rows, np.int64)[kept]))


def _id_of(batch: Batch, owners: NDArray[np.int64], text: int) -> str:
    return batch.record(int(owners[text])).id


def _asked(questions: Sequence[Question]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        if text := normalize(question.opening):
            found.setdefault(text, []).append(number)
    return found


def _said(questions: Sequence[Question], config: Config) -> dict[str, list[int]]:
    """A conversation's last answer is left out: it is mostly a farewell, and stands in many others."""
    found: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        for reference in question.references if not question.history else ():
            if len(text := normalize(reference)) >= config.min_answer_chars:
                found.setdefault(text, []).append(number)
    return found


def _overlap(question: Question, findings: Sequence[tuple[str, Finding]]) -> Overlap:
    rank = {"exact": 3, "contained": 2, "near": 1, "": 0}
    side, best = max(findings, key=lambda found: (rank[found[1].kind], found[1].share), default=("", Finding()))
    seen = {name: max((found.seen for side, found in findings if side == name), default=0.0) for name in ("question", "answer")}
    place = {name: getattr(question, name) for name in Record.__struct_fields__}
    return Overlap(
        **place,
        kind=best.kind,
        side=side if best.kind else "",
        share=round(best.share, 4),
        witness=best.witness,
        question_share=round(seen["question"], 4),
        answer_share=round(seen["answer"], 4),
    )


@njit(cache=True, nogil=True)
def _contain(codes, begins, ends, width, first, index, num_grams, last, shares, found):
    """Raise shares [O] to the largest part of a text's n-grams that one training text holds, and name that text in found [O].

    last [distinct n-grams] becomes the number of the last training text that holds it, counted from `first`, so that one that comes twice
    in a text counts once.
    """
    hashes, table, owner_starts, owners = index
    shared, touched = np.zeros(num_grams.size, np.int32), np.empty(num_grams.size, np.int32)
    for text in range(begins.size):
        num_touched = 0
        for place in range(begins[text], ends[text] - width + 1):
            position = _position(kernels.shingle(codes, place, width), hashes, table)
            if position < 0 or last[position] == first + text:
                continue
            last[position] = first + text
            for entry in range(owner_starts[position], owner_starts[position + 1]):
                owner = owners[entry]
                if not shared[owner]:
                    touched[num_touched] = owner
                    num_touched += 1
                shared[owner] += 1
        for number in range(num_touched):
            owner = touched[number]
            share = shared[owner] / num_grams[owner]
            shared[owner] = 0
            if share > shares[owner]:
                shares[owner], found[owner] = share, text


@njit(cache=True, nogil=True)
def _resemble(codes, begins, ends, least, index, flat, flat_starts, other_codes, other_starts, similarities, is_exact, found):
    """Raise similarities [O] to the largest Jaccard similarity with a training text, from `least` on; is_exact [O] where both are equal.

    A text that is as similar shares so many of its shingles that it shares one of any 1 - `least` of them: the rarest are looked up.
    """
    hashes, table, owner_starts, owners = index
    checked = np.full(similarities.size, -1, np.int64)
    for text in range(begins.size):
        mine = kernels.shingles(codes[begins[text] : ends[text]])
        positions, commons = np.empty(mine.size, np.int64), np.empty(mine.size, np.int64)
        for number in range(mine.size):
            position = _position(mine[number], hashes, table)
            positions[number] = position
            commons[number] = owner_starts[position + 1] - owner_starts[position] if position >= 0 else 0
        order = np.argsort(commons)
        for number in range(mine.size - int(np.ceil(least * mine.size - 1e-9)) + 1 if mine.size else 0):
            position = positions[order[number]]
            if position < 0:
                continue
            for entry in range(owner_starts[position], owner_starts[position + 1]):
                owner = owners[entry]
                if checked[owner] == text:
                    continue
                checked[owner] = text
                size = flat_starts[owner + 1] - flat_starts[owner]
                if is_exact[owner] or min(size, mine.size) < least * max(size, mine.size):
                    continue
                similarity = kernels.jaccard(mine, flat[flat_starts[owner] : flat_starts[owner + 1]])
                if similarity < least or similarity < similarities[owner]:
                    continue
                begin, length = other_starts[owner], other_starts[owner + 1] - other_starts[owner]
                same = similarity == 1.0 and length == ends[text] - begins[text]
                for offset in range(length if same else 0):
                    same = same and other_codes[begin + offset] == codes[begins[text] + offset]
                if same or similarity > similarities[owner]:
                    similarities[owner], is_exact[owner], found[owner] = similarity, same, text
