"""Tables of a summary: differences by category, correction over a table, small categories merged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.metrics import statistics
from medchatzh.metrics.comparison import OTHER, Column, Comparison, System, merge_small
from medchatzh.metrics.statistics import holm
from medchatzh.metrics.summary import JUDGE
from medchatzh.records import Prediction

COLUMNS = [Column("medchatzh", "BLEU-1"), Column("strict", "BLEU-1"), Column("strict", "ROUGE-L"), Column(JUDGE, "reward")]


def system(name: str, values: np.ndarray, first: int = 0) -> System:
    """Answers to the questions `first`, `first` + 1, …"""
    answers = [Prediction(id=f"q:{first + at}", system=name, question="问", answer="答") for at in range(len(values))]
    return System(name, answers, values)


def tables(min_category_size: int = 30) -> Comparison:
    return Comparison(COLUMNS, num_resamples=200, confidence=0.95, min_category_size=min_category_size, seed=0)


def scores(n: int, level: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, 1, (n, len(COLUMNS)))


def test_intervals_of_text_metrics_end_where_their_scale_does():
    values = np.array([[0.0, 100, 0, -9]] * 5 + [[1, 99, 50, 9]])
    rows = {(row.protocol, row.metric): row for row in tables().means(system("main", values))}
    assert rows["medchatzh", "BLEU-1"].low == 0 and rows["strict", "BLEU-1"].high == 100 and rows["strict", "ROUGE-L"].low == 0
    assert rows["strict", "BLEU-1"].low < 99.4, "five of six the same do not make the sixth the last of its kind"
    assert rows[JUDGE, "reward"].low < -9, "a reward has no scale"


class TestDifferences:
    def test_corrected_over_all_others_and_protocols_but_rewards_apart(self):
        main = system("main", scores(60, 0.4, 0))
        others = [system(f"other{seed}", scores(60, 0, seed)) for seed in range(1, 5)]
        rows = list(tables().differences([(main, other) for other in others]))
        assert [(row.other, row.metric) for row in rows] == [(other.name, column.metric) for other in others for column in COLUMNS]
        texts, rewards = [row for row in rows if row.protocol != JUDGE], [row for row in rows if row.protocol == JUDGE]
        assert (len(texts), len(rewards)) == (12, 4)
        for family in (texts, rewards):
            assert [row.p_holm for row in family] == pytest.approx(holm([row.p_value for row in family]), abs=2e-6)
            for row in family:
                shown = row.p_holm <= 0.05 and not row.low <= 0 <= row.high
                assert row.verdict == (("better" if row.mean > 0 else "worse") if shown else "not distinguishable")

    def test_a_table_of_many_comparisons_of_nothing_shows_nothing(self):
        main = system("main", scores(60, 0, 100))
        rows = list(tables().differences([(main, system(f"other{seed}", scores(60, 0, seed))) for seed in range(1, 21)]))
        assert sum(row.p_value <= 0.05 for row in rows) > 1
        assert {row.verdict for row in rows} == {"not distinguishable"}

    def test_what_is_clear_stays_so_in_the_largest_table(self):
        """400 rows × 1e-4, the smallest p of 10,000 flips, would be 0.04; with 5,000 rows nothing could show."""
        columns = [Column("strict", f"metric-{at}") for at in range(500)]
        wide = Comparison(columns, num_resamples=100, confidence=0.95, min_category_size=30, seed=0)
        values = np.random.default_rng(0).normal(0, 1, (40, 500))
        (first, *_, last) = wide.differences([(system("main", values + 5), system("other", values[::-1]))])
        assert first.verdict == last.verdict == "better"
        assert first.p_holm == pytest.approx(0.01, rel=0.01)

    def test_only_what_both_answered_and_the_judge_saw(self):
        ours, theirs = scores(20, 1, 0), scores(20, 0, 1)
        theirs[3:6, 3] = np.nan
        rows = {row.metric: row for row in tables().differences([(system("main", ours), system("other", theirs, first=5))])}
        assert {name: row.n for name, row in rows.items()} == {"BLEU-1": 15, "ROUGE-L": 15, "reward": 12}
        assert rows["ROUGE-L"].mean == pytest.approx((ours[5:, 2] - theirs[:15, 2]).mean(), abs=1e-6)
        assert list(tables().differences([(system("main", ours), system("other", theirs, first=20))])) == []


class TestByCategory:
    def test_each_on_its_own_questions_corrected_over_all(self):
        main, other = system("main", scores(100, 0.5, 0)), system("other", scores(100, 0, 1))
        groups = {"内科": {f"q:{at}" for at in range(70)}, "外科": {f"q:{at}" for at in range(70, 100)}}
        rows = list(tables(min_category_size=31).category_differences(groups, main, other))
        assert [(row.category, row.protocol, row.metric, row.n, row.small) for row in rows] == [
            (category, column.protocol, column.metric, n, small)
            for category, n, small in (("内科", 70, False), ("外科", 30, True))
            for column in COLUMNS[1:]
        ]
        values = main.values - other.values
        assert [row.mean for row in rows] == pytest.approx([*values[:70, 1:].mean(axis=0), *values[70:, 1:].mean(axis=0)], abs=1e-6)
        texts = [row for row in rows if row.protocol != JUDGE]
        assert [row.p_holm for row in texts] == pytest.approx(holm([row.p_value for row in texts]), abs=2e-6)

    def test_is_what_the_comparison_says_of_that_category_alone(self):
        main, other = system("main", scores(80, 0.5, 0)), system("other", scores(80, 0, 1))
        rows = tables().category_differences({"all": {f"q:{at}" for at in range(80)}}, main, other)
        whole = [row for row in tables().differences([(main, other)]) if row.protocol != "medchatzh"]
        assert [(row.mean, row.low, row.high, row.p_value) for row in rows] == [(row.mean, row.low, row.high, row.p_value) for row in whole]

    def test_a_category_that_a_system_did_not_answer_has_no_row(self):
        main, other = system("main", scores(40, 0, 0)), system("other", scores(20, 0, 1))
        groups = {"内科": {f"q:{at}" for at in range(20)}, "外科": {f"q:{at}" for at in range(20, 40)}}
        assert {row.category for row in tables().category_differences(groups, main, other)} == {"内科"}

    def test_flips_are_enough_for_every_row(self, monkeypatch):
        asked: list[int] = []
        plain = statistics.paired_differences
        monkeypatch.setattr(statistics, "paired_differences", lambda *a, **more: asked.append(more["num_flips"]) or plain(*a, **more))
        main, other = system("main", scores(120, 0, 0)), system("other", scores(120, 0, 1))
        list(tables().category_differences({str(at): {f"q:{at}"} for at in range(120)}, main, other))
        assert set(asked) == {100 * 120 * 3}


def ids(name: str, size: int) -> set[str]:
    return {f"{name}:{at}" for at in range(size)}


class TestMergeSmall:
    def test_small_ones_become_one_row_at_the_end(self):
        groups = {name: ids(name, size) for name, size in (("内科", 261), ("外科", 100), ("眼科", 99), ("其他", 30), ("口腔", 1))}
        merged = merge_small(groups, 100)
        assert {name: len(found) for name, found in merged.items()} == {"内科": 261, "外科": 100, OTHER: 130}
        assert list(merged) == ["内科", "外科", OTHER]

    def test_one_alone_keeps_its_name(self):
        groups = {"内科": ids("内科", 200), "外科": ids("外科", 5)}
        assert merge_small(groups, 100) == groups
        assert merge_small({"all": ids("all", 5)}, 100) == {"all": ids("all", 5)}

    def test_a_benchmark_that_has_a_category_of_that_name(self):
        groups = {OTHER: ids("rest", 300), "内科": ids("内科", 200), "外科": ids("外科", 5)}
        assert merge_small(groups, 100) == {"内科": groups["内科"], OTHER: groups[OTHER] | groups["外科"]}

    @given(st.dictionaries(st.text(max_size=3), st.integers(1, 9), max_size=8), st.integers(1, 10))
    def test_no_question_is_lost_or_counted_twice_and_again_changes_nothing(self, sizes, min_size):
        groups = {name: ids(name, size) for name, size in sizes.items()}
        merged = merge_small(groups, min_size)
        assert set().union(*merged.values()) == set().union(*groups.values())
        assert sum(map(len, merged.values())) == sum(sizes.values())
        assert sum(len(found) < min_size for found in merged.values()) <= 1
        assert merge_small(merged, min_size) == merged
