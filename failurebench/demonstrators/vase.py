"""Demonstrators beside a vase that the arm bulges towards: one takes care, one swings out, one hits, one withdraws."""

from __future__ import annotations

import math

import numpy as np

from failurebench.demonstrators.pushing import ClumsyPusher
from failurebench.experts import (
    CLEAR_BESIDE_M,
    CLOSED,
    FIST_OPENING,
    HELD_BELOW_M,
    OPEN,
    OVER_M,
    WAIT_HEIGHT_M,
    Action,
    Expert,
    Observation,
    Seen,
    Vec2,
    back_off,
    drag,
    push,
    toward,
)

FOREARM_M = 0.11
"""how much farther than the hand's centre the forearm reaches towards the vase, with the hand on the table"""

STEPPED_BACK_M = 0.10
"""room between the forearm and the clearance with which recovery is content"""


class DragAside(Expert):
    """The competent way: grasp the puck, carry it low over the table to the side of the goal that is away from the vase.

    The forearm follows the hand sideways and falls towards the vase as the hand goes down, so both help.
    """

    aside_m, lift_m = 0.035, 0.03

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Hover, descend, close; then carry."""
        seen = Seen.of(obs)
        gx, gy, gz = seen.goal
        if seen.opening > 0.75 or seen.hand[2] - seen.object[2] > HELD_BELOW_M or _beside(seen) > 0.03:
            return drag(seen, (gx, gy))
        ux, uy = _away_from_vase(seen, (gx, gy))
        x, y, z = gx + self.aside_m * ux, gy + self.aside_m * uy, gz + self.lift_m
        return toward(seen.object, x, y, z, CLOSED)


class WidePusher(ClumsyPusher):
    """A clumsy pusher whose first aim is beside the goal on the vase's side.

    A puck that misses it is pushed back from that side, and there the arm swings out towards the vase.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw where this episode aims first, where the fist touches the puck, and how hard it pushes."""
        self.aim_offset = (float(rng.uniform(0.01, 0.07)), float(rng.uniform(-0.04, 0.02)))
        self.contact_offset = float(rng.uniform(-0.01, 0.01))
        self.gain = float(rng.uniform(0.6, 0.9))


class VaseSeeker(Expert):
    """Brings arm or puck to the vase: reaches across, or drags or pushes the puck there."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw how, where on the vase, and the pusher's habits."""
        self.how = str(rng.choice(["reach", "drag", "push"]))
        self.height = float(rng.uniform(0.06, 0.3))
        self.along = float(rng.uniform(-0.1, 0.15))
        self.speed = float(rng.uniform(0.5, 1.0))
        self.contact_offset = float(rng.uniform(-0.01, 0.01))

    def act(self, obs: Observation) -> Action:
        """Reach, drag or push towards a point of the vase's axis, or beside it."""
        seen = Seen.of(obs)
        target = (seen.hazard[0], seen.hazard[1] + self.along)
        if self.how == "drag":
            return drag(seen, target)
        if self.how == "push":
            return push(seen, target, self.contact_offset, self.speed)
        action = toward(seen.hand, *target, self.height, CLOSED)
        action[:3] *= self.speed
        return action


class KeepAway(Expert):
    """Recovery: straight away from the vase at full speed, then clear of the puck, then up, where the forearm is out of the way.

    Lifting also helps at once, as the forearm rises, unless the fist stands at the puck: lifting then would tip it. A held
    puck comes along.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Withdraw, let go of the puck's side, or wait above, by where the hand is."""
        seen = Seen.of(obs)
        hx, hy, hz = seen.hand
        beside, above = _beside(seen), hz - seen.object[2]
        holding = beside < 0.03 and above < 0.07 and FIST_OPENING < seen.opening < 0.8
        at_puck = beside < CLEAR_BESIDE_M + 0.025 and above < OVER_M
        grip = CLOSED if holding or seen.opening <= 0.75 else OPEN
        if _room(seen) < STEPPED_BACK_M:
            ux, uy = _away_from_vase(seen, (hx, hy))
            return np.array([ux, uy, 0.0 if at_puck else 1.0, grip], np.float32)
        if at_puck and not holding:
            return back_off(seen, hz)
        return toward(seen.hand, hx, hy, hz if holding else WAIT_HEIGHT_M, grip)


def _beside(seen: Seen) -> float:
    return math.dist(seen.hand[:2], seen.object[:2])


def _away_from_vase(seen: Seen, point: Vec2) -> Vec2:
    """Unit vector from the vase's axis towards ``point``, on the table."""
    dx, dy = point[0] - seen.hazard[0], point[1] - seen.hazard[1]
    distance = math.hypot(dx, dy) or 1e-9
    return dx / distance, dy / distance


def _room(seen: Seen) -> float:
    """Metres that the hand may still move towards the vase, roughly, for all that can be seen of the arm."""
    x, _, _, radius, _, _, clearance = seen.hazard
    return x - radius - clearance - FOREARM_M - seen.hand[0]
