"""Fragile Push Wall: push a light box round the free end of a wall that nothing may touch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from failurebench.experts import Expert
from failurebench.franka.box import BEFORE, BEHIND, BoxTask
from failurebench.franka.definition import FINGER_RADIUS_M, POSITION, Range, Segment
from failurebench.franka.demonstrators.wall import CloseShave, Detour, StepAside, WallSeeker
from failurebench.franka.geometry import Vec2, point_to_box, square_to_box
from failurebench.franka.scene import Layout, Scene

HAZARD_SHIFT_M = 0.02
"""``randomize_hazard`` moves the wall along y by at most this"""

ROUND_M = 0.05
"""how far from the wall the shortest sensible way of the box's centre passes"""

OUTLINE_Z_M = 0.002


@dataclass(frozen=True)
class FrankaFragilePushWall(BoxTask):
    """Push a light box round a wall to the goal behind it; neither box nor finger may touch the wall (Franka)."""

    clearance: float = 0.005
    """box and finger must stay farther than this from the wall, m; less than a camera's error cannot be told from contact"""

    wall_x: float = 0.55
    """middle of the wall, m from the robot's base"""

    wall_end_y: float = 0.04
    """the wall's free end, m to the left of the base"""

    name: ClassVar[str] = "FrankaFragilePushWall"
    failure_type: ClassVar[str] = "hit_wall"
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": Detour,
        "pusher": CloseShave,
        "failure": WallSeeker,
        "recovery": StepAside,
    }
    starts: ClassVar[dict[str, tuple[Range, Range]]] = {
        "narrow": ((0.43, 0.45), (-0.015, 0.015)),
        "full": ((0.42, 0.45), (-0.06, 0.04)),
    }
    goals: ClassVar[dict[str, tuple[Range, Range]]] = {
        "narrow": ((0.66, 0.66), (-0.02, -0.02)),
        "full": ((0.65, 0.67), (-0.06, 0.02)),
    }
    fields: ClassVar[dict[str, tuple[float, float]]] = {
        **BEFORE,
        "wall x": POSITION,
        "wall y": POSITION,
        "wall half depth": POSITION,
        "wall half width": POSITION,
        "clearance": POSITION,
        **BEHIND,
    }
    wall_half: ClassVar[Vec2] = (0.01, 0.12)
    wall_height_m: ClassVar[float] = 0.10

    def _check(self) -> None:
        super()._check()
        self._check_number("clearance", 0.0, 0.03, "metres")
        self._check_number("wall_x", 0.53, 0.57, "metres from the base")
        self._check_number("wall_end_y", -0.02, 0.08, "metres to the left of the base")

    def hazard(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Centre, half sizes and clearance of the wall, between box and goal."""
        shift = float(rng.uniform(-HAZARD_SHIFT_M, HAZARD_SHIFT_M)) if self.randomize_hazard else 0.0
        middle = self.wall_end_y - self.wall_half[1] + shift
        return (self.wall_x, middle, *self.wall_half, self.clearance)

    def hazard_seen(self, scene: Scene, layout: Layout) -> list[float]:
        """The wall, which does not move."""
        return list(layout.hazard)

    def box_room(self, scene: Scene, layout: Layout) -> float:
        """To the wall's footprint."""
        x, y, half_x, half_y, clearance = layout.hazard
        return square_to_box(scene.object, scene.yaw, self.box_half_m, (x, y), (half_x, half_y)) - clearance

    def finger_room(self, scene: Scene, layout: Layout) -> float:
        """To the wall's footprint."""
        x, y, half_x, half_y, clearance = layout.hazard
        return point_to_box(scene.tcp[0] - x, scene.tcp[1] - y, half_x, half_y) - FINGER_RADIUS_M - clearance

    def remaining(self, scene: Scene, layout: Layout) -> float:
        """Length of the shortest way round the wall's free end."""
        x, y, half_x, half_y = layout.hazard[:4]
        before: Vec2 = (x - half_x - ROUND_M, y + half_y + ROUND_M)
        behind: Vec2 = (x + half_x + ROUND_M, y + half_y + ROUND_M)
        blocked = (x, y), (half_x + ROUND_M - 0.005, half_y + ROUND_M - 0.005)
        if not _crosses(scene.object, layout.goal, *blocked):
            return math.dist(scene.object, layout.goal)
        last = math.dist(behind, layout.goal)
        if not _crosses(scene.object, behind, *blocked):
            return math.dist(scene.object, behind) + last
        return math.dist(scene.object, before) + math.dist(before, behind) + last

    def outline(self, layout: Layout) -> list[Segment]:
        """The wall's footprint grown by the clearance."""
        x, y, half_x, half_y, clearance = layout.hazard
        return rectangle(x - half_x - clearance, x + half_x + clearance, y - half_y - clearance, y + half_y + clearance)


def rectangle(x_low: float, x_high: float, y_low: float, y_high: float) -> list[Segment]:
    """Four lines just above the table."""
    corners = [(x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high)]
    points = [(x, y, OUTLINE_Z_M) for x, y in corners]
    return list(zip(points, points[1:] + points[:1], strict=True))


def _crosses(a: Vec2, b: Vec2, centre: Vec2, half: Vec2) -> bool:
    """Whether the segment from ``a`` to ``b`` meets an axis-aligned rectangle (slab method)."""
    enter, leave = 0.0, 1.0
    for axis in (0, 1):
        start, way = a[axis] - centre[axis], b[axis] - a[axis]
        if way == 0.0:
            if abs(start) > half[axis]:
                return False
            continue
        near, far = sorted(((-half[axis] - start) / way, (half[axis] - start) / way))
        enter, leave = max(enter, near), min(leave, far)
    return enter <= leave
