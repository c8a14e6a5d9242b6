"""What shows without references: variety and length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.counts import Floats, encoded, offsets
from medchatzh.metrics.metric import Metric
from medchatzh.metrics.segment import Tokens
from medchatzh.metrics.signature import signature, version


class Distinct(Metric, frozen=True, kw_only=True):
    """Distinct-1 and Distinct-2 (Li et al. 2016) of each answer: different n-grams among all its n-grams.

    Short answers score high, whatever they say: `pooled` tells a system of canned ones.
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("Distinct-1", "Distinct-2")

    def scores(self, batch: Batch) -> Floats:
        """(n, 2) on a 0 to 100 scale; 0 where there is no n-gram. References are not read."""
        counts = batch.counts
        totals = np.maximum(counts.lengths[:, None] - np.arange(2), 1)
        return 100 * counts.distinct / totals

    def signature(self, references: str = "0") -> str:
        return signature("Distinct", lvl="sentence", **self.segmenter.parts, refs=references, v=version(""))


class Length(Metric, frozen=True, kw_only=True):
    """Tokens of each answer."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("length",)

    def scores(self, batch: Batch) -> Floats:
        """(n, 1) tokens, not on a scale. References are not read."""
        return batch.counts.lengths[:, None].astype(np.float64)

    def signature(self, references: str = "0") -> str:
        return signature("length", lvl="sentence", **self.segmenter.parts, refs=references, v=version(""))


def pooled(texts: Sequence[Tokens]) -> tuple[float, float]:
    """Distinct-1 and Distinct-2 of all texts together, 0 to 1. A canned answer is near 0."""
    (ids,) = encoded(texts)
    bounds = offsets(texts)
    inside = np.ones(len(ids), dtype=bool)  # whether the pair that begins here lies in one text
    inside[bounds[1:][np.diff(bounds) > 0] - 1] = False
    pairs = (ids[:-1].astype(np.int64) << 32 | ids[1:])[inside[:-1]]
    first, second = (len(np.unique(grams)) / max(1, len(grams)) for grams in (ids, pairs))
    return first, second
