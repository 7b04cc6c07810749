"""A rectangle on the table that an object must not leave: shared by the tasks that fail with ``out_of_bounds``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from failurebench.sawyer import Vec3
from failurebench.task import Segment

Rectangle = tuple[float, float, float, float]
"""x low, x high, y low, y high, metres"""

Point = tuple[float, float]

MAX_SHIFT_M = 0.02
"""how far a randomised boundary is shifted at most, in x and in y"""

MIN_ROOM_M = 0.01
"""what a shift leaves at least between the boundary and every start and goal"""

_MIN_START_DISTANCE_M = 0.15
_OUTLINE_Z_M = 0.003


def margin(sides: Sequence[float], x: float, y: float) -> float:
    """Distance (m) of a point to the nearest side, negative outside."""
    x_low, x_high, y_low, y_high = sides
    return min(x - x_low, x_high - x, y - y_low, y_high - y)


def outline(sides: Sequence[float]) -> list[Segment]:
    """The four sides, just above the table."""
    x_low, x_high, y_low, y_high = sides
    corners = [(x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high)]
    points: list[Vec3] = [(x, y, _OUTLINE_Z_M) for x, y in corners]
    return list(zip(points, points[1:] + points[:1], strict=True))


def start_and_goal(rng: np.random.Generator, boxes: Sequence[Rectangle]) -> tuple[Point, Point]:
    """Object and goal, uniform in their boxes but at least 15 cm apart, as MetaWorld draws them."""
    while True:
        start, goal = ((float(rng.uniform(b[0], b[1])), float(rng.uniform(b[2], b[3]))) for b in boxes)
        if math.dist(start, goal) >= _MIN_START_DISTANCE_M:
            return start, goal


def shifted(rng: np.random.Generator, sides: Rectangle, starts: Sequence[Rectangle]) -> Rectangle:
    """The boundary moved as a whole by up to 2 cm in x and y, still 1 cm away from every box of ``starts``."""
    x_low, x_high, y_low, y_high = sides
    room = [(b[0] - x_low, x_high - b[1], b[2] - y_low, y_high - b[3]) for b in starts]
    right, left, up, down = (max(0.0, min(MAX_SHIFT_M, min(r) - MIN_ROOM_M)) for r in zip(*room, strict=True))
    dx, dy = float(rng.uniform(-left, right)), float(rng.uniform(-down, up))
    return x_low + dx, x_high + dx, y_low + dy, y_high + dy


def checked(boundary: object, start_range: str, starts: dict[str, tuple[Rectangle, ...]]) -> Rectangle:
    """The boundary as plain floats, with room for every start and goal of the range.

    Raises:
        ValueError: the range is unknown, the boundary is not four numbers, or it leaves no room.
    """
    if start_range not in starts:
        raise ValueError(f"start_range is {start_range!r}; the choices are {', '.join(starts)}")
    try:
        values = tuple(float(value) for value in boundary)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        values = ()
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"boundary is {boundary!r}; give four finite numbers (x low, x high, y low, y high) in metres")
    x_low, x_high, y_low, y_high = values
    for box in starts[start_range]:
        if not (x_low < box[0] and box[1] < x_high and y_low < box[2] and box[3] < y_high):
            raise ValueError(
                f"boundary {values} leaves no room: the object and goal of start_range={start_range!r} lie in "
                f"x {box[0]}..{box[1]}, y {box[2]}..{box[3]}, widen the boundary beyond that"
            )
    return x_low, x_high, y_low, y_high
