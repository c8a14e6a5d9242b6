"""The report's sections of answers: the browser of questions, and a few of them in print, with every system's answer and its scores."""

from __future__ import annotations

from medchatzh.report.data import Inputs, quote
from medchatzh.report.items import Gathered
from medchatzh.report.scores import REWARD, signed
from medchatzh.report.view import Block, Both, Browser, Reply, Sample, Text, missing

METRICS = ("BLEU-1", "ROUGE-L")
_CHARS = 400


def browser(inputs: Inputs, gathered: Gathered, how_many: int) -> tuple[Block, ...]:
    """The first questions of the draw in the order of the benchmark, to look through."""
    if not gathered.items:
        return (missing("generate@…", "逐题浏览", "the item browser"),)
    drawn = set(list(gathered.items)[:how_many])
    if not drawn:
        return (Text(Both("未收入题目（report.num_items = 0）。", "No questions taken in (report.num_items = 0).")),)
    shown, whole = len(drawn), gathered.num_questions
    notes = []
    if shown < whole:
        zh = f"{whole:,} 题中抽取 {shown:,} 题：各类别轮流抽取，小类别占比因此偏高；未抽到的题可能相差更多"
        notes.append(Both(zh, f"{shown:,} of {whole:,} questions, drawn category by category: small ones have more than their share"))
    notes.append(Both("个人信息已遮盖，过长的文字已截断", "Personal data is masked, long texts are cut"))
    caption = Both(f"逐题浏览（{shown:,} 题）", f"Item browser, {shown:,} questions")
    summary = inputs.summary
    protocols = dict.fromkeys(column.rpartition("/")[0] or column for column in gathered.columns)
    block = Browser(
        caption,
        tuple((system.label, system.kind) for system in gathered.systems),
        gathered.columns,
        {name: signed(summary, "judge" if name == REWARD else name) for name in protocols} if summary else {},
        tuple(gathered.items[key] for key in gathered.order if key in drawn),
        tuple(notes),
    )
    return (block,)


def samples(inputs: Inputs, gathered: Gathered, how_many: int) -> tuple[Block, ...]:
    """The first questions of the draw, without a script."""
    if not gathered.systems:
        return (missing("generate@…", "答案样例", "sample answers"),)
    if not gathered.num_questions:
        return (Text(Both("没有一个系统有答案。", "No system gave an answer."), "warn"),)
    blocks: list[Block] = []
    if "ingest" not in inputs:
        blocks.append(missing("ingest", "参考答案", "reference answers"))
    if empty := [system.label for system in gathered.systems if not gathered.lengths[system.name]]:
        names = "、".join(empty)
        blocks.append(Text(Both(f"没有任何答案的系统：{names}。", f"Systems without any answer: {names}."), "warn"))
    first = inputs.summary.protocols[0] if inputs.summary else ""
    figures = {REWARD: REWARD} | {f"{first}/{name}": name for name in METRICS}
    for item in list(gathered.items.values())[:how_many]:
        replies = []
        for system, answer, scores in zip(gathered.systems, item.answers, item.scores, strict=True):
            if answer is not None:
                numbers = {column: value for column, value in zip(gathered.columns, scores, strict=True) if value is not None}
                shown = {name: numbers[column] for column, name in figures.items() if column in numbers}
                replies.append(Reply(system.label, system.kind, quote(answer, _CHARS), shown))
        references, sampled = (tuple(quote(text, _CHARS) for text in texts) for texts in (item.references, item.sampled))
        blocks.append(Sample(item.id, item.category, quote(item.question, _CHARS), references, sampled, tuple(replies)))
    return tuple(blocks)
