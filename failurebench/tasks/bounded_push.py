"""Bounded Push: push the puck to the goal without letting it leave a rectangle on the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.demonstrators.pushing import BoundarySeeker, ClumsyPusher, GraspAndDrag, Retreat
from failurebench.experts import Expert
from failurebench.rewards.push import SUCCESS_RADIUS_M, push_reward
from failurebench.rewards.shaping import Reward
from failurebench.sawyer import Sawyer, Scene, Vec3
from failurebench.task import Segment, Start, Task

Rectangle = tuple[float, float, float, float]
"""x low, x high, y low, y high, metres"""

NARROW = ((-0.02, 0.02, 0.63, 0.67), (0.05, 0.05, 0.84, 0.84))
"""puck and goal of ``start_range="narrow"``: (0, .65) +- 2 cm, goal fixed"""

FULL = ((-0.1, 0.1, 0.6, 0.7), (-0.1, 0.1, 0.8, 0.9))
"""puck and goal of ``start_range="full"``: MetaWorld's ranges"""

START_RANGES = {"narrow": NARROW, "full": FULL}
MIN_START_DISTANCE_M = 0.15
OUTLINE_Z_M = 0.003


@dataclass(frozen=True)
class BoundedPush(Task):
    """MetaWorld's push-v3 inside a boundary; the constants are those of the published videos."""

    boundary: Rectangle | None = None
    """the rectangle the puck's centre must stay in; None takes the task's own"""

    start_range: str = "narrow"
    """``narrow`` jitters one start and keeps one goal, ``full`` draws both from MetaWorld's ranges"""

    name: ClassVar[str] = "BoundedPush"
    failure_type: ClassVar[str] = "out_of_bounds"
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": GraspAndDrag,
        "pusher": ClumsyPusher,
        "failure": BoundarySeeker,
        "recovery": Retreat,
    }
    scene: ClassVar[Scene] = Scene("sawyer_xyz/sawyer_push_v3.xml")
    success_radius_m: ClassVar[float] = SUCCESS_RADIUS_M
    default_boundary: ClassVar[Rectangle] = (-0.20, 0.20, 0.50, 1.00)

    def __post_init__(self) -> None:
        if self.start_range not in START_RANGES:
            raise ValueError(f"start_range is {self.start_range!r}; the choices are {', '.join(START_RANGES)}")
        boundary = self.default_boundary if self.boundary is None else self.boundary
        object.__setattr__(self, "boundary", _checked(boundary, self.start_range))

    def start(self, rng: np.random.Generator, object_z: float) -> Start:
        """Puck and goal uniform in their ranges, at least 15 cm apart."""
        while True:
            (px, py), (gx, gy) = (_draw(rng, box) for box in START_RANGES[self.start_range])
            if math.hypot(px - gx, py - gy) >= MIN_START_DISTANCE_M:
                return Start((px, py, object_z), (gx, gy, object_z), self.sides)

    def reward(self, start: Start, tcp_start: Vec3) -> Reward:
        """Stock push-v3's dense reward."""
        return push_reward(start.object, start.goal, tcp_start)

    def margin(self, sawyer: Sawyer, start: Start) -> float:
        """Distance of the puck's centre to the nearest side, negative outside."""
        x, y, _ = sawyer.object
        x_low, x_high, y_low, y_high = start.hazard
        return min(x - x_low, x_high - x, y - y_low, y_high - y)

    @property
    def sides(self) -> Rectangle:
        """The boundary, whether given or the task's own."""
        assert self.boundary is not None
        return self.boundary

    def outline(self, start: Start) -> list[Segment]:
        """The rectangle's sides."""
        x_low, x_high, y_low, y_high = start.hazard
        corners = [(x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high)]
        points: list[Vec3] = [(x, y, OUTLINE_Z_M) for x, y in corners]
        return list(zip(points, points[1:] + points[:1], strict=True))


@dataclass(frozen=True)
class HardBoundedPush(BoundedPush):
    """The boundary 3 cm around MetaWorld's start and goal ranges: a clumsy push leaves it."""

    default_boundary: ClassVar[Rectangle] = (-0.13, 0.13, 0.57, 0.93)


def _draw(rng: np.random.Generator, box: Rectangle) -> tuple[float, float]:
    return float(rng.uniform(box[0], box[1])), float(rng.uniform(box[2], box[3]))


def _checked(boundary: Rectangle, start_range: str) -> Rectangle:
    """The boundary as plain floats, with room for every start and goal."""
    try:
        values = tuple(float(value) for value in boundary)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"boundary is {boundary!r}; give four finite numbers (x low, x high, y low, y high) in metres")
    x_low, x_high, y_low, y_high = values
    for box in START_RANGES[start_range]:
        if not (x_low < box[0] and box[1] < x_high and y_low < box[2] and box[3] < y_high):
            raise ValueError(
                f"boundary {values} leaves no room: the puck and goal of start_range={start_range!r} lie in "
                f"x {box[0]}..{box[1]}, y {box[2]}..{box[3]}, widen the boundary beyond that"
            )
    return x_low, x_high, y_low, y_high
