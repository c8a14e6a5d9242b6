"""From single scores to the tables of a summary: means, categories, paired differences, what the answers look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from medchatzh.metrics import statistics
from medchatzh.metrics.segment import characters
from medchatzh.metrics.summary import JUDGE, Answers, CategoryMean, Mean, PairedDifference
from medchatzh.records import Prediction, Question

if TYPE_CHECKING:
    from medchatzh.metrics.statistics import Floats


class Column(NamedTuple):
    """What one column of `System.values` holds: a metric under a protocol (`judge` for the reward)."""

    protocol: str
    metric: str

    @property
    def name(self) -> str:
        """As in `scores.jsonl`: `strict/BLEU-1`, `reward`."""
        return self.metric if self.protocol == JUDGE else f"{self.protocol}/{self.metric}"


class System(NamedTuple):
    """A system's answers to n questions, in the benchmark's order, and one row of values for each."""

    name: str
    answers: list[Prediction]
    values: Floats
    """(n, M), a column a `Column`; NaN where the judge gave no reward."""


class Comparison:
    """Makes the tables. Numbers are rounded to 6 decimals: the last bits of a matrix product differ between machines."""

    def __init__(self, columns: Sequence[Column], *, num_resamples: int, confidence: float, min_category_size: int, seed: int) -> None:
        self._columns = columns
        self._confidence = confidence
        self._min_category_size = min_category_size
        self._bootstrap: dict[str, Any] = {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}

    def means(self, system: System) -> Iterator[Mean]:
        """One row a column; none for a reward that no answer got."""
        for block in self._blocks().values():
            for row in self._means(system.values, block):
                yield Mean(system=system.name, **row)

    def by_category(self, category: str, members: set[str], systems: Iterable[System]) -> Iterator[CategoryMean]:
        """The rows of one category (its question ids are `members`): `strict`, else the first protocol, and the reward."""
        blocks = self._blocks()
        first = "strict" if "strict" in blocks else next(iter(blocks))
        for system in systems:
            values = system.values[[answer.id in members for answer in system.answers]]
            for protocol in dict.fromkeys((first, JUDGE)):
                for row in self._means(values, blocks.get(protocol, [])):
                    yield CategoryMean(system=system.name, category=category, small=row["n"] < self._min_category_size, **row)

    def differences(self, main: System, other: System) -> Iterator[PairedDifference]:
        """main − other on the questions that both answered; no row for what they share no question for."""
        import numpy as np

        place = {answer.id: at for at, answer in enumerate(other.answers)}
        common = [(at, place[answer.id]) for at, answer in enumerate(main.answers) if answer.id in place]
        ours, theirs = np.array(common, dtype=int).reshape(-1, 2).T
        for block in self._blocks().values():
            first, second = main.values[ours][:, block], other.values[theirs][:, block]
            given = ~np.isnan(first - second).any(axis=1)
            if not given.any():
                continue
            found = statistics.paired_differences(first[given], second[given], **self._bootstrap)
            for at, difference in zip(block, found, strict=True):
                verdict = statistics.verdict(difference, self._confidence)
                yield PairedDifference(main=main.name, other=other.name, verdict=verdict, **self._row(at, difference))

    def _blocks(self) -> dict[str, list[int]]:
        """Column numbers by protocol: what one block holds lacks values in the same rows, and is resampled together."""
        blocks: dict[str, list[int]] = {}
        for at, column in enumerate(self._columns):
            blocks.setdefault(column.protocol, []).append(at)
        return blocks

    def _means(self, values: Floats, block: list[int]) -> Iterator[dict[str, Any]]:
        import numpy as np

        given = values[:, block]
        given = given[~np.isnan(given).any(axis=1)]
        if given.size:
            for at, interval in zip(block, statistics.mean_intervals(given, **self._bootstrap), strict=True):
                yield self._row(at, interval)

    def _row(self, at: int, numbers: statistics.Interval | statistics.Difference) -> dict[str, Any]:
        return self._columns[at]._asdict() | {name: round(value, 6) for name, value in numbers._asdict().items()}


def describe(system: str, predictions: Sequence[Prediction]) -> Answers:
    """Counts, length and variety of a system's answers (at least one)."""
    texts = [characters(prediction.answer) for prediction in predictions]
    finishes = Counter(prediction.finish for prediction in predictions)
    singles = Counter(token for text in texts for token in text)
    pairs = Counter(pair for text in texts for pair in pairwise(text))
    return Answers(
        system=system,
        n=len(texts),
        empty=sum(not text for text in texts),
        cut=finishes["length"],
        prompt_too_long=finishes["prompt_too_long"],
        mean_chars=round(singles.total() / len(texts), 2),
        distinct_1=round(len(singles) / max(1, singles.total()), 6),
        distinct_2=round(len(pairs) / max(1, pairs.total()), 6),
    )


def categories(questions: Iterable[Question]) -> dict[str, set[str]]:
    """Category → question ids, largest first. Questions without one are `all`, or `none` where others have one."""
    members: dict[str, set[str]] = {}
    for question in questions:
        members.setdefault(question.category, set()).add(question.id)
    unnamed = "none" if len(members) > 1 else "all"
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name or unnamed: ids for name, ids in ordered}
