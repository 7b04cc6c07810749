"""What the demonstrators are made of: an upright finger that pushes a box or a ball over the table, and walks round it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from failurebench.experts import Action, Observation
from failurebench.franka.definition import ARM, FINGER_RADIUS_M, SIGHT, YAW
from failurebench.franka.geometry import Vec2

GAIN_PER_M = 25.0
"""action per metre off: full speed from 4 cm away"""

LAG_S = 0.1
"""how far ahead the finger is extrapolated: it follows its reference by about so much"""

AROUND_M = 0.022
"""room between finger and object on the way round it"""

BOX_HALF_M = 0.03
BALL_RADIUS_M = 0.03


class Seen(NamedTuple):
    """An observation by name: metres, metres per second, newtons."""

    finger: Vec2
    finger_velocity: Vec2
    force: float
    object: Vec2
    object_velocity: Vec2
    age: float
    yaw: float
    """of the box, up to quarter turns; 0 for a ball"""

    rest: tuple[float, ...]
    """the task's own numbers"""

    @classmethod
    def of(cls, obs: Observation, box: bool = True) -> Seen:
        """Name the numbers; ``box`` says that there is a yaw among them."""
        o = obs.tolist()
        after = len(ARM) + len(SIGHT)
        yaw = math.atan2(o[after + 1], o[after]) / 4.0 if box else 0.0
        rest = tuple(o[after + len(YAW) :] if box else o[after:])
        return cls((o[0], o[1]), (o[2], o[3]), o[4], (o[5], o[6]), (o[7], o[8]), o[9], yaw, rest)

    @property
    def tip(self) -> Vec2:
        """Where the finger is about to be."""
        (x, y), (vx, vy) = self.finger, self.finger_velocity
        return x + LAG_S * vx, y + LAG_S * vy


def command(x: float, y: float, limit: float = 1.0) -> Action:
    """An action in that direction, no longer than ``limit``."""
    length = math.hypot(x, y)
    scale = min(1.0, limit / length) if length > 0.0 else 0.0
    return np.array([x * scale, y * scale], np.float32)


def toward(seen: Seen, target: Vec2, limit: float = 1.0) -> Action:
    """Move the finger to a point, proportionally."""
    x, y = seen.tip
    return command(GAIN_PER_M * (target[0] - x), GAIN_PER_M * (target[1] - y), limit)


def still() -> Action:
    """Leave the reference where it is."""
    return np.zeros(2, np.float32)


def away(seen: Seen, point: Vec2, limit: float = 1.0) -> Action:
    """Straight away from a point."""
    dx, dy = seen.finger[0] - point[0], seen.finger[1] - point[1]
    distance = math.hypot(dx, dy) or 1e-9
    return command(dx / distance * limit, dy / distance * limit)


def unit(start: Vec2, end: Vec2) -> tuple[Vec2, float]:
    """Direction and distance between two points."""
    distance = math.dist(start, end) or 1e-9
    return ((end[0] - start[0]) / distance, (end[1] - start[1]) / distance), distance


def reach(seen: Seen, direction: Vec2, ball: bool) -> float:
    """From the object's centre to the finger's when the finger touches it on that side."""
    if ball:
        return BALL_RADIUS_M + FINGER_RADIUS_M
    turn = math.atan2(direction[1], direction[0]) - seen.yaw
    return BOX_HALF_M / max(abs(math.cos(turn)), abs(math.sin(turn))) + FINGER_RADIUS_M


def go_round(seen: Seen, target: Vec2, ball: bool, limit: float = 1.0) -> Action:
    """To a point beside the object without touching the object on the way, the shorter way round."""
    x, y = seen.finger[0] - seen.object[0], seen.finger[1] - seen.object[1]
    wide = (BALL_RADIUS_M if ball else BOX_HALF_M * math.sqrt(2)) + FINGER_RADIUS_M + AROUND_M
    tx, ty = target[0] - seen.object[0], target[1] - seen.object[1]
    here, there = math.atan2(y, x), math.atan2(ty, tx)
    turn = (there - here + math.pi) % (2 * math.pi) - math.pi
    radius = math.hypot(x, y)
    if abs(turn) < 0.5:
        return toward(seen, target, limit)
    if _passes(x, y, tx, ty) > wide - 0.01:
        return toward(seen, target, limit)
    ahead = here + math.copysign(min(abs(turn), 0.7 if radius > wide - 0.012 else 0.15), turn)
    step = seen.object[0] + (wide + 0.006) * math.cos(ahead), seen.object[1] + (wide + 0.006) * math.sin(ahead)
    return toward(seen, step, limit)


def push(seen: Seen, target: Vec2, speed: float, offset: float = 0.0, ball: bool = False) -> Action:
    """Get behind the object, seen from ``target``, and push through it.

    Args:
        seen: the observation.
        target: where the object should go, m.
        speed: share of the full one.
        offset: how far beside the object's centre the finger pushes, m.
        ball: the object rolls.
    """
    (ux, uy), distance = unit(seen.object, target)
    touch = reach(seen, (-ux, -uy), ball)
    dx, dy = seen.finger[0] - seen.object[0], seen.finger[1] - seen.object[1]
    along, across = dx * ux + dy * uy, -dx * uy + dy * ux - offset
    if along > -0.6 * touch or abs(across) > 0.022:
        stand = touch + AROUND_M
        return go_round(seen, (seen.object[0] - stand * ux, seen.object[1] - stand * uy), ball)
    pace = speed * min(1.0, 12.0 * distance + 0.15)
    sideways = -GAIN_PER_M * 1.2 * across
    return command(ux * pace - uy * sideways, uy * pace + ux * sideways, max(speed, 0.4))


def _passes(x: float, y: float, tx: float, ty: float) -> float:
    """Distance of the origin to the segment between two points."""
    dx, dy = tx - x, ty - y
    share = min(max(-(x * dx + y * dy) / ((dx * dx + dy * dy) or 1e-12), 0.0), 1.0)
    return math.hypot(x + share * dx, y + share * dy)
