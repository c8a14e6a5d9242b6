"""The report's sections on scores: findings in words, table 1, rewards by category (figure 1), ablation (figure 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from medchatzh.metrics.summary import JUDGE, CategoryMean, Mean, PairedDifference, Summary
from medchatzh.report.charts import Bars, Effect, Estimate, Forest, Group
from medchatzh.report.data import Inputs, System
from medchatzh.report.view import Block, Both, Cell, Figure, Points, Row, Table, Text, Tone, count, interval, missing, number, text

PROTOCOLS = {
    "strict": Both("strict：只用标签 1 的真实答案作参考", "strict: label-1 references only"),
    "medchatzh": Both("medchatzh：五个参考（真实答案与四个随机抽取的答案）", "medchatzh: five references, four of them sampled"),
    JUDGE: Both("奖励模型评分", "reward model"),
}
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "not distinguishable": ""}
_VERDICTS = {"better": "更好", "worse": "更差", "not distinguishable": "无法区分"}
_SIGNS = {"better": "▲", "worse": "▼", "not distinguishable": "≈"}


def protocol(name: str) -> Both:
    return PROTOCOLS.get(name, Both(name))


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
    items = [_statement(inputs, rows) for rows in _grouped(summary.differences)]
    order = {"bad": 0, "warn": 1, "": 2, "good": 3}
    items.sort(key=lambda item: order[item.tone])
    total = len(summary.differences)
    percent = f"{100 * summary.confidence:g}"
    caution = Both(
        f"共 {total} 次配对比较，每次的区间为 {percent} %（{summary.num_resamples:,} 次自助重采样，按题配对），未做多重比较校正；"
        f"即使全无差别，也约有 {total * (1 - summary.confidence):.0f} 次会显示差别。",
        f"{total} paired comparisons, each with its own {percent} % bootstrap interval; not corrected for multiplicity.",
    )
    return (Points(tuple(items)), _matrix(inputs, summary), Text(caution))


def _grouped(rows: Iterable[PairedDifference]) -> list[list[PairedDifference]]:
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
    scope = "奖励" if rows[0].protocol == JUDGE else rows[0].protocol
    tally = "、".join(f"{verdicts[verdict]} 项{word}" for verdict, word in _VERDICTS.items() if verdicts[verdict])
    tally_en = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in _VERDICTS if verdicts[verdict])
    shown = lost or rows[:1]
    numbers = "；".join(f"{row.metric} {row.mean:+.2f} [{row.low:+.2f}, {row.high:+.2f}]" for row in shown)
    if lost:
        lead, lead_en = f"主模型在 {'、'.join(row.metric for row in lost)} 上输给{other.label}", f"worse than {other.name}"
    elif verdicts["better"] == len(rows):
        lead, lead_en = f"主模型胜过{other.label}", f"better than {other.name}"
    elif verdicts["better"]:
        lead, lead_en = f"主模型部分胜过{other.label}", f"partly better than {other.name}"
    else:
        lead, lead_en = f"主模型与{other.label}无法区分", f"not distinguishable from {other.name}"
    tone: Tone = "bad" if lost else "good" if verdicts["better"] == len(rows) else "" if verdicts["better"] else "warn"
    zh = f"{lead}（{scope}，{rows[0].n:,} 题）：{tally}；差 {numbers}。"
    return Text(Both(zh, f"{rows[0].main} {lead_en} ({rows[0].protocol}, n = {rows[0].n:,}): {tally_en}."), tone)


def _matrix(inputs: Inputs, summary: Summary) -> Table:
    columns = list(dict.fromkeys(row.metric for row in summary.differences))
    rows = []
    for group in _grouped(summary.differences):
        cells = {row.metric: _verdict_cell(row) for row in group}
        head = (text(inputs.system(group[0].other).label), text(group[0].protocol), count(group[0].n))
        rows.append(Row((*head, *(cells.get(column, Cell()) for column in columns)), "floor" if _is_floor(inputs, group[0].other) else ""))
    caption = Both(f"{summary.main} 减其他系统：差与区间", f"{summary.main} minus each other system, paired by question")
    legend = Both("▲ 更好 · ▼ 更差 · ≈ 无法区分（区间含 0，或题数太少）", "▲ better · ▼ worse · ≈ not distinguishable")
    return Table(caption, ("对照 / other", "协议 / protocol", "n", *columns), tuple(rows), (legend,))


def _verdict_cell(row: PairedDifference) -> Cell:
    cell = interval(Estimate(row.mean, row.low, row.high), signed=True, tone=TONES[row.verdict])
    return msgspec.structs.replace(cell, text=f"{_SIGNS[row.verdict]} {cell.text}")


def _is_floor(inputs: Inputs, name: str) -> bool:
    return inputs.system(name).kind == "floor"


def tables(inputs: Inputs) -> tuple[Block, ...]:
    """Table 1, one for each protocol, the paper's rows below ours; then what the answers look like."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "表 1", "table 1"),)
    blocks: list[Block] = [
        Text(
            Both(
                "论文的各行照抄，评分协议未知，不与本次结果排名；两张表的签名不同，也不能互相比较。"
                "下限（固定答案、随机答案）不读问题：不胜过它们的分数不说明任何能力。",
                "The paper's rows are copied, protocol unknown: never rank them with ours, nor one table with the other. "
                "A score that does not beat the floors shows no skill.",
            ),
            "warn",
        )
    ]
    blocks += [_scores(inputs, summary, name) for name in summary.protocols]
    if judged := [row for row in summary.means if row.protocol == JUDGE]:
        blocks.append(_judged(inputs, summary, judged))
    blocks.append(_answers(inputs, summary))
    return tuple(blocks)


def _scores(inputs: Inputs, summary: Summary, name: str) -> Table:
    means = {(row.system, row.metric): row for row in summary.means if row.protocol == name}
    best = _best(means.values())
    rows = []
    for system in summary.systems:
        known = inputs.system(system)
        found = [means.get((system, metric)) for metric in summary.metrics]
        n = next((row.n for row in found if row), 0)
        cells = (_mean(row, best.get(row.metric) == system) if row else Cell() for row in found)
        rows.append(Row((text(known.label), count(n), *cells), known.kind))
    for copied in summary.published:
        values = (number(copied.values.get(metric)) for metric in summary.metrics)
        rows.append(Row((text(copied.system), Cell(), *values), "copied"))
    signatures = summary.signatures.get(name, {})
    notes = [
        Both(
            "斜体各行：抄录，评分协议未知；* 本协议内本次各行的最高值（各系统题目数相同时才标）",
            "Italic rows: copied, protocol unknown. * best of our rows",
        )
    ]
    notes += [Both(line) for line in dict.fromkeys(signatures.get(metric, "") for metric in summary.metrics) if line]
    caption = Both(f"表 1（{name}）　{protocol(name).zh}", f"Table 1 · {protocol(name).en or name}")
    return Table(caption, ("系统 / system", "n", *summary.metrics), tuple(rows), tuple(notes))


def _best(means: Iterable[Mean]) -> dict[str, str]:
    """Metric → the system with the highest mean; none where systems answered different numbers of questions, or is alone."""
    by_metric: dict[str, list[Mean]] = {}
    for row in means:
        by_metric.setdefault(row.metric, []).append(row)
    comparable = {metric: rows for metric, rows in by_metric.items() if len(rows) > 1 and len({row.n for row in rows}) == 1}
    return {metric: max(rows, key=lambda row: row.mean).system for metric, rows in comparable.items()}


def _mean(row: Mean, best: bool = False) -> Cell:
    return interval(Estimate(row.mean, row.low, row.high), best=best)


def _judged(inputs: Inputs, summary: Summary, means: Sequence[Mean]) -> Table:
    rows = (Row((text(inputs.system(row.system).label), count(row.n), _mean(row)), inputs.system(row.system).kind) for row in means)
    signatures = tuple(Both(line) for line in summary.signatures.get(JUDGE, {}).values())
    caption = Both("奖励模型的平均分", "Mean reward; an unbounded score, comparable within this table only")
    return Table(caption, ("系统 / system", "n", "reward"), tuple(rows), signatures)


def _answers(inputs: Inputs, summary: Summary) -> Table:
    rows = []
    for row in summary.answers:
        figures = (count(row.n), count(row.empty), count(row.cut), count(row.prompt_too_long), number(row.mean_chars, 1))
        known = inputs.system(row.system)
        rows.append(Row((text(known.label), *figures, number(row.distinct_1, 3), number(row.distinct_2, 3)), known.kind))
    columns = ("系统 / system", "n", "空 / empty", "截断 / cut", "题过长 / too long", "平均字数 / chars", "distinct-1", "distinct-2")
    return Table(Both("答案的样子", "What the answers look like; empty answers score 0"), columns, tuple(rows))


def categories(inputs: Inputs) -> tuple[Block, ...]:
    """Figure 1: rewards by category; without a judge, ROUGE-L instead."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "图 1", "figure 1"),)
    rows = [row for row in summary.by_category if row.protocol == JUDGE]
    if not rows:
        rows = [row for row in summary.by_category if row.metric == summary.metrics[-1]] if summary.metrics else []
        notice = missing(JUDGE, "按类别的奖励分", "rewards by category")
        return (notice, *_category_blocks(inputs, summary, rows))
    return (_judge_note(inputs), *_category_blocks(inputs, summary, rows))


def _judge_note(inputs: Inputs) -> Text:
    signatures = inputs.summary.signatures.get(JUDGE, {}) if inputs.summary else {}
    signature = "；".join(signatures.values())
    match inputs.same_judge():
        case True:
            zh = "评分的奖励模型也筛选了训练数据：被训练去迎合它的系统自然得高分，因此这不是独立的证据。"
            return Text(
                Both(f"{zh}（{signature}）", "The judging reward model also filtered the training records: not independent evidence."),
                "warn",
            )
        case False:
            return Text(
                Both(
                    f"评分的奖励模型没有参与训练数据的筛选。（{signature}）",
                    "The judge is not the model that filtered the training records.",
                )
            )
        case None:
            zh = f"无法确认评分的奖励模型是否也筛选了训练数据。（{signature}）"
            return Text(Both(zh, "Whether the judge also filtered the training records cannot be told from the inputs."), "warn")


def _category_blocks(inputs: Inputs, summary: Summary, rows: Sequence[CategoryMean]) -> Iterator[Block]:
    if not rows:
        yield Text(Both("没有按类别的分数。", "No scores by category."), "warn")
        return
    metric = rows[0].metric
    systems = [inputs.system(name) for name in summary.systems if any(row.system == name for row in rows)]
    found = {(row.category, row.system): row for row in rows}
    names = list(dict.fromkeys(row.category for row in rows))
    small = {name for name in names if summary.categories.get(name, 0) < summary.min_category_size}
    groups, lines = [], []
    for name in names:
        cells = [found.get((name, system.name)) for system in systems]
        label = f"{name}{'*' if name in small else ''} n={summary.categories.get(name, 0):,}"
        groups.append(Group(label, tuple(Estimate(row.mean, row.low, row.high) if row else None for row in cells), name in small))
        head = (text(name + ("*" if name in small else "")), count(summary.categories.get(name, 0)))
        lines.append(Row((*head, *(_mean(row) if row else Cell() for row in cells))))
    note = Both(
        f"* 少于 {summary.min_category_size} 题：区间宽，不足为凭；横线为区间", f"* fewer than {summary.min_category_size} questions"
    )
    title = f"{metric} by category"
    yield Figure(
        Both(f"图 1　各科室的{'奖励分' if metric == 'reward' else f' {metric}'}", f"Figure 1 · {title}"),
        Bars(title, tuple(system.series for system in systems), tuple(groups)),
        (note,),
    )
    yield Table(
        Both(f"图 1 的数据（{metric}）", f"Data of figure 1 ({metric})"),
        ("类别 / category", "n", *(system.label for system in systems)),
        tuple(lines),
        (note,),
    )


def ablation(inputs: Inputs) -> tuple[Block, ...]:
    """Figure 2: main − arm, metric by metric."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "图 2（消融）", "figure 2 (ablation)"),)
    arms = [system for system in inputs.systems.values() if system.arm]
    blocks: list[Block] = []
    for arm in arms:
        for rows in _grouped(row for row in summary.differences if row.other == arm.name):
            blocks += _arm(summary, arm, rows)
    unscored = [arm for arm in inputs.arms if arm not in {row.other for row in summary.differences}]
    if unscored:
        names = "、".join(unscored)
        blocks.append(Text(Both(f"消融 {names} 没有可比的分数。", f"No comparable scores for arm {names}."), "warn"))
    if not blocks:
        blocks.append(missing("sft@…", "消融（配方中没有 arms）", "ablations (the recipe has no arms)"))
    return tuple(blocks)


def _arm(summary: Summary, arm: System, rows: Sequence[PairedDifference]) -> Iterator[Block]:
    name = "奖励" if rows[0].protocol == JUDGE else rows[0].protocol
    title = f"{summary.main} − {arm.name} ({rows[0].protocol})"
    effects = tuple(
        Effect(row.metric, estimate := Estimate(row.mean, row.low, row.high), TONES[row.verdict] or "even", _signed(estimate))
        for row in rows
    )
    chart = Forest(title, effects, left=f"{arm.name} 更好", right=f"{summary.main} 更好")
    yield Figure(Both(f"图 2　{summary.main} 减 {arm.name}（{name}，{rows[0].n:,} 题）", f"Figure 2 · {title}, n = {rows[0].n:,}"), chart)
    columns = ("指标 / metric", "差 / difference", "p", "n", "结论 / verdict")
    lines = tuple(
        Row(
            (
                text(row.metric),
                interval(Estimate(row.mean, row.low, row.high), signed=True),
                number(row.p_value, 4),
                count(row.n),
                _said(row),
            )
        )
        for row in rows
    )
    yield Table(Both(f"图 2 的数据：{title}", f"Data of figure 2, interval at {100 * summary.confidence:g} %"), columns, lines)


def _said(row: PairedDifference) -> Cell:
    return text(f"{_VERDICTS[row.verdict]} / {row.verdict}", TONES[row.verdict])


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"
