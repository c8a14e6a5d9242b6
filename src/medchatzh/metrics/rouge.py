"""ROUGE-1, ROUGE-2, ROUGE-L with the numbers of the three libraries in use, from integer counts."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import numpy as np

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.counts import Counts, Floats, best
from medchatzh.metrics.metric import Metric
from medchatzh.metrics.segment import Tokens
from medchatzh.metrics.signature import signature, version

VERSIONS = {"rouge-score": "0.1.2", "rouge-chinese": "1.0.3", "rouge": "1.0.1"}
"""The libraries, and the release of each whose numbers these are."""


class Overlap(NamedTuple):
    """What precision and recall divide, by reference and by kind (unigrams, bigrams, longest common subsequence): (m, 3) each."""

    common: Floats
    hypothesis: Floats
    reference: Floats


class Rouge(Metric, frozen=True, kw_only=True):
    """ROUGE-1, ROUGE-2, ROUGE-L (Lin 2004): F1 as one of three libraries works it out.

    | `library` | n-grams | ROUGE-L | F |
    |---|---|---|---|
    | `rouge-score` (Google) | counted, clipped | length of the subsequence | 2PR / (P + R) |
    | `rouge-chinese` | sets | length of the subsequence | 2PR / (P + R + 1e-8) |
    | `rouge` (pltrdy) | sets | *different tokens* of the one subsequence it reads out, by sentence, over different tokens | as above |

    The last two take one string, tokens joined by a space, and cut it again: `rouge` at each `.` (which goes, that in `38.5` too),
    `rouge-chinese` after `。！？?`, six dots and `……`, and both at white space. A sentence of nothing but white space is one empty word to
    them, and counts. All of that is done here as they do it.

    Where they raise: a hypothesis or reference without a sentence (ValueError there) scores 0; so does nothing else. `rouge` needs a
    recursion a token and fails near 1,000 tokens; this does not. No reference is a ValueError.
    """

    library: Literal["rouge-score", "rouge-chinese", "rouge"] = "rouge-score"
    aggregate: Literal["max", "mean"] = "max"
    """Over the references of an item: by kind that with the largest F, or the mean."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("ROUGE-1", "ROUGE-2", "ROUGE-L")

    @property
    def counts_sets(self) -> bool:
        return self.library != "rouge-score"

    def scores(self, batch: Batch) -> Floats:
        return 100 * self.precision_recall_f(batch)[:, :, 2]

    def precision_recall_f(self, batch: Batch) -> Floats:
        """(n, 3, 3): by item and kind, precision, recall and F1, 0 to 1; those of the reference with the largest F, or their means."""
        counts = batch.referenced
        common, hypothesis, reference = self._overlap(batch, counts)
        precision = common / np.maximum(hypothesis, 1)
        recall = common / np.maximum(reference, 1)
        both = precision + recall
        if self.library == "rouge-score":
            f1 = 2 * precision * recall / np.where(both > 0, both, 1)
        else:
            f1 = 2.0 * ((precision * recall) / (both + 1e-8))
        values = np.stack([precision, recall, f1], axis=2)
        if self.aggregate == "mean":
            return np.add.reduceat(values, counts.items[:-1]) / np.diff(counts.items)[:, None, None]
        return np.stack([values[best(f1[:, kind], counts), kind] for kind in range(3)], axis=1)

    def _overlap(self, batch: Batch, counts: Counts) -> Overlap:
        if not self.counts_sets:
            return _clipped(counts)
        chinese = self.library == "rouge-chinese"
        read = _sets if chinese else _words
        overlap = read(counts)
        pairs, recounted = batch.recounted(rouge_chinese_sentences, "") if chinese else batch.recounted(rouge_sentences, ".")
        for whole, part in zip(overlap, read(recounted), strict=True):
            whole[pairs] = part
        return overlap

    def signature(self, references: str) -> str:
        shared = {"refs": references, "agg": self.aggregate, "v": version(f"{self.library}-{VERSIONS[self.library]}")}
        return signature("ROUGE", lvl="sentence", f="1", **self.segmenter.parts, **shared)


def _clipped(counts: Counts) -> Overlap:
    lengths = counts.lengths[counts.item_of]
    return Overlap(
        _columns(*counts.pair_matches[:, :2].T, counts.lcs),
        _columns(lengths, np.maximum(lengths - 1, 0), lengths),
        _columns(counts.ref_lengths, np.maximum(counts.ref_lengths - 1, 0), counts.ref_lengths),
    )


def _sets(counts: Counts) -> Overlap:
    return Overlap(
        _columns(*counts.common.T, counts.lcs),
        _columns(*counts.distinct[counts.item_of].T, counts.lengths[counts.item_of]),
        _columns(*counts.ref_distinct.T, counts.ref_lengths),
    )


def _words(counts: Counts) -> Overlap:
    singles, pairs = counts.distinct[counts.item_of].T
    ref_singles, ref_pairs = counts.ref_distinct.T
    common = _columns(*counts.common.T, counts.lcs_words)
    return Overlap(common, _columns(singles, pairs, singles), _columns(ref_singles, ref_pairs, ref_singles))


def _columns(*parts) -> Floats:
    return np.stack(parts, axis=1).astype(np.float64)


def rouge_sentences(tokens: Tokens) -> list[Tokens]:
    """The sentences that pltrdy's `rouge` finds in tokens joined by a space, and the words in each."""
    if isinstance(tokens, str) and tokens.split() == [tokens]:
        parts = tokens.split(".")  # joined, two points with nothing between have a space there: a sentence
        return [part or " " for at, part in enumerate(parts) if part or 0 < at < len(parts) - 1]
    return _words_of([part for part in " ".join(tokens).split(".") if part], tokens)


# Its four substitutions, each of which puts a line break between the groups.
_BREAKS = [re.compile(pattern) for pattern in ("([。！？?])([^”’])", r"(\.{6})([^”’])", "(…{2})([^”’])", "([。！？?][”’])([^，。！？?])")]


def rouge_chinese_sentences(tokens: Tokens) -> list[Tokens]:
    """The words that `rouge-chinese` finds in tokens joined by a space: as one sentence, since it counts across its sentences."""
    if isinstance(tokens, str) and tokens.split() == [tokens]:  # single characters: every break falls on a space
        return [tokens]
    text = " ".join(tokens)
    for pattern in _BREAKS:
        text = pattern.sub(r"\1\n\2", text)
    parts = _words_of([part for part in text.rstrip().split("\n") if part], tokens)
    return ["".join(parts)] if isinstance(tokens, str) else [[word for part in parts for word in part]]  # type: ignore[arg-type]


def _words_of(sentences: list[str], tokens: Tokens) -> list[Tokens]:
    """Its words; one empty word where there is nothing but white space. Characters stay a string, and a space stands for that word."""
    words = [sentence.split() for sentence in sentences]
    if isinstance(tokens, str):
        return ["".join(part) or " " for part in words]
    return [part or [""] for part in words]
