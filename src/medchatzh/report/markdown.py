"""The report as Markdown, without pictures: every figure has its table. Whatever is quoted is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from medchatzh.report.quotes import Piece
from medchatzh.report.view import Block, Both, Browser, Cell, Command, Figure, Heading, Points, Quotes, Report, Row, Sample, Table, Text

_MARKS = {"good": "✓ ", "bad": "✗ ", "warn": "⚠ ", "": ""}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def escape(text: str) -> str:
    """The text as Markdown shows it literally, on one line: no markup, no HTML, no table bars."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def render(report: Report) -> str:
    lines = [f"# {escape(report.title)}", ""]
    for number, section in enumerate(report.sections, 1):
        lines += [f"## {number}. {_both(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _both(text: Both) -> str:
    return escape(str(text))


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield f"> {_sentence(block)}" if block.tone else _sentence(block)
        case Points():
            yield from (f"- {_sentence(item)}" for item in block.items)
        case Command():
            # A fence longer than any run of backquotes inside.
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.line)), default=0))
            yield from (f"{fence}sh", block.line, fence)
        case Table():
            yield from _table(block)
        case Figure():
            yield f"*{_both(block.caption)}*（图见 / chart in report.html）"
        case Sample():
            yield from _sample(block)
        case Browser():
            yield f"*{_both(block.caption)}*（report.html 可浏览，report.json 有全部 / to look through in report.html, all in report.json）"
            yield from _small(map(_both, block.notes))
        case Quotes():
            yield from _quotes(block)
        case Heading():
            yield f"### {_both(block.text)}"


def _sentence(item: Text) -> str:
    return _MARKS[item.tone] + _both(item.text)


def _table(table: Table) -> Iterator[str]:
    yield f"**{_both(table.caption)}**"
    yield ""
    yield "| " + " | ".join(map(escape, table.columns)) + " |"
    yield "|" + "|".join("---:" if right else "---" for right in table.numeric()) + "|"
    yield from ("| " + " | ".join(_cell(cell, row) for cell in row.cells) + " |" for row in table.rows)
    yield from _small(map(_both, table.notes))
    yield from _small(map(escape, table.signatures))


def _small(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield ""
        yield f"<sub>{line}</sub>"


def _cell(cell: Cell, row: Row) -> str:
    shown = escape(cell.text) + ("\\*" if cell.best else "")
    shown = f"*{shown}*" if row.kind == "copied" else f"**{shown}**" if row.kind == "main" and cell is row.cells[0] else shown
    return f"{shown} {escape(cell.sub)}" if cell.sub else shown


def _quotes(block: Quotes) -> Iterator[str]:
    yield f"<details><summary>{html.escape(str(block.caption))}</summary>"  # inside HTML, where no backslash escapes
    yield ""
    for note in block.notes:
        yield f"<sub>{_both(note)}</sub>"
        yield ""
    for quote in block.quotes:
        yield f"- **{escape(quote.head)}** {escape(quote.note)}".rstrip()
        for side in quote.sides:
            label = f"{escape(side.label)}：" if side.label else ""
            yield f"  - {label}{''.join(map(_piece, side.pieces))}"
    yield ""
    yield "</details>"


def _piece(piece: Piece) -> str:
    """Marked text in `【】`: bold type breaks on hanzi and punctuation."""
    shown = escape(piece.text)
    return f"【{shown}】" if piece.marked else shown


def _sample(sample: Sample) -> Iterator[str]:
    yield f"### {escape(sample.category or sample.id)}"
    yield ""
    yield f"**问 / question**（{escape(sample.id)}）：{escape(sample.question)}"
    for label, texts in (("参考 / reference", sample.references), ("抽样 / sampled", sample.sampled)):
        for text in texts:
            yield ""
            yield f"**{label}**：{escape(text)}"
    yield ""
    names = list(dict.fromkeys(name for reply in sample.replies for name in reply.figures))
    yield "| " + " | ".join(["系统 / system", *names, "答案 / answer"]) + " |"
    yield "|" + "|".join(["---", *("---:" for _ in names), "---"]) + "|"
    for reply in sample.replies:
        figures = (f"{reply.figures[name]:.2f}" if name in reply.figures else "—" for name in names)
        yield "| " + " | ".join([escape(reply.system), *figures, escape(reply.answer) or "（空 / empty）"]) + " |"
