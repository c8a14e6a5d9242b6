"""Text metrics with signatures, the protocols they are used under, and the statistics that tell systems apart.

The arithmetic is that of the reference libraries (NLTK, rouge-score), imported when first used. A `Metric` takes tokens and
gives numbers on a 0 to 100 scale; whoever replaces the arithmetic keeps that and changes the `v:` of the signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol as Interface

from medchatzh.metrics.bleu import Bleu, Gleu
from medchatzh.metrics.rouge import Rouge


class Metric(Interface):
    """A sentence-level measure of a hypothesis against its references."""

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that `score` gives, in the order of print."""
        ...

    def score(self, hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, float]:
        """Name → value in 0 to 100. An empty hypothesis scores 0; no references raise ValueError."""
        ...

    def signature(self, references: str) -> str:
        """How the numbers are made, one line; `references` is the protocol's part, `1(pos)` say."""
        ...


@lru_cache
def text_metrics(smoothing: str) -> tuple[Metric, ...]:
    """BLEU-1..4, GLEU, ROUGE-1/2/L: the paper's eight numbers. `smoothing` is for BLEU, as in `Bleu`."""
    return Bleu(smoothing), Gleu(), Rouge()
