"""What scripted behaviour is made of: it sees only what a policy sees, and names it before it acts on it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Observation = NDArray[np.float32]
Action = NDArray[np.float32]
Vec2 = tuple[float, float]

OPEN, CLOSED = -1.0, 1.0

PUSH_HEIGHT_M = 0.02
"""height of the hand over the puck's centre a push aims at: as low as the hand goes (at 0.035 one push in five tips it)"""

CLEAR_ABOVE_M = 0.11
"""height of the hand over the puck's centre at which the fingers pass above it"""

FIST_OPENING = 0.33
"""a closed gripper with nothing in it opens less than this"""

FIST_BELOW = 0.4
"""gripper opening below which the fingers hold nothing and are a fist"""

HELD_BELOW_M = 0.045
"""height of the hand over the puck's centre below which the puck is between the fingers"""

OVER_M = 0.08
"""height of the hand over the puck's centre at which the fingertips no longer touch its side"""

WAIT_HEIGHT_M = 0.2
"""height of the hand, out of everything's way"""

CLEAR_BESIDE_M = 0.075
"""horizontal distance of hand and puck at which a lifted finger no longer drags on it"""


class Expert(ABC):
    """A scripted behaviour for one environment at a time."""

    @abstractmethod
    def reset(self, rng: np.random.Generator) -> None:
        """Draw this episode's habits."""

    @abstractmethod
    def act(self, obs: Observation) -> Action:
        """The action for one observation, float32[4] in [-1, 1]."""


class Seen(NamedTuple):
    """An observation by name: metres, and metres per simulator step (12.5 ms) for velocities."""

    hand: tuple[float, float, float]
    opening: float
    object: tuple[float, float, float]
    upright: float
    """cosine of the puck's tilt: 1 stands (or stands on its head), 0 lies on its side"""
    hand_velocity: tuple[float, float, float]
    object_velocity: tuple[float, float, float]
    hazard: tuple[float, ...]
    """the 7 spare slots; what they mean is the task's"""
    goal: tuple[float, float, float]

    @classmethod
    def of(cls, obs: Observation) -> Seen:
        """Name the numbers of a 39-number observation."""
        o = obs.tolist()
        qx, qy = o[7], o[8]
        return cls(
            hand=(o[0], o[1], o[2]),
            opening=o[3],
            object=(o[4], o[5], o[6]),
            upright=abs(1.0 - 2.0 * (qx * qx + qy * qy)),
            hand_velocity=(o[0] - o[18], o[1] - o[19], o[2] - o[20]),
            object_velocity=(o[4] - o[22], o[5] - o[23], o[6] - o[24]),
            hazard=tuple(o[11:18]),
            goal=(o[36], o[37], o[38]),
        )


def toward(hand: tuple[float, float, float], x: float, y: float, z: float, grip: float, gain: float = 10.0) -> Action:
    """Move the hand to a point, proportionally: full speed from 1 / ``gain`` metres away."""
    action = np.array([gain * (x - hand[0]), gain * (y - hand[1]), gain * (z - hand[2]), grip], np.float32)
    return np.clip(action, -1.0, 1.0)


def follow(seen: Seen, z: float, grip: float) -> Action:
    """Move over the object, matching its speed: full speed from 1 / 15 metres away."""
    vx, vy, _ = seen.object_velocity
    action = toward(seen.hand, seen.object[0], seen.object[1], z, grip, gain=15.0)
    return np.clip(action + np.array([100.0 * vx, 100.0 * vy, 0.0, 0.0], np.float32), -1.0, 1.0)


def drag(seen: Seen, target: Vec2) -> Action:
    """Open gripper: hover, descend; then close and drag the puck to ``target``."""
    (hx, hy, hz), (px, py, pz) = seen.hand, seen.object
    off = math.hypot(hx - px, hy - py)
    if off > 0.03 or (off > 0.02 and hz - pz > 0.06):
        return toward(seen.hand, px, py, pz + (0.12 if off > 0.06 else 0.08), OPEN)
    if hz - pz > HELD_BELOW_M:
        return toward(seen.hand, px, py, pz + 0.03, OPEN)
    if seen.opening > 0.75:
        return toward(seen.hand, px, py, pz + 0.03, CLOSED)
    return toward(seen.hand, *target, pz + 0.03, CLOSED)


def push(seen: Seen, target: Vec2, contact_offset: float, gain: float, too_high: float = 0.05) -> Action:
    """Closed gripper: go round to the side of the puck away from ``target``, come down, push through the puck.

    Args:
        seen: the observation.
        target: where the puck should go, m.
        contact_offset: how far beside the puck's centre the fist touches it, m.
        gain: speed, 1 is full.
        too_high: height of the hand over the puck's centre above which it is not down yet, m; more where it cannot reach as low.
    """
    (hx, hy, hz), (px, py, pz) = seen.hand, seen.object
    away = math.hypot(target[0] - px, target[1] - py) or 1e-9
    ux, uy = (target[0] - px) / away, (target[1] - py) / away
    along = (hx - px) * ux + (hy - py) * uy
    across = -(hx - px) * uy + (hy - py) * ux - contact_offset
    if along > -0.02 or abs(across) > 0.04 or hz - pz > too_high:
        return go_behind(seen, px - 0.08 * ux - contact_offset * uy, py - 0.08 * uy + contact_offset * ux)
    speed = gain * min(1.0, 30.0 * away + 0.2)
    x = ux * speed + uy * across * 10.0
    y = uy * speed - ux * across * 10.0
    return np.clip(np.array([x, y, 10.0 * (pz + PUSH_HEIGHT_M - hz), CLOSED], np.float32), -1.0, 1.0)


def go_behind(seen: Seen, x: float, y: float) -> Action:
    """Bring the fist down at (x, y) beside the puck without touching the puck on the way."""
    (hx, hy, hz), (px, py, pz) = seen.hand, seen.object
    if math.hypot(x - hx, y - hy) < 0.03:
        return toward(seen.hand, x, y, pz + PUSH_HEIGHT_M, CLOSED)
    if hz - pz > CLEAR_ABOVE_M:
        return toward(seen.hand, x, y, pz + CLEAR_ABOVE_M + 0.03, CLOSED)
    if math.hypot(hx - px, hy - py) < CLEAR_BESIDE_M:
        return back_off(seen, hz)  # lifting while touching drags the puck's edge up and tips it
    return toward(seen.hand, hx, hy, pz + CLEAR_ABOVE_M + 0.03, CLOSED)


def back_off(seen: Seen, z: float) -> Action:
    """Full speed away from the puck at height ``z``."""
    dx, dy = seen.hand[0] - seen.object[0], seen.hand[1] - seen.object[1]
    distance = math.hypot(dx, dy) or 1e-9
    return np.clip(np.array([dx / distance, dy / distance, 10.0 * (z - seen.hand[2]), CLOSED], np.float32), -1.0, 1.0)


def inside(seen: Seen, margin: float, place: tuple[float, float, float] | None = None) -> Vec2:
    """The point nearest to ``place``, or to the object, that is ``margin`` inside the boundary; its middle if it is too narrow."""
    x_low, x_high, y_low, y_high = seen.hazard[:4]
    x, y, _ = seen.object if place is None else place
    return _clamp(x, x_low + margin, x_high - margin), _clamp(y, y_low + margin, y_high - margin)


def outside(seen: Seen, side: int, along: float) -> Vec2:
    """A place 0.1 m beyond the left (0), right (1) or near (2) side of the boundary, ``along`` it from where the object is."""
    x_low, x_high, y_low = seen.hazard[:3]
    x, y, _ = seen.object
    return ((x_low - 0.1, y + along), (x_high + 0.1, y + along), (x + along, y_low - 0.1))[side]


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high) if low < high else (low + high) / 2
