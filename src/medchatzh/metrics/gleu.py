"""Google's GLEU with the numbers of NLTK 3.8.1, from integer counts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.counts import Floats, best
from medchatzh.metrics.metric import CorpusMetric
from medchatzh.metrics.signature import signature, version


class Gleu(CorpusMetric, frozen=True, kw_only=True):
    """Google's GLEU (Wu et al. 2016, section 5.2), n-grams of 1 to 4, of single answers or of a corpus.

    The paper cites Mutton et al. 2007, another measure of the same name; NLTK's `gleu_score`, which it used, is Google's. The best
    reference counts, the first of several. No reference is a ValueError (NLTK gives 0).
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("GLEU",)

    def statistics(self, batch: Batch) -> Floats:
        """(n, 2): n-grams in common with the best reference, and of the longer of the two texts."""
        counts = batch.referenced
        shared = counts.pair_matches.sum(axis=1)
        totals = np.maximum(_num_grams(counts.lengths)[counts.item_of], _num_grams(counts.ref_lengths))
        # Where both are empty a reference is not chosen while there is another.
        chosen = best(np.where(totals > 0, shared / np.maximum(totals, 1), -1), counts)
        return np.stack([shared, totals], axis=1)[chosen].astype(np.float64)

    def of(self, statistics: Floats) -> Floats:
        return 100 * statistics[:, :1] / np.maximum(statistics[:, 1:], 1)

    def signature(self, references: str, level: Literal["sentence", "corpus"] = "sentence") -> str:
        shared = {"refs": references, "agg": "max", "v": version("nltk-3.8.1")}
        return signature("GLEU", kind="google", lvl=level, n="1-4", **self.segmenter.parts, **shared)


def _num_grams(lengths):
    """N-grams of 1 to 4 in texts of so many tokens."""
    return np.maximum(lengths[:, None].astype(np.int64) - np.arange(4), 0).sum(axis=1)
