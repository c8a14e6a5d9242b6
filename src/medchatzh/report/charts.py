"""Charts as SVG text: bars, histogram, forest plot, lines, flow. Pure functions of small specs; the page's CSS gives the colours.

Every text is escaped. Classes name the role of a mark (`main`, `s1`, `floor1`, `good` …), so that light and dark need one drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

import msgspec

from medchatzh.report import svg
from medchatzh.report.flow import Flow, flow
from medchatzh.report.svg import Series


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


class Histogram(msgspec.Struct, frozen=True, tag="histogram"):
    """Counts before and after, bin by bin, as standing bars: the pale one is what there was, the full one what was kept."""

    title: str
    x_label: str
    labels: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    names: tuple[str, str]
    tone: str


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


Chart = Bars | Histogram | Forest | Lines | Flow


def draw(chart: Chart) -> str:
    """The SVG of any chart."""
    match chart:
        case Bars():
            return grouped_bars(chart)
        case Histogram():
            return histogram(chart)
        case Forest():
            return forest(chart)
        case Lines():
            return lines(chart)
        case Flow():
            return flow(chart)


def grouped_bars(chart: Bars) -> str:
    bars = [bar for group in chart.groups for bar in group.bars if bar]
    low = min([0.0, *(bar.low for bar in bars)])
    high = max([0.0, *(bar.high for bar in bars)])
    left = 14 + min(200.0, max((svg.text_width(group.label) for group in chart.groups), default=0.0))
    scale = svg.Scale(low, high, left, svg.WIDTH - 24)
    legend, top = svg.legend(chart.series, left)
    thick, gap = 9.0, 12.0
    block = thick * len(chart.series) + gap
    bottom = top + block * len(chart.groups)
    parts = [*legend, *svg.grid(scale, top, bottom)]
    for number, group in enumerate(chart.groups):
        start = top + number * block + gap / 2
        middle = start + thick * len(chart.series) / 2
        parts.append(svg.text(left - 8, middle + 4, group.label, anchor="end", css="small" if group.faded else ""))
        for place, (series, bar) in enumerate(zip(chart.series, group.bars, strict=True)):
            if bar:
                parts += _bar(scale, start + place * thick, thick - 1.5, bar, series, f"{group.label} · {series.name}", group.faded)
    parts.append(svg.rule(scale(0), top, scale(0), bottom, "axis"))
    return svg.document(chart.title, bottom + 26, parts)


def _bar(scale: svg.Scale, y: float, height: float, bar: Estimate, series: Series, label: str, faded: bool) -> Iterator[str]:
    start, end = sorted((scale(0), scale(bar.value)))
    tip = f"<title>{escape(label)}: {bar.value:.3f} [{bar.low:.3f}, {bar.high:.3f}]</title>"
    css = f"bar {series.tone}" + (" faded" if faded else "")
    yield f'<rect class={quoteattr(css)} x="{start:.2f}" y="{y:.2f}" width="{end - start:.2f}" height="{height:.2f}">{tip}</rect>'
    yield svg.rule(scale(bar.low), y + height / 2, scale(bar.high), y + height / 2, "whisker")


def histogram(chart: Histogram) -> str:
    left, right, height = 70.0, svg.WIDTH - 20, 190.0
    legend, top = svg.legend([Series(name, tone) for name, tone in zip(chart.names, ("floor2", chart.tone), strict=True)], left)
    top += 16
    up = svg.Scale(0, max((*chart.before, *chart.after, 1)), top + height, top)
    slot = (right - left) / max(1, len(chart.labels))
    parts = list(legend)
    for tick in svg.ticks(up.low, up.high):
        parts += [
            svg.rule(left, up(tick), right, up(tick), "grid"),
            svg.text(left - 6, up(tick) + 4, f"{tick:,.0f}", anchor="end", css="quiet"),
        ]
    for number, (label, before, after) in enumerate(zip(chart.labels, chart.before, chart.after, strict=True)):
        x = left + number * slot
        tip = f"<title>{escape(label)}: {before:,} → {after:,}</title>"
        for count, tone, inset in ((before, "floor2", 0.12), (after, chart.tone, 0.24)):
            width = slot * (1 - 2 * inset)
            parts.append(
                f'<rect class={quoteattr("bar " + tone)} x="{x + slot * inset:.2f}" y="{up(count):.2f}" width="{width:.2f}"'
                f' height="{up(0) - up(count):.2f}">{tip}</rect>'
            )
        parts.append(svg.text(x + slot / 2, top + height + 16, label, anchor="middle", css="quiet"))
    parts += [svg.rule(left, up(0), right, up(0), "axis"), svg.text(right, top + height + 34, chart.x_label, anchor="end", css="quiet")]
    return svg.document(chart.title, top + height + 42, parts)


def forest(chart: Forest) -> str:
    ends = [end for effect in chart.effects for end in (effect.estimate.low, effect.estimate.high)]
    reach = max((abs(end - chart.neutral) for end in ends), default=1.0) or 1.0
    left = 14 + max((svg.text_width(effect.label) for effect in chart.effects), default=0.0)
    right = 14 + max((svg.text_width(effect.text) for effect in chart.effects), default=0.0)
    scale = svg.Scale(chart.neutral - reach, chart.neutral + reach, left, svg.WIDTH - right)
    row, top = 24.0, 26.0
    bottom = top + row * len(chart.effects)
    parts = list(svg.grid(scale, top, bottom))
    parts.append(svg.rule(scale(chart.neutral), top, scale(chart.neutral), bottom, "axis"))
    parts.append(svg.text(scale(chart.neutral) - 8, top - 8, f"← {chart.left}" if chart.left else "", anchor="end", css="quiet"))
    parts.append(svg.text(scale(chart.neutral) + 8, top - 8, f"{chart.right} →" if chart.right else "", css="quiet"))
    for number, effect in enumerate(chart.effects):
        y = top + (number + 0.5) * row
        estimate = effect.estimate
        parts.append(svg.text(left - 10, y + 4, effect.label, anchor="end"))
        parts.append(svg.rule(scale(estimate.low), y, scale(estimate.high), y, f"interval {effect.tone}"))
        parts.append(f'<circle class={quoteattr("dot " + effect.tone)} cx="{scale(estimate.value):.2f}" cy="{y:.2f}" r="4.5"/>')
        parts.append(svg.text(svg.WIDTH - 4, y + 4, effect.text, anchor="end", css="number"))
    return svg.document(chart.title, bottom + 26, parts)


def lines(chart: Lines) -> str:
    drawn = [msgspec.structs.replace(line, points=tuple(filter(_finite, line.points))) for line in chart.lines]
    points = [point for line in drawn for point in line.points] or [(0.0, 0.0)]
    xs, ys = [x for x, _ in points] + [x for x, _ in chart.marks], [y for _, y in points]
    legend, top = svg.legend([Series(line.name, line.tone) for line in drawn if not line.faint], 56)
    height = 250.0
    across = svg.Scale(*_padded(min(xs), max(xs), 0), 56, svg.WIDTH - 20)
    up = svg.Scale(*_padded(min(ys), max(ys), 0.05), top + height, top + 12)
    parts = [*legend, *svg.grid(across, top + 12, top + height)]
    for tick in svg.ticks(up.low, up.high, 7):
        parts += [
            svg.rule(56, up(tick), svg.WIDTH - 20, up(tick), "grid"),
            svg.text(50, up(tick) + 4, svg.figure(tick), anchor="end", css="quiet"),
        ]
    for line in sorted(drawn, key=lambda line: not line.faint):
        css = f"line {line.tone}" + (" faint" if line.faint else "")
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline class={quoteattr(css)} points="{path}"/>')
        if len(line.points) == 1:
            parts.append(f'<circle class={quoteattr("dot " + line.tone)} cx="{path.split(",")[0]}" cy="{path.split(",")[1]}" r="3"/>')
    for x, label in chart.marks:
        parts += [svg.rule(across(x), top + 12, across(x), top + height, "mark"), svg.text(across(x) + 6, top + 24, label)]
    parts.append(svg.text(56, top + 6, chart.y_label, css="quiet"))
    parts.append(svg.text(svg.WIDTH - 20, top + height + 36, chart.x_label, anchor="end", css="quiet"))
    return svg.document(chart.title, top + height + 44, parts)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    margin = (high - low) * share
    return low - margin, high + margin


def _finite(point: tuple[float, float]) -> bool:
    return all(map(math.isfinite, point))
