"""Uneven ground: smooth random heights, drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from failurebench.franka.geometry import Vec2

SMOOTHING_CELLS = 2.0
"""standard deviation of the Gaussian that white noise is smoothed with"""


def heights(seed: int, shape: tuple[int, int], uneven_m: float) -> NDArray[np.float64]:
    """Heights in metres, lowest 0 and highest ``uneven_m``.

    Args:
        seed: decides all of them.
        shape: rows and columns of the grid.
        uneven_m: from the lowest point to the highest.
    """
    ground = np.random.default_rng(seed).standard_normal(shape)
    for axis, length in enumerate(shape):
        ground = np.apply_along_axis(np.convolve, axis, ground, _kernel(length), "same")
    ground -= ground.min()
    scaled: NDArray[np.float64] = ground * (uneven_m / ground.max())
    return scaled


def beneath(ground: NDArray[Any], at: Vec2, centre: Vec2, half_m: Vec2) -> float:
    """The highest of the four grid points around ``at``, in the units of ``ground``: rows along y, columns along x.

    Args:
        ground: heights of a square field.
        at: a point inside it.
        centre, half_m: of the field.
    """
    cells = len(ground)
    column = (at[0] - centre[0] + half_m[0]) / (2 * half_m[0]) * (cells - 1)
    row = (at[1] - centre[1] + half_m[1]) / (2 * half_m[1]) * (cells - 1)
    return float(ground[int(row) : int(row) + 2, int(column) : int(column) + 2].max())


def _kernel(length: int) -> NDArray[np.float64]:
    reach = min(int(4 * SMOOTHING_CELLS), (length - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING_CELLS) ** 2)
    normed: NDArray[np.float64] = kernel / kernel.sum()
    return normed
