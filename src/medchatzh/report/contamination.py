"""The report's section on what the training mix knows of the benchmark: its overlap by category, and the scores on the clean part."""

from __future__ import annotations

from medchatzh.contamination import CategoryOverlap
from medchatzh.metrics.summary import JUDGE, Summary
from medchatzh.report.data import Inputs
from medchatzh.report.scores import mean_cell, scope, signed
from medchatzh.report.view import Block, Both, Cell, Row, Table, Text, count, missing, share, text


def contamination(inputs: Inputs) -> tuple[Block, ...]:
    summary = inputs.summary
    if not summary or not summary.overlap:
        return (missing("overlap", "训练数据与评测集的重叠", "the overlap of the training mix with the benchmark"),)
    whole = summary.overlap[0]
    if not whole.num_questions:
        return (Text(Both("没有给出训练数据，未检查重叠。", "No training mix was given: the overlap is not checked."), "warn"),)
    found = whole.num_questions - whole.num_clean
    said = Both(
        f"训练集里找到了 {found:,} 题（共 {whole.num_questions:,} 题）的原文、包含或近似文本；只统计进入训练的记录，清洗已删去的不在内。",
        f"The training mix holds {found:,} of {whole.num_questions:,} questions or their answers: equal, contained or near."
        " Only records that were trained on count; what curation took out is not among them.",
    )
    blocks: list[Block] = [Text(said, "warn" if found else "good"), _overlap(summary.overlap)]
    for protocol in dict.fromkeys(row.protocol for row in summary.clean):
        blocks.append(_clean(inputs, summary, protocol))
    return tuple(blocks)


def _overlap(rows: tuple[CategoryOverlap, ...]) -> Table:
    counts = ("题 / questions", "干净 / clean", "相同 / exact", "包含 / contained", "近似 / near")
    columns = ("类别 / category", *counts, "题 n-gram", "答 n-gram")
    lines = []
    for row in rows:
        numbers = (row.num_questions, row.num_clean, row.exact, row.contained, row.near)
        shares = (share(row.question_share, 1), share(row.answer_share, 1))
        lines.append(Row((text(row.category or "全部 / all"), *map(count, numbers), *shares)))
    note = Both(
        "n-gram：题目与答案的 13 字片段中，出现在训练集里的平均比例",
        "n-gram: of the 13-character pieces of questions and answers, the mean share that stands anywhere in the training mix",
    )
    return Table(Both("训练集与评测集的重叠", "Overlap of the training mix with the benchmark"), columns, tuple(lines), (note,))


def _clean(inputs: Inputs, summary: Summary, protocol: str) -> Table:
    """The means on the clean part, and below each the mean over all questions."""
    clean, whole = ({(row.system, row.metric): row for row in rows if row.protocol == protocol} for rows in (summary.clean, summary.means))
    metrics = tuple(dict.fromkeys(metric for _, metric in clean))
    rows = []
    for system in dict.fromkeys(system for system, _ in clean):
        known = inputs.system(system)
        for part, means in (("干净 / clean", clean), ("全部 / all", whole)):
            found = [means.get((system, metric)) for metric in metrics]
            n = max((row.n for row in found if row), default=0)
            cells = (mean_cell(row) if row else Cell() for row in found)
            rows.append(Row((text(known.label), text(part), count(n), *cells), known.kind, system))
    name = scope(JUDGE) if protocol == JUDGE else scope(protocol)
    caption = Both(f"只用训练集不认识的题（{name}）", f"Scores on the clean part beside the whole ({protocol})")
    return Table(caption, ("系统 / system", "题 / questions", "n", *metrics), tuple(rows), (), signed(summary, protocol, metrics=metrics))
