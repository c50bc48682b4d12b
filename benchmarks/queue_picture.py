"""Line charts in SVG for the simulation's results. They are readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 300, 56, 16, 44, 46
#: Colour-blind people can tell these apart (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a panel. A `dashed` one has the colour of the line before it."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart. `bounds` are (low, high) of the vertical axis, which is logarithmic if `low` is above 0."""

    title: str
    across: str
    up: str
    lines: Sequence[Line]
    bounds: tuple[float, float]


def svg(panels: Sequence[Panel]) -> str:
    """SVG of the panels, side by side."""
    style = "text{font:12px sans-serif;fill:#555}.title{font-weight:bold}.grid{stroke:#8886;fill:none}"
    drawn = "".join(f'<g transform="translate({number * WIDTH},0)">{_panel(p)}</g>' for number, p in enumerate(panels))
    titles = escape("; ".join(panel.title for panel in panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}" role="img" '
        f'aria-label="{titles}"><style>{style}</style>{drawn}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    low, high = panel.bounds
    xs = [x for line in panel.lines for x, _ in line.points]
    first, last = min(xs), max(xs)

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / ((last - first) or 1)

    def up(y: float) -> float:
        y = min(max(y, low), high)
        part = math.log(y / low) / math.log(high / low) if low else y / high
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part

    parts = [f'<text class="title" x="{LEFT}" y="16">{escape(panel.title)}</text>']
    for y in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT},{up(y):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    below = f'y="{HEIGHT - BOTTOM + 16}" text-anchor="middle"'
    parts += [f'<text x="{across(x):.1f}" {below}>{x:.0f}</text>' for x in _round_numbers(first, last)]
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.across)}</text>')
    parts.append(f'<text x="4" y="{TOP - 10}">{escape(panel.up)}</text>')
    colour = -1
    for named, line in enumerate(panel.lines):
        colour += not line.dashed
        stroke = COLOURS[colour % len(COLOURS)]
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<polyline fill="none" stroke="{stroke}" stroke-width="2"{dash} points="{points}"/>')
        y = TOP + 12 + 15 * named
        parts.append(f'<path stroke="{stroke}" stroke-width="2"{dash} d="M{WIDTH - 150},{y - 4}h22"/>')
        parts.append(f'<text x="{WIDTH - 122}" y="{y}">{escape(line.name)}</text>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    if low:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        return [10.0**exponent for exponent in range(first, last + 1)]
    return _round_numbers(low, high)


def _round_numbers(first: float, last: float) -> list[float]:
    """Five to ten round numbers between the two."""
    step = 10.0 ** math.floor(math.log10(last - first))
    step = next(part for part in (step, step / 2, step / 5, step / 10) if (last - first) / part >= 5)
    return [number * step for number in range(math.ceil(first / step), math.floor(last / step) + 1)]
