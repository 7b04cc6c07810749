"""Where the table's top is, from depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from robots.cameras.cloud import deprojected
from robots.cameras.interface import Frame
from robots.errors import RobotError
from robots.rigid import Array, Rigid, rotation

NEAR_M = 0.03
"""points further than this from where the table should be are something on it, or behind it"""

INLIER_M = 0.006
TRIES = 200
LEAST_SHARE = 0.3
"""of the points near the table that must lie in one plane"""

FEWEST_POINTS = 2000
STRIDE = 3

Region = tuple[tuple[float, float], tuple[float, float]]


class Plane(NamedTuple):
    """A top, in the frame that was expected to have it at z = 0."""

    height_m: float
    """at the middle of the region that was looked at"""
    tilt_rad: float
    error_mm: float
    """root mean square distance of its points"""
    level: Rigid
    """``top_from_expected``: puts the plane at z = 0 and leaves x and y as they are, as far as the tilt allows"""


def find_plane(frame: Frame, expected_from_camera: Rigid, region: Region) -> Plane:
    """Fit the plane that most of the points near z = 0 lie in (random sample consensus, then least squares; the same every time).

    Args:
        frame: a picture of a table as empty as may be.
        expected_from_camera: a frame whose z = 0 should be the top.
        region: x and y of what to look at.

    Raises:
        RobotError: too little of the table has a depth, or no plane is there.
    """
    points = expected_from_camera.apply(deprojected(frame, STRIDE)[0])
    (x_low, x_high), (y_low, y_high) = region
    inside = (points[:, 0] > x_low) & (points[:, 0] < x_high) & (points[:, 1] > y_low) & (points[:, 1] < y_high)
    near = points[inside & (np.abs(points[:, 2]) < NEAR_M)]
    if len(near) < FEWEST_POINTS / STRIDE:
        height = float(np.median(points[inside, 2])) if inside.any() else float("nan")
        raise RobotError(
            f"only {len(near)} points lie within {100 * NEAR_M:.0f} cm of where the table's top should be (the median lies "
            f"{100 * height:.1f} cm over it): clear the table, check the camera's view and the base's height over the table"
        )
    best = _consensus(near)
    on_it = near[_distances(near, best) < INLIER_M]
    if len(on_it) < LEAST_SHARE * len(near):
        share = 100 * len(on_it) / len(near)
        raise RobotError(f"only {share:.0f} % of the points near the table lie in one plane: clear the table")
    coefficients = np.asarray(np.linalg.lstsq(_terms(on_it), on_it[:, 2], rcond=None)[0], np.float64)
    return _described(coefficients, on_it, region)


def _consensus(points: Array) -> Array:
    """z = a x + b y + c of the plane that most points are near."""
    rng = np.random.default_rng(0)
    best: Array = np.zeros(3)
    most = -1
    for _ in range(TRIES):
        three = points[rng.choice(len(points), 3, replace=False)]
        if abs(np.linalg.det(_terms(three))) < 1e-4:
            continue
        plane = np.asarray(np.linalg.solve(_terms(three), three[:, 2]), np.float64)
        count = int((_distances(points, plane) < INLIER_M).sum())
        if count > most:
            best, most = plane, count
    return best


def _described(plane: Array, on_it: Array, region: Region) -> Plane:
    a, b, _ = plane.tolist()
    middle = np.array([sum(region[0]) / 2, sum(region[1]) / 2, 1.0])
    normal = np.array([-a, -b, 1.0]) / math.sqrt(a * a + b * b + 1.0)
    axis = np.cross(normal, (0.0, 0.0, 1.0))
    tilt = math.atan2(float(np.linalg.norm(axis)), float(normal[2]))
    turn = rotation(axis / max(float(np.linalg.norm(axis)), 1e-12) * tilt)
    height = float(plane @ middle)
    point = np.array([middle[0], middle[1], height])
    level = Rigid(turn, np.array([middle[0], middle[1], 0.0]) - turn @ point)
    error = 1000.0 * float(np.sqrt(np.square(_distances(on_it, plane)).mean()))
    return Plane(height, tilt, error, level)


def _terms(points: Array) -> Array:
    return np.column_stack([points[:, :2], np.ones(len(points))])


def _distances(points: Array, plane: Array) -> Array:
    away = np.abs(_terms(points) @ plane - points[:, 2])
    return np.asarray(away / math.sqrt(plane[0] ** 2 + plane[1] ** 2 + 1.0))
