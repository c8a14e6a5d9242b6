"""Charts as SVG text: bars, forest plot, lines, flow. Pure functions of small specs; the page's CSS gives the colours.

Every text is escaped. Classes name the role of a mark (`main`, `s1`, `floor1`, `good` …), so that light and dark need one drawing.
"""

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


class Series(msgspec.Struct, frozen=True):
    """A line of the legend. `tone` is the CSS class of its marks."""

    name: str
    tone: str


class Estimate(msgspec.Struct, frozen=True):
    """A value with its interval."""

    value: float
    low: float
    high: float


class Group(msgspec.Struct, frozen=True):
    """The bars of one category: one estimate (or None) for each series."""

    label: str
    bars: tuple[Estimate | None, ...]
    faded: bool = False


class Bars(msgspec.Struct, frozen=True, tag="bars"):
    """Grouped horizontal bars with whiskers, from a common zero."""

    title: str
    series: tuple[Series, ...]
    groups: tuple[Group, ...]


class Effect(msgspec.Struct, frozen=True):
    """A row of a forest plot; `text` stands at its right end."""

    label: str
    estimate: Estimate
    tone: str
    text: str


class Forest(msgspec.Struct, frozen=True, tag="forest"):
    """Estimates and intervals against a line of no effect."""

    title: str
    effects: tuple[Effect, ...]
    neutral: float = 0.0
    left: str = ""
    right: str = ""


class Line(msgspec.Struct, frozen=True):
    """A polyline. `faint` lines (raw values) stand behind and are left out of the legend."""

    name: str
    tone: str
    points: tuple[tuple[float, float], ...]
    faint: bool = False


class Lines(msgspec.Struct, frozen=True, tag="lines"):
    """Curves over a common axis; `marks` are vertical lines with a label."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    marks: tuple[tuple[float, str], ...] = ()


class Band(msgspec.Struct, frozen=True):
    """One pool's count at each column of a flow; None where it is unknown."""

    name: str
    tone: str
    counts: tuple[int | None, ...]


class Flow(msgspec.Struct, frozen=True, tag="flow"):
    """Bands that thin from column to column as records are dropped."""

    title: str
    columns: tuple[str, ...]
    bands: tuple[Band, ...]


Chart = Bars | Forest | Lines | Flow


def draw(chart: Chart) -> str:
    """The SVG of any chart."""
    match chart:
        case Bars():
            return grouped_bars(chart)
        case Forest():
            return forest(chart)
        case Lines():
            return lines(chart)
        case Flow():
            return flow(chart)


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


def grouped_bars(chart: Bars) -> str:
    bars = [bar for group in chart.groups for bar in group.bars if bar]
    low = min([0.0, *(bar.low for bar in bars)])
    high = max([0.0, *(bar.high for bar in bars)])
    left = 14 + min(200.0, max((text_width(group.label) for group in chart.groups), default=0.0))
    scale = _Scale(low, high, left, WIDTH - 24)
    legend, top = _legend(chart.series, left)
    thick, gap = 9.0, 12.0
    block = thick * len(chart.series) + gap
    bottom = top + block * len(chart.groups)
    parts = [*legend, *_grid(scale, top, bottom)]
    for number, group in enumerate(chart.groups):
        start = top + number * block + gap / 2
        middle = start + thick * len(chart.series) / 2
        parts.append(_text(left - 8, middle + 4, group.label, anchor="end", css="small" if group.faded else ""))
        for place, (series, bar) in enumerate(zip(chart.series, group.bars, strict=True)):
            if bar:
                parts += _bar(scale, start + place * thick, thick - 1.5, bar, series, f"{group.label} · {series.name}", group.faded)
    parts.append(_rule(scale(0), top, scale(0), bottom, "axis"))
    return _svg(chart.title, bottom + 26, parts)


def _bar(scale: _Scale, y: float, height: float, bar: Estimate, series: Series, label: str, faded: bool) -> Iterator[str]:
    start, end = sorted((scale(0), scale(bar.value)))
    tip = f"<title>{escape(label)}: {bar.value:.3f} [{bar.low:.3f}, {bar.high:.3f}]</title>"
    css = f"bar {series.tone}" + (" faded" if faded else "")
    yield f'<rect class={quoteattr(css)} x="{start:.2f}" y="{y:.2f}" width="{end - start:.2f}" height="{height:.2f}">{tip}</rect>'
    yield _rule(scale(bar.low), y + height / 2, scale(bar.high), y + height / 2, "whisker")


def forest(chart: Forest) -> str:
    ends = [end for effect in chart.effects for end in (effect.estimate.low, effect.estimate.high)]
    reach = max((abs(end - chart.neutral) for end in ends), default=1.0) or 1.0
    left = 14 + max((text_width(effect.label) for effect in chart.effects), default=0.0)
    right = 14 + max((text_width(effect.text) for effect in chart.effects), default=0.0)
    scale = _Scale(chart.neutral - reach, chart.neutral + reach, left, WIDTH - right)
    row, top = 24.0, 26.0
    bottom = top + row * len(chart.effects)
    parts = list(_grid(scale, top, bottom))
    parts.append(_rule(scale(chart.neutral), top, scale(chart.neutral), bottom, "axis"))
    parts.append(_text(scale(chart.neutral) - 8, top - 8, f"← {chart.left}" if chart.left else "", anchor="end", css="quiet"))
    parts.append(_text(scale(chart.neutral) + 8, top - 8, f"{chart.right} →" if chart.right else "", css="quiet"))
    for number, effect in enumerate(chart.effects):
        y = top + (number + 0.5) * row
        estimate = effect.estimate
        parts.append(_text(left - 10, y + 4, effect.label, anchor="end"))
        parts.append(_rule(scale(estimate.low), y, scale(estimate.high), y, f"interval {effect.tone}"))
        parts.append(f'<circle class={quoteattr("dot " + effect.tone)} cx="{scale(estimate.value):.2f}" cy="{y:.2f}" r="4.5"/>')
        parts.append(_text(WIDTH - 4, y + 4, effect.text, anchor="end", css="number"))
    return _svg(chart.title, bottom + 26, parts)


def lines(chart: Lines) -> str:
    drawn = [msgspec.structs.replace(line, points=tuple(filter(_finite, line.points))) for line in chart.lines]
    points = [point for line in drawn for point in line.points] or [(0.0, 0.0)]
    xs, ys = [x for x, _ in points] + [x for x, _ in chart.marks], [y for _, y in points]
    legend, top = _legend([Series(line.name, line.tone) for line in drawn if not line.faint], 56)
    height = 250.0
    across = _Scale(*_padded(min(xs), max(xs), 0), 56, WIDTH - 20)
    up = _Scale(*_padded(min(ys), max(ys), 0.05), top + height, top + 12)
    parts = [*legend, *_grid(across, top + 12, top + height)]
    for tick in ticks(up.low, up.high, 7):
        parts += [_rule(56, up(tick), WIDTH - 20, up(tick), "grid"), _text(50, up(tick) + 4, _tick(tick), anchor="end", css="quiet")]
    for line in sorted(drawn, key=lambda line: not line.faint):
        css = f"line {line.tone}" + (" faint" if line.faint else "")
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline class={quoteattr(css)} points="{path}"/>')
        if len(line.points) == 1:
            parts.append(f'<circle class={quoteattr("dot " + line.tone)} cx="{path.split(",")[0]}" cy="{path.split(",")[1]}" r="3"/>')
    for x, label in chart.marks:
        parts += [_rule(across(x), top + 12, across(x), top + height, "mark"), _text(across(x) + 6, top + 24, label)]
    parts.append(_text(56, top + 6, chart.y_label, css="quiet"))
    parts.append(_text(WIDTH - 20, top + height + 36, chart.x_label, anchor="end", css="quiet"))
    return _svg(chart.title, top + height + 44, parts)


def flow(chart: Flow) -> str:
    most = sum(max((count or 0 for count in band.counts), default=0) for band in chart.bands) or 1
    unit = 210.0 / most
    left, node = 110.0, 12.0
    pitch = (WIDTH - left - 90) / max(1, len(chart.columns) - 1)
    xs = [left + number * pitch for number in range(len(chart.columns))]
    parts = [_text(x + node / 2, 18, label, anchor="middle") for x, label in zip(xs, chart.columns, strict=True)]
    top = 46.0
    for band in chart.bands:
        tall = max((count or 0 for count in band.counts), default=0) * unit
        parts.append(_text(left - 12, top + max(tall, 2.0) / 2 + 4, band.name, anchor="end", css="strong"))
        for number, count in enumerate(band.counts):
            if count is None:
                continue
            height = count * unit
            if number + 1 < len(band.counts) and (kept := band.counts[number + 1]) is not None:
                parts += _ribbon(xs[number] + node, xs[number + 1], top, height, min(kept, count) * unit, band.tone, count - kept)
            parts.append(
                f'<rect class={quoteattr("node " + band.tone)} x="{xs[number]:.2f}" y="{top:.2f}" width="{node}" height="{height:.2f}"/>'
            )
            parts.append(_text(xs[number] + node / 2, top - 5, f"{count:,}", anchor="middle", css="number"))
        top += max(tall, 14.0) + 46
    return _svg(chart.title, top - 8, parts)


def _ribbon(start: float, end: float, top: float, height: float, kept: float, tone: str, lost: int) -> Iterator[str]:
    """What is kept flows straight on at the top; what is dropped falls away below."""
    yield f'<path class={quoteattr("ribbon " + tone)} d="M{start:.2f},{top:.2f}H{end:.2f}v{kept:.2f}H{start:.2f}z"/>'
    if lost <= 0:
        return
    fall = start + (end - start) * 0.34
    upper, lower = top + kept, top + height
    bend = (start + fall) / 2
    yield (
        f'<path class="dropped" d="M{start:.2f},{upper:.2f}C{bend:.2f},{upper:.2f} {fall:.2f},{upper:.2f} {fall:.2f},{lower + 12:.2f}'
        f'L{fall - 6:.2f},{lower + 12:.2f}C{fall - 6:.2f},{lower:.2f} {bend:.2f},{lower:.2f} {start:.2f},{lower:.2f}z"/>'
    )
    yield _text(fall + 4, lower + 13, f"−{lost:,}", css="loss")


class _Scale:
    """A linear map from values to user units."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = (low, high) if high > low else (low - 0.5, low + 0.5)
        self._start, self._factor = start, (end - start) / (self.high - self.low)

    def __call__(self, value: float) -> float:
        return self._start + (value - self.low) * self._factor


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    margin = (high - low) * share
    return low - margin, high + margin


def _finite(point: tuple[float, float]) -> bool:
    return all(map(math.isfinite, point))


def _legend(series: Iterable[Series], left: float) -> tuple[list[str], float]:
    """The legend's marks, and where the drawing may begin below it."""
    parts: list[str] = []
    x, y = left, 14.0
    for entry in series:
        needed = text_width(entry.name) + 30
        if x > left and x + needed > WIDTH:
            x, y = left, y + _LINE
        parts.append(f'<rect class={quoteattr("bar " + entry.tone)} x="{x:.2f}" y="{y - 9:.2f}" width="11" height="11" rx="2"/>')
        parts.append(_text(x + 16, y, entry.name))
        x += needed
    return parts, y + 10


def _grid(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for tick in ticks(scale.low, scale.high, 7):
        yield _rule(scale(tick), top, scale(tick), bottom, "grid")
        yield _text(scale(tick), bottom + 16, _tick(tick), anchor="middle", css="quiet")


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _rule(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class={quoteattr(css)} x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", css: str = "") -> str:
    return f'<text class={quoteattr(css)} x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(title)} viewBox="0 0 {WIDTH} {height:.0f}"'
    return f'{head} width="{WIDTH}" height="{height:.0f}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
