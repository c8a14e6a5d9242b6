"""The report's sections that redraw the paper's figures: rewards by category (figure 1) and the ablation (figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from medchatzh.metrics.summary import JUDGE, CategoryMean, PairedDifference, Summary
from medchatzh.report.charts import Bars, Effect, Estimate, Forest, Group
from medchatzh.report.data import Inputs, System
from medchatzh.report.scores import TONES, VERDICTS, difference, grouped, mean_cell, scope, signed
from medchatzh.report.view import Block, Both, Cell, Figure, Row, Table, Text, count, in_words, interval, missing, number, text


def categories(inputs: Inputs) -> tuple[Block, ...]:
    """Figure 1: rewards by category, and below them the last text metric (ROUGE-L)."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "图 1", "figure 1"),)
    judged = [row for row in summary.by_category if row.protocol == JUDGE]
    rows = [row for row in summary.by_category if row.protocol != JUDGE and row.metric == summary.metrics[-1]]
    rows = [row for row in rows if row.protocol == rows[0].protocol]
    if not judged and not rows:
        return (Text(Both("没有按类别的分数。", "No scores by category."), "warn"),)
    blocks: list[Block] = [_judge_note(inputs) if judged else missing(JUDGE, "按类别的奖励分", "rewards by category")]
    for found in filter(None, (judged, rows)):
        blocks += _category_blocks(inputs, summary, found)
    return tuple(blocks)


_SAME_JUDGE: dict[bool | None, Text] = {
    True: Text(
        Both(
            "评分的奖励模型也筛选了训练数据：它偏好的答案已被选进训练数据，高分不是独立的证据。",
            "The judging reward model also filtered the training records: not independent evidence.",
        ),
        "warn",
    ),
    False: Text(Both("评分的奖励模型没有参与训练数据的筛选。", "The judge is not the model that filtered the training records.")),
    None: Text(
        Both("无法确认评分的奖励模型是否也筛选了训练数据。", "Whether the judge also filtered the training records cannot be told."),
        "warn",
    ),
}


def _judge_note(inputs: Inputs) -> Text:
    """Which reward model judged, and whether it had a say in the training data."""
    said = _SAME_JUDGE[inputs.same_judge()]
    signed = list(inputs.summary.signatures.get(JUDGE, {}).values()) if inputs.summary else []
    fingerprint = inputs.facts(JUDGE).get("reward_fingerprint")
    named = "；".join([*signed, *([f"reward-{fingerprint}"] if fingerprint else [])])
    return msgspec.structs.replace(said, text=Both(f"{said.text.zh}（{named}）" if named else said.text.zh, said.text.en))


def _category_blocks(inputs: Inputs, summary: Summary, rows: Sequence[CategoryMean]) -> Iterator[Block]:
    metric = rows[0].metric
    signatures = signed(summary, rows[0].protocol, metrics=(metric,))
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
        lines.append(Row((*head, *(mean_cell(row) if row else Cell() for row in cells))))
    note = Both(
        f"* 少于 {summary.min_category_size} 题：区间宽，不足为凭；横线为区间", f"* fewer than {summary.min_category_size} questions"
    )
    title = f"{metric} by category"
    judged = rows[0].protocol == JUDGE
    yield Figure(
        Both(f"图 1　各科室的奖励分（{metric}）", f"Figure 1 · {title}")
        if judged
        else Both(f"各科室的 {metric}（{scope(rows[0].protocol)}）", f"{title}, {rows[0].protocol}"),
        Bars(title, tuple(system.series for system in systems), tuple(groups)),
        (note,),
        signatures,
    )
    yield Table(
        Both(f"{'图 1 ' if judged else '上图'}的数据（{metric}）", f"Data of the figure ({metric})"),
        ("类别 / category", "n", *(system.label for system in systems)),
        tuple(lines),
        (note,),
        signatures,
        folded=True,
    )


def ablation(inputs: Inputs) -> tuple[Block, ...]:
    """Figure 2: main − arm, metric by metric."""
    summary = inputs.summary
    if not summary:
        return (missing("evaluate", "图 2（消融）", "figure 2 (ablation)"),)
    arms = [system for system in inputs.systems.values() if system.arm]
    blocks: list[Block] = []
    for arm in arms:
        for rows in grouped(row for row in summary.differences if row.other == arm.name):
            blocks += _arm(summary, arm, rows)
    unscored = [arm for arm in inputs.arms if arm not in {row.other for row in summary.differences}]
    if unscored:
        names = "、".join(unscored)
        blocks.append(Text(Both(f"消融 {names} 没有可比的分数。", f"No comparable scores for arm {names}."), "warn"))
    if not blocks:
        blocks.append(missing("sft@…", "消融（配方中没有 arms）", "ablations (the recipe has no arms)"))
    return tuple(blocks)


def _arm(summary: Summary, arm: System, rows: Sequence[PairedDifference]) -> Iterator[Block]:
    name = scope(rows[0].protocol)
    title = f"{summary.main} − {arm.name} ({rows[0].protocol})"
    effects = tuple(
        Effect(row.metric, estimate := difference(row), TONES[row.verdict] or "even", in_words(estimate, signed=True)) for row in rows
    )
    chart = Forest(title, effects, left=f"{arm.name} 更好", right=f"{summary.main} 更好")
    signatures = signed(summary, rows[0].protocol)
    caption = Both(f"图 2　{summary.main} 减 {arm.name}（{name}，{rows[0].n:,} 题）", f"Figure 2 · {title}, n = {rows[0].n:,}")
    yield Figure(caption, chart, (), signatures)
    columns = ("指标 / metric", "差 / difference", "p", "n", "结论 / verdict")
    lines = tuple(
        Row(
            (
                text(row.metric),
                interval(difference(row), signed=True),
                number(row.p_value, 4),
                count(row.n),
                _said(row),
            )
        )
        for row in rows
    )
    caption = Both(f"图 2 的数据：{title}", f"Data of figure 2, interval at {100 * summary.confidence:g} %")
    yield Table(caption, columns, lines, (), signatures, folded=True)


def _said(row: PairedDifference) -> Cell:
    return text(f"{VERDICTS[row.verdict]} / {row.verdict}", TONES[row.verdict])
