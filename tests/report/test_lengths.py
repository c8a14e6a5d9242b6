"""Scores held against length."""

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import report
from medchatzh.records import Prediction, Score, read, write
from medchatzh.report.charts import Profile
from medchatzh.report.items import Scored
from medchatzh.report.lengths import rank_correlation
from medchatzh.report.view import Figure, Table
from medchatzh.run import Context

LENGTHS = (10, 24, 25, 99, 120, 650)


@pytest.fixture
def answered(finished_run):
    """Answers of `canned` whose lengths go round `LENGTHS`, and whose BLEU-1 is twice the length."""
    path = finished_run["generate@canned"] / "predictions.jsonl"
    found = list(read(path, Prediction))
    lengths = {prediction.id: LENGTHS[place % len(LENGTHS)] for place, prediction in enumerate(found)}
    write(path, (Prediction(id=key, system="canned", question="问", answer="字 " * length) for key, length in lengths.items()))
    scores = finished_run["evaluate"] / "scores.jsonl"
    kept = [score for score in read(scores, Score) if score.system != "canned"]
    own = (Score(id=key, system="canned", metric="strict/BLEU-1", value=2.0 * length) for key, length in lengths.items())
    write(scores, [*kept, *own])
    return finished_run, list(lengths.values())


def blocks(inputs) -> list[Figure | Table]:
    made = report.build(report.Config(), inputs, Context(seed=7))
    return [block for section in made.sections if section.key == "lengths" for block in section.blocks]


def curve(figure: Figure, name: str) -> dict[str, tuple[float, float, float] | None]:
    assert isinstance(figure.chart, Profile)
    (found,) = (curve for curve in figure.chart.curves if curve.name.startswith(name))
    estimates = ((bar.value, bar.low, bar.high) if bar else None for bar in found.estimates)
    return dict(zip(figure.chart.labels, estimates, strict=True))


def test_shares_of_lengths_add_up_beside_the_references(answered):
    inputs, lengths = answered
    figure, table, *_ = blocks(inputs)
    shares = {label: bar[0] for label, bar in curve(figure, "canned").items()}
    assert math.isclose(sum(shares.values()), 100) and shares["0–24"] == pytest.approx(100 * sum(n < 25 for n in lengths) / 121)
    assert shares["≥ 600"] == pytest.approx(100 * lengths.count(650) / 121)
    assert curve(figure, "参考答案")["0–24"][0] == 100
    cells = next(row.cells for row in table.rows if row.cells[0].text.startswith("canned"))
    assert [cell.value for cell in cells[1:]] == [121, sum(lengths) / 121, 10, sorted(lengths)[60], 650]


def test_each_bin_has_its_mean_and_interval(answered):
    inputs, lengths = answered
    figure = next(block for block in blocks(inputs) if isinstance(block, Figure) and block.caption.zh.endswith("strict/BLEU-1"))
    found = curve(figure, "canned")
    short = [2.0 * length for length in lengths if length < 25]
    mean = sum(short) / len(short)
    half = 1.959964 * math.sqrt(sum((value - mean) ** 2 for value in short) / (len(short) - 1) / len(short))
    assert found["0–24"] == pytest.approx((mean, mean - half, mean + half), abs=1e-5)
    assert found["≥ 600"] == (1300, 1300, 1300) and found["25–49"] == (50, 50, 50)
    assert found["50–74"] is None, "no answer is as long"


def test_bins_of_few_answers_are_left_out_of_the_chart_and_counted_in_the_table(answered):
    inputs, _ = answered
    path = inputs["evaluate"] / "scores.jsonl"
    long = [score for score in read(path, Score) if score.system == "canned" and score.value == 1300.0]
    dropped = {score.id for score in long[4:]}
    write(path, [score for score in read(path, Score) if score.system != "canned" or score.id not in dropped])
    found = blocks(inputs)
    figure = next(block for block in found if isinstance(block, Figure) and block.caption.zh.endswith("strict/BLEU-1"))
    assert curve(figure, "canned")["≥ 600"] is None
    table = next(block for block in found if isinstance(block, Table) and block.folded)
    cell = next(row.cells for row in table.rows if row.cells[0].text.startswith("canned"))[-1]
    assert (cell.value, cell.sub) == (None, "n=4")


def test_correlation_tells_whose_score_hangs_on_length(answered):
    inputs, _ = answered
    table = blocks(inputs)[-1]
    assert table.columns == ("系统 / system", "strict/BLEU-1", "strict/ROUGE-L", "reward")
    rho = {row.cells[0].text.partition("（")[0]: row.cells[1].value for row in table.rows}
    assert rho["canned"] == 1.0 and rho["medchatzh"] is None, "all answers of the others are about as long"


def test_without_scores_lengths_alone_are_shown(finished_run):
    (finished_run["evaluate"] / "scores.jsonl").unlink()
    kinds = [type(block).__name__ for block in blocks(finished_run)]
    assert kinds == ["Figure", "Table", "Text"]


def scored(pairs) -> Scored:
    return Scored(array("d", (pair[0] for pair in pairs)), array("d", (pair[1] for pair in pairs)))


@pytest.mark.parametrize(
    ("pairs", "rho"),
    [
        ([(1, 1), (2, 3), (3, 2)], 0.5),
        ([(1, 10), (2, 20), (3, 20), (4, 30)], 0.948683),  # scipy.stats.spearmanr
        ([(1, 5), (1, 6)], None),
        ([(1, 5), (2, 5)], None),
        ([(9, 1), (5, 2), (1, 3)], -1.0),
    ],
)
def test_rank_correlation(pairs, rho):
    assert rank_correlation(scored(pairs)) == (None if rho is None else pytest.approx(rho, abs=1e-6))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2))
def test_rank_correlation_hangs_on_ranks_alone(pairs):
    assert rank_correlation(scored(pairs)) == rank_correlation(scored([(x**3, 2.0**y) for x, y in pairs]))
