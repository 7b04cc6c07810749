"""What the pushing tasks have in common: a light box on its way to a goal, and a hazard that neither box nor finger may touch."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.franka.definition import ARM, POSITION, SIGHT, YAW, FrankaTask, Range, seen, turned
from failurebench.franka.scene import Layout, Scene

BEFORE = {**ARM, **SIGHT, **YAW}
"""the numbers of a pushing task's observation before those of its hazard"""

BEHIND = {"goal x": POSITION, "goal y": POSITION}
"""and those behind"""

MOST_YAW = 0.15
"""the box is turned by at most this at the start, rad"""


@dataclass(frozen=True)
class BoxTask(FrankaTask):
    """Push a box to a goal. What the hazard is, and how near it is, each task says itself."""

    box_half_m: float = 0.03
    """half the side of the box"""

    details: ClassVar[tuple[str, ...]] = ("box", "finger")
    goals: ClassVar[dict[str, tuple[Range, Range]]]
    """x and y of the goal, by range"""

    box_density: ClassVar[float] = 300.0
    """kg/m3: 65 g"""

    success_radius_m: ClassVar[float] = 0.03

    @abstractmethod
    def hazard(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Draw what a layout says of the hazard."""

    @abstractmethod
    def hazard_seen(self, scene: Scene, layout: Layout) -> list[float]:
        """The numbers of the observation between ``BEFORE`` and ``BEHIND``."""

    @abstractmethod
    def box_room(self, scene: Scene, layout: Layout) -> float:
        """Distance between box and hazard less the clearance, m."""

    @abstractmethod
    def finger_room(self, scene: Scene, layout: Layout) -> float:
        """Distance between finger and hazard less the clearance, m."""

    def layout(self, rng: np.random.Generator) -> Layout:
        """Box, its yaw and goal uniform in their ranges."""
        start, yaw = self._draw_start(rng), float(rng.uniform(-MOST_YAW, MOST_YAW))
        (x_low, x_high), (y_low, y_high) = self.goals[self.start_range]
        goal = float(rng.uniform(x_low, x_high)), float(rng.uniform(y_low, y_high))
        return Layout(start, yaw, goal, self.hazard(rng), int(rng.integers(2**31)))

    def margin(self, scene: Scene, layout: Layout) -> float:
        """Room of the box or the finger, whichever has less."""
        return min(self.box_room(scene, layout), self.finger_room(scene, layout))

    def detail(self, scene: Scene, layout: Layout) -> str:
        """Which of the two is nearer to the hazard."""
        return "box" if self.box_room(scene, layout) <= self.finger_room(scene, layout) else "finger"

    def reached(self, scene: Scene, layout: Layout) -> bool:
        """The box's centre is within 3 cm of the goal."""
        return math.dist(scene.object, layout.goal) <= self.success_radius_m

    def row(self, scene: Scene, layout: Layout) -> list[float]:
        """Arm, box, hazard, goal."""
        return [*seen(scene), *turned(scene), *self.hazard_seen(scene, layout), *layout.goal]

    def _check(self) -> None:
        super()._check()
        self._check_number("box_half_m", 0.015, 0.04, "metres")
