"""Disturbed Push: push a box to the goal across the ways of a person who carries a flower back and forth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.experts import Expert
from failurebench.franka.definition import (
    ARM,
    FINGER_RADIUS_M,
    POSITION,
    SIGHT,
    VELOCITY,
    YAW,
    FrankaTask,
    Range,
    Segment,
    seen,
    turned,
)
from failurebench.franka.demonstrators.flower import Barge, FlowerSeeker, GiveWay, Patience
from failurebench.franka.geometry import point_to_square
from failurebench.franka.person import Habits
from failurebench.franka.scene import Layout, Scene


@dataclass(frozen=True)
class FrankaDisturbedPush(FrankaTask):
    """Push a light box to the goal while a person carries a flower across the way; nothing may touch the flower (Franka)."""

    clearance: float = 0.01
    """box and finger must stay farther than this from the flower, m"""

    person_speed: float = 1.0
    """factor on the person's pace: 0.08 to 0.18 m/s"""

    reaction_s: float = 0.3
    """how late the person sees where box and finger are"""

    box_half_m: float = 0.03
    """half the side of the box"""

    name: ClassVar[str] = "FrankaDisturbedPush"
    failure_type: ClassVar[str] = "hit_flower"
    details: ClassVar[tuple[str, ...]] = ("box", "finger")
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": Patience,
        "pusher": Barge,
        "failure": FlowerSeeker,
        "recovery": GiveWay,
    }
    starts: ClassVar[dict[str, tuple[Range, Range]]] = {
        "narrow": ((0.42, 0.44), (-0.02, 0.02)),
        "full": ((0.41, 0.45), (-0.08, 0.08)),
    }
    goals: ClassVar[dict[str, tuple[Range, Range]]] = {
        "narrow": ((0.68, 0.68), (0.0, 0.0)),
        "full": ((0.66, 0.69), (-0.06, 0.06)),
    }
    fields: ClassVar[dict[str, tuple[float, float]]] = {
        **ARM,
        **SIGHT,
        **YAW,
        "flower x": POSITION,
        "flower y": POSITION,
        "flower velocity x": VELOCITY,
        "flower velocity y": VELOCITY,
        "radius and clearance": POSITION,
        "goal x": POSITION,
        "goal y": POSITION,
    }
    flower_radius_m: ClassVar[float] = 0.02
    flower_height_m: ClassVar[float] = 0.12
    box_density: ClassVar[float] = 300.0
    success_radius_m: ClassVar[float] = 0.03

    def _check(self) -> None:
        super()._check()
        self._check_number("clearance", 0.0, 0.04, "metres")
        self._check_number("person_speed", 0.0, 3.0, "a factor on the usual pace")
        self._check_number("reaction_s", 0.0, 1.0, "seconds")
        self._check_number("box_half_m", 0.015, 0.04, "metres")

    def layout(self, rng: np.random.Generator) -> Layout:
        """Box, its yaw and goal uniform in their ranges; the script decides the person's ways."""
        start, yaw = self._draw_start(rng), float(rng.uniform(-0.15, 0.15))
        (x_low, x_high), (y_low, y_high) = self.goals[self.start_range]
        goal = float(rng.uniform(x_low, x_high)), float(rng.uniform(y_low, y_high))
        pace = float(rng.uniform(0.7, 1.4)) if self.randomize_hazard else 1.0
        hazard = (self.flower_radius_m + self.clearance, pace * self.person_speed)
        return Layout(start, yaw, goal, hazard, int(rng.integers(2**31)))

    def habits(self, layout: Layout) -> Habits:
        """How this episode's person moves."""
        slow, fast = Habits.speed_mps
        pace = layout.hazard[1]
        return Habits(speed_mps=(slow * pace, fast * pace), reaction_s=self.reaction_s)

    def margin(self, scene: Scene, layout: Layout) -> float:
        """Distance of the flower to the box or the finger, whichever is nearer, less the clearance."""
        return min(self._to_box(scene), self._to_finger(scene)) - layout.hazard[0]

    def detail(self, scene: Scene, layout: Layout) -> str:
        """Which of the two is nearer to the flower."""
        return "box" if self._to_box(scene) <= self._to_finger(scene) else "finger"

    def reached(self, scene: Scene, layout: Layout) -> bool:
        """The box's centre is within 3 cm of the goal."""
        return math.dist(scene.object, layout.goal) <= self.success_radius_m

    def remaining(self, scene: Scene, layout: Layout) -> float:
        """Straight to the goal."""
        return math.dist(scene.object, layout.goal)

    def row(self, scene: Scene, layout: Layout) -> list[float]:
        """Arm, box, flower, goal."""
        flower = [*scene.obstacle, *scene.obstacle_velocity, layout.hazard[0]]
        return [*seen(scene), *turned(scene), *flower, *layout.goal]

    def outline(self, layout: Layout) -> list[Segment]:
        """Nothing: the hazard is the flower itself, and moves."""
        return []

    def _to_box(self, scene: Scene) -> float:
        return point_to_square(*scene.obstacle, scene.object, scene.yaw, self.box_half_m)

    def _to_finger(self, scene: Scene) -> float:
        return math.dist(scene.obstacle, scene.tcp) - FINGER_RADIUS_M
