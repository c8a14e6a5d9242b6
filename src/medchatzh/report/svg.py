"""What every drawing is made of: SVG text, rules, ticks, a scale. Every text is escaped."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import msgspec

WIDTH = 760
"""Width of a drawing in user units, which are CSS pixels at full size."""
_FONT = 12.0
_LINE = 18.0


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def text_width(text: str, size: float = _FONT) -> float:
    """Width of a text in about: hanzi are square, the rest a little over half as wide."""
    return sum(size if unicodedata.east_asian_width(character) in "WF" else size * 0.57 for character in text)


class Scale:
    """A linear map from values to user units."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = (low, high) if high > low else (low - 0.5, low + 0.5)
        self._start, self._factor = start, (end - start) / (self.high - self.low)

    def __call__(self, value: float) -> float:
        return self._start + (value - self.low) * self._factor


class Series(msgspec.Struct, frozen=True):
    """A line of the legend. `tone` is the CSS class of its marks."""

    name: str
    tone: str


def legend(series: Iterable[Series], left: float) -> tuple[list[str], float]:
    """The legend's marks, and where the drawing may begin below it."""
    parts: list[str] = []
    x, y = left, 14.0
    for entry in series:
        needed = text_width(entry.name) + 30
        if x > left and x + needed > WIDTH:
            x, y = left, y + _LINE
        parts.append(f'<rect class={quoteattr("bar " + entry.tone)} x="{x:.2f}" y="{y - 9:.2f}" width="11" height="11" rx="2"/>')
        parts.append(text(x + 16, y, entry.name))
        x += needed
    return parts, y + 10


def grid(scale: Scale, top: float, bottom: float) -> Iterator[str]:
    for value in ticks(scale.low, scale.high, 7):
        yield rule(scale(value), top, scale(value), bottom, "grid")
        yield text(scale(value), bottom + 16, figure(value), anchor="middle", css="quiet")


def figure(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def rule(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class={quoteattr(css)} x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", css: str = "") -> str:
    return f'<text class={quoteattr(css)} x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(words)}</text>'


def document(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(title)} viewBox="0 0 {WIDTH} {height:.0f}"'
    return f'{head} width="{WIDTH}" height="{height:.0f}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
