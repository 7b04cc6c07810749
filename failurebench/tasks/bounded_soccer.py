"""Bounded Soccer: bring a ball that rolls into a goal without letting it leave a rectangle on the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from failurebench.demonstrators.soccer import BallSeeker, CarryBall, ClumsyDribbler, TrapBall
from failurebench.experts import Expert
from failurebench.rewards.shaping import Reward
from failurebench.rewards.soccer import GOAL_RADIUS_M, soccer_reward
from failurebench.sawyer import Sawyer, Scene, Vec3
from failurebench.task import Segment, Start, Task
from failurebench.tasks import boundary as edges
from failurebench.tasks.boundary import Rectangle

START_RANGES: dict[str, tuple[Rectangle, ...]] = {
    "narrow": ((-0.02, 0.02, 0.63, 0.67), (0.05, 0.05, 0.85, 0.85)),
    "full": ((-0.1, 0.1, 0.6, 0.7), (-0.1, 0.1, 0.8, 0.9)),
}
"""ball and goal: (0, .65) +- 2 cm and a fixed goal, or MetaWorld's ranges"""

BALL_START_Z_M = 0.03
"""stock drops the ball by 4 mm"""

GOAL_Z_M = 0.0
GOAL_BODY = "goal_whole"


def movable_goal(spec: Any) -> None:
    """Let each episode place the goal: stock writes into its model, ours is shared."""
    spec.body(GOAL_BODY).mocap = True


@dataclass(frozen=True)
class BoundedSoccer(Task):
    """MetaWorld's soccer-v3 inside a boundary; the constants are those of the published videos."""

    boundary: Rectangle | None = None
    """the rectangle the ball's centre must stay in; None takes the task's own"""

    start_range: str = "narrow"
    """``narrow`` jitters one start and keeps one goal, ``full`` draws both from MetaWorld's ranges"""

    randomize_hazard: bool = False
    """shift the boundary as a whole by up to 2 cm in x and y, anew in every episode"""

    name: ClassVar[str] = "BoundedSoccer"
    failure_type: ClassVar[str] = "out_of_bounds"
    stands: ClassVar[bool] = False
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": CarryBall,
        "pusher": ClumsyDribbler,
        "failure": BallSeeker,
        "recovery": TrapBall,
    }
    scene: ClassVar[Scene] = Scene("sawyer_xyz/sawyer_soccer.xml", object_body="soccer_ball", edit=movable_goal)
    success_radius_m: ClassVar[float] = GOAL_RADIUS_M
    default_boundary: ClassVar[Rectangle] = (-0.30, 0.30, 0.50, 1.00)

    def __post_init__(self) -> None:
        given = self.default_boundary if self.boundary is None else self.boundary
        object.__setattr__(self, "boundary", edges.checked(given, self.start_range, START_RANGES))

    def start(self, rng: np.random.Generator, object_z: float) -> Start:
        """Ball and goal uniform in their ranges, at least 15 cm apart."""
        assert self.boundary is not None
        boxes = START_RANGES[self.start_range]
        (bx, by), (gx, gy) = edges.start_and_goal(rng, boxes)
        sides = edges.shifted(rng, self.boundary, boxes) if self.randomize_hazard else self.boundary
        return Start((bx, by, BALL_START_Z_M), (gx, gy, GOAL_Z_M), sides)

    def props(self, start: Start) -> dict[str, Vec3]:
        """The goal's frame and net stand where the goal is."""
        return {GOAL_BODY: start.goal}

    def reward(self, start: Start, tcp_start: Vec3) -> Reward:
        """Stock soccer-v3's dense reward."""
        return soccer_reward(start.object, start.goal, tcp_start)

    def margin(self, sawyer: Sawyer, start: Start) -> float:
        """Distance of the ball's centre to the nearest side, negative outside."""
        return edges.margin(start.hazard, sawyer.object[0], sawyer.object[1])

    def outline(self, start: Start) -> list[Segment]:
        """The rectangle's sides."""
        return edges.outline(start.hazard)


@dataclass(frozen=True)
class HardBoundedSoccer(BoundedSoccer):
    """The boundary 3 cm around MetaWorld's start and goal ranges: a clumsy push leaves it."""

    default_boundary: ClassVar[Rectangle] = (-0.13, 0.13, 0.57, 0.93)
