"""Bootstrap intervals, paired differences, corpus-level scores, corrected p values, verdicts."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medchatzh.metrics import statistics
from medchatzh.metrics.statistics import (
    Difference,
    Interval,
    clustered_interval,
    holm,
    mean_intervals,
    paired_differences,
    resampled_scores,
    resampled_sums,
    score_difference,
    score_interval,
    seeded_interval,
    signed_sums,
    verdict,
)

STATS = arrays(np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(0, 100))


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def normal(n: int, mean: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 10, (n, 1))


def ratio(sums: np.ndarray) -> np.ndarray:
    """A corpus-level score: the share of matched n-grams, as in BLEU's precision."""
    return 100 * sums[:, 0] / sums[:, 1]


def counts(n: int, seed: int, rate: float = 0.3) -> np.ndarray:
    """(n, 2): matches and totals of n answers."""
    rng = np.random.default_rng(seed)
    totals = rng.integers(5, 200, n)
    return np.column_stack([rng.binomial(totals, rate), totals]).astype(float)


class TestResampling:
    def test_draws_with_replacement_within_the_rows(self):
        sums = resampled_sums(np.array([[1.0, 5.0], [0.0, 7.0]]), 400, 0)
        assert {tuple(row) for row in sums} == {(0, 14), (1, 12), (2, 10)}

    def test_what_is_held_at_once_changes_nothing(self, monkeypatch):
        values = np.hstack([normal(60, 10), normal(60, 20, 1)])
        whole = resampled_sums(values, 500, 0)
        monkeypatch.setattr(statistics, "_DRAWS", 7 * 60)
        assert resampled_sums(values, 500, 0) == pytest.approx(whole, rel=1e-12)

    def test_a_corpus_score_is_a_function_of_summed_counts(self):
        stats = np.array([[1.0, 10.0], [9.0, 10.0]])
        assert set(resampled_scores(stats, ratio, num_resamples=200)) == {10.0, 50.0, 90.0}

    def test_signs_are_fair_independent_and_shared_by_the_columns(self):
        rows = np.hstack([np.eye(20), 2 * np.eye(20)])
        sums = signed_sums(rows, 4000, 0)
        assert set(sums[:, :20].ravel()) == {-1.0, 1.0}
        assert (sums[:, 20:] == 2 * sums[:, :20]).all()
        correlations = sums[:, :20].T @ sums[:, :20] / 4000
        assert correlations == pytest.approx(np.eye(20), abs=0.08)
        assert sums[:, :20].mean(axis=0) == pytest.approx(0, abs=0.08)


class TestIntervals:
    def test_matches_the_normal_approximation(self):
        values = normal(400, 30)
        interval = mean_intervals(values)[0]
        error = 1.96 * values.std() / 20
        assert interval.mean == pytest.approx(values.mean())
        assert interval.low == pytest.approx(values.mean() - error, abs=0.12)
        assert interval.high == pytest.approx(values.mean() + error, abs=0.12)
        assert interval.n == 400

    @pytest.mark.parametrize(("n", "quantile"), [(6, 2.5706), (15, 2.1448), (61, 2.0003)])
    def test_never_shorter_than_students(self, n, quantile):
        values = np.random.default_rng(n).normal(0, 1, (n, 40))
        error = quantile * values.std(axis=0, ddof=1) / n**0.5
        for found, half, each in zip(mean_intervals(values), error, values.T, strict=True):
            assert found.low <= found.mean - 0.998 * half and found.high >= found.mean + 0.998 * half
            assert found.low >= min(found.mean - 1.002 * half, each.min()) and found.high <= max(found.mean + 1.002 * half, each.max())

    def test_reaches_further_on_the_side_of_the_long_tail(self):
        values = column(*[0] * 40, *range(1, 21))
        found = mean_intervals(values)[0]
        assert found.high - found.mean > 1.1 * (found.mean - found.low)

    def test_seeded(self):
        values = normal(50, 30) ** 2
        assert mean_intervals(values, seed=1) == mean_intervals(values, seed=1) != mean_intervals(values, seed=2)

    def test_a_column_does_not_depend_on_its_neighbours(self):
        values = np.random.default_rng(0).gamma(0.3, 10, (40, 3))
        together = mean_intervals(values)
        assert np.array(mean_intervals(values[:, ::-1])) == pytest.approx(np.array(together[::-1]))
        assert mean_intervals(values[:, 1:2])[0] == pytest.approx(together[1])

    def test_wider_where_more_confidence_is_asked(self):
        values = normal(40, 30)
        widths = [mean_intervals(values, confidence=confidence)[0] for confidence in (0.5, 0.8, 0.95, 0.99)]
        assert all(narrow.low > wide.low and narrow.high < wide.high for narrow, wide in pairwise(widths))

    def test_one_question_tells_nothing_of_the_spread(self):
        assert mean_intervals(column(7)) == [Interval(7, 7, 7, 1)]
        assert paired_differences(column(7), column(3)) == [Difference(4, 4, 4, 1, 1)]

    @pytest.mark.parametrize("level", [0.0, 0.1, 41.7])
    def test_all_equal(self, level):
        assert mean_intervals(column(*[level] * 9))[0] == pytest.approx(Interval(level, level, level, 9))

    def test_resamples_without_a_score_above_0_leave_it_finite(self):
        found = mean_intervals(column(*[0] * 48, 20, 30))[0]
        assert found.low == pytest.approx(1 - 2.0096 * np.std([0] * 48 + [20, 30], ddof=1) / 50**0.5, rel=1e-3)  # Student's
        assert 2 < found.high < 10

    @given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
    def test_holds_the_mean(self, values):
        interval = mean_intervals(column(*values), num_resamples=200)[0]
        assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9

    def test_of_few_values_the_interval_is_students_at_least(self):
        interval = mean_intervals(column(40.7, 41.6), num_resamples=200)[0]
        assert interval.high - interval.mean >= 5.7 and interval.mean - interval.low >= 5.7  # 12.7 × .9 / √2 / √2

    @given(STATS, st.floats(-50, 50), st.floats(0.01, 100))
    def test_moves_and_stretches_with_the_values(self, values, shift, scale):
        plain = np.array(mean_intervals(values, num_resamples=100))[:, :3]
        moved = np.array(mean_intervals(values * scale + shift, num_resamples=100))[:, :3]
        assert moved == pytest.approx(plain * scale + shift, rel=1e-6, abs=1e-6)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_no_numbers(self, bad):
        for made in (
            mean_intervals,
            lambda values: paired_differences(values, np.ones((2, 2))),
            lambda values: score_interval(values, ratio),
        ):
            with pytest.raises(ValueError, match="not a finite number; leave out the questions that have no score"):
                made(np.array([[1.0, 2.0], [bad, 3.0]]))

    def test_no_values(self):
        for made in (mean_intervals, lambda values: paired_differences(values, values), lambda values: score_interval(values, ratio)):
            with pytest.raises(ValueError, match="at least one scored question"):
                made(np.empty((0, 3)))


class TestDifferences:
    def test_pairing_sees_what_separate_intervals_hide(self):
        second = normal(200, 30)
        first = second + np.random.default_rng(5).normal(0.5, 1, (200, 1))
        ours, theirs = mean_intervals(first)[0], mean_intervals(second)[0]
        assert ours.low < theirs.high
        difference = paired_differences(first, second)[0]
        assert difference.low > 0
        assert difference.p_value < 0.01

    def test_equal_systems(self):
        values = normal(100, 30)
        assert paired_differences(values, values)[0] == Difference(0, 0, 0, 100, 1)

    @given(STATS, st.integers(0, 3))
    def test_the_other_way_round_is_the_same_with_the_sign_changed(self, first, seed):
        second = np.random.default_rng(seed).permutation(first)
        for one, two in zip(
            paired_differences(first, second, num_resamples=100, num_flips=200),
            paired_differences(second, first, num_resamples=100, num_flips=200),
            strict=True,
        ):
            assert (-two.mean, -two.high, -two.low) == pytest.approx(one[:3], rel=1e-9, abs=1e-9)
            assert (two.n, two.p_value) == one[3:]

    @given(STATS)
    def test_p_value_knows_neither_unit_nor_level_of_the_scores(self, values):
        first, second = values[:, :1], values[:, 1:2]
        plain = paired_differences(first, second, num_resamples=100, num_flips=200)[0].p_value
        assert paired_differences(8 * first, 8 * second, num_resamples=100, num_flips=200)[0].p_value == plain

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("whole", [True, False])
    def test_p_value_is_that_of_all_sign_flips(self, seed, whole):
        """Whole numbers: many flips are as far from 0 as what was observed, and count."""
        rng = np.random.default_rng(seed)
        values = rng.integers(-3, 6, (11, 1)).astype(float) if whole else rng.normal(0.5, 1, (11, 1))
        sums = [abs(np.dot(signs, values[:, 0])) for signs in product((-1, 1), repeat=11)]
        exact = np.mean([found >= abs(values.sum()) - 1e-9 for found in sums])
        for order in (values, values[::-1]):
            assert paired_differences(order, 0 * order)[0].p_value == pytest.approx(exact, abs=0.02)

    def test_p_value_is_about_uniform_where_nothing_differs(self):
        draws = np.random.default_rng(0).exponential(1, (100, 800)) - np.random.default_rng(1).exponential(1, (100, 800))
        p_values = np.array([found.p_value for found in paired_differences(draws, 0 * draws, num_resamples=100, num_flips=2000)])
        for level in (0.01, 0.05, 0.2, 0.5, 0.8):
            assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * (level * (1 - level) / 800) ** 0.5)

    def test_p_value_is_never_zero(self):
        assert paired_differences(column(*range(10, 50)), column(*[0] * 40))[0].p_value == pytest.approx(1 / 10_001)
        assert paired_differences(column(*range(10, 50)), column(*[0] * 40), num_flips=99)[0].p_value == pytest.approx(1 / 100)


class TestCorpusScores:
    def test_a_mean_is_one_of_them(self):
        """The sum over a column of ones: the same interval and p value as the direct way."""
        first, second = normal(60, 30), normal(60, 28, 1)
        ones = np.ones((60, 1))
        found = score_difference(np.hstack([first, ones]), np.hstack([second, ones]), lambda sums: sums[:, 0] / sums[:, 1])
        direct = paired_differences(first, second)[0]
        assert found == pytest.approx(direct, rel=1e-6)

    def test_is_that_of_the_summed_counts_not_the_mean_of_ratios(self):
        stats = np.array([[0.0, 1.0], [50.0, 100.0], [20.0, 50.0]])
        found = score_interval(stats, ratio)
        assert (found.mean, found.n) == (pytest.approx(7000 / 151), 3)

    def test_interval_has_the_width_of_the_linearised_ratio(self):
        stats = counts(400, 0)
        found = score_interval(stats, ratio)
        residuals = 100 * (stats[:, 0] - stats[:, 0].sum() / stats[:, 1].sum() * stats[:, 1]) / stats[:, 1].mean()
        error = 1.96 * residuals.std() / 20
        assert (found.low, found.high) == pytest.approx((found.mean - error, found.mean + error), abs=0.15 * error)

    def test_covers(self):
        found = [score_interval(counts(60, seed), ratio, num_resamples=400, seed=seed) for seed in range(1000)]
        assert 0.93 <= np.mean([each.low <= 30 <= each.high for each in found]) <= 0.97

    def test_swapping_answers_finds_what_differs_and_what_does_not(self):
        first, second = counts(200, 1, 0.32), counts(200, 1, 0.30)
        better = score_difference(first, second, ratio)
        assert better.low > 0
        assert better.p_value < 0.01
        noise = np.random.default_rng(0).random(200) < 0.5
        mixed = score_difference(np.where(noise[:, None], first, second), np.where(noise[:, None], second, first), ratio)
        assert mixed.low < 0 < mixed.high
        assert mixed.p_value > 0.05
        back = score_difference(second, first, ratio)
        assert (-back.mean, -back.high, -back.low, back.p_value) == pytest.approx(
            (better.mean, better.low, better.high, better.p_value), rel=1e-6
        )

    def test_one_question(self):
        assert score_interval(counts(1, 0), ratio).n == 1
        assert score_difference(counts(1, 0), counts(1, 1), ratio).p_value == 1

    def test_a_score_without_a_value_is_our_mistake(self):
        with np.errstate(invalid="ignore", divide="ignore"), pytest.raises(AssertionError, match="for any sums of the rows"):
            score_interval(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 9.0]]), ratio)


class TestHolm:
    def test_worked_example(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([]) == []
        assert holm([0.2]) == [0.2]

    @given(st.lists(st.floats(0.0001, 1), max_size=40))
    def test_between_the_plain_one_and_bonferronis_in_the_same_order(self, p_values):
        adjusted = holm(p_values)
        for plain, found in zip(p_values, adjusted, strict=True):
            assert plain <= found <= min(1, len(p_values) * plain)
        ranked = [found for _, found in sorted(zip(p_values, adjusted, strict=True))]
        assert ranked == sorted(ranked)
        assert dict(zip(reversed(p_values), holm(p_values[::-1]), strict=True)) == dict(zip(p_values, adjusted, strict=True))

    def test_seldom_one_false_alarm_among_sixty(self):
        rng = np.random.default_rng(0)
        families = rng.random((1000, 60))
        assert np.mean([min(holm(family.tolist())) <= 0.05 for family in families]) == pytest.approx(0.05, abs=0.02)
        assert np.mean([min(family) <= 0.05 for family in families]) > 0.9


class TestVerdict:
    @pytest.mark.parametrize(("n", "said"), [(1, "not distinguishable"), (5, "not distinguishable"), (6, "better"), (7, "better")])
    def test_few_pairs_that_agree_prove_nothing(self, n, said):
        found = paired_differences(column(*range(1, n + 1)), column(*[0] * n))[0]
        assert verdict(found, found.p_value) == said

    @pytest.mark.parametrize(
        ("low", "high", "p", "said"),
        [
            (0, 1, 0.001, "not distinguishable"),
            (0.1, 1, 0.001, "better"),
            (0.1, 1, 0.051, "not distinguishable"),
            (-1, -0.1, 0.05, "worse"),
            (-1, 1, 0.001, "not distinguishable"),
        ],
    )
    def test_takes_interval_and_corrected_p(self, low, high, p, said):
        assert verdict(Interval((low + high) / 2, low, high, 100), p) == said

    def test_confidence(self):
        assert verdict(Interval(1, 0.5, 1.5, 100), 0.08, confidence=0.9) == "better"


def test_clustered_interval_resamples_groups_not_members():
    groups = [[1.0] * 20, [0.0] * 20]
    found = clustered_interval(groups)
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 40)
    assert clustered_interval([[1.0], [1.0, 1.0]]) == (1.0, 1.0, 1.0, 3)
    assert clustered_interval([[0.0, 1.0]]) == (0.5, 0.5, 0.5, 2)
    with pytest.raises(ValueError, match="no groups"):
        clustered_interval([])


class TestSeededInterval:
    def test_by_hand(self):
        found = seeded_interval(np.array([[1.0, 2, 3], [3, 4, 5]]))
        # seeds' means 2 and 4: variance 2 / 2; questions' means 2, 3, 4: variance 1 / 3; Student's t with 1 and 2 degrees: 12.7062, 4.3027
        assert (found.mean, found.n) == (3, 3)
        assert found.high - 3 == pytest.approx(3 - found.low) == pytest.approx((12.7062**2 + 4.3027**2 / 3) ** 0.5, rel=1e-5)

    def test_equal_values_have_no_width(self):
        assert seeded_interval(np.ones((3, 5))) == (1, 1, 1, 5)

    @pytest.mark.parametrize(("num_seeds", "of_seeds", "of_questions"), [(2, 1.0, 5.0), (3, 2.0, 5.0), (3, 0.0, 5.0), (5, 1.0, 0.0)])
    def test_it_covers_what_other_seeds_and_questions_would_give(self, num_seeds: int, of_seeds: float, of_questions: float):
        rng = np.random.default_rng(0)
        covered = 0
        for _ in range(1000):
            shape = (num_seeds, 100)
            values = rng.normal(0, of_seeds, (num_seeds, 1)) + rng.normal(0, of_questions, (1, 100)) + rng.normal(0, 3, shape)
            found = seeded_interval(values)
            covered += found.low <= 0 <= found.high
        assert covered >= 940  # more where the seeds matter little: few seeds cannot show that

    def test_one_question_is_too_few(self):
        with pytest.raises(ValueError, match="two questions"):
            seeded_interval(np.ones((2, 1)))
