"""BLEU with the numbers of NLTK 3.8.1, the library that the paper names, from integer counts."""

from __future__ import annotations

import sys
from typing import Literal, TypeAlias, get_args

import numpy as np

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.counts import Floats
from medchatzh.metrics.metric import CorpusMetric
from medchatzh.metrics.signature import signature, version

Smoothing: TypeAlias = Literal["none", "method1", "method2", "method3", "method4", "method5", "method6", "method7"]
SMOOTHINGS: tuple[str, ...] = get_args(Smoothing)
"""NLTK's names for the methods of Chen and Cherry (WMT 2014, W14-3346); `none` is its `method0`."""

_ORDERS = (1, 2, 3, 4)
# 1/n exactly: the common (.33, .33, .33) gives .605 where (1/3, 1/3, 1/3) gives .603.
_CUMULATIVE = np.array([[1 / order if at <= order else 0 for at in _ORDERS] for order in _ORDERS])
# NLTK's constants: epsilon of method 1, k of method 4, alpha of method 6.
_EPSILON, _K, _ALPHA = 0.1, 5, 5


class Bleu(CorpusMetric, frozen=True, kw_only=True):
    """BLEU-1..4 (Papineni et al. 2002), several references clipped together, of single answers or of a corpus.

    All orders are smoothed together, as one call of NLTK with a list of weights does: methods 5 to 7 look at neighbouring orders. Methods
    5 and 7 can exceed 100. Unsmoothed, an order without a match leaves a value such as 1e-153, not 0, as in NLTK.

    Where NLTK raises or goes wrong: no reference is a ValueError (there a KeyError). Method 6 extrapolates from the first orders and
    refuses a hypothesis without a common trigram: it stays unsmoothed. Of a corpus, NLTK's methods 5 to 7 look at the counts of its
    last item only, so that the order of items changes the score; here they look at those of the corpus.
    """

    smoothing: Smoothing = "none"
    weights: Literal["cum", "ind"] = "cum"
    """`cum`: the geometric mean of orders 1 to n. `ind`: order n alone (with the brevity penalty)."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"BLEU-{order}" for order in _ORDERS)

    def statistics(self, batch: Batch) -> Floats:
        """(n, 17): of orders 1 to 5 matches, NLTK's totals (never 0) and n-grams; length of the hypothesis and of the closest reference."""
        counts = batch.referenced
        lengths = counts.lengths.astype(np.int64)
        num_grams = np.maximum(lengths[:, None] - np.arange(5), 0)
        gaps = counts.ref_lengths - lengths[counts.item_of]
        # The closest reference length; of two as close the shorter, so the order is by distance, then by length.
        closest = np.minimum.reduceat((np.abs(gaps) << 32) + counts.ref_lengths, counts.items[:-1]) & 0xFFFFFFFF
        parts = (counts.matches, np.maximum(num_grams, 1), num_grams, lengths[:, None], closest[:, None])
        return np.hstack(parts).astype(np.float64)

    def of(self, statistics: Floats) -> Floats:
        matches, totals, num_grams = statistics[:, :5], statistics[:, 5:10], statistics[:, 10:15]
        length, closest = statistics[:, 15], statistics[:, 16]
        precisions = self._smoothed(matches, totals, num_grams, length)
        # What is 0 even when smoothed (method 4, one token) is left out of the mean.
        logs = np.log(precisions, out=np.zeros_like(precisions), where=precisions > 0)
        weights = _CUMULATIVE if self.weights == "cum" else np.eye(4)
        penalty = np.where(length > closest, 1.0, np.exp(1 - closest / np.maximum(length, 1)))
        # Not `@`: its last bit depends on how many rows are multiplied at once.
        scores = penalty[:, None] * np.exp((logs[:, None] * weights).sum(axis=2))
        return np.where(matches[:, :1] > 0, 100 * scores, 0.0)

    def _smoothed(self, matches: Floats, totals: Floats, num_grams: Floats, length: Floats) -> Floats:
        """(B, 4) precisions."""
        raw = matches / totals
        exact = raw[:, :4]
        none = matches[:, :4] == 0
        match self.smoothing:
            case "method1":
                return np.where(none, _EPSILON / totals[:, :4], exact)
            case "method2":
                plus_one = (matches + 1) / (totals + 1)
                return np.hstack([exact[:, :1], plus_one[:, 1:4]])
            case "method3":
                return np.where(none, 1 / (2.0 ** np.cumsum(none, axis=1) * totals[:, :4]), exact)
            case "method4":
                return _method4(exact, none, totals, length)
            case "method5":
                return _method5(exact, raw[:, 4])
            case "method6":
                return _method6(np.where(none, sys.float_info.min, exact), matches, num_grams)
            case "method7":
                return _method5(_method4(exact, none, totals, length), raw[:, 4])
        return np.where(none, sys.float_info.min, exact)

    def signature(self, references: str, level: Literal["sentence", "corpus"] = "sentence") -> str:
        """`level`: means of `scores`, or one `of` the sums."""
        equals = "" if level == "corpus" and self.smoothing in ("method5", "method6", "method7") else "nltk-3.8.1"
        shared = {"smooth": self.smoothing, "refs": references, "agg": "max", "v": version(equals)}
        return signature("BLEU", lvl=level, w=self.weights, **self.segmenter.parts, **shared)


def _method4(exact: Floats, none: Floats, totals: Floats, length: Floats) -> Floats:
    """An order without a match counts ln(length) / (2^k 5), k its number among them. A hypothesis of one token stays as it is."""
    logs = np.log(np.maximum(length, 2))[:, None]
    smoothed = 1 / (2.0 ** np.cumsum(none, axis=1) * _K / logs) / totals[:, :4]
    return np.where(np.logical_and(none, (length > 1)[:, None]), smoothed, exact)


def _method5(precisions: Floats, fifth: Floats) -> Floats:
    """Each order becomes the mean of itself, the next and the one before as it has become."""
    following = np.hstack([precisions[:, 1:], fifth[:, None]])
    smoothed = np.empty_like(precisions)
    before = precisions[:, 0] + 1
    for order in range(4):
        before = smoothed[:, order] = (before + precisions[:, order] + following[:, order]) / 3
    return smoothed


def _method6(precisions: Floats, matches: Floats, num_grams: Floats) -> Floats:
    """Orders 3 and 4 lean on what the two before let expect."""
    smoothed = precisions.copy()
    for order in (2, 3):
        expected = smoothed[:, order - 1] ** 2 / smoothed[:, order - 2]
        smoothed[:, order] = (matches[:, order] + _ALPHA * expected) / (num_grams[:, order] + _ALPHA)
    return np.where(matches[:, 2:3] > 0, smoothed, precisions)
