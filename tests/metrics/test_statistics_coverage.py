"""Do 95 % intervals hold the truth in 93 to 97 % of simulated benchmarks, and are 5 % of the tests of nothing significant?

The distributions imitate what a real evaluation of 700 questions gave; benchmarks/statistics/coverage.py does the same on those scores.
Each simulated benchmark is a column, so that thousands of them cost a few matrix products.
"""

from collections.abc import Callable

import numpy as np
import pytest

from medchatzh.metrics.statistics import Interval, mean_intervals, paired_differences

NUM_BENCHMARKS = 2000
Rng = np.random.Generator


def bleu_1(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Mean 24.7, standard deviation 6.6, skewness 0.5."""
    return rng.gamma(14, 1.763, shape)


def bleu_4(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """73 % zeros (unsmoothed, no matching 4-gram), a short exponential tail, and 1 % of near copies: skewness 5."""
    kind = rng.random(shape)
    return np.select([kind < 0.73, kind < 0.99], [0.0, rng.exponential(5.5, shape)], rng.uniform(25, 45, shape))


def reward(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """A regression score, skewed to the left: a few bad answers."""
    return 1 - rng.gamma(4, 0.4, shape)


def pairs(
    one: Callable[[Rng, tuple[int, ...]], np.ndarray], gain: float
) -> Callable[[Rng, tuple[int, ...]], tuple[np.ndarray, np.ndarray]]:
    """Two systems' scores: half of each question's is the question's own, and the first system scores `gain` higher on average."""

    def drawn(rng: Rng, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        shared = one(rng, shape)
        first, second = (np.where(rng.random(shape) < 0.5, shared, one(rng, shape)) for _ in range(2))
        return first * (1 + gain), second

    return drawn


def mean_of(one: Callable[[Rng, tuple[int, ...]], np.ndarray]) -> float:
    return float(one(np.random.default_rng(99), (2_000_000,)).mean())


def coverage(found: list[Interval], truth: float) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in found]))


@pytest.mark.parametrize("n", [50, 100, 700])
@pytest.mark.parametrize("scores", [bleu_1, bleu_4, reward])
def test_intervals_of_means(scores, n):
    values = scores(np.random.default_rng(n), (n, NUM_BENCHMARKS))
    found = mean_intervals(values, num_resamples=1000)
    assert 0.93 <= coverage(found, mean_of(scores)) <= 0.97


@pytest.mark.parametrize(("n", "gain"), [(50, 0), (50, 0.2), (100, 0), (700, 0.2)])
@pytest.mark.parametrize("scores", [bleu_1, bleu_4, reward])
def test_intervals_and_tests_of_paired_differences(scores, n, gain):
    first, second = pairs(scores, gain)(np.random.default_rng(n + 1), (n, NUM_BENCHMARKS))
    found = paired_differences(first, second, num_resamples=1000, num_flips=199)
    assert 0.93 <= coverage([Interval(*each[:4]) for each in found], gain * mean_of(scores)) <= 0.97
    if not gain:
        assert np.mean([each.p_value <= 0.05 for each in found]) == pytest.approx(0.05, abs=0.015)
