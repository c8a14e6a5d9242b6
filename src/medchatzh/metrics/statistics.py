"""Intervals and paired comparisons: bootstrap over questions, vectorised and seeded.

Shapes: n questions, M metrics, B resamples. Values of several metrics are resampled together, so their intervals share draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Verdict = Literal["better", "worse", "not distinguishable"]

# Draws held at once: 32 MB of counts, whatever n is (63,255 questions × 2,000 resamples would be 1 GB).
_DRAWS = 4_000_000


class Interval(NamedTuple):
    """A mean (or share) over `n` items, and its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """The mean of paired differences over `n` items, its interval, and the two-sided p value of no difference."""

    mean: float
    low: float
    high: float
    n: int
    p_value: float


def resampled_means(values: Floats, num_resamples: int, seed: int) -> Floats:
    """Means of B bootstrap resamples of the rows: (n, M) → (B, M).

    A resample is how often each row was drawn, so that the means of all metrics are one matrix product.
    """
    import numpy as np

    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((num_resamples, values.shape[1]))
    step = max(1, _DRAWS // n)
    for start in range(0, num_resamples, step):
        rows = min(step, num_resamples - start)
        draws = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
        means[start : start + rows] = counts.astype(np.float64) @ values / n
    return means


def mean_intervals(values: Floats, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> list[Interval]:
    """The mean and percentile interval (Efron 1979) of each column of (n, M) values. ValueError where n is 0."""
    _check(values)
    means = resampled_means(values, num_resamples, seed)
    return [Interval(mean, low, high, len(values)) for mean, low, high in _summaries(values, means, confidence)]


def paired_differences(
    first: Floats, second: Floats, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[Difference]:
    """first − second by column, the rows of both being the same n questions (paired bootstrap; Koehn 2004).

    The p value is twice the share of resamples on the other side of zero, with one added to count and total: an observed
    sample is itself one of the possible ones, so p is never 0 (Davison and Hinkley 1997, section 4.2). At most 1.
    """
    _check(first)
    assert first.shape == second.shape, "pair the rows first"
    values = first - second
    means = resampled_means(values, num_resamples, seed)
    tails = [min((column <= 0).sum(), (column >= 0).sum()) for column in means.T]
    p_values = [min(1.0, 2 * (int(tail) + 1) / (num_resamples + 1)) for tail in tails]
    rows = zip(_summaries(values, means, confidence), p_values, strict=True)
    return [Difference(mean, low, high, len(values), p_value) for (mean, low, high), p_value in rows]


def verdict(difference: Difference, confidence: float = 0.95) -> Verdict:
    """`better` or `worse` where the interval excludes 0.

    A handful of pairs that agree have a short interval and prove nothing: no sign-flip test of n pairs gives a p value under
    2^(1-n), so where that exceeds 1 − confidence (5 pairs at 0.95) nothing is distinguishable.
    """
    if 2.0 ** (1 - difference.n) > 1 - confidence or difference.low <= 0 <= difference.high:
        return "not distinguishable"
    return "better" if difference.low > 0 else "worse"


def clustered_interval(
    groups: Sequence[Sequence[float]], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The mean over all members of all groups, its interval drawn by resampling whole groups.

    For values that belong together (the answer pairs of one clinical case), whose plain interval would be far too short.
    """
    import numpy as np

    if not groups:
        raise ValueError("no groups to resample: at least one is needed")
    sums = np.array([sum(group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    drawn = np.random.default_rng(seed).integers(len(groups), size=(num_resamples, len(groups)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [tail, 1 - tail])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high), int(sizes.sum()))


def _check(values: Floats) -> None:
    assert values.ndim == 2, "rows are questions, columns metrics"
    if not len(values):
        raise ValueError("no values to resample: at least one scored question is needed")


def _summaries(values: Floats, means: Floats, confidence: float) -> Iterator[tuple[float, float, float]]:
    import numpy as np

    tail = (1 - confidence) / 2
    lows, highs = np.quantile(means, [tail, 1 - tail], axis=0)
    for mean, low, high in zip(values.mean(axis=0), lows, highs, strict=True):
        yield float(mean), float(low), float(high)
