"""What a report says, as data: sections of blocks. The page and the Markdown are two renderings of it; `report.json` is a third."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Literal

import msgspec

from medchatzh.report.charts import Chart, Estimate
from medchatzh.report.quotes import Piece

Tone = Literal["", "good", "bad", "warn"]
MISSING = "—"


class Both(msgspec.Struct, frozen=True):
    """A text in Chinese and in English."""

    zh: str
    en: str = ""

    def __str__(self) -> str:
        return f"{self.zh} / {self.en}" if self.en else self.zh


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a table shows: `text`, under it `sub` (an interval), and the number itself where it is one."""

    text: str = MISSING
    sub: str = ""
    value: float | None = None
    tone: Tone = ""
    best: bool = False


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """`kind` tells whose row it is: the main system's, a floor's, or one copied from the paper."""

    cells: tuple[Cell, ...]
    kind: Literal["", "main", "floor", "copied"] = ""
    group: str = ""
    """Rows of one group compare with each other. They stand together, and the page sorts within them alone."""


class Table(msgspec.Struct, frozen=True, tag="table", omit_defaults=True):
    caption: Both
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[Both, ...] = ()
    signatures: tuple[str, ...] = ()
    """How its scores were made, one line each. A table of scores has them."""
    folded: bool = False
    """The page shows it on request: a figure beside it says the same."""

    def groups(self) -> list[list[Row]]:
        """Neighbouring rows of one group together."""
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: row.group)]

    def numeric(self) -> list[bool]:
        """Which columns hold numbers alone, and so stand to the right."""
        columns = ([row.cells[place] for row in self.rows] for place in range(len(self.columns)))
        shown = ([cell for cell in column if cell.text != MISSING] for column in columns)
        return [bool(cells) and all(cell.value is not None for cell in cells) for cells in shown]


class Figure(msgspec.Struct, frozen=True, tag="figure", omit_defaults=True):
    caption: Both
    chart: Chart
    notes: tuple[Both, ...] = ()
    signatures: tuple[str, ...] = ()


class Text(msgspec.Struct, frozen=True, tag="text", omit_defaults=True):
    text: Both
    tone: Tone = ""


class Points(msgspec.Struct, frozen=True, tag="points"):
    """A list of statements."""

    items: tuple[Text, ...]


class Command(msgspec.Struct, frozen=True, tag="command"):
    """A line for a shell."""

    line: str


class Reply(msgspec.Struct, frozen=True):
    """A system's answer in a sample; `figures` are named numbers about it."""

    system: str
    kind: str
    answer: str
    figures: dict[str, float]


class Sample(msgspec.Struct, frozen=True, tag="sample"):
    """A benchmark question, its own answers, those sampled from other questions, and what the systems said."""

    id: str
    category: str
    question: str
    references: tuple[str, ...]
    sampled: tuple[str, ...]
    replies: tuple[Reply, ...]


class Item(msgspec.Struct, frozen=True):
    """A question of the browser. Answers stand in the order of its systems, None where there is none; so do the rows of scores, whose
    columns are those of the browser."""

    id: str
    category: str
    question: str
    references: tuple[str, ...]
    sampled: tuple[str, ...]
    answers: tuple[str | None, ...]
    lengths: tuple[int | None, ...]
    """Characters of the answers, of which less may be shown."""
    scores: tuple[tuple[float | None, ...], ...]


class Browser(msgspec.Struct, frozen=True, tag="browser"):
    """Questions to look through one by one, to filter, and to sort by the difference of two systems."""

    caption: Both
    systems: tuple[tuple[str, str], ...]
    """(label, kind) of each."""
    columns: tuple[str, ...]
    """`strict/BLEU-1`, `reward`."""
    signatures: dict[str, tuple[str, ...]]
    """Protocol → how its columns were made."""
    items: tuple[Item, ...]
    notes: tuple[Both, ...] = ()


class Side(msgspec.Struct, frozen=True):
    """A quoted text; `label` says which of two it is."""

    label: str
    pieces: tuple[Piece, ...]


class Quote(msgspec.Struct, frozen=True):
    """One record to judge, or two side by side, with what is said of it."""

    head: str
    note: str
    sides: tuple[Side, ...]


class Quotes(msgspec.Struct, frozen=True, tag="quotes"):
    """Records to judge; the page shows them on request."""

    caption: Both
    quotes: tuple[Quote, ...]
    notes: tuple[Both, ...] = ()


class Heading(msgspec.Struct, frozen=True, tag="heading"):
    """A title inside a section."""

    text: Both


Block = Table | Figure | Text | Points | Command | Sample | Browser | Quotes | Heading


class Section(msgspec.Struct, frozen=True):
    key: str
    title: Both
    blocks: tuple[Block, ...]


class Report(msgspec.Struct, frozen=True):
    title: str
    findings: tuple[dict[str, Any], ...]
    """Every comparison of the main system with another one, as numbers."""
    sections: tuple[Section, ...]


def count(value: Any) -> Cell:
    """A whole number with separators."""
    return Cell(f"{int(value):,}", value=value) if isinstance(value, int | float) else Cell()


def number(value: Any, digits: int = 2) -> Cell:
    """A number to `digits` decimals; a dash for anything else."""
    return Cell(decimal(value, digits), value=value) if isinstance(value, int | float) else Cell()


def share(part: float, whole: float) -> Cell:
    return Cell(f"{100 * part / whole:.1f} %", value=part / whole) if whole else Cell()


def interval(estimate: Estimate, digits: int = 2, *, signed: bool = False, tone: Tone = "", best: bool = False, n: int = 2) -> Cell:
    """An estimate over its interval; of a single question (n) nobody knows one."""
    low, high = (decimal(end, digits, signed=signed) for end in (estimate.low, estimate.high))
    shown = decimal(estimate.value, digits, signed=signed)
    return Cell(shown, sub=f"[{low}, {high}]" if n > 1 else MISSING, value=estimate.value, tone=tone, best=best)


def decimal(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a true minus sign, and never minus nought."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def in_words(estimate: Estimate, digits: int = 2, *, signed: bool = False, n: int = 2) -> str:
    """`+1.20 [+0.80, +1.60]`; of a single question the number alone."""
    cell = interval(estimate, digits, signed=signed)
    return f"{cell.text} {cell.sub}" if n > 1 else cell.text


def text(value: Any, tone: Tone = "") -> Cell:
    return Cell(str(value) if value not in (None, "") else MISSING, tone=tone)


def missing(label: str, what_zh: str, what_en: str) -> Text:
    """Says that an input was not given, and what would have stood here."""
    return Text(Both(f"缺少输入 {label}：{what_zh}未显示。", f"Input {label} was not given: {what_en} not shown."), "warn")
