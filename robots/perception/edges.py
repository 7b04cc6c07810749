"""Corners of a dark square on white to a small part of a pixel: where the straight lines through its edges meet.

A corner itself is the worst place of a small marker to look at: a few blurred pixels, with its own dark cells beside them.
Its sides are long, and white paper lies along all of them. (Measured against what OpenCV offers in docs/robots/cameras.md.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robots.rigid import Array

PROFILES = 16
"""across every side"""

STEP_PX = 0.25
ENDS = 0.12
"""share of a side that is left out at each end, where the neighbouring side blurs in"""

MODULES_ACROSS = 0.55
"""how far to either side of the edge is looked, in the marker's modules: beyond is something else"""

ROUNDS = 2
STRAYED = 2.5
"""profiles whose edge is this many typical distances off the line are not on it: something covers them"""

FEWEST = 5


def refined(gray: NDArray[np.uint8], corners: Array, modules: int) -> Array:
    """The square's corners, ``[4, 2]`` pixels, looked at again; unchanged where its sides are not to be made out.

    Args:
        gray: picture ``[h, w]``.
        corners: about where they are, in the order in which they go round.
        modules: little squares along a side of the marker.
    """
    found = corners
    for _ in range(ROUNDS):
        lines = [_side(gray, found[k], found[(k + 1) % 4], found.mean(axis=0), modules) for k in range(4)]
        if any(line is None for line in lines):
            return corners
        met = np.array([_meeting(lines[k - 1], lines[k]) for k in range(4)])
        reach = _side_px(corners) / modules + 1.0
        if not np.isfinite(met).all() or np.abs(met - corners).max() > reach:
            return corners
        found = met
    return found


def _side(gray: NDArray[np.uint8], start: Array, end: Array, middle: Array, modules: int) -> Array | None:
    """The line through one side as (normal, distance), ``normal @ point == distance``; None where no edge is."""
    along = end - start
    length = float(np.linalg.norm(along))
    if length < modules:
        return None
    normal = np.array([along[1], -along[0]]) / length
    deep = 2.0 * float(normal @ ((start + end) / 2 - middle))
    if deep < 0:
        normal, deep = -normal, -deep
    reach = max(MODULES_ACROSS * deep / modules, 1.0)
    depth = np.arange(-reach, reach + STEP_PX / 2, STEP_PX)
    on_side = start + np.linspace(ENDS, 1.0 - ENDS, PROFILES)[:, None] * along
    values = _sampled(gray, on_side[:, None] + depth[None, :, None] * normal)
    rise = np.clip(np.diff(values, axis=1), 0.0, None)  # dark inside, white outside
    total = rise.sum(axis=1)
    clear = total > 0.5 * np.median(total)
    if clear.sum() < FEWEST or np.median(total) < 8.0:
        return None
    offset = (rise @ ((depth[:-1] + depth[1:]) / 2))[clear] / total[clear]
    return _line(on_side[clear] + offset[:, None] * normal)


def _line(points: Array) -> Array:
    """Total least squares, once more without the points that are off it."""
    for _ in range(2):
        middle = points.mean(axis=0)
        normal = np.linalg.svd(points - middle)[2][1]
        off = np.abs((points - middle) @ normal)
        kept = off <= max(STRAYED * float(np.median(off)), 0.05)
        if kept.all() or kept.sum() < FEWEST:
            break
        points = points[kept]
    return np.array([*normal, normal @ middle])


def _meeting(one: Array | None, other: Array | None) -> Array:
    assert one is not None
    assert other is not None
    both = np.stack([one[:2], other[:2]])
    if abs(np.linalg.det(both)) < 1e-3:
        return np.full(2, np.nan)
    where: Array = np.linalg.solve(both, [one[2], other[2]])
    return where


def _sampled(gray: NDArray[np.uint8], places: Array) -> Array:
    """Bilinear, the nearest pixel beyond the border."""
    height, width = gray.shape
    x, y = np.clip(places[..., 0], 0, width - 1.001), np.clip(places[..., 1], 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    across, down = x - column, y - row
    above = gray[row, column] * (1 - across) + gray[row, column + 1] * across
    below = gray[row + 1, column] * (1 - across) + gray[row + 1, column + 1] * across
    blended: Array = above * (1 - down) + below * down
    return blended


def _side_px(corners: Array) -> float:
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).mean())
