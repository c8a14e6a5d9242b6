"""The report's section on protocols: which ranks and which verdicts change when only the way to score does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from medchatzh.metrics.summary import Mean, Summary
from medchatzh.report.charts import Slope, Slopes
from medchatzh.report.data import Inputs
from medchatzh.report.scores import SIGNS, VERDICTS, group_of, signed
from medchatzh.report.view import Block, Both, Cell, Figure, Points, Row, Table, Text, decimal, missing, text


def protocols(inputs: Inputs) -> tuple[Block, ...]:
    """Ranks within each protocol side by side, for the systems that compare with the main one, and the verdicts that change."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "协议之间的比较", "the comparison of protocols"),)
    if len(summary.protocols) < 2:
        only = "、".join(summary.protocols)
        return (Text(Both(f"只用了一种协议（{only}），无从比较。", f"One protocol alone ({only}): nothing to compare.")),)
    means = _comparable(inputs, summary)
    systems = [name for name in summary.systems if any(row.system == name for row in means.values())]
    if len(systems) < 2:
        return (Text(Both("没有两个可比的系统。", "No two systems that compare."), "warn"),)
    ranks = {metric: _ranks(summary, systems, means, metric) for metric in summary.metrics}
    reversed_pairs = {metric: _reversed(systems, by_protocol) for metric, by_protocol in ranks.items()}
    most = max(summary.metrics, key=reversed_pairs.__getitem__)
    return (
        _lead(summary, systems, reversed_pairs),
        *_verdicts(inputs, summary),
        _slopes(inputs, summary, systems, means, ranks[most], most),
        _table(inputs, summary, systems, ranks, reversed_pairs),
    )


def _comparable(inputs: Inputs, summary: Summary) -> dict[tuple[str, str, str], Mean]:
    """(system, protocol, metric) → mean, of the systems in the main one's group throughout."""
    rows = [row for row in summary.means if row.protocol in summary.protocols]
    group = {(row.protocol, row.metric): group_of(inputs, row) for row in rows if row.system == summary.main}
    apart = {row.system for row in rows if group_of(inputs, row) != group.get((row.protocol, row.metric))}
    return {(row.system, row.protocol, row.metric): row for row in rows if row.system not in apart}


def _ranks(summary: Summary, systems: Sequence[str], means: Mapping[tuple[str, str, str], Mean], metric: str) -> dict[str, dict[str, int]]:
    """Protocol → system → rank, 1 the best; equal means have equal ranks."""
    found = {}
    for protocol in summary.protocols:
        values = {name: means[name, protocol, metric].mean for name in systems if (name, protocol, metric) in means}
        found[protocol] = {name: 1 + sum(other > value for other in values.values()) for name, value in values.items()}
    return found


def _reversed(systems: Sequence[str], ranks: Mapping[str, Mapping[str, int]]) -> int:
    """Pairs of systems that do not stand in the same order under all protocols."""
    count = 0
    for one, other in combinations(systems, 2):
        orders = {rank[one] - rank[other] for rank in ranks.values() if one in rank and other in rank}
        count += any(order < 0 for order in orders) and any(order > 0 for order in orders)
    return count


def _lead(summary: Summary, systems: Sequence[str], reversed_pairs: Mapping[str, int]) -> Text:
    moved = [metric for metric, pairs in reversed_pairs.items() if pairs]
    whole = len(systems) * (len(systems) - 1) // 2
    names = "、".join(summary.protocols)
    if not moved:
        said = f"{len(systems)} 个系统的先后在 {names} 之下处处相同。"
        return Text(Both(said, "The same order under every protocol."))
    listed = "、".join(f"{metric} {reversed_pairs[metric]} 对" for metric in moved)
    return Text(
        Both(
            f"同样的答案，只换评分协议（{names}），{len(summary.metrics)} 项指标中 {len(moved)} 项有系统的先后颠倒；"
            f"{len(systems)} 个系统两两 {whole} 对，颠倒的有：{listed}。",
            f"The same answers, another protocol: systems change places on {len(moved)} of {len(summary.metrics)} metrics.",
        ),
        "warn",
    )


def _verdicts(inputs: Inputs, summary: Summary) -> Iterator[Block]:
    """Main against each other system: the verdicts of the paired comparisons that are not the same under all protocols."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in summary.differences:
        if row.protocol in summary.protocols:
            sign = f"{SIGNS[row.verdict]} {VERDICTS[row.verdict]}"
            found.setdefault((row.other, row.metric), {})[row.protocol] = sign
    changed: dict[str, list[str]] = {}
    for (other, metric), signs in found.items():
        if len(set(signs.values())) > 1:
            changed.setdefault(other, []).append(f"{metric} {' → '.join(signs.get(name, '—') for name in summary.protocols)}")
    if changed:
        items = [
            Text(Both(f"{summary.main} 对 {inputs.system(other).label}：{'；'.join(rows)}。", f"{summary.main} against {other}"), "warn")
            for other, rows in changed.items()
        ]
        order = " → ".join(summary.protocols)
        yield Text(Both(f"随协议改变的结论（{order}，配对区间）：", f"Verdicts that change with the protocol ({order}, paired intervals):"))
        yield Points(tuple(items))


def _slopes(
    inputs: Inputs,
    summary: Summary,
    systems: Sequence[str],
    means: Mapping[tuple[str, str, str], Mean],
    ranks: Mapping[str, Mapping[str, int]],
    metric: str,
) -> Figure:
    slopes = []
    for name in systems:
        known = inputs.system(name)
        places = tuple(ranks[protocol].get(name) for protocol in summary.protocols)
        found = (means.get((name, protocol, metric)) for protocol in summary.protocols)
        slopes.append(Slope(known.label, known.tone, places, tuple(decimal(row.mean) if row else "" for row in found)))
    zh = f"名次随协议的变化（{metric}，颠倒最多的指标）：名次与平均分"
    caption = Both(zh, f"Ranks by protocol: {metric}, the metric with most reversals; rank and mean")
    note = Both(
        "名次只在同一协议之内比较；各列的分数签名不同，不能横向比较", "Ranks are within a protocol; scores of two columns do not compare"
    )
    chart = Slopes(f"{metric}: ranks by protocol", summary.protocols, tuple(slopes))
    return Figure(caption, chart, (note,), signed(summary, *summary.protocols, metrics=(metric,)))


def _table(
    inputs: Inputs,
    summary: Summary,
    systems: Sequence[str],
    ranks: Mapping[str, Mapping[str, Mapping[str, int]]],
    reversed_pairs: Mapping[str, int],
) -> Table:
    rows = []
    for name in systems:
        known = inputs.system(name)
        cells = []
        for metric in summary.metrics:
            places = [ranks[metric][protocol].get(name) for protocol in summary.protocols]
            shown = " → ".join("—" if place is None else str(place) for place in places)
            cells.append(Cell(shown, value=places[0], tone="warn" if len(set(places)) > 1 else ""))
        rows.append(Row((text(known.label), *cells), known.kind))
    totals = (Cell(str(reversed_pairs[metric]), value=reversed_pairs[metric]) for metric in summary.metrics)
    rows.append(Row((text("颠倒的对数 / reversed pairs"), *totals), "", "totals"))
    notes = [Both("按平均分排名，未计区间：相邻两名未必可区分", "Ranked by means alone: neighbours need not be distinguishable")]
    if left_out := [inputs.system(name).label for name in summary.systems if name not in systems]:
        notes.append(
            Both(
                f"未列入（题目数或参考与主模型不同）：{'、'.join(left_out)}",
                "Left out: other references, or not as many questions as the main system",
            )
        )
    caption = Both(f"各协议内的名次（{' → '.join(summary.protocols)}）", "Rank within each protocol")
    return Table(caption, ("系统 / system", *summary.metrics), tuple(rows), tuple(notes), signed(summary, *summary.protocols))
