"""Intervals and paired tests: bootstrap and randomisation over questions, vectorised and seeded.

Shapes: n questions, M metrics, K columns of sufficient statistics, B resamples or flips. Columns given together share draws.

**Intervals** are studentised bootstrap intervals (Efron and Tibshirani 1993, section 12.5) that are never shorter than Student's. Each of
the two fails alone on the scores of a real evaluation, the percentile and the BCa interval still more often: Student's where most answers
score 0 and a few high (it ends too low), the studentised one where differences have heavy tails on both sides. Of 96 columns of scores and
differences, with 50, 100 and 700 questions, so many lie outside 93 to 97 % covered: percentile 51, 32, 0, Student 35, 25, 0, studentised
42, 30, 0, their hull 19, 8, 0, which is 3 to 11 % longer than Student's. What is left are rare near copies of a reference, of which
a small benchmark may hold none. All figures: benchmarks/results/statistics.md.

**p values** are of approximate randomisation (Noreen 1989): under the null hypothesis the two systems' answers to a question could be
swapped, so each paired difference could have the other sign. No bootstrap p beside it: that one resamples from what was found, not from the
null hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Verdict = Literal["better", "worse", "not distinguishable"]

NUM_FLIPS = 10_000
"""Sign flips behind a p value, which is then at least 1e-4 and, near 0.05, known to ± 0.004."""

# Draws held at once: 8 MB of counts, whatever n is (63,255 questions × 2,000 resamples would be 1 GB). What stays in cache is fastest.
_DRAWS = 1_000_000


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


def resampled_sums(stats: Floats, num_resamples: int, seed: int) -> Floats:
    """Column sums of B bootstrap resamples of the rows: (n, K) → (B, K). The draws depend on n, B and the seed alone.

    A resample is how often each row was drawn, so that the sums of all columns are one matrix product. ValueError where there
    is no row, or a value is not finite.
    """
    import numpy as np

    _check(stats)
    n = len(stats)
    rng = np.random.default_rng(seed)
    sums = np.empty((num_resamples, stats.shape[1]))
    counts = np.empty((max(1, _DRAWS // n), n))  # of floats: a product of whole numbers does not go through BLAS
    for start in range(0, num_resamples, len(counts)):
        part = counts[: num_resamples - start]
        for row, drawn in zip(part, rng.integers(0, n, part.shape), strict=True):
            row[:] = np.bincount(drawn, minlength=n)
        sums[start : start + len(part)] = part @ stats
    return sums


def resampled_scores(stats: Floats, score: Callable[[Floats], Floats], *, num_resamples: int = 2000, seed: int = 0) -> Floats:
    """A corpus-level score of B bootstrap resamples: `score` takes sums (B, K) of the columns of `stats` (n, K) to (B,)."""
    return score(resampled_sums(stats, num_resamples, seed))


def signed_sums(differences: Floats, num_flips: int, seed: int) -> Floats:
    """Column sums with random signs, those of a row the same in all columns: (n, K) → (B, K).

    Eight rows at a time: a random byte picks one of their 256 signed sums, so that a flip costs one addition for eight rows. 63,255
    questions × 8 metrics × 10,000 flips take 0.4 s on one core, a matrix product with ±1 2.5 s.
    """
    import numpy as np

    _check(differences)
    rng = np.random.default_rng(seed)
    signs = 1.0 - 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    sums = np.zeros((num_flips, differences.shape[1]))
    for start in range(0, len(differences), 8):
        rows = differences[start : start + 8]
        sums += np.take(signs[:, : len(rows)] @ rows, rng.integers(0, 256, num_flips, dtype=np.uint8), axis=0)
    return sums


def mean_intervals(values: Floats, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> list[Interval]:
    """The mean of each column of (n, M) values and its interval. ValueError where n is 0 or a value is not finite."""
    _check(values)
    means = values.mean(axis=0)
    return _intervals(means, values - means, None, num_resamples, confidence, seed)


def paired_differences(
    first: Floats, second: Floats, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0, num_flips: int = NUM_FLIPS
) -> list[Difference]:
    """first − second by column, the rows of both being the same n questions: paired bootstrap and approximate randomisation."""
    assert first.shape == second.shape, "pair the rows first"
    values = first - second
    intervals = mean_intervals(values, num_resamples=num_resamples, confidence=confidence, seed=seed)
    p_values = _p_values(values.sum(axis=0), signed_sums(values, num_flips, seed))
    return [Difference(*interval, p_value) for interval, p_value in zip(intervals, p_values, strict=True)]


def score_interval(
    stats: Floats, score: Callable[[Floats], Floats], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """A corpus-level score of column sums ((B, K) → (B,)), corpus BLEU for instance, and its interval over the n rows of `stats`."""
    import numpy as np

    _check(stats)
    whole = stats.sum(axis=0)
    estimate = score(whole[None])
    influence = np.zeros((len(stats), 1))
    if len(stats) > 1:
        # The jackknife's pseudo-values: what stands in for a question's own value where the score is not a mean of any.
        influence[:, 0] = (len(stats) - 1) * (estimate - score(whole - stats))
    moved = resampled_scores(stats, score, num_resamples=num_resamples, seed=seed) - estimate
    assert np.isfinite(influence).all() and np.isfinite(moved).all(), "a score must be a number for any sums of the rows"
    return _intervals(estimate, influence - influence.mean(), moved[:, None], num_resamples, confidence, seed)[0]


def score_difference(
    first: Floats,
    second: Floats,
    score: Callable[[Floats], Floats],
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    num_flips: int = NUM_FLIPS,
) -> Difference:
    """Corpus-level score of first − that of second, the rows of both statistics (n, K) being the same questions (Koehn 2004)."""
    import numpy as np

    assert first.shape == second.shape, "pair the rows first"
    num_columns = first.shape[1]

    def difference(sums: Floats) -> Floats:
        return score(sums[:, :num_columns]) - score(sums[:, num_columns:])

    both = np.hstack([first, second])
    interval = score_interval(both, difference, num_resamples=num_resamples, confidence=confidence, seed=seed)
    # To swap two answers is to change the sign of half their difference around their mean.
    middle, half = (first + second).sum(axis=0) / 2, signed_sums((first - second) / 2, num_flips, seed)
    swapped = difference(np.hstack([middle + half, middle - half]))
    return Difference(*interval, *_p_values(np.array([interval.mean]), swapped[:, None]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of comparisons (Holm 1979): rejecting where they are ≤ α errs anywhere with probability ≤ α."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def verdict(difference: Interval | Difference, p_adjusted: float, confidence: float = 0.95) -> Verdict:
    """`better` or `worse` where the interval excludes 0 and the p value, corrected for its family, is at most 1 − confidence.

    Both: an interval speaks for one comparison and knows nothing of the sixty beside it; and five pairs that agree have a short
    interval and prove nothing (no sign-flip test of n pairs gives a p under 2^(1-n)).
    """
    if p_adjusted > 1 - confidence or difference.low <= 0 <= difference.high:
        return "not distinguishable"
    return "better" if difference.mean > 0 else "worse"


def clustered_interval(
    groups: Sequence[Sequence[float]], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The mean over all members of all groups, its interval drawn by resampling whole groups.

    For values that belong together (the answer pairs of one clinical case), whose plain interval would be far too short.
    """
    import numpy as np

    if not groups:
        raise ValueError("no groups to resample: at least one is needed")
    stats = np.array([(sum(group), len(group)) for group in groups], dtype=np.float64)
    found = score_interval(stats, lambda sums: sums[:, 0] / sums[:, 1], num_resamples=num_resamples, confidence=confidence, seed=seed)
    values = [value for group in groups for value in group]
    return found._replace(low=max(found.low, min(values)), high=min(found.high, max(values)), n=len(values))


def seeded_interval(values: Floats, confidence: float = 0.95) -> Interval:
    """The mean of (S, n) values, of n questions under each of S ≥ 2 training seeds, as it would vary with other questions and other seeds.

    Each source alone has a Student interval, of the seeds' means and of the questions' means; their reaches are added in quadrature (Zou
    and Donner 2008). Satterthwaite's one interval for the sum covers 91 % where three seeds weigh more than the questions (simulated).
    """
    num_seeds, n = values.shape
    assert num_seeds > 1, "one seed says nothing about others"
    if n < 2:
        raise ValueError("an interval needs at least two questions that all answered")
    squares = 0.0
    for means in (values.mean(axis=1), values.mean(axis=0)):
        squares += _student((1 + confidence) / 2, len(means) - 1) ** 2 * float(means.var(ddof=1)) / len(means)
    mean, reach = float(values.mean()), squares**0.5
    return Interval(mean, mean - reach, mean + reach, n)


def _check(values: Floats) -> None:
    import numpy as np

    assert values.ndim == 2, "rows are questions, columns metrics"
    if not len(values):
        raise ValueError("no values to resample: at least one scored question is needed")
    if not np.isfinite(values).all():
        raise ValueError("a value to resample is not a finite number; leave out the questions that have no score")


def _intervals(
    estimates: Floats, influence: Floats, moved: Floats | None, num_resamples: int, confidence: float, seed: int
) -> list[Interval]:
    """Around each of the `estimates` (M,). `influence` (n, M) has mean 0; for a mean it is the values' distance from it.

    `moved` (B, M) is how far each resample's estimate lies from `estimates`, None for a mean. What the bootstrap adds to Student's interval
    lies within the range of the values. Student's may reach beyond it, as it should where they are few; whoever knows the range of what is
    possible cuts it there. One value has an interval without width: it tells nothing of the spread, so show none.
    """
    import numpy as np

    n = len(influence)
    scale = np.abs(influence).max(axis=0)
    influence = influence / np.where(scale == 0, 1, scale)  # squares of tiny numbers would vanish
    variance = (influence**2).mean(axis=0)
    variance_or_1 = np.where(variance == 0, 1, variance)
    firsts, seconds = np.hsplit(resampled_sums(np.hstack([influence, influence**2]), num_resamples, seed) / n, 2)
    moved = firsts if moved is None else moved / np.where(scale == 0, 1, scale)
    # One question more, of average spread, in every resample: it keeps the ratio finite where all drawn questions score the same (three
    # scores above 0 among fifty: one resample in 22), and changes it by 1/n elsewhere.
    spreads = np.sqrt((n * np.maximum(seconds - firsts**2, 0) + variance_or_1) / (n + 1))
    tail = (1 - confidence) / 2
    downs, ups = np.quantile(moved / spreads, [1 - tail, tail], axis=0, method="weibull")
    student = _student(1 - tail, n - 1) * np.sqrt(variance / (n - 1)) if n > 1 else np.zeros(len(variance))
    reach = np.sqrt(variance)
    low = -np.maximum(np.minimum(downs * reach, -influence.min(axis=0)), student)
    high = np.maximum(np.minimum(-ups * reach, influence.max(axis=0)), student)
    ends = zip(estimates, estimates + low * scale, estimates + high * scale, strict=True)
    return [Interval(float(mean), float(low), float(high), n) for mean, low, high in ends]


@cache
def _student(probability: float, degrees: int) -> float:
    """Student's t quantile for a probability over 1/2: of t = √ν tan θ the density is cos^(ν-1) θ. Six digits, from 1 degree on."""
    import numpy as np

    angles = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angles) ** (degrees - 1)
    covered = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return float(degrees**0.5 * np.tan(np.interp((2 * probability - 1) * covered[-1], covered, angles)))


def _p_values(observed: Floats, flipped: Floats) -> list[float]:
    """The share of flips (B, M) at least as far from 0 as what was observed (M,), which is one of the possible ones and so counts in both.

    With that 1 a p value is never 0 (Davison and Hinkley 1997, section 4.2). Sums that differ by rounding alone are equal.
    """
    import numpy as np

    distances = np.abs(flipped)
    as_far = distances >= np.abs(observed) - 1e-9 * distances.max(axis=0)
    return ((as_far.sum(axis=0) + 1) / (len(flipped) + 1)).tolist()
