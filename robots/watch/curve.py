"""The risk of the newest steps as SVG: small enough to be sent several times a second."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robots.session.record import StepRecord
from robots.watch.facts import CURVE

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 600, 150, 40, 10, 18
COLOURS = {"recovery": "#f9d3d6", "human": "#fbeac0", "reset": "#e4e7ec"}
"""grounds where the task policy did not act"""


def curve(steps: Sequence[StepRecord]) -> str:
    """The newest step at the right, twenty seconds before it at the left; a risk that is no number lies at the top."""
    parts = [_grounds(steps), _scale(steps)]
    if steps:
        top = _top(steps)
        line = " ".join(f"{_x(place, steps):.1f},{_y(step.risk, top):.1f}" for place, step in enumerate(steps))
        gated = [(place, step) for place, step in enumerate(steps) if math.isfinite(step.threshold)]
        limit = " ".join(f"{_x(place, steps):.1f},{_y(step.threshold, top):.1f}" for place, step in gated)
        parts += [
            f'<polyline class="limit" points="{limit}" fill="none" stroke="#b07d00" stroke-width="2" stroke-dasharray="7 5"/>',
            f'<polyline class="risk" points="{line}" fill="none" stroke="#0072b2" stroke-width="2.5"/>',
            f'<circle cx="{_x(len(steps) - 1, steps):.1f}" cy="{_y(steps[-1].risk, top):.1f}" r="4.5" fill="#0072b2"/>',
        ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>predicted risk, newest steps</title>{"".join(parts)}</svg>'


def _grounds(steps: Sequence[StepRecord]) -> str:
    wide, base = (WIDTH - LEFT) / (CURVE - 1), HEIGHT - BOTTOM
    bars = []
    for place, step in enumerate(steps):
        x = _x(place, steps) - wide / 2
        if step.source in COLOURS:
            bars.append(_bar(x, 0, wide, base, COLOURS[step.source]))
        if step.failure:
            bars.append(_bar(x, base - 7, wide, 7, "#d1570a"))
    return "".join(bars)


def _bar(x: float, y: float, wide: float, high: float, fill: str) -> str:
    return f'<rect shape-rendering="crispEdges" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{high}" fill="{fill}"/>'


def _scale(steps: Sequence[StepRecord]) -> str:
    """Names of the threshold and of the ends; the axis below."""
    base = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} {base}H{WIDTH}" stroke="#dfe3e8"/>']
    style = 'font-size="14" fill="#6b7280"'
    parts += [f'<text x="{LEFT}" y="{HEIGHT - 3}" {style}>20 s ago</text>']
    parts += [f'<text x="{WIDTH}" y="{HEIGHT - 3}" {style} text-anchor="end">now</text>']
    if steps and math.isfinite(steps[-1].threshold):
        level = _y(steps[-1].threshold, _top(steps))
        parts += [f'<text x="0" y="{level + 4:.1f}" font-size="14" fill="#8a6200">{steps[-1].threshold:.2f}</text>']
    return "".join(parts)


def _top(steps: Sequence[StepRecord]) -> float:
    """Risk at the upper edge: the threshold is never above the middle."""
    finite = [value for step in steps for value in (step.risk, 2 * step.threshold) if math.isfinite(value)]
    return max([*finite, 1e-6])


def _x(place: int, steps: Sequence[StepRecord]) -> float:
    return WIDTH - 5 - (WIDTH - 5 - LEFT) * (len(steps) - 1 - place) / (CURVE - 1)


def _y(risk: float, top: float) -> float:
    share = min(max(risk / top, 0.0), 1.0) if math.isfinite(risk) else 1.0
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share
