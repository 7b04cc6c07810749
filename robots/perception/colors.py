"""Objects without markers: a ball or a box of one colour, found by colour, told from the table by depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.cameras.cloud import Box, in_box
from robots.cameras.interface import Frame
from robots.errors import RobotError
from robots.perception.markers import import_cv2, project
from robots.rigid import Array, Rigid, about_z

FEWEST_PIXELS = 40
ROUNDS = 15
STEP = 1e-6
"""of the numerical derivatives, m and rad"""

ANCHOR = 0.01
"""what the place where a fit begins counts, as a share of the points"""

DEPTH_ERROR_M = 0.003
"""a depth camera's at a metre: nearer to the surface than this, every point counts"""

WORKSPACE: Box = ((0.25, 0.85), (-0.35, 0.35), (0.008, 0.20))


@dataclass(frozen=True)
class ColorConfig:
    """Which pixels may be the object: OpenCV's hue 0 to 180, saturation and value 0 to 255."""

    hue: tuple[int, int]
    """from and to; from above to goes round through 180, as red does"""

    saturation: tuple[int, int] = (80, 255)
    value: tuple[int, int] = (50, 255)

    inside_m: Box = WORKSPACE
    """x, y and z in the table's frame of where it can be: a jacket of the same colour is elsewhere"""

    def __post_init__(self) -> None:
        for name, most in (("hue", 180), ("saturation", 255), ("value", 255)):
            low, high = getattr(self, name)
            ordered = low <= high or name == "hue"
            if not (0 <= low <= most and 0 <= high <= most and ordered):
                raise RobotError(f"object's colour: {name} is {(low, high)!r}; give from and to, each 0 to {most}")


@dataclass(frozen=True)
class BallConfig:
    """A ball of known size; it may lie on uneven ground."""

    name: str
    radius_m: float
    color: ColorConfig


@dataclass(frozen=True)
class BoxConfig:
    """An upright box of one colour."""

    name: str
    size_m: tuple[float, float]
    """along its own x and y"""

    height_m: float
    color: ColorConfig


class Blob(NamedTuple):
    """An object found by its colour."""

    x: float
    y: float
    yaw: float
    """of a box, known up to quarter turns; 0 for a ball"""
    confidence: float
    """share of what such an object shows from here that was measured, 0 to 1"""


def find_ball(frame: Frame, table_from_camera: Rigid, ball: BallConfig) -> Blob | None:
    """Fit a sphere of the known radius to the points of its colour; None where too little of it is measured."""
    mask = of_color(frame, ball.color)
    points = _measured(frame, mask, table_from_camera, ball.color.inside_m)
    if len(points) < FEWEST_PIXELS:
        return None
    middle = np.median(points, axis=0)
    away = (middle - table_from_camera.translation) / np.linalg.norm(middle - table_from_camera.translation)
    start = middle + 0.6 * ball.radius_m * away

    def to_ball(centre: Array) -> Array:
        return np.asarray(np.linalg.norm(points - centre, axis=1) - ball.radius_m)

    centre = _fit(points, to_ball, start, (1.0,) * 3, ball.radius_m)
    if centre is None:
        return None
    on_it = float((np.abs(to_ball(centre)) < 0.3 * ball.radius_m).sum())
    distance = float(np.linalg.norm(centre - table_from_camera.translation))
    whole = math.pi * (ball.radius_m * frame.intrinsics.fx / distance) ** 2
    return Blob(float(centre[0]), float(centre[1]), 0.0, min(on_it / whole, 1.0))


def find_box(frame: Frame, table_from_camera: Rigid, box: BoxConfig) -> Blob | None:
    """Fit an upright box of the known sizes to the points of its colour; None where too little of it is measured.

    Begun at the smallest rectangle around what lies as high as its top.
    """
    mask = of_color(frame, box.color)
    points = _measured(frame, mask, table_from_camera, box.color.inside_m)
    top = points[np.abs(points[:, 2] - box.height_m) < 0.25 * box.height_m, :2]
    if len(top) < FEWEST_PIXELS:
        return None
    cv2 = import_cv2()
    (x, y), sides, turned = cv2.minAreaRect((top * 1000.0).astype(np.float32))
    swapped = (sides[0] < sides[1]) != (box.size_m[0] < box.size_m[1])
    start = np.array([x / 1000.0, y / 1000.0, math.radians(turned + 90.0 * swapped)])
    half = np.array([*box.size_m, box.height_m]) / 2.0
    fitted = _fit(points, lambda numbers: _to_box(points, numbers, half), start, (1.0, 1.0, half[0]), 0.02)
    if fitted is None:
        return None
    on_it = float((np.abs(_to_box(points, fitted, half)) < 0.1 * box.height_m).sum())
    corners = half * [[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
    placed = Rigid(about_z(float(fitted[2])), np.array([fitted[0], fitted[1], half[2]])).apply(corners)
    outline = project(table_from_camera.inverse().apply(placed), frame.intrinsics).astype(np.float32)
    whole = float(cv2.contourArea(cv2.convexHull(outline)))
    return Blob(float(fitted[0]), float(fitted[1]), _quarter(float(fitted[2])), min(on_it / max(whole, 1.0), 1.0))


def of_color(frame: Frame, color: ColorConfig) -> NDArray[np.bool_]:
    """Which pixels have the colour, without specks."""
    cv2 = import_cv2()
    hsv = cv2.cvtColor(frame.color, cv2.COLOR_RGB2HSV)
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    low, high = color.hue
    fits = (hue >= low) & (hue <= high) if low <= high else (hue >= low) | (hue <= high)
    for channel, (least, most) in ((saturation, color.saturation), (value, color.value)):
        fits &= (channel >= least) & (channel <= most)
    opened = cv2.morphologyEx(fits.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(opened, bool)


def _measured(frame: Frame, mask: NDArray[np.bool_], table_from_camera: Rigid, box: Box) -> Array:
    """Points ``[n, 3]`` in the table's frame of the masked pixels that have a depth, those in ``box``."""
    pixels = np.argwhere(mask & (frame.depth > 0))
    along = frame.depth[tuple(pixels.T)] * frame.depth_unit_m
    given = frame.intrinsics
    across, down = (pixels[:, 1] - given.cx) / given.fx, (pixels[:, 0] - given.cy) / given.fy
    points = table_from_camera.apply(np.stack([across * along, down * along, along], axis=1))
    return points[in_box(points, box)]


def _fit(
    points: Array, distances: Callable[[Array], Array], start: Array, metres: tuple[float, ...], furthest_m: float
) -> Array | None:
    """Numbers for which the points lie on a surface, those far off left out (Gauss-Newton); None where it strays from ``start``.

    ``metres`` says how far a unit of each number moves the surface.
    """
    numbers = start
    for _ in range(ROUNDS):
        off = distances(numbers)
        kept = np.abs(off) < max(3.0 * float(np.median(np.abs(off))), DEPTH_ERROR_M)
        if kept.sum() < FEWEST_PIXELS // 2:
            return None
        slopes = np.stack([(distances(numbers + STEP * unit) - off)[kept] / STEP for unit in np.eye(len(start))], axis=1)
        # A box that shows one side and its top could slide along them: what the points leave open stays as it began.
        anchor = math.sqrt(ANCHOR * len(points)) * np.diag(metres)
        rows = np.concatenate([slopes, anchor]), np.concatenate([-off[kept], anchor @ (start - numbers)])
        move = np.linalg.lstsq(*rows, rcond=None)[0]
        numbers = numbers + move
        if np.abs(move).max() < 1e-6:
            break
    strayed = np.linalg.norm((numbers - start)[:2]) > furthest_m
    return None if strayed or not np.isfinite(numbers).all() else numbers


def _to_box(points: Array, numbers: Array, half: Array) -> Array:
    """Signed distances to an upright box on the table, at x, y, turned by yaw."""
    x, y, yaw = numbers.tolist()
    own = (points - [x, y, half[2]]) @ about_z(yaw)
    beyond = np.abs(own) - half
    outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=1)
    distance: Array = outside + np.minimum(beyond.max(axis=1), 0.0)
    return distance


def _quarter(yaw: float) -> float:
    """The same square's turn between -45 and 45 degrees."""
    return (yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
