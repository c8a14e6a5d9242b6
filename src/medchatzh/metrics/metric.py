"""What the metrics of a protocol have in common."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.counts import Floats
from medchatzh.metrics.segment import CHARACTERS, Segmenter, Tokens


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of answers against references, and all its settings."""

    segmenter: Segmenter = CHARACTERS

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that it gives, in the order of print."""
        raise NotImplementedError

    def scores(self, batch: Batch) -> Floats:
        """(n, names) on a 0 to 100 scale, an item a row. An empty hypothesis scores 0. ValueError where an item has no reference."""
        raise NotImplementedError

    def score(self, hypothesis: Tokens, references: Sequence[Tokens]) -> dict[str, float]:
        """Of one answer: name → value."""
        return dict(zip(self.names, self.scores(Batch([hypothesis], [references])).ravel().tolist(), strict=True))

    def signature(self, references: str) -> str:
        """How the numbers are made, one line; `references` is the protocol's part, `1(pos)` say."""
        raise NotImplementedError
