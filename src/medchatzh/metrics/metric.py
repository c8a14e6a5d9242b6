"""What the metrics have in common."""

from __future__ import annotations

from collections.abc import Sequence

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.counts import Floats
from medchatzh.metrics.segment import CHARACTERS, Choices, Segmenter


class Metric(Choices, frozen=True, kw_only=True):
    """A measure of answers against references, and all its settings."""

    segmenter: Segmenter = CHARACTERS

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that it gives, in the order of print."""
        raise NotImplementedError

    def scores(self, batch: Batch) -> Floats:
        """(n, names), an item a row, on a 0 to 100 scale. An empty hypothesis scores 0. ValueError where an item has no reference."""
        raise NotImplementedError

    def score(self, answer: str, references: Sequence[str]) -> dict[str, float]:
        """Of one answer, as text: name → value. Many are scored some hundred times faster in one `Batch`."""
        return self._named(self.scores(Batch.of([answer], [references], self.segmenter)))

    def _named(self, row: Floats) -> dict[str, float]:
        return dict(zip(self.names, row.ravel().tolist(), strict=True))

    def signature(self, references: str) -> str:
        """How the numbers are made, one line; `references` is the protocol's part, `1(pos)` say."""
        raise NotImplementedError


class CorpusMetric(Metric, frozen=True, kw_only=True):
    """A metric of which a whole corpus has one score: that of the summed counts, not the mean of the items' scores."""

    def statistics(self, batch: Batch) -> Floats:
        """(n, S) whole numbers that add up over items: what `of` needs of each, or of the sum of any."""
        raise NotImplementedError

    def of(self, statistics: Floats) -> Floats:
        """Rows of `statistics` (B, S), or sums of such rows, to scores (B, names)."""
        raise NotImplementedError

    def scores(self, batch: Batch) -> Floats:
        return self.of(self.statistics(batch))

    def corpus(self, batch: Batch) -> dict[str, float]:
        """Of all items as one: name → value. ValueError where there is none (NLTK divides by zero, or gives 0)."""
        statistics = self.statistics(batch)
        if not len(statistics):
            raise ValueError("no answer to score: a corpus score needs at least one")
        return self._named(self.of(statistics.sum(axis=0, keepdims=True)))
