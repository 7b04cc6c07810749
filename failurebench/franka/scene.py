"""A snapshot of the table, as a simulator knows it or as cameras and the arm report it: all that a task is judged by.

The frame is the table's: x ahead of the robot's base, y to its left, the origin below the base's axis, z = 0 the table top.
Metres, seconds, newtons.
"""

from __future__ import annotations

from typing import NamedTuple

from failurebench.franka.geometry import Vec2


class Scene(NamedTuple):
    """Where everything is that moves."""

    tcp: Vec2
    """the tip of the finger"""

    tcp_velocity: Vec2

    object: Vec2
    """centre of the box or ball"""

    yaw: float = 0.0
    """of the box, rad; known up to quarter turns only, since its sides look alike"""

    object_velocity: Vec2 = (0.0, 0.0)

    obstacle: Vec2 = (0.0, 0.0)
    """axis of what a person moves, in the task that has it"""

    obstacle_velocity: Vec2 = (0.0, 0.0)

    force_n: float = 0.0
    """magnitude of the contact force at the finger; 0 where the arm has no such reading"""

    age_s: float = 0.0
    """since object and obstacle were last seen"""


class Layout(NamedTuple):
    """What is drawn when an episode begins, and holds throughout it."""

    object: Vec2
    yaw: float
    goal: Vec2
    hazard: tuple[float, ...]
    """numbers that say where the hazard is; what they mean is the task's"""

    script: int = 0
    """seed of what else an episode draws: the person's ways, the turf, the noise of estimates"""
