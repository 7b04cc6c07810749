"""What stands in the place of a clip until it is drawn: the risk of its steps, who acted, and where it failed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.compare.palette import AMBER, BLUE, GREY, VERMILLION
from farl.following.recordings import Recorded

WIDTH, HEIGHT, MARGIN = 300, 150, 14
BEFORE, AFTER = 80, 20
"""steps around the first failing one"""
SIGNS = "Predicted risk of each step. Dashed: the threshold. Dark red: recovery acts. Upright line: the failure."


def preview(recorded: Recorded) -> str:
    """An SVG as wide as its place; the same signs as in the clip's lower part."""
    end = len(recorded.risk) if recorded.onset is None else recorded.onset + AFTER
    start, stop = max(0, end - AFTER - BEFORE), min(len(recorded.risk), end)
    risk, gated = recorded.risk[start:stop].astype(float), recorded.gated[start:stop]
    parts = [_bands(gated)]
    if math.isfinite(recorded.threshold):
        top = max(3 * recorded.threshold, float(np.nanmax(risk, initial=0.0)))
        x = _across(np.arange(len(risk)), len(risk))
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * np.nan_to_num(risk, nan=top) / top   # not known counts as not safe
        level = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * recorded.threshold / top
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        parts += [
            f'<path d="M{MARGIN} {level:.1f}H{WIDTH - MARGIN}" stroke="{AMBER.dark}" stroke-dasharray="4 4"/>',
            f'<polyline points="{points}" fill="none" stroke="{BLUE.dark}" stroke-width="1.8" stroke-linejoin="round"/>',
        ]
    else:
        parts.append(f'<text x="{MARGIN}" y="{2 * MARGIN}" fill="{GREY.dark}" font-size="12">no gate</text>')
    if recorded.onset is not None:
        at = float(_across(np.array([recorded.onset - start]), len(risk))[0])
        parts.append(f'<path d="M{at:.1f} 6V{HEIGHT - 6}" stroke="{VERMILLION.dark}" stroke-width="1.8"/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{SIGNS}</title>{"".join(parts)}</svg>'


def _bands(gated: NDArray[np.bool_]) -> str:
    """Where recovery acted."""
    edges = np.flatnonzero(np.diff(np.r_[False, gated, False].astype(np.int8)))
    bands = zip(_across(edges[::2] - 0.5, len(gated)), _across(edges[1::2] - 0.5, len(gated)), strict=True)
    return "".join(f'<rect x="{a:.1f}" y="0" width="{b - a:.1f}" height="{HEIGHT}" fill="#4a1a20"/>' for a, b in bands)


def _across(steps: NDArray[Any], count: int) -> NDArray[np.float64]:
    across: NDArray[np.float64] = MARGIN + (WIDTH - 2 * MARGIN) * steps / max(1, count - 1)
    return across
