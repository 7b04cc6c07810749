"""From a frame to a fixed number of points above the table."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.cameras.interface import Frame, Intrinsics
from robots.errors import RobotError
from robots.rigid import Rigid

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class CloudConfig:
    """What of the picture is kept, and how much."""

    box_m: Box = ((0.30, 0.80), (-0.30, 0.30), (0.005, 0.25))
    """x, y and z of what is kept, in the table's frame: the table top itself is not"""

    voxel_m: float = 0.005
    """one point is kept of every cube of this side; 0 keeps all"""

    points: int = 1024
    """exactly as many come out; fewer that are seen are repeated"""

    stride: int = 2
    """every so many rows and columns of the picture are looked at"""

    seed: int = 0
    """decides, with the frame's number, which points are kept"""

    def __post_init__(self) -> None:
        if any(not low < high for low, high in self.box_m):
            raise RobotError(f"point cloud: box_m is {self.box_m!r}; give three pairs, each the lower number first")
        if not self.voxel_m >= 0.0 or self.points < 1 or self.stride < 1:
            given = f"voxel_m {self.voxel_m!r}, points {self.points!r}, stride {self.stride!r}"
            raise RobotError(f"point cloud: {given}; give a side of 0 or more, and 1 or more points and pixels")


class Cloud(NamedTuple):
    """Points of one frame in the table's frame."""

    points: NDArray[np.float32]
    """``[n, 3]``, m"""
    colors: NDArray[np.uint8]
    """``[n, 3]``, RGB"""
    seen: int
    """how many different points these are; 0 where nothing was, and then all are zero"""


def cloud(frame: Frame, table_from_camera: Rigid, config: CloudConfig) -> Cloud:
    """The frame's points inside the box, thinned to exactly ``config.points``. The same frame gives the same cloud."""
    points, colors = deprojected(frame, config.stride)
    placed = table_from_camera.apply(points)
    inside = in_box(placed, config.box_m)
    placed, colors = placed[inside], colors[inside]
    if config.voxel_m > 0.0:
        kept = voxels(placed, config.voxel_m)
        placed, colors = placed[kept], colors[kept]
    if not len(placed):
        return Cloud(np.zeros((config.points, 3), np.float32), np.zeros((config.points, 3), np.uint8), 0)
    chosen = drawn(len(placed), config.points, np.random.default_rng([config.seed, frame.number]))
    return Cloud(placed[chosen].astype(np.float32), colors[chosen], min(len(placed), config.points))


def deprojected(frame: Frame, stride: int = 1) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Every measured pixel as a point in the camera's frame (x right, y down, z ahead, m), and its colour."""
    depth = frame.depth[::stride, ::stride]
    measured = depth > 0
    along = depth[measured] * frame.depth_unit_m
    rays = _rays(frame.intrinsics, stride)[measured]
    return rays * along[:, None], frame.color[::stride, ::stride][measured]


def in_box(points: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    """Which of ``[n, 3]`` points lie in it, its sides included."""
    low, high = np.array(box).T
    inside: NDArray[np.bool_] = np.all((points >= low) & (points <= high), axis=1)
    return inside


def voxels(points: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    """Indices of one point in every occupied cube: the first that the picture has, so the order of points stays."""
    cells = np.floor(points / side).astype(np.int64)
    cells -= cells.min(axis=0, initial=0)
    extent = cells.max(axis=0, initial=0) + 1
    keys = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    first: NDArray[np.int64] = np.sort(np.unique(keys, return_index=True)[1])
    return first


def drawn(available: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of ``wanted`` points, none twice while there are enough; too few are all taken and then repeated."""
    if available >= wanted:
        chosen: NDArray[np.int64] = np.sort(rng.choice(available, wanted, replace=False))
        return chosen
    extra = rng.choice(available, wanted - available)
    return np.concatenate([np.arange(available), extra])


@functools.lru_cache(maxsize=8)
def _rays(intrinsics: Intrinsics, stride: int) -> NDArray[np.float64]:
    """Of every pixel, the point that is one metre ahead."""
    across = (np.arange(0, intrinsics.width, stride) - intrinsics.cx) / intrinsics.fx
    down = (np.arange(0, intrinsics.height, stride) - intrinsics.cy) / intrinsics.fy
    grid = np.stack([*np.meshgrid(across, down), np.ones((len(down), len(across)))], axis=-1)
    grid.setflags(write=False)
    return grid
