"""The report's section on training: loss curves, held-out figures, the reward model against a length baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medchatzh.report.charts import Effect, Estimate, Forest, Line, Lines
from medchatzh.report.data import Inputs
from medchatzh.report.view import (
    Block,
    Both,
    Figure,
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

Points = Sequence[tuple[float, float]]

MAX_POINTS = 300
"""Points drawn of a curve; more would not show at the width of a page."""
_PLACES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
_TITLES = {"pretrain": "继续预训练", "reward": "奖励模型", "sft": "微调", "dpo": "直接偏好优化"}
_OPTIONAL = ("dpo",)
_DEFECTS = {
    "repeated": "重复 / repeated", "cut": "截断 / cut", "off_topic": "答非所问 / off topic", "empty": "空洞客套 / empty politeness",
    "shuffled": "乱序 / shuffled", "echoed": "重复问题 / question handed back",
}  # fmt: skip


def smooth(points: Points) -> list[tuple[float, float]]:
    """Centred running mean over a twentieth of the curve; the ends use what there is."""
    half = len(points) // 40
    totals = [0.0]
    for _, value in points:
        totals.append(totals[-1] + value)
    smoothed = []
    for place, (step, _) in enumerate(points):
        start, stop = max(0, place - half), min(len(points), place + half + 1)
        smoothed.append((step, (totals[stop] - totals[start]) / (stop - start)))
    return smoothed


def thin(points: Points, limit: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most about `limit` points at equal distance, the first and the last among them."""
    stride = max(1, math.ceil(len(points) / limit))
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def curves(inputs: Inputs) -> tuple[Block, ...]:
    blocks: list[Block] = []
    table: list[Row] = []
    for stage, title in _TITLES.items():
        labels = [stage, *(f"sft@{arm}" for arm in inputs.arms if stage == "sft")]
        if stage not in inputs and stage not in _OPTIONAL:
            blocks.append(missing(stage, "损失曲线", "its loss curve"))
        logs = {label: log for label in labels if (log := inputs.log(label))}
        if logs:
            blocks.append(_loss_figure(inputs, stage, title, logs))
            table += [_loss_row(label, log) for label, log in logs.items()]
        elif stage in inputs:
            blocks.append(Text(Both(f"{stage} 没有留下损失记录。", f"{stage} left no loss log."), "warn"))
    if table:
        columns = ("阶段 / stage", *(f"{place:.0%}" for place in _PLACES))
        blocks.append(Table(Both("平滑后的训练损失，按进度", "Smoothed training loss by progress"), columns, tuple(table), folded=True))
    blocks += _held_out(inputs)
    blocks += _accuracy(inputs)
    return tuple(blocks)


def _loss_figure(inputs: Inputs, stage: str, title: str, logs: Mapping[str, Points]) -> Figure:
    lines = []
    for label, log in logs.items():
        arm = label.partition("@")[2]
        tone = inputs.system(arm).tone if arm else "main"
        lines += [Line(label, tone, tuple(thin(log)), faint=True), Line(label, tone, tuple(thin(smooth(log))))]
    note = Both("细线为每步的值，粗线为滑动平均（全程的二十分之一）", "Thin: each step; thick: running mean over a twentieth of the run")
    chart = Lines(f"{stage}: training loss", "步 / step", "损失 / loss", tuple(lines))
    return Figure(Both(f"{title}的训练损失", f"Training loss, {stage}"), chart, (note,))


def _loss_row(label: str, log: Points) -> Row:
    smoothed = smooth(log)
    places = (smoothed[round(place * (len(smoothed) - 1))][1] for place in _PLACES)
    return Row((text(label), *(number(value, 3) for value in places)))


def _held_out(inputs: Inputs) -> Iterator[Block]:
    rows = []
    for label in inputs.manifests:
        if label.partition("@")[0] not in _TITLES:
            continue
        facts = inputs.facts(label)
        nats = facts.get("held_out_loss")
        perplexity = math.exp(nats) if isinstance(nats, int | float) and nats < 50 else None
        counts = (count(facts.get(key)) for key in ("num_parameters", "num_steps", "num_tokens"))
        losses = (number(facts.get(key), 3) for key in ("loss_first", "loss_last", "held_out_loss"))
        split = facts.get("num_split_documents", facts.get("num_split_dialogues"))
        too_long = facts.get("num_exchanges_too_long", facts.get("num_answers_too_long"))
        others = (number(perplexity), number(facts.get("held_out_bits_per_char"), 3), count(split), count(too_long))
        rows.append(Row((text(label), *counts, *losses, *others)))
    if not rows:
        return
    columns = (
        "阶段 / stage", "参数 / parameters", "步 / steps", "词元 / tokens", "首步损失 / first", "末段损失 / last", "留出损失 / held out",
        "困惑度 / perplexity", "比特/字 / bits per char", "拆分 / split", "过长 / too long",
    )  # fmt: skip
    notes = (
        Both(
            "各阶段的损失不是同一回事：文本、答案、偏好对",
            "Losses of different stages measure different things: text, answers, preference pairs",
        ),
        Both("奖励模型的留出表现见下表；拆分与过长是长度限制的代价", "Split and too long: what the length limit cost"),
    )
    yield Table(Both("训练概况与留出数据", "Training and held-out figures"), columns, tuple(rows), notes)


def _accuracy(inputs: Inputs) -> Iterator[Block]:
    held_out = inputs.facts("reward").get("held_out")
    if not isinstance(held_out, dict) or not held_out:
        if "reward" in inputs:
            yield Text(Both("奖励模型没有留出的偏好对，准确率未知。", "The reward model has no held-out pairs: accuracy unknown."), "warn")
        return
    effects: list[Effect] = []
    rows = []
    for source, measured in held_out.items():
        for name, label, tone in (("model", "奖励模型", "main"), ("length", "长者胜", "floor1")):
            found = measured.get(name) or {}
            estimate = _estimate(found)
            if estimate is None:
                continue
            effects.append(Effect(f"{source} · {label}", estimate, tone, in_words(estimate, 3)))
            counts = (count(found.get("num_pairs")), count(found.get("num_groups")))
            rows.append(Row((text(source), text(f"{label} / {name}"), interval(estimate, 3), *counts), "" if name == "model" else "floor"))
    if not rows:
        return
    chart = Forest("held-out pair accuracy", tuple(effects), neutral=0.5, left="不如抛硬币", right="胜过抛硬币")
    caption = Both("奖励模型的留出准确率与长度基线", "Held-out pair accuracy against the length baseline")
    yield Figure(caption, chart, (Both("竖线 0.5：抛硬币；区间按病例重采样", "Line at 0.5: a coin; intervals resample cases, not pairs"),))
    columns = ("来源 / source", "判断者 / judge", "准确率 / accuracy", "对数 / pairs", "组 / groups")
    yield Table(Both("奖励模型的留出准确率：数字", "The same as numbers"), columns, tuple(rows), folded=True)
    yield from _against_length(held_out.get("all") or {})
    yield from _calibration(held_out)
    yield from _defects(inputs.facts("reward").get("defects") or {})


def _against_length(measured: Mapping[str, Any]) -> Iterator[Block]:
    ahead = _estimate(measured.get("above_length") or {}, "difference")
    if not ahead:
        return
    if ahead.low > 0:
        zh, en, tone = "奖励模型胜过“长者胜”：它知道的不只是长度。", "The reward model beats preferring the longer answer.", "good"
    elif ahead.high < 0:
        zh, en, tone = "奖励模型不如“长者胜”。", "The reward model is worse than preferring the longer answer.", "bad"
    else:
        zh, en, tone = (
            "奖励模型与“长者胜”无法区分：它可能只学会了长度。",
            "The reward model cannot be told from preferring the longer answer.",
            "warn",
        )
    difference = f"{ahead.value:+.3f} [{ahead.low:+.3f}, {ahead.high:+.3f}]"
    said: Tone = tone  # type: ignore[assignment]
    yield Text(Both(f"{zh}（同样的对，准确率差 {difference}）", f"{en} (Same pairs, difference of accuracy {difference}.)"), said)


def _calibration(held_out: Mapping[str, Any]) -> Iterator[Block]:
    """How sure the model is of a pair, against how often it is right."""
    rows, lines = [], [Line("如其所言 / as said", "floor1", ((0.5, 0.5), (1.0, 1.0)))]
    for source, measured in held_out.items():
        curve = measured.get("curve")
        if not curve:
            continue
        if source == "all":
            lines.append(Line(source, "main", tuple((said, right) for said, right, _ in curve)))
        numbers = (number(measured.get(key), 3) for key in ("ece", "ece_by_chance", "temperature"))
        rows.append(Row((text(source), *numbers, count(sum(each[2] for each in curve)))))
    if not rows:
        return
    chart = Lines("calibration of pairs", "自称的把握 / probability said", "实际正确率 / share right", tuple(lines))
    notes = (Both("把握 = σ(分差/温度)；温度取自另一半病例，每点对数相同", "Said: σ(difference / temperature), fitted on the other half"),)
    yield Figure(Both("奖励模型的校准", "Calibration of the reward model"), chart, notes)
    columns = ("来源 / source", "ECE", "纯属偶然 / by chance", "温度 / temperature", "对数 / pairs")
    chance = Both(
        "“纯属偶然”：每个概率都说得准的模型，在这么多对上平均也有这么大的 ECE",
        "By chance: what a model whose every probability is true would show on so many pairs",
    )
    yield Table(Both("期望校准误差", "Expected calibration error"), columns, tuple(rows), (chance,))


def _defects(found: Mapping[str, Any]) -> Iterator[Block]:
    rows = []
    for kind, measured in found.items():
        estimate = _estimate(measured)
        if estimate:
            is_taught = "教过 / taught" if measured.get("taught") else "没教过 / never taught"
            rows.append(Row((text(_DEFECTS.get(kind, kind)), interval(estimate, 3), count(measured.get("num_pairs")), text(is_taught))))
    if rows:
        columns = ("缺陷 / defect", "原答案得分更高 / answer above it", "对数 / pairs", "训练 / training")
        caption = Both("人为损坏的答案：奖励模型把原答案排在前面的比例", "Planted defects: answers scored above their damaged form")
        yield Table(caption, columns, tuple(rows))


def _estimate(found: Mapping[str, Any], value: str = "accuracy") -> Estimate | None:
    values = [found.get(key) for key in (value, "low", "high")]
    return Estimate(*values) if all(isinstance(value, int | float) for value in values) else None  # type: ignore[arg-type]
