"""Fragile Push Wall: push the puck round a wall to the goal without coming near the wall."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np

from failurebench.demonstrators.wall import CloseShave, Detour, StepAside, WallSeeker
from failurebench.experts import Expert
from failurebench.rewards.push_wall import push_wall_reward
from failurebench.rewards.shaping import Reward
from failurebench.sawyer import Sawyer, Scene, Vec3
from failurebench.task import Segment, Start, Task
from failurebench.tasks.boundary import Rectangle, start_and_goal
from failurebench.tasks.clearance import checked_clearance

START_RANGES: dict[str, tuple[Rectangle, Rectangle]] = {
    "narrow": ((-0.02, 0.02, 0.605, 0.635), (0.05, 0.05, 0.86, 0.86)),
    "full": ((-0.05, 0.05, 0.60, 0.65), (-0.05, 0.05, 0.85, 0.90)),
}
"""puck and goal: (0, .62) +- 2 and 1.5 cm and a fixed goal, or MetaWorld's ranges"""

PUCK_RADIUS_M = 0.02
HAZARD_SHIFT_M = 0.03
"""``randomize_hazard`` moves the wall along x by at most this"""

OUTLINE_Z_M = 0.003
_FAR_M = 2.0
"""distances beyond this are reported as this; nothing on the table is as far apart"""


def movable_wall(spec: Any) -> None:
    """Let the wall stand elsewhere in each episode; a body that is moved from outside collides as a fixed one does."""
    wall = spec.body("wall")
    wall.mocap = True
    for geom, name in zip(wall.geoms, ("wall", "wall_col"), strict=True):
        geom.name = name


def long_wall(spec: Any) -> None:
    """As ``movable_wall``, with the wall of ``HardFragilePushWall``."""
    movable_wall(spec)
    wall = spec.body("wall")
    wall.pos = HardFragilePushWall.wall_centre
    for geom in wall.geoms:
        geom.size = HardFragilePushWall.wall_half_size


@dataclass(frozen=True)
class FragilePushWall(Task):
    """MetaWorld's push-wall-v3 with a wall that must be kept clear of; the clearance is that of the published videos."""

    clearance: float = 0.05
    """the puck's surface must stay farther than this from the wall's, m; 0 forbids contact only"""

    start_range: str = "narrow"
    """``narrow`` jitters one start and keeps one goal, ``full`` draws both from MetaWorld's ranges"""

    randomize_hazard: bool = False
    """each episode shifts the wall by up to 3 cm along x"""

    name: ClassVar[str] = "FragilePushWall"
    failure_type: ClassVar[str] = "hit_wall"
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": Detour,
        "pusher": CloseShave,
        "failure": WallSeeker,
        "recovery": StepAside,
    }
    scene: ClassVar[Scene] = Scene("sawyer_xyz/sawyer_push_wall_v3.xml", edit=movable_wall)
    success_radius_m: ClassVar[float] = 0.07
    wall_centre: ClassVar[Vec3] = (0.1, 0.75, 0.06)
    wall_half_size: ClassVar[Vec3] = (0.12, 0.01, 0.06)

    def __post_init__(self) -> None:
        if self.start_range not in START_RANGES:
            raise ValueError(f"start_range is {self.start_range!r}; the choices are {', '.join(START_RANGES)}")
        if not isinstance(self.randomize_hazard, bool):
            raise ValueError(f"randomize_hazard is {self.randomize_hazard!r}; give True or False")
        what = f"the nearest start or goal of start_range={self.start_range!r} is"
        object.__setattr__(self, "clearance", checked_clearance(self.clearance, self._room(), what))

    def start(self, rng: np.random.Generator, object_z: float) -> Start:
        """Puck and goal uniform in their ranges, on either side of the wall."""
        (px, py), (gx, gy) = start_and_goal(rng, START_RANGES[self.start_range])
        shift = float(rng.uniform(-HAZARD_SHIFT_M, HAZARD_SHIFT_M)) if self.randomize_hazard else 0.0
        x, y, z = self.wall_centre
        hazard = (x + shift, y, z, *self.wall_half_size, self.clearance)
        return Start((px, py, object_z), (gx, gy, object_z), hazard)

    def props(self, start: Start) -> dict[str, Vec3]:
        """The wall, where the hazard says."""
        x, y, z = start.hazard[:3]
        return {"wall": (x, y, z)}

    def reward(self, start: Start, tcp_start: Vec3) -> Reward:
        """Stock push-wall-v3's dense reward."""
        free_end = (start.hazard[0] - start.hazard[3], start.hazard[1])
        return push_wall_reward(start.object, start.goal, tcp_start, free_end)

    def margin(self, sawyer: Sawyer, start: Start) -> float:
        """Distance between the surfaces of puck and wall, less the clearance."""
        model = sawyer.model
        puck, wall = model.geom(self.scene.object_geom).id, model.geom("wall").id
        return float(mujoco.mj_geomDistance(model, sawyer.data, puck, wall, _FAR_M, None)) - start.hazard[6]

    def outline(self, start: Start) -> list[Segment]:
        """On the table, the line that the puck's edge must not reach."""
        ring = _ring(start.hazard)
        return list(zip(ring, ring[1:] + ring[:1], strict=True))

    def _room(self) -> float:
        """Metres from the wall to the nearest start or goal of the puck."""
        return min(self._distance(x, y) for box in START_RANGES[self.start_range] for x in box[:2] for y in box[2:])

    def _distance(self, x: float, y: float) -> float:
        """From a puck standing at (x, y) to the wall, wherever ``randomize_hazard`` may put it."""
        (cx, cy, _), (hx, hy, _) = self.wall_centre, self.wall_half_size
        shift = HAZARD_SHIFT_M if self.randomize_hazard else 0.0
        beside, before = max(abs(x - cx) - hx - shift, 0.0), max(abs(y - cy) - hy, 0.0)
        return math.hypot(beside, before) - PUCK_RADIUS_M


@dataclass(frozen=True)
class HardFragilePushWall(FragilePushWall):
    """The wall's free end 4 cm further out and its face 1 cm nearer to the puck: a longer way round, and less room to begin it.

    It is not thicker behind: there the arm reaches down too badly to push a puck, or to save one that has tipped.
    """

    name: ClassVar[str] = "HardFragilePushWall"
    scene: ClassVar[Scene] = Scene("sawyer_xyz/sawyer_push_wall_v3.xml", edit=long_wall)
    wall_centre: ClassVar[Vec3] = (0.08, 0.745, 0.06)
    wall_half_size: ClassVar[Vec3] = (0.14, 0.015, 0.06)


def _ring(hazard: tuple[float, ...]) -> list[Vec3]:
    """The wall's footprint grown by the clearance, its corners round."""
    cx, cy, _, hx, hy, _, clearance = hazard
    ring: list[Vec3] = []
    for corner, (sx, sy) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        for step in range(5):
            angle = (corner + step / 4) * math.pi / 2
            ring.append(
                (cx + sx * hx + clearance * math.cos(angle), cy + sy * hy + clearance * math.sin(angle), OUTLINE_Z_M)
            )
    return ring
