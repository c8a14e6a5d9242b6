"""Charts as SVG text: bars, histogram, forest plot, lines, profile, slopes, flow. Pure functions of small specs.

Every text is escaped. Classes name the role of a mark (`main`, `s1`, `floor1`, `good` …); the page's CSS gives the colours, light and dark.
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


class Curve(msgspec.Struct, frozen=True):
    """One series of a profile: an estimate for each label, None where there is none. A value with low = high has no whisker."""

    name: str
    tone: str
    estimates: tuple[Estimate | None, ...]


class Profile(msgspec.Struct, frozen=True, tag="profile"):
    """Values by bin, a broken line a series, with intervals; the series stand a little apart, so that their whiskers do not meet."""

    title: str
    x_label: str
    y_label: str
    labels: tuple[str, ...]
    curves: tuple[Curve, ...]


class Slope(msgspec.Struct, frozen=True):
    """A line of a slope chart: its rank (from 1) in each column, None where it has none, and the words beside it."""

    name: str
    tone: str
    ranks: tuple[int | None, ...]
    values: tuple[str, ...]


class Slopes(msgspec.Struct, frozen=True, tag="slopes"):
    """Ranks in each column, joined: a crossing is a change of order."""

    title: str
    columns: tuple[str, ...]
    slopes: tuple[Slope, ...]


Chart = Bars | Histogram | Forest | Lines | Profile | Slopes | Flow


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
        case Profile():
            return profile(chart)
        case Slopes():
            return slopes(chart)
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


def profile(chart: Profile) -> str:
    left, right, height = 56.0, svg.WIDTH - 20.0, 250.0
    legend, top = svg.legend([Series(curve.name, curve.tone) for curve in chart.curves], left)
    top += 12
    ends = [end for curve in chart.curves for estimate in curve.estimates if estimate for end in (estimate.low, estimate.high)]
    up = svg.Scale(min([0.0, *ends]), max([0.0, *ends]), top + height, top + 10)
    slot = (right - left) / max(1, len(chart.labels))
    whiskers = any(estimate.low < estimate.high for curve in chart.curves for estimate in curve.estimates if estimate)
    apart = min(7.0, slot * 0.7 / max(1, len(chart.curves))) if whiskers else 0.0
    parts = list(legend)
    for tick in svg.ticks(up.low, up.high, 7):
        parts += [
            svg.rule(left, up(tick), right, up(tick), "grid"),
            svg.text(left - 6, up(tick) + 4, svg.figure(tick), anchor="end", css="quiet"),
        ]
    parts += [svg.rule(left, up(0), right, up(0), "axis"), svg.text(left, top + 2, chart.y_label, css="quiet")]
    for place, label in enumerate(chart.labels):
        parts.append(svg.text(left + (place + 0.5) * slot, top + height + 16, label, anchor="middle", css="quiet"))
    for number, curve in enumerate(chart.curves):
        shift = (number - (len(chart.curves) - 1) / 2) * apart
        xs = (left + (place + 0.5) * slot + shift for place in range(len(chart.labels)))
        found = [(x, label, given) for x, label, given in zip(xs, chart.labels, curve.estimates, strict=True) if given]
        path = " ".join(f"{x:.1f},{up(estimate.value):.1f}" for x, _, estimate in found)
        parts.append(f'<polyline class={quoteattr("line thin " + curve.tone)} points="{path}"/>')
        for x, label, estimate in found:
            if estimate.high > estimate.low:
                parts.append(svg.rule(x, up(estimate.low), x, up(estimate.high), f"interval thin {curve.tone}"))
            tip = f"{curve.name} · {label}: {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
            parts.append(
                f'<circle class={quoteattr("dot " + curve.tone)} cx="{x:.1f}" cy="{up(estimate.value):.1f}" r="3.5">'
                f"<title>{escape(tip)}</title></circle>"
            )
    parts.append(svg.text(right, top + height + 36, chart.x_label, anchor="end", css="quiet"))
    return svg.document(chart.title, top + height + 44, parts)


def slopes(chart: Slopes) -> str:
    side = 36 + max((svg.text_width(f"{slope.name} 1. {value}") for slope in chart.slopes for value in slope.values), default=60.0)
    pitch = (svg.WIDTH - 2 * side) / max(1, len(chart.columns) - 1)
    row, top = 26.0, 44.0
    xs = [side + place * pitch for place in range(len(chart.columns))]
    parts = []
    for x, column in zip(xs, chart.columns, strict=True):
        parts += [
            svg.text(x, 18, column, anchor="middle", css="strong"),
            svg.rule(x, top - 14, x, top + row * len(chart.slopes) - 12, "grid"),
        ]
    rows = [_rows([slope.ranks[place] for slope in chart.slopes]) for place in range(len(chart.columns))]
    for number, slope in enumerate(chart.slopes):
        found = [(xs[place], top + rows[place][number] * row, place) for place, rank in enumerate(slope.ranks) if rank is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in found)
        parts.append(f'<polyline class={quoteattr("line " + slope.tone)} points="{path}"/>')
        for x, y, place in found:
            parts.append(f'<circle class={quoteattr("dot " + slope.tone)} cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
            said = f"{slope.ranks[place]}. {slope.name}" if place in (0, len(xs) - 1) else ""
            value = slope.values[place]
            if place == 0:
                parts.append(svg.text(x - 10, y + 4, f"{said}\u2003{value}", anchor="end"))
            else:
                parts.append(svg.text(x + 10, y + 4, f"{value}\u2003{said}" if said else value, css="" if said else "quiet"))
    return svg.document(chart.title, top + row * len(chart.slopes), parts)


def _rows(ranks: list[int | None]) -> dict[int, int]:
    """Which row each ranked entry stands on: by rank, equal ranks one below the other."""
    ranked = sorted((rank, number) for number, rank in enumerate(ranks) if rank is not None)
    return {number: row for row, (_, number) in enumerate(ranked)}


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    margin = (high - low) * share
    return low - margin, high + margin


def _finite(point: tuple[float, float]) -> bool:
    return all(map(math.isfinite, point))
