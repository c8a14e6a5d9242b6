"""Bootstrap intervals, paired differences, verdicts, proportions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.metrics import statistics
from medchatzh.metrics.statistics import Difference, clustered_interval, mean_intervals, paired_differences, resampled_means, verdict


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def normal(n: int, mean: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 10, (n, 1))


def test_interval_matches_the_normal_approximation():
    values = normal(400, 30)
    interval = mean_intervals(values)[0]
    error = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - error, abs=0.12)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.12)
    assert interval.n == 400


def test_seeded():
    values = normal(50, 30)
    assert mean_intervals(values, seed=1) == mean_intervals(values, seed=1) != mean_intervals(values, seed=2)


def test_small_draws_at_a_time_give_the_same_shape_and_spread(monkeypatch):
    values = np.hstack([normal(60, 10), normal(60, 20, 1)])
    whole = resampled_means(values, 500, 0)
    monkeypatch.setattr(statistics, "_DRAWS", 7 * 60)
    parts = resampled_means(values, 500, 0)
    assert parts.shape == whole.shape == (500, 2)
    assert parts.std(axis=0) == pytest.approx(whole.std(axis=0), rel=0.15)


def test_resamples_draw_with_replacement_within_the_values():
    means = resampled_means(column(0, 1), 400, 0)
    assert set(means[:, 0]) == {0.0, 0.5, 1.0}


def test_pairing_sees_what_separate_intervals_hide():
    second = normal(200, 30)
    first = second + np.random.default_rng(5).normal(0.5, 1, (200, 1))
    ours, theirs = mean_intervals(first)[0], mean_intervals(second)[0]
    assert ours.low < theirs.high
    difference = paired_differences(first, second)[0]
    assert difference.low > 0
    assert difference.p_value < 0.01
    assert verdict(difference) == "better"
    assert verdict(paired_differences(second, first)[0]) == "worse"


def test_equal_systems_are_not_distinguishable():
    values = normal(100, 30)
    difference = paired_differences(values, values)[0]
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)
    assert verdict(difference) == "not distinguishable"


def test_p_value_is_about_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 1, (100, 300))
    p_values = [found.p_value for found in paired_differences(draws, np.zeros_like(draws), num_resamples=500)]
    assert np.mean(np.array(p_values) < 0.05) < 0.10
    assert 0.4 < np.mean(p_values) < 0.6


def test_p_value_is_never_zero():
    assert paired_differences(column(*range(10, 30)), column(*[0] * 20))[0].p_value == pytest.approx(2 / 2001)


@pytest.mark.parametrize(("n", "said"), [(1, "not distinguishable"), (5, "not distinguishable"), (6, "better")])
def test_few_pairs_that_agree_prove_nothing(n, said):
    assert verdict(Difference(1, 1, 1, n, 0.001), 0.95) == said


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0, 1, "not distinguishable"), (0.1, 1, "better"), (-1, -0.1, "worse"), (-1, 1, "not distinguishable")]
)
def test_verdict_is_about_the_interval(low, high, said):
    assert verdict(Difference((low + high) / 2, low, high, 100, 0.5)) == said


def test_no_values():
    with pytest.raises(ValueError, match="at least one scored question"):
        mean_intervals(np.empty((0, 3)))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_interval_holds_the_mean_and_stays_in_range(values):
    interval = mean_intervals(column(*values), num_resamples=200)[0]
    slack = 1e-9
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


def test_clustered_interval_resamples_groups_not_members():
    groups = [[1.0] * 20, [0.0] * 20]
    found = clustered_interval(groups)
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 40)
    assert clustered_interval([[1.0], [1.0, 1.0]]) == (1.0, 1.0, 1.0, 3)
    with pytest.raises(ValueError, match="no groups"):
        clustered_interval([])
