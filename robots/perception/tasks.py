"""What there is to see in each Franka task, and what its hazard's place means to it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.perception.colors import BallConfig, ColorConfig
from robots.perception.estimator import PerceptionConfig
from robots.perception.markers import MarkedConfig, MarkerConfig
from robots.perception.planar import Planar

ORANGE = ColorConfig(hue=(5, 22), saturation=(120, 255))
"""a ball of this colour is unlike turf, arm and skin under most lamps"""

FLOWER_TAG_Z_M = 0.30
"""the marker that a flower carries faces up, on a card above the blossom"""


@functools.singledispatch
def usual(task: FrankaTask) -> PerceptionConfig:
    """Markers, or a colour, for the task's objects in their usual sizes: what the marker sheet prints and the twin shows."""
    raise TypeError(f"nobody has said how {task.name} is seen: give a PerceptionConfig")


@usual.register
def _(task: FrankaFragilePushWall) -> PerceptionConfig:
    half_x, half_y = task.wall_half
    middle, out = task.wall_height_m / 2, half_y - 0.05
    wall = (
        MarkerConfig(10, 0.06, (half_x, out, middle), "back"),
        MarkerConfig(11, 0.06, (half_x, -out, middle), "back"),
        MarkerConfig(12, 0.06, (-half_x, out, middle), "front"),
        MarkerConfig(13, 0.06, (-half_x, -out, middle), "front"),
    )
    return PerceptionConfig(marked=(_box(task.box_half_m), MarkedConfig("hazard", wall)))


@usual.register
def _(task: FrankaDisturbedPush) -> PerceptionConfig:
    flower = MarkedConfig("obstacle", (MarkerConfig(20, 0.04, (0.0, 0.0, FLOWER_TAG_Z_M), "up"),))
    return PerceptionConfig(marked=(_box(task.box_half_m), flower))


@usual.register
def _(task: FrankaBoundedSoccer) -> PerceptionConfig:
    return PerceptionConfig(balls=(BallConfig("object", task.ball_radius_m, ORANGE),))


def hazard_of(task: FrankaTask) -> Callable[[Planar], tuple[float, ...]] | None:
    """How the place of a hazard that stands on the table becomes the task's numbers; None where it is no such thing."""
    if isinstance(task, FrankaFragilePushWall):
        return functools.partial(wall, task.wall_half, task.clearance)
    return None


def wall(half: tuple[float, float], clearance: float, stands: Planar) -> tuple[float, ...]:
    """``Layout.hazard`` of Fragile Push Wall.

    The task knows walls across the table only; one that stands askew counts as the rectangle around it.
    """
    cos, sin = abs(math.cos(stands.yaw)), abs(math.sin(stands.yaw))
    around = half[0] * cos + half[1] * sin, half[0] * sin + half[1] * cos
    return (stands.x, stands.y, *around, clearance)


def _box(half: float) -> MarkedConfig:
    size = round(4.0 / 3.0 * half, 3)
    top = MarkerConfig(0, size, (0.0, 0.0, 2.0 * half), "up")
    sides = (("front", (-half, 0.0)), ("back", (half, 0.0)), ("left", (0.0, half)), ("right", (0.0, -half)))
    around = (MarkerConfig(k + 1, size, (x, y, half), facing) for k, (facing, (x, y)) in enumerate(sides))
    return MarkedConfig("object", (top, *around))
