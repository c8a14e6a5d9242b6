"""From single scores to the tables of a summary: means, categories, paired differences, what the answers look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from medchatzh.metrics import statistics
from medchatzh.metrics.diversity import pooled
from medchatzh.metrics.segment import characters
from medchatzh.metrics.summary import JUDGE, Answers, CategoryDifference, CategoryMean, Mean, PairedDifference, SeededDifference
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
        for system in systems:
            values = system.values[[answer.id in members for answer in system.answers]]
            for block in self._category_blocks():
                for row in self._means(values, block):
                    yield CategoryMean(system=system.name, category=category, small=row["n"] < self._min_category_size, **row)

    def differences(self, pairs: Sequence[tuple[System, System]]) -> Iterator[PairedDifference]:
        """main − other of each pair on the questions that both answered; no row for what they share no question for.

        p values are corrected over all text metrics, protocols and others together, and over all others for the reward: the report
        shows these two families in a table each.
        """
        rows = []
        num_flips = self._num_flips(len(pairs) * len(self._columns))
        for main, other in pairs:
            _, first, second = _paired(main, other)
            names = {"main": main.name, "other": other.name}
            rows += [names | row for block in self._blocks().values() for row in self._differences(first, second, block, num_flips)]
        for row in self._judged(rows):
            yield PairedDifference(**row)

    def category_differences(self, groups: Mapping[str, set[str]], main: System, other: System) -> Iterator[CategoryDifference]:
        """main − other within each category (name → question ids), under the protocols of `by_category`.

        p values are corrected over all text metrics and categories of this one other system, and over all categories for the reward.
        """
        import numpy as np

        ids, first, second = _paired(main, other)
        blocks = self._category_blocks()
        num_flips = self._num_flips(len(groups) * sum(map(len, blocks)))
        rows = []
        for category, members in groups.items():
            chosen = np.array([key in members for key in ids], dtype=bool)
            names = {"main": main.name, "other": other.name, "category": category}
            for block in blocks:
                for row in self._differences(first[chosen], second[chosen], block, num_flips):
                    rows.append(names | {"small": row["n"] < self._min_category_size} | row)
        for row in self._judged(rows):
            yield CategoryDifference(**row)

    def ablation(self, arm: str, pairs: Sequence[tuple[System, System]]) -> Iterator[SeededDifference]:
        """main − arm, a pair for each seed; no row for what they share no question for."""
        import numpy as np

        ids = set.intersection(*({answer.id for answer in system.answers} for pair in pairs for system in pair))
        found = []
        for main, other in pairs:
            paired, first, second = _paired(main, other)
            found.append((first - second)[[key in ids for key in paired]])
        differences = np.stack(found)
        for at in (at for block in self._category_blocks() for at in block):
            values = differences[:, :, at]
            values = values[:, ~np.isnan(values).any(axis=0)]
            if values.size:
                row = self._row(at, statistics.seeded_interval(values, self._bootstrap["confidence"]))
                yield SeededDifference(arm=arm, by_seed=tuple(round(float(mean), 6) for mean in values.mean(axis=1)), **row)

    def _num_flips(self, num_comparisons: int) -> int:
        """Enough that the smallest possible p value, corrected for so many comparisons, is 0.01."""
        return max(statistics.NUM_FLIPS, 100 * num_comparisons)

    def _blocks(self) -> dict[str, list[int]]:
        """Column numbers by protocol, or judge: what one block holds lacks values in the same rows, and is resampled together."""
        blocks: dict[str, list[int]] = {}
        for at, column in enumerate(self._columns):
            blocks.setdefault(column.name if column.protocol == JUDGE else column.protocol, []).append(at)
        return blocks

    def _category_blocks(self) -> list[list[int]]:
        blocks = self._blocks()
        first = "strict" if "strict" in blocks else next(iter(blocks))
        return [block for name, block in blocks.items() if name == first or self._columns[block[0]].protocol == JUDGE]

    def _means(self, values: Floats, block: list[int]) -> Iterator[dict[str, Any]]:
        import numpy as np

        given = values[:, block]
        given = given[~np.isnan(given).any(axis=1)]
        if given.size:
            for at, interval in zip(block, statistics.mean_intervals(given, **self._bootstrap), strict=True):
                if self._columns[at].protocol != JUDGE:  # a text metric is a share in per cent: a BLEU below 0 is nobody's
                    interval = interval._replace(low=max(0.0, interval.low), high=min(100.0, interval.high))
                yield self._row(at, interval)

    def _differences(self, first: Floats, second: Floats, block: list[int], num_flips: int) -> Iterator[dict[str, Any]]:
        import numpy as np

        first, second = first[:, block], second[:, block]
        given = ~np.isnan(first - second).any(axis=1)
        if given.any():
            found = statistics.paired_differences(first[given], second[given], num_flips=num_flips, **self._bootstrap)
            for at, difference in zip(block, found, strict=True):
                yield self._row(at, difference)

    def _row(self, at: int, numbers: statistics.Interval | statistics.Difference) -> dict[str, Any]:
        return self._columns[at]._asdict() | {name: round(value, 6) for name, value in numbers._asdict().items()}

    def _judged(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With the corrected p value and the verdict, of text metrics and rewards apart."""
        for family in ([row for row in rows if row["protocol"] != JUDGE], [row for row in rows if row["protocol"] == JUDGE]):
            for row, p_holm in zip(family, statistics.holm([row["p_value"] for row in family]), strict=True):
                interval = statistics.Interval(row["mean"], row["low"], row["high"], row["n"])
                row |= {"p_holm": round(p_holm, 6), "verdict": statistics.verdict(interval, p_holm, self._confidence)}
        return rows


def _paired(main: System, other: System) -> tuple[list[str], Floats, Floats]:
    """Ids of the questions that both answered, in the main system's order, and the values of each."""
    import numpy as np

    place = {answer.id: at for at, answer in enumerate(other.answers)}
    common = [(at, place[answer.id]) for at, answer in enumerate(main.answers) if answer.id in place]
    ours, theirs = np.array(common, dtype=int).reshape(-1, 2).T
    return [main.answers[at].id for at, _ in common], main.values[ours], other.values[theirs]


def describe(system: str, predictions: Sequence[Prediction]) -> Answers:
    """Counts, length and variety of a system's answers (at least one)."""
    texts = ["".join(characters(prediction.answer)) for prediction in predictions]
    finishes = Counter(prediction.finish for prediction in predictions)
    distinct_1, distinct_2 = pooled(texts)
    return Answers(
        system=system,
        n=len(texts),
        empty=sum(not text for text in texts),
        cut=finishes["length"],
        prompt_too_long=finishes["prompt_too_long"],
        mean_chars=round(sum(map(len, texts)) / len(texts), 2),
        distinct_1=round(distinct_1, 6),
        distinct_2=round(distinct_2, 6),
    )


def categories(questions: Iterable[Question]) -> dict[str, set[str]]:
    """Category → question ids, largest first. Questions without one are `all`, or `none` where others have one."""
    members: dict[str, set[str]] = {}
    for question in questions:
        members.setdefault(question.category, set()).add(question.id)
    unnamed = "none" if len(members) > 1 else "all"
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name or unnamed: ids for name, ids in ordered}


OTHER = "其他 / other"
"""The row of the categories that are too small for one of their own. Not `其他` alone: benchmarks have a category of that name."""


def merge_small(groups: Mapping[str, set[str]], min_size: int) -> dict[str, set[str]]:
    """The categories with `min_size` questions or more, in their order, and last `OTHER`: all smaller ones as one.

    Merged and not only marked, because a row that cannot show a difference still costs the others theirs: the p values of a table are
    corrected for its number of rows. webMedQA's smallest of 23 has 30 questions. One small category alone keeps its name.
    """
    small = [name for name, ids in groups.items() if len(ids) < min_size or name == OTHER]
    if len(small) < 2:
        return dict(groups)
    kept = {name: ids for name, ids in groups.items() if name not in small}
    return kept | {OTHER: set().union(*(groups[name] for name in small))}
