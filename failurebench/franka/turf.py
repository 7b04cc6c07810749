"""Uneven ground: smooth random heights, drawn from a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def _kernel(length: int) -> NDArray[np.float64]:
    reach = min(int(4 * SMOOTHING_CELLS), (length - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING_CELLS) ** 2)
    normed: NDArray[np.float64] = kernel / kernel.sum()
    return normed
