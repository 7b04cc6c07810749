"""Bounded Soccer: dribble a ball over uneven turf along a lane without letting it cross the lane's edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.experts import Expert
from failurebench.franka.definition import ARM, POSITION, SIGHT, FrankaTask, Range, Segment, seen
from failurebench.franka.demonstrators.dribbling import BallSeeker, Dribble, HastyDribble, TrapBall
from failurebench.franka.push_wall import rectangle
from failurebench.franka.scene import Layout, Scene

HAZARD_SHIFT_M = 0.015
"""``randomize_hazard`` moves the lane sideways by at most this"""


@dataclass(frozen=True)
class FrankaBoundedSoccer(FrankaTask):
    """Dribble a ball over uneven turf along a lane to the goal line; the ball may not leave the lane (Franka)."""

    lane_half_m: float = 0.07
    """half the lane's width"""

    uneven_m: float = 0.005
    """from the turf's lowest point to its highest"""

    rolling_friction: float = 0.002
    """of ball and turf, m: what brings a ball to rest"""

    name: ClassVar[str] = "FrankaBoundedSoccer"
    failure_type: ClassVar[str] = "out_of_bounds"
    details: ClassVar[tuple[str, ...]] = ("left", "right", "near")
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": Dribble,
        "pusher": HastyDribble,
        "failure": BallSeeker,
        "recovery": TrapBall,
    }
    starts: ClassVar[dict[str, tuple[Range, Range]]] = {
        "narrow": ((0.43, 0.45), (-0.01, 0.01)),
        "full": ((0.42, 0.46), (-0.03, 0.03)),
    }
    fields: ClassVar[dict[str, tuple[float, float]]] = {
        **ARM,
        **SIGHT,
        "lane near": POSITION,
        "lane far": POSITION,
        "lane right": POSITION,
        "lane left": POSITION,
        "goal x": POSITION,
        "goal y": POSITION,
    }
    ball_radius_m: ClassVar[float] = 0.03
    ball_mass_kg: ClassVar[float] = 0.05
    lane_x: ClassVar[Range] = (0.36, 0.80)
    goal_x: ClassVar[float] = 0.68
    turf_half_m: ClassVar[tuple[float, float]] = (0.24, 0.24)
    turf_centre: ClassVar[tuple[float, float]] = (0.58, 0.0)
    turf_cells: ClassVar[int] = 48

    def _check(self) -> None:
        super()._check()
        self._check_number("lane_half_m", 0.05, 0.15, "metres")
        self._check_number("uneven_m", 0.0, 0.01, "metres")
        self._check_number("rolling_friction", 0.0, 0.01, "metres")

    def layout(self, rng: np.random.Generator) -> Layout:
        """Ball uniform in its range; the script decides the turf."""
        start = self._draw_start(rng)
        shift = float(rng.uniform(-HAZARD_SHIFT_M, HAZARD_SHIFT_M)) if self.randomize_hazard else 0.0
        hazard = (*self.lane_x, shift - self.lane_half_m, shift + self.lane_half_m)
        return Layout(start, 0.0, (self.goal_x, shift), hazard, int(rng.integers(2**31)))

    def margin(self, scene: Scene, layout: Layout) -> float:
        """Distance of the ball's centre to the nearest edge of the lane, negative outside."""
        return min(self._room(scene, layout).values())

    def detail(self, scene: Scene, layout: Layout) -> str:
        """Over which edge it went."""
        room = self._room(scene, layout)
        return min(room, key=lambda side: room[side])

    def reached(self, scene: Scene, layout: Layout) -> bool:
        """The ball's centre has crossed the goal line inside the lane."""
        return scene.object[0] >= layout.goal[0] and self.margin(scene, layout) > 0.0

    def remaining(self, scene: Scene, layout: Layout) -> float:
        """Straight to the goal line."""
        return max(layout.goal[0] - scene.object[0], 0.0)

    def row(self, scene: Scene, layout: Layout) -> list[float]:
        """Arm, ball, lane, goal."""
        return [*seen(scene), *layout.hazard, *layout.goal]

    def outline(self, layout: Layout) -> list[Segment]:
        """The lane's edges; at the far end there is the goal line."""
        near, _, right, left = layout.hazard
        return rectangle(near, layout.goal[0], right, left)

    def _room(self, scene: Scene, layout: Layout) -> dict[str, float]:
        (x, y), (near, _, right, left) = scene.object, layout.hazard
        return {"left": left - y, "right": y - right, "near": x - near}
