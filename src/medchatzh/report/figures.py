"""The report's sections that redraw the paper's figures: rewards by category (figure 1) and the ablation (figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from medchatzh.metrics.comparison import OTHER
from medchatzh.metrics.summary import JUDGE, CategoryMean, PairedDifference, RewardModel, SeededDifference, Summary
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
    blocks: list[Block] = [*map(_judge_note, summary.judges)] or [missing(JUDGE, "按类别的奖励分", "rewards by category")]
    # A judge that had no say in the training records comes first.
    order = sorted(summary.judges, key=lambda judge: bool(judge.filtered))
    by_judge = ([row for row in judged if row.metric == judge.metric] for judge in order)
    for found in filter(None, (*by_judge, rows)):
        blocks += _category_blocks(inputs, summary, found)
    return tuple(blocks)


_JUDGES: dict[bool | None, Text] = {
    True: Text(
        Both(
            "这个奖励模型也筛选了训练数据：它偏好的答案已被选进训练数据，它的高分不是独立的证据，只有它评分时不作比较；"
            "在配方中加上 [judges.NAME]，由另一个奖励模型评分。",
            "This reward model also filtered the training records: no independent evidence, and no comparison rests on it alone."
            " Add [judges.NAME] to the recipe: another reward model judges beside it.",
        ),
        "warn",
    ),
    False: Text(Both("这个奖励模型没有参与训练数据的筛选。", "This reward model did not filter the training records.")),
    None: Text(
        Both("无法确认这个奖励模型是否也筛选了训练数据。", "Whether this reward model also filtered the training records cannot be told."),
        "warn",
    ),
}


def _judge_note(judge: RewardModel) -> Text:
    """Which reward model judged, and whether it had a say in the training data."""
    said = _JUDGES[judge.filtered]
    name = f"{judge.metric}，{judge.fingerprint}"
    return msgspec.structs.replace(said, text=Both(f"{name}：{said.text.zh}", f"{judge.metric}: {said.text.en}"))


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
    notes = [note] if small else []
    if summary.merged:
        merged = "、".join(f"{name} {size:,}" for name, size in summary.merged.items())
        notes.append(Both(f"{OTHER}：{merged}", "merged, with their questions: each has too few for a row of its own"))
    title = f"{metric} by category"
    judged = rows[0].protocol == JUDGE
    yield Figure(
        Both(f"图 1　各科室的奖励分（{metric}）", f"Figure 1 · {title}")
        if judged
        else Both(f"各科室的 {metric}（{scope(rows[0].protocol)}）", f"{title}, {rows[0].protocol}"),
        Bars(title, tuple(system.series for system in systems), tuple(groups)),
        tuple(notes),
        signatures,
    )
    yield Table(
        Both(f"{'图 1 ' if judged else '上图'}的数据（{metric}）", f"Data of the figure ({metric})"),
        ("类别 / category", "n", *(system.label for system in systems)),
        tuple(lines),
        tuple(notes),
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
        if seeded := [row for row in summary.ablations if row.arm == arm.name]:
            blocks += _seeded(summary, arm, seeded)
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
        Effect(row.metric, estimate := difference(row), TONES[row.verdict] or "even", in_words(estimate, signed=True, n=row.n))
        for row in rows
    )
    chart = Forest(title, effects, left=f"{arm.name} 更好", right=f"{summary.main} 更好")
    signatures = signed(summary, rows[0].protocol)
    caption = Both(f"图 2　{summary.main} 减 {arm.name}（{name}，{rows[0].n:,} 题）", f"Figure 2 · {title}, n = {rows[0].n:,}")
    yield Figure(caption, chart, (), signatures)
    columns = ("指标 / metric", "差 / difference", "p", "p (Holm)", "n", "结论 / verdict")
    lines = tuple(
        Row(
            (
                text(row.metric),
                interval(difference(row), n=row.n, signed=True),
                number(row.p_value, 4),
                number(row.p_holm, 4),
                count(row.n),
                _said(row),
            )
        )
        for row in rows
    )
    caption = Both(f"图 2 的数据：{title}", f"Data of figure 2, interval at {100 * summary.confidence:g} %")
    yield Table(caption, columns, lines, (), signatures, folded=True)


def _seeded(summary: Summary, arm: System, rows: Sequence[SeededDifference]) -> Iterator[Block]:
    """The same with several seeds: what another training of the same two recipes would give."""
    num_seeds = len(rows[0].by_seed)
    title = f"{summary.main} − {arm.name}"
    effects, lines = [], []
    for row in rows:
        estimate = Estimate(row.mean, row.low, row.high)
        tone = "even" if row.low <= 0 <= row.high else "good" if row.mean > 0 else "bad"
        effects.append(Effect(row.metric, estimate, tone, in_words(estimate, signed=True)))
        by_seed = (number(value, 2) for value in row.by_seed)
        lines.append(Row((text(row.metric), interval(estimate, signed=True), *by_seed, count(row.n))))
    protocol = rows[0].protocol
    signatures = signed(summary, *dict.fromkeys(row.protocol for row in rows))
    caption = Both(
        f"图 2（{num_seeds} 个种子）　{title}（{scope(protocol)}）",
        f"Figure 2 over {num_seeds} seeds · {title}, {protocol}: other seeds count",
    )
    note = Both(
        "区间同时计入换题与换种子；未作多重比较校正", "Intervals hold other questions and other seeds; not corrected for their number"
    )
    yield Figure(caption, Forest(title, tuple(effects), left=f"{arm.name} 更好", right=f"{summary.main} 更好"), (note,), signatures)
    columns = ("指标 / metric", "差 / difference", *(f"种子 / seed {number + 1}" for number in range(num_seeds)), "n")
    yield Table(Both(f"上图的数据：{title}", f"Data of the figure: {title}"), columns, tuple(lines), (note,), signatures, folded=True)


def _said(row: PairedDifference) -> Cell:
    return text(f"{VERDICTS[row.verdict]} / {row.verdict}", TONES[row.verdict])
