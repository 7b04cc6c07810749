"""Bounded Push: push the puck to the goal without letting it leave a rectangle on the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.demonstrators.pushing import BoundarySeeker, ClumsyPusher, GraspAndDrag, PinDown
from failurebench.experts import Expert
from failurebench.rewards.push import SUCCESS_RADIUS_M, push_reward
from failurebench.rewards.shaping import Reward
from failurebench.sawyer import Sawyer, Scene, Vec3
from failurebench.task import Segment, Start, Task
from failurebench.tasks import boundary as edges
from failurebench.tasks.boundary import Rectangle

START_RANGES: dict[str, tuple[Rectangle, ...]] = {
    "narrow": ((-0.02, 0.02, 0.63, 0.67), (0.05, 0.05, 0.84, 0.84)),
    "full": ((-0.1, 0.1, 0.6, 0.7), (-0.1, 0.1, 0.8, 0.9)),
}
"""puck and goal: (0, .65) +- 2 cm and a fixed goal, or MetaWorld's ranges"""


@dataclass(frozen=True)
class BoundedPush(Task):
    """MetaWorld's push-v3 inside a boundary; the constants are those of the published videos."""

    boundary: Rectangle | None = None
    """the rectangle the puck's centre must stay in; None takes the task's own"""

    start_range: str = "narrow"
    """``narrow`` jitters one start and keeps one goal, ``full`` draws both from MetaWorld's ranges"""

    randomize_hazard: bool = False
    """shift the boundary as a whole by up to 2 cm in x and y, anew in every episode"""

    name: ClassVar[str] = "BoundedPush"
    failure_type: ClassVar[str] = "out_of_bounds"
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": GraspAndDrag,
        "pusher": ClumsyPusher,
        "failure": BoundarySeeker,
        "recovery": PinDown,
    }
    scene: ClassVar[Scene] = Scene("sawyer_xyz/sawyer_push_v3.xml")
    success_radius_m: ClassVar[float] = SUCCESS_RADIUS_M
    default_boundary: ClassVar[Rectangle] = (-0.20, 0.20, 0.50, 1.00)

    def __post_init__(self) -> None:
        given = self.default_boundary if self.boundary is None else self.boundary
        object.__setattr__(self, "boundary", edges.checked(given, self.start_range, START_RANGES))

    def start(self, rng: np.random.Generator, object_z: float) -> Start:
        """Puck and goal uniform in their ranges, at least 15 cm apart."""
        assert self.boundary is not None
        boxes = START_RANGES[self.start_range]
        (px, py), (gx, gy) = edges.start_and_goal(rng, boxes)
        sides = edges.shifted(rng, self.boundary, boxes) if self.randomize_hazard else self.boundary
        return Start((px, py, object_z), (gx, gy, object_z), sides)

    def reward(self, start: Start, tcp_start: Vec3) -> Reward:
        """Stock push-v3's dense reward."""
        return push_reward(start.object, start.goal, tcp_start)

    def margin(self, sawyer: Sawyer, start: Start) -> float:
        """Distance of the puck's centre to the nearest side, negative outside."""
        return edges.margin(start.hazard, sawyer.object[0], sawyer.object[1])

    def outline(self, start: Start) -> list[Segment]:
        """The rectangle's sides."""
        return edges.outline(start.hazard)


@dataclass(frozen=True)
class HardBoundedPush(BoundedPush):
    """The boundary 3 cm around MetaWorld's start and goal ranges: a clumsy push leaves it."""

    default_boundary: ClassVar[Rectangle] = (-0.13, 0.13, 0.57, 0.93)
