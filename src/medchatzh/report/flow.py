"""The flow picture: every source a stream from column to column; what a stage drops falls to the foot of the next column."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

import msgspec

from medchatzh.report import svg

_NODE = 11.0
_PITCH = 15.0
"""Least distance of two sources, so that their labels do not meet."""
_HEIGHT = 230.0
"""What the largest column's counts take, in user units, without the gaps."""


class Band(msgspec.Struct, frozen=True):
    """One source's count at each column of a flow; None where it is unknown."""

    name: str
    tone: str
    counts: tuple[int | None, ...]


class Flow(msgspec.Struct, frozen=True, tag="flow"):
    """Bands that thin from column to column as records are dropped."""

    title: str
    columns: tuple[str, ...]
    bands: tuple[Band, ...]


def flow(chart: Flow) -> str:
    most = max((sum(column) for column in zip(*([count or 0 for count in band.counts] for band in chart.bands), strict=True)), default=0)
    unit = _HEIGHT / (most or 1)
    left = 16 + max((svg.text_width(f"{band.name} {band.counts[0] or 0:,}") for band in chart.bands), default=80.0)
    pitch = (svg.WIDTH - left - 120) / max(1, len(chart.columns) - 1)
    xs = [left + number * pitch for number in range(len(chart.columns))]
    tops, feet = zip(*(_stack(chart, column, unit) for column in range(len(chart.columns))), strict=True)
    foot = max(feet) + 26
    parts: list[str] = []
    bottom = foot
    for column, ((x, top), (after_x, after)) in enumerate(pairwise(zip(xs, tops, strict=True))):
        lost_at = foot
        for number, band in enumerate(chart.bands):
            count, kept = band.counts[column], band.counts[column + 1]
            if count is None or kept is None:
                continue
            stays, falls = min(kept, count) * unit, max(0, count - kept) * unit
            start, end = x + _NODE, after_x
            parts.append(
                _ribbon(start, top[number], end, after[number], stays, f"ribbon {band.tone}", f"{band.name}: {count:,} → {kept:,}")
            )
            if falls:
                parts.append(_ribbon(start, top[number] + stays, end, lost_at, falls, "dropped", f"{band.name}: −{count - kept:,}"))
                lost_at += falls
        if lost_at > foot:
            lost = round((lost_at - foot) / unit)
            parts.append(_node(after_x, foot, max(1.0, lost_at - foot), "bad"))
            parts.append(svg.text(after_x + _NODE + 5, foot + min(12.0, lost_at - foot + 4), f"−{lost:,}", css="loss"))
            bottom = max(bottom, lost_at, foot + 12)
    for column, (x, top, label) in enumerate(zip(xs, tops, chart.columns, strict=True)):
        parts += _column(chart, column, x, top, label, unit)
    return svg.document(chart.title, bottom + 14, parts)


def _stack(chart: Flow, column: int, unit: float) -> tuple[list[float], float]:
    """Where each band's node begins in a column, and where the column ends."""
    tops, y = [], 46.0
    for band in chart.bands:
        tops.append(y)
        y += max(_PITCH, (band.counts[column] or 0) * unit + 3)
    return tops, y


def _column(chart: Flow, column: int, x: float, tops: list[float], label: str, unit: float) -> Iterator[str]:
    counts = [band.counts[column] for band in chart.bands]
    yield svg.text(x + _NODE / 2, 16, label, anchor="middle", css="strong")
    yield svg.text(x + _NODE / 2, 33, f"{sum(count or 0 for count in counts):,}", anchor="middle", css="number")
    for band, top, count in zip(chart.bands, tops, counts, strict=True):
        if count is None:
            continue
        height = count * unit
        yield _node(x, top, height, band.tone)
        middle = top + max(height, _PITCH - 3) / 2 + 4
        if column == 0:
            yield svg.text(x - 8, middle, f"{band.name} {count:,}", anchor="end")
        if column == len(chart.columns) - 1:
            share = f" ({100 * count / band.counts[0]:.0f} %)" if band.counts[0] else ""
            yield svg.text(x + _NODE + 6, middle, f"{count:,}{share}", css="number")


def _node(x: float, y: float, height: float, tone: str) -> str:
    return f'<rect class={quoteattr("node " + tone)} x="{x:.2f}" y="{y:.2f}" width="{_NODE}" height="{height:.2f}"/>'


def _ribbon(x: float, y: float, end_x: float, end_y: float, height: float, css: str, tip: str) -> str:
    bend = (x + end_x) / 2
    return (
        f'<path class={quoteattr(css)} d="M{x:.2f},{y:.2f}C{bend:.2f},{y:.2f} {bend:.2f},{end_y:.2f} {end_x:.2f},{end_y:.2f}v{height:.2f}'
        f'C{bend:.2f},{end_y + height:.2f} {bend:.2f},{y + height:.2f} {x:.2f},{y + height:.2f}z"><title>{escape(tip)}</title></path>'
    )
