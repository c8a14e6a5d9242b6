"""The report's sections on scores: findings in words, and table 1 under each protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from medchatzh.metrics.statistics import Verdict
from medchatzh.metrics.summary import JUDGE, Mean, PairedDifference, Summary
from medchatzh.report.charts import Estimate
from medchatzh.report.data import Inputs
from medchatzh.report.view import (
    Block,
    Both,
    Cell,
    Points,
    Row,
    Table,
    Text,
    Tone,
    count,
    in_words,
    interval,
    missing,
    number,
    text,
)

PROTOCOLS = {
    "strict": Both("只用标签 1 的真实答案作参考", "label-1 references only"),
    "medchatzh": Both("五个参考：真实答案与四个随机抽取的答案", "five references, four of them sampled"),
}
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "not distinguishable": ""}
VERDICTS: dict[Verdict, str] = {"better": "更好", "worse": "更差", "not distinguishable": "无法区分"}
SIGNS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "not distinguishable": "≈"}
REWARD = "reward"
"""The judge's one metric, and its name in `scores.jsonl`."""
COPIED = "copied"


def scope(name: str) -> str:
    return "奖励" if name == JUDGE else f"{name} 协议"


def signed(summary: Summary, *protocols: str, metrics: Iterable[str] = ()) -> tuple[str, ...]:
    """The signatures of numbers under some protocols, each once; of all metrics unless some are named."""
    wanted = set(metrics)
    lines = (
        (f"{protocol}: " if len(protocols) > 1 else "") + line
        for protocol in protocols
        for metric, line in summary.signatures.get(protocol, {}).items()
        if not wanted or metric in wanted
    )
    return tuple(dict.fromkeys(lines))


def group_of(inputs: Inputs, row: Mean) -> str:
    """What a mean may be ranked with: means over as many questions, against references of the same kind."""
    return f"{row.n}{' human' if inputs.system(row.system).human else ''}"


def findings(summary: Summary | None) -> tuple[dict[str, Any], ...]:
    """Every paired comparison as plain numbers."""
    return tuple(msgspec.to_builtins(row) for row in summary.differences) if summary else ()


def key_findings(inputs: Inputs) -> tuple[Block, ...]:
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "与其他系统的比较", "comparisons with other systems"),)
    if not summary.differences:
        return (
            Text(
                Both("只有一个系统，或没有共同回答的问题，无从比较。", "Nothing to compare: one system, or no question answered by two."),
                "warn",
            ),
        )
    items = [_statement(inputs, rows) for rows in grouped(summary.differences)]
    order = {"bad": 0, "warn": 1, "": 2, "good": 3}
    items.sort(key=lambda item: order[item.tone])
    total = len(summary.differences)
    percent = f"{100 * summary.confidence:g}"
    caution = Both(
        f"共 {total} 次配对比较，每次的区间为 {percent} %（{summary.num_resamples:,} 次自助重采样，按题配对）；"
        f"说“更好”“更差”，须区间不含 0，且近似随机化检验的 p 值经 Holm 校正（文本指标、奖励各一族）后不大于 {1 - summary.confidence:g}。",
        f"{total} paired comparisons, each with its own {percent} % bootstrap interval. Better or worse is said where the interval excludes"
        f" 0 and the p value of approximate randomisation, corrected after Holm (text metrics one family, rewards another), is at most"
        f" {1 - summary.confidence:g}.",
    )
    return (_headline(inputs, summary), Points(tuple(items)), *_matrices(inputs, summary), Text(caution))


def _headline(inputs: Inputs, summary: Summary) -> Text:
    """Under the first protocol: whom the main system beats, whom not."""
    names: dict[str, list[str]] = {"全部指标胜过": [], "部分指标胜过、其余无法区分": [], "无法区分": [], "至少一项指标输给": []}
    lost_to_floor = False
    for rows in grouped(row for row in summary.differences if row.protocol == summary.protocols[0]):
        verdicts = {row.verdict for row in rows}
        if "worse" in verdicts:
            place = "至少一项指标输给"
        elif "better" in verdicts:
            place = "全部指标胜过" if len(verdicts) == 1 else "部分指标胜过、其余无法区分"
        else:
            place = "无法区分"
        names[place].append(inputs.system(rows[0].other).label)
        lost_to_floor |= ("worse" in verdicts or "better" not in verdicts) and _is_floor(inputs, rows[0].other)
    said = "；".join(f"{place} {'、'.join(found)}" for place, found in names.items() if found) or "没有可比的系统"
    warning = "没有胜过全部下限，因此文本指标不能证明主模型读懂了问题。" if lost_to_floor else ""
    english = f"{summary.main} against each other system, {summary.protocols[0]} protocol." + (
        " It does not beat every floor: the text metrics do not show that it reads the question." if lost_to_floor else ""
    )
    return Text(Both(f"{summary.main}，{scope(summary.protocols[0])}：{said}。{warning}", english), "bad" if lost_to_floor else "")


def grouped(rows: Iterable[PairedDifference]) -> list[list[PairedDifference]]:
    """Rows of one (other system, protocol) together, in order."""
    groups: dict[tuple[str, str], list[PairedDifference]] = {}
    for row in rows:
        groups.setdefault((row.other, row.protocol), []).append(row)
    return list(groups.values())


def _statement(inputs: Inputs, rows: Sequence[PairedDifference]) -> Text:
    """Main against one system under one protocol, in a sentence that hides no defeat."""
    other = inputs.system(rows[0].other)
    verdicts = Counter(row.verdict for row in rows)
    lost = [row for row in rows if row.verdict == "worse"]
    tally = "、".join(f"{verdicts[verdict]} 项{word}" for verdict, word in VERDICTS.items() if verdicts[verdict])
    tally_en = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
    shown = lost or rows[:1]
    numbers = "；".join(f"{row.metric} {in_words(difference(row), signed=True, n=row.n)}" for row in shown)
    if lost:
        lead, lead_en = f"主模型在 {'、'.join(row.metric for row in lost)} 上输给 {other.label}", f"worse than {other.name}"
    elif verdicts["better"] == len(rows):
        lead, lead_en = f"主模型胜过 {other.label}", f"better than {other.name}"
    elif verdicts["better"]:
        lead, lead_en = f"主模型部分胜过 {other.label}", f"partly better than {other.name}"
    else:
        lead, lead_en = f"无法区分主模型与 {other.label}", f"not distinguishable from {other.name}"
    tone: Tone = "bad" if lost else "good" if verdicts["better"] == len(rows) else "" if verdicts["better"] else "warn"
    zh = f"{lead}（{scope(rows[0].protocol)}，{rows[0].n:,} 题）：{tally}；差 {numbers}。"
    return Text(Both(zh, f"{rows[0].main} {lead_en} ({rows[0].protocol}, n = {rows[0].n:,}): {tally_en}."), tone)


def difference(row: PairedDifference) -> Estimate:
    return Estimate(row.mean, row.low, row.high)


def _matrices(inputs: Inputs, summary: Summary) -> Iterator[Table]:
    """Every difference: text metrics, then rewards, whose scale is another."""
    legend = Both("▲ 更好 · ▼ 更差 · ≈ 无法区分（区间含 0，或校正后的 p 值太大）", "▲ better · ▼ worse · ≈ not distinguishable")
    judged = [row for row in summary.differences if row.protocol == JUDGE]
    texts = [row for row in summary.differences if row.protocol != JUDGE]
    place = {protocol: number for number, protocol in enumerate(summary.protocols)}
    for differences, zh, en in ((texts, "文本指标", "text metrics"), (judged, "奖励", "reward")):
        columns = list(dict.fromkeys(row.metric for row in differences))
        rows = []
        for group in grouped(differences):
            cells = {row.metric: _verdict_cell(row) for row in group}
            other, protocol = inputs.system(group[0].other), group[0].protocol
            head = (text(other.label), text(protocol), count(group[0].n))
            rows.append(Row((*head, *(cells.get(column, Cell()) for column in columns)), other.kind, protocol))
        rows.sort(key=lambda row: place.get(row.group, 0))
        if rows:
            caption = Both(
                f"{summary.main} 减其他系统：{zh}的差与区间", f"{summary.main} minus each other system, paired by question: {en}"
            )
            signatures = signed(summary, *dict.fromkeys(row.protocol for row in differences))
            yield Table(caption, ("对照 / other", "协议 / protocol", "n", *columns), tuple(rows), (legend,), signatures)


def _verdict_cell(row: PairedDifference) -> Cell:
    cell = interval(difference(row), n=row.n, signed=True, tone=TONES[row.verdict])
    return msgspec.structs.replace(cell, text=f"{SIGNS[row.verdict]} {cell.text}")


def _is_floor(inputs: Inputs, name: str) -> bool:
    return inputs.system(name).kind == "floor"


def tables(inputs: Inputs, force: bool) -> tuple[Block, ...]:
    """Table 1, one for each protocol, the paper's rows below ours; then what the answers look like."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "表 1", "table 1"),)
    blocks: list[Block] = [
        Text(
            Both(
                "论文的各行抄自其表 1（webMedQA），评分协议未知，评测集也未必与本次相同，不与本次结果排名；"
                "两张表的签名不同，也不能互相比较。"
                "下限（固定答案、随机答案、检索答案）不懂问题：不胜过它们的分数不说明任何能力。",
                "The paper's rows are copied (webMedQA), protocol unknown, perhaps other questions: never rank them with ours, "
                "nor one table with the other. "
                "A score that does not beat the floors shows no skill.",
            ),
            "warn",
        )
    ]
    if force:
        blocks.append(
            Text(
                Both(
                    "‡ 强制排名（--force）：以下各表把签名不同、题目不同的行放在一起比较，包括抄录的行。这样的名次没有依据。",
                    "‡ Forced ranking (--force): the tables below rank rows whose signatures or questions differ, copied ones too. "
                    "Such a rank is unfounded.",
                ),
                "bad",
            )
        )
    blocks += [_scores(inputs, summary, name, force) for name in summary.protocols]
    if judged := [row for row in summary.means if row.protocol == JUDGE]:
        blocks.append(_judged(inputs, summary, judged))
    blocks.append(_answers(inputs, summary))
    return tuple(blocks)


def _scores(inputs: Inputs, summary: Summary, name: str, force: bool) -> Table:
    means = {(row.system, row.metric): row for row in summary.means if row.protocol == name}
    groups: dict[str, list[tuple[str, dict[str, Mean]]]] = {}
    for system in summary.systems:
        found = {metric: means[system, metric] for metric in summary.metrics if (system, metric) in means}
        groups.setdefault(group_of(inputs, next(iter(found.values()))) if found else "", []).append((system, found))
    published = [(row.system, row.values) for row in summary.published]
    best = {key: _best({system: _values(found) for system, found in rows}) for key, rows in groups.items()}
    if force:
        everyone = {system: _values(found) for rows in groups.values() for system, found in rows} | dict(published)
        best = dict.fromkeys((*groups, COPIED), _best(everyone))
    rows = []
    for key, members in groups.items():
        for system, found in members:
            known = inputs.system(system)
            cells = (mean_cell(found[metric], best[key].get(metric) == system) if metric in found else Cell() for metric in summary.metrics)
            n = next((row.n for row in found.values()), 0)
            rows.append(Row((text(known.label), count(n), *cells), known.kind, "" if force else key))
    for system, values in published:
        cells = (
            msgspec.structs.replace(number(values.get(metric)), best=best.get(COPIED, {}).get(metric) == system)
            for metric in summary.metrics
        )
        rows.append(Row((Cell(system, sub="抄录，协议未知"), Cell(), *cells), "copied", "" if force else COPIED))
    mark = (
        Both("‡ * 所有行中的最高值，不论签名", "‡ * best of all rows, whatever their signatures")
        if force
        else Both("* 可比各行（参考与题目数相同）的最高值", "* best of the rows that compare: same references, as many questions")
    )
    notes = (Both("斜体各行：抄录，评分协议未知", "Italic rows: copied, protocol unknown"), mark)
    meaning = PROTOCOLS.get(name, Both("见签名", "see the signature"))
    caption = Both(f"表 1（{scope(name)}）：{meaning.zh}{' ‡' if force else ''}", f"Table 1, {name}: {meaning.en}")
    signatures = signed(summary, name, metrics=summary.metrics)
    return Table(caption, ("系统 / system", "n", *summary.metrics), tuple(rows), notes, signatures)


def _values(means: Mapping[str, Mean]) -> dict[str, float]:
    return {metric: row.mean for metric, row in means.items()}


def _best(values: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Metric → the system with the highest value, of two or more."""
    by_metric: dict[str, list[tuple[float, str]]] = {}
    for system, row in values.items():
        for metric, value in row.items():
            by_metric.setdefault(metric, []).append((value, system))
    return {metric: max(rows, key=lambda pair: pair[0])[1] for metric, rows in by_metric.items() if len(rows) > 1}


def mean_cell(row: Mean, best: bool = False) -> Cell:
    return interval(Estimate(row.mean, row.low, row.high), best=best, n=row.n)


def _judged(inputs: Inputs, summary: Summary, means: Sequence[Mean]) -> Table:
    metrics = tuple(dict.fromkeys(row.metric for row in means))
    found: dict[str, dict[str, Mean]] = {}
    for row in means:
        found.setdefault(row.system, {})[row.metric] = row
    rows = []
    for system, scored in found.items():
        known, n = inputs.system(system), next(iter(scored.values())).n
        cells = (mean_cell(scored[name]) if name in scored else Cell() for name in metrics)
        rows.append(Row((text(known.label), count(n), *cells), known.kind))
    caption = Both("奖励模型的平均分", "Mean reward; an unbounded score, comparable within this table only")
    return Table(caption, ("系统 / system", "n", *metrics), tuple(rows), (), signed(summary, JUDGE))


def _answers(inputs: Inputs, summary: Summary) -> Table:
    rows = []
    for row in summary.answers:
        figures = (count(row.n), count(row.empty), count(row.cut), count(row.prompt_too_long), number(row.mean_chars, 1))
        known = inputs.system(row.system)
        rows.append(Row((text(known.label), *figures, number(row.distinct_1, 3), number(row.distinct_2, 3)), known.kind))
    columns = ("系统 / system", "n", "空 / empty", "截断 / cut", "题过长 / too long", "平均字数 / chars", "distinct-1", "distinct-2")
    return Table(Both("答案的样子", "What the answers look like; empty answers score 0"), columns, tuple(rows))
