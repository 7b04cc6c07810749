"""Disturbed Push: push a box to the goal across the ways of a person who carries a flower back and forth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.experts import Expert
from failurebench.franka.box import BEFORE, BEHIND, BoxTask
from failurebench.franka.definition import FINGER_RADIUS_M, POSITION, VELOCITY, Range, Segment
from failurebench.franka.demonstrators.flower import Barge, FlowerSeeker, GiveWay, Patience
from failurebench.franka.geometry import point_to_square
from failurebench.franka.person import Habits
from failurebench.franka.scene import Layout, Scene


@dataclass(frozen=True)
class FrankaDisturbedPush(BoxTask):
    """Push a light box to the goal while a person carries a flower across the way; nothing may touch the flower (Franka)."""

    clearance: float = 0.01
    """box and finger must stay farther than this from the flower, m"""

    person_speed: float = 1.0
    """factor on the person's pace: 0.08 to 0.18 m/s"""

    reaction_s: float = 0.3
    """how late the person sees where box and finger are"""

    name: ClassVar[str] = "FrankaDisturbedPush"
    failure_type: ClassVar[str] = "hit_flower"
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
        **BEFORE,
        "flower x": POSITION,
        "flower y": POSITION,
        "flower velocity x": VELOCITY,
        "flower velocity y": VELOCITY,
        "radius and clearance": POSITION,
        **BEHIND,
    }
    flower_radius_m: ClassVar[float] = 0.02
    flower_height_m: ClassVar[float] = 0.12

    def _check(self) -> None:
        super()._check()
        self._check_number("clearance", 0.0, 0.04, "metres")
        self._check_number("person_speed", 0.0, 3.0, "a factor on the usual pace")
        self._check_number("reaction_s", 0.0, 1.0, "seconds")

    def hazard(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Radius with clearance, and pace; the script decides the person's ways."""
        pace = float(rng.uniform(0.7, 1.4)) if self.randomize_hazard else 1.0
        return (self.flower_radius_m + self.clearance, pace * self.person_speed)

    def habits(self, layout: Layout) -> Habits:
        """How this episode's person moves."""
        slow, fast = Habits.speed_mps
        pace = layout.hazard[1]
        return Habits(speed_mps=(slow * pace, fast * pace), reaction_s=self.reaction_s)

    def hazard_seen(self, scene: Scene, layout: Layout) -> list[float]:
        """The flower: where it is, how it moves, how much is to be kept clear."""
        return [*scene.obstacle, *scene.obstacle_velocity, layout.hazard[0]]

    def box_room(self, scene: Scene, layout: Layout) -> float:
        """To the flower's surface."""
        return point_to_square(*scene.obstacle, scene.object, scene.yaw, self.box_half_m) - layout.hazard[0]

    def finger_room(self, scene: Scene, layout: Layout) -> float:
        """To the flower's surface."""
        return math.dist(scene.obstacle, scene.tcp) - FINGER_RADIUS_M - layout.hazard[0]

    def remaining(self, scene: Scene, layout: Layout) -> float:
        """Straight to the goal."""
        return math.dist(scene.object, layout.goal)

    def outline(self, layout: Layout) -> list[Segment]:
        """Nothing: the hazard is the flower itself, and moves."""
        return []
