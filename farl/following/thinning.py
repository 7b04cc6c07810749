"""Curves with fewer points that look the same: peaks and dips stay."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST = 600
"""points of a curve; a chart is about as many pixels wide"""


def thinned(x: Array, y: Array, most: int = MOST) -> tuple[Array, Array]:
    """At most ``most`` points of a curve: the first, the last, and the lowest and highest of each stretch of equally many.

    Points that are not finite are left out.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= most:
        return x, y
    edges = np.linspace(1, len(x) - 1, (most - 2) // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, stop in itertools.pairwise(edges):
        kept |= {start + int(y[start:stop].argmin()), start + int(y[start:stop].argmax())}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]


def counted(x: Array, end: float, most: int = MOST) -> tuple[Array, Array]:
    """How many of the events at ``x`` (ascending) have happened, from 0 to ``end``: a curve that rises in steps."""
    before = np.arange(len(x), dtype=np.float64)
    steps, counts = np.repeat(x, 2), np.stack([before, before + 1], axis=1).ravel()
    return thinned(np.r_[0.0, steps, end], np.r_[0.0, counts, float(len(x))], most)
