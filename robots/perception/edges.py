"""Corners of a dark square on white to a small part of a pixel: where the straight lines through its edges meet.

A corner itself is the worst place of a small marker to look at: a few blurred pixels, with its own dark cells beside them.
Its sides are long, and white paper lies along all of them. (Measured against what OpenCV offers in docs/robots/cameras.md.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.rigid import Array

PROFILES = 16
"""across every side"""

SAMPLES = 25
"""along every profile"""

ENDS = 0.12
"""share of a side that is left out at each end, where the neighbouring side blurs in"""

MODULES_ACROSS = 0.55
"""how far to either side of the edge is looked, in the marker's modules: beyond is something else"""

ROUNDS = 2
STRAYED = 2.5
"""profiles whose edge is this many typical distances off the line are not on it: something covers them"""

FEWEST = 5
FAINTEST = 8.0
"""grey levels from black to white below which there is no edge"""


class _Lines(NamedTuple):
    """The four sides."""

    points: Array
    """``[4, 2]``, one on each"""
    along: Array
    """``[4, 2]``, their directions"""


def refined(gray: NDArray[np.uint8], corners: Array, modules: int) -> Array:
    """The square's corners, ``[4, 2]`` pixels, looked at again; unchanged where its sides are not to be made out.

    Args:
        gray: picture ``[h, w]``.
        corners: about where they are, in the order in which they go round.
        modules: little squares along a side of the marker.
    """
    found = corners
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    for _ in range(ROUNDS):
        lines = _lines(gray, found, modules)
        if lines is None:
            return corners
        met = _meetings(lines)
        if not np.abs(met - corners).max() <= sides.mean() / modules + 1.0:  # also where they are no numbers
            return corners
        found = met
    return found


def _lines(gray: NDArray[np.uint8], corners: Array, modules: int) -> _Lines | None:
    """Straight lines through the edges near the square's sides; None where there is no edge."""
    span = np.roll(corners, -1, axis=0) - corners
    length = np.linalg.norm(span, axis=1)
    if length.min() < modules:
        return None
    along = span / length[:, None]
    out = np.stack([along[:, 1], -along[:, 0]], axis=1)
    deep = 2.0 * np.einsum("kj,kj->k", out, corners + span / 2 - corners.mean(axis=0))
    out, deep = out * np.sign(deep)[:, None], np.abs(deep)
    reach = np.maximum(MODULES_ACROSS * deep / modules, 1.0)
    across = np.linspace(-1.0, 1.0, SAMPLES) * reach[:, None]
    down = np.linspace(ENDS, 1.0 - ENDS, PROFILES) * length[:, None]
    places = corners[:, None] + down[:, :, None] * along[:, None]
    values = _sampled(gray, places[:, :, None] + across[:, None, :, None] * out[:, None, None])
    rise = np.clip(np.diff(values, axis=2), 0.0, None)  # dark inside, white outside
    total = rise.sum(axis=2)
    typical = np.median(total, axis=1)
    weights = (total > 0.5 * typical[:, None]).astype(np.float64)
    if typical.min() < FAINTEST or weights.sum(axis=1).min() < FEWEST:
        return None
    offsets = np.einsum("kps,ks->kp", rise, (across[:, 1:] + across[:, :-1]) / 2) / np.maximum(total, 1e-9)
    middle, height, slope = _fitted(down, offsets, weights)
    points = corners + middle[:, None] * along + height[:, None] * out
    return _Lines(points, along + slope[:, None] * out)


def _fitted(down: Array, offsets: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Least squares of the offsets along each side, once more without what is off the line: its middle, height there, slope."""
    for last in (False, True):
        total = weights.sum(axis=1)
        middle, height = (weights * down).sum(axis=1) / total, (weights * offsets).sum(axis=1) / total
        aside = down - middle[:, None]
        slope = (weights * aside * offsets).sum(axis=1) / np.maximum((weights * aside**2).sum(axis=1), 1e-9)
        off = np.abs(offsets - height[:, None] - slope[:, None] * aside)
        kept = weights * (off <= np.maximum(STRAYED * np.median(off, axis=1), 0.05)[:, None])
        if last or kept.sum(axis=1).min() < FEWEST:
            break
        weights = kept
    return middle, height, slope


def _meetings(lines: _Lines) -> Array:
    """Where each side meets the one before: ``[4, 2]``; not a number where they are parallel."""
    before, way = np.roll(lines.points, 1, axis=0), np.roll(lines.along, 1, axis=0)
    turn = _cross(way, lines.along)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = _cross(lines.points - before, lines.along) / np.where(np.abs(turn) < 1e-3, np.nan, turn)
    return np.asarray(before + share[:, None] * way)


def _cross(one: Array, other: Array) -> Array:
    return np.asarray(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0])


def _sampled(gray: NDArray[np.uint8], places: Array) -> Array:
    """Bilinear, the nearest pixel beyond the border."""
    height, width = gray.shape
    x, y = np.clip(places[..., 0], 0, width - 1.001), np.clip(places[..., 1], 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    across, down = x - column, y - row
    flat, first = gray.ravel(), row * width + column
    above = flat[first] * (1 - across) + flat[first + 1] * across
    below = flat[first + width] * (1 - across) + flat[first + width + 1] * across
    blended: Array = above * (1 - down) + below * down
    return blended
