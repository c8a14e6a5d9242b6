"""Agreement: published worked examples, and what must hold of any rankings."""

import random
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medchatzh.label.agreement import Orders, kendall_w, krippendorff_alpha, midranks, net_agreement, orders
from medchatzh.label.report import alpha
from medchatzh.label.verdicts import ranks_of

# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, sections C to E: 4 observers, 12 units, 0 for a missing value.
OBSERVERS = ("123321412000", "123322412503", "033323422510", "123324412510")
UNITS = [[int(value) for value in unit if value != "0"] for unit in zip(*OBSERVERS, strict=True)]

# The R package irr's data set `anxiety`: 20 subjects, 3 raters; its manual gives kendall(anxiety, TRUE) as Wt = 0.54, χ²(19) = 30.8.
ANXIETY = (
    (3, 3, 3, 4, 5, 5, 2, 3, 5, 2, 2, 6, 1, 5, 2, 2, 1, 2, 4, 3),
    (3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4),
    (2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2),
)

rankings = st.integers(2, 6).flatmap(lambda size: st.lists(st.tuples(*[st.integers(1, 6)] * size), min_size=2, max_size=5))


def test_alpha_of_the_published_example():
    assert krippendorff_alpha(UNITS) == pytest.approx(0.815, abs=5e-4)


def test_w_with_ties_of_the_published_example():
    w = kendall_w(ANXIETY)
    assert w == pytest.approx(0.54, abs=5e-3) and w * 3 * 19 == pytest.approx(30.8, abs=0.05)


def test_w_without_ties_by_hand():
    """Sums of ranks 3, 7, 8 around 6: S = 14; W = 12 · 14 / (9 · 24)."""
    assert kendall_w([(1, 2, 3), (1, 3, 2), (1, 2, 3)]) == pytest.approx(12 * (9 + 1 + 4) / (9 * 24))


@given(rankings)
def test_w_and_orders_keep_their_bounds(found):
    w = kendall_w(found)
    assert (w is None) == all(len(set(ranking)) == 1 for ranking in found)
    assert w is None or -1e-12 <= w <= 1 + 1e-12
    assert -1 <= net_agreement(found) <= 1
    for first, second in combinations(found, 2):
        assert sum(orders(first, second)) == len(first) * (len(first) - 1) / 2
        assert orders(first, second) == orders(second, first)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(2, 5))
def test_perfect_agreement_is_1(ranking, num_labellers):
    assume(len(set(ranking)) > 1)
    same = [ranking] * num_labellers
    assert kendall_w(same) == pytest.approx(1)
    assert alpha([same]) == pytest.approx(1)
    assert net_agreement(same) == 1


@given(st.permutations(range(5)))
def test_opposite_rankings(ranking):
    both = [ranking, [-place for place in ranking]]
    assert kendall_w(both) == 0 and net_agreement(both) == -1
    assert alpha([both] * 20) < -0.5


@pytest.mark.parametrize("num_labellers", [2, 4])
def test_chance_is_0_and_1_over_m(num_labellers):
    """Tasks of different sizes together: an alpha over all of them at once would be far above 0."""
    made = random.Random(5)
    tasks = [[made.sample(range(size), size) for _ in range(num_labellers)] for size in (2, 6) for _ in range(1500)]
    assert abs(alpha(tasks)) < 0.03
    assert krippendorff_alpha([answer for task in tasks for answer in zip(*map(midranks, task), strict=True)]) > 0.1
    assert sum(kendall_w(task) for task in tasks) / len(tasks) == pytest.approx(1 / num_labellers, abs=0.02)
    assert abs(sum(net_agreement(task) for task in tasks) / len(tasks)) < 0.03


def test_nothing_to_measure():
    assert krippendorff_alpha([]) is None and krippendorff_alpha([[1], [2]]) is None and krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert alpha([[(1, 2)]]) is None and net_agreement([(1, 2)]) is None and kendall_w([(1, 1), (2, 2)]) is None


def test_ties_count_half():
    assert orders((1, 2, 2), (1, 2, 3)) == Orders(same=2, opposite=0, half=1)
    assert orders((1, 1), (2, 2)) == Orders(1, 0, 0), "both call them equal"
    assert midranks((1, 1, 7)) == [1.5, 1.5, 3] and ranks_of((1, 1, 7)) == (1, 1, 3)


@given(rankings)
def test_the_scale_does_not_matter(found):
    stretched = [[value**3 - 50 for value in ranking] for ranking in found]
    assert kendall_w(stretched) == kendall_w(found) and alpha([stretched]) == alpha([found])
