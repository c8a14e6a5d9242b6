"""The report's section on length: how long answers are beside the references, and how the scores hang on it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt
from statistics import NormalDist

from medchatzh.metrics.summary import JUDGE, Summary
from medchatzh.report.charts import Curve, Estimate, Profile
from medchatzh.report.data import Inputs, System
from medchatzh.report.items import Gathered, Scored
from medchatzh.report.scores import REWARD, signed
from medchatzh.report.view import Block, Both, Cell, Figure, Row, Table, count, interval, missing, number, text

EDGES = (0, 25, 50, 75, 100, 150, 200, 300, 400, 600)
"""Where bins of characters begin: the same in every report, so that two can be laid side by side. 90 % of real answers have under 200."""
_LABELS = (*(f"{low}–{high - 1}" for low, high in pairwise(EDGES)), f"≥ {EDGES[-1]}")
_REFERENCES = System("", "参考答案 / references", "", "", "reference")
_FEW = 5
"""A bin with fewer answers is not drawn: its interval would say nothing."""
_X_LABEL = "答案字数（不计空白）/ characters without white space"


def columns(summary: Summary | None) -> tuple[str, ...]:
    """The columns of `scores.jsonl` held against length: the first and last text metric under the first protocol, and the reward."""
    if not summary or not summary.protocols or not summary.metrics:
        return (REWARD,)
    chosen = dict.fromkeys((summary.metrics[0], summary.metrics[-1]))
    return (*(f"{summary.protocols[0]}/{metric}" for metric in chosen), REWARD)


def lengths(inputs: Inputs, gathered: Gathered) -> tuple[Block, ...]:
    """Distribution of lengths, and each column by bins of length."""
    answered = [system for system in gathered.systems if gathered.lengths[system.name]]
    if not answered:
        return (missing("generate@…", "长度的影响", "effects of length"),)
    summary = inputs.summary
    longest = max(max(found) for found in (*gathered.lengths.values(), gathered.reference_lengths) if found)
    used = bisect_right(EDGES, longest)
    blocks: list[Block] = [*_distribution(answered, gathered, used)]
    shown = [name for name in columns(summary) if any(column == name for _, column in gathered.scored)]
    if not summary or not shown:
        return (*blocks, missing("evaluate", "分数与长度的关系", "scores by length"))
    for column in shown:
        blocks += _by_length(answered, gathered, summary, column, used)
    blocks.append(_correlations(answered, gathered, summary, shown))
    return tuple(blocks)


def _distribution(answered: Sequence[System], gathered: Gathered, used: int) -> Iterator[Block]:
    found = [(system, gathered.lengths[system.name]) for system in answered]
    if gathered.reference_lengths:
        found.append((_REFERENCES, gathered.reference_lengths))
    shares = []
    for system, characters in found:
        counts = [len(values) for values in _binned(characters, characters)[:used]]
        parts = (100 * counted / len(characters) for counted in counts)
        shares.append(Curve(system.label, system.tone, tuple(Estimate(part, part, part) for part in parts)))
    caption = Both("答案有多长", "How long the answers are")
    yield Figure(caption, Profile("answer lengths", _X_LABEL, "占答案的百分比 / % of answers", _LABELS[:used], tuple(shares)))
    rows = []
    for system, characters in found:
        ordered = sorted(characters)
        marks = (count(ordered[round(share * (len(ordered) - 1))]) for share in (0.1, 0.5, 0.9))
        rows.append(Row((text(system.label), count(len(ordered)), number(sum(ordered) / len(ordered), 1), *marks), system.kind))
    heads = ("系统 / system", "n", "平均字数 / mean", "第 10 百分位 / 10th percentile", "中位数 / median", "第 90 百分位 / 90th percentile")
    yield Table(Both("答案与参考的字数", "Characters of answers and references"), heads, tuple(rows))


def _by_length(answered: Sequence[System], gathered: Gathered, summary: Summary, column: str, used: int) -> Iterator[Block]:
    curves, rows = [], []
    for system in answered:
        scored = gathered.scored.get((system.name, column))
        if scored is None:
            continue
        bins = _binned(scored.lengths, scored.values)[:used]
        means = tuple(_mean(values, summary.confidence) if len(values) >= _FEW else None for values in bins)
        curves.append(Curve(system.label, system.tone, means))
        cells = (_bin_cell(mean, len(values)) for mean, values in zip(means, bins, strict=True))
        rows.append(Row((text(system.label), *cells), system.kind))
    note = Both(
        f"每档的平均分与 {100 * summary.confidence:g} % 区间（正态近似）；不足 {_FEW} 个答案的档不画",
        f"Mean and {100 * summary.confidence:g} % interval (normal) of each bin; bins of fewer than {_FEW} answers are left out",
    )
    signatures = _signatures(summary, column)
    caption = Both(f"分数与长度：{column}", f"Score by length: {column}")
    yield Figure(caption, Profile(f"{column} by length", _X_LABEL, column, _LABELS[:used], tuple(curves)), (note,), signatures)
    yield Table(
        Both(f"{caption.zh}（数字）", "The same as numbers"),
        ("系统 / system", *_LABELS[:used]),
        tuple(rows),
        (note,),
        signatures,
        folded=True,
    )


def _bin_cell(mean: Estimate | None, n: int) -> Cell:
    if mean is None:
        return Cell(sub=f"n={n:,}" if n else "")
    cell = interval(mean, n=n)
    return Cell(cell.text, f"{cell.sub} n={n:,}", cell.value)


def _correlations(answered: Sequence[System], gathered: Gathered, summary: Summary, shown: Sequence[str]) -> Table:
    rows = []
    for system in answered:
        found = (gathered.scored.get((system.name, column)) for column in shown)
        cells = (number(rank_correlation(scored)) if scored else Cell() for scored in found)
        rows.append(Row((text(system.label), *cells), system.kind))
    note = Both(
        "斯皮尔曼等级相关，−1 到 1；所有答案一样长时没有。两套答案的长度不同，分数的差别就可能只是长度的差别",
        "Spearman's rank correlation of length and score; none where all answers are as long",
    )
    caption = Both("长度与分数的相关", "Correlation of length and score")
    signatures = tuple(dict.fromkeys(line for column in shown for line in _signatures(summary, column)))
    return Table(caption, ("系统 / system", *shown), tuple(rows), (note,), signatures)


def _signatures(summary: Summary, column: str) -> tuple[str, ...]:
    protocol, _, metric = column.rpartition("/")
    return signed(summary, protocol or JUDGE, metrics=(metric,))


def _binned(characters: Sequence[float], values: Sequence[float]) -> list[array[float]]:
    bins = [array("d") for _ in EDGES]
    for length, value in zip(characters, values, strict=True):
        bins[bisect_right(EDGES, length) - 1].append(value)
    return bins


def _mean(values: Sequence[float], confidence: float) -> Estimate:
    """The normal interval: a bin of the whole benchmark has thousands of answers, where a bootstrap costs seconds and changes nothing."""
    import numpy as np

    mean = float(np.mean(values))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return Estimate(*(round(end, 6) for end in (mean, mean - half, mean + half)))


def rank_correlation(scored: Scored) -> float | None:
    """Spearman's ρ, ties at their average rank; None where one of the two does not vary."""
    import numpy as np

    ranks = []
    for values in scored:
        _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
        if len(counts) < 2:
            return None
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[place])
    return round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 6)
