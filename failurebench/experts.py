"""Scripted behaviour that sees only what a policy sees: grasp and drag, push clumsily, push out of bounds."""

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
"""height of the hand over the puck's centre that a push aims at: as low as the hand goes (at 0.035 one push in five tips the puck)"""

CLEAR_ABOVE_M = 0.11
"""height of the hand over the puck's centre at which the fingers pass above it"""

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
    puck: tuple[float, float, float]
    upright: float
    """cosine of the puck's tilt: 1 stands (or stands on its head), 0 lies on its side"""
    hand_velocity: tuple[float, float, float]
    puck_velocity: tuple[float, float, float]
    boundary: tuple[float, float, float, float]
    goal: tuple[float, float, float]

    @classmethod
    def of(cls, obs: Observation) -> Seen:
        """Name the numbers of a 39-number observation."""
        o = obs.tolist()
        qx, qy = o[7], o[8]
        return cls(
            hand=(o[0], o[1], o[2]),
            opening=o[3],
            puck=(o[4], o[5], o[6]),
            upright=abs(1.0 - 2.0 * (qx * qx + qy * qy)),
            hand_velocity=(o[0] - o[18], o[1] - o[19], o[2] - o[20]),
            puck_velocity=(o[4] - o[22], o[5] - o[23], o[6] - o[24]),
            boundary=(o[11], o[12], o[13], o[14]),
            goal=(o[36], o[37], o[38]),
        )


def toward(hand: tuple[float, float, float], x: float, y: float, z: float, grip: float, gain: float = 10.0) -> Action:
    """Move the hand to a point, proportionally: full speed from 1 / ``gain`` metres away."""
    action = np.array([gain * (x - hand[0]), gain * (y - hand[1]), gain * (z - hand[2]), grip], np.float32)
    return np.clip(action, -1.0, 1.0)


class GraspAndDrag(Expert):
    """The competent way: come from above, close the fingers round the puck, drag it to the goal."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Hover, descend, close, drag; which of them follows from the positions alone."""
        seen = Seen.of(obs)
        (hx, hy, hz), (px, py, pz) = seen.hand, seen.puck
        off = math.hypot(hx - px, hy - py)
        if off > 0.03 or (off > 0.02 and hz - pz > 0.06):
            return toward(seen.hand, px, py, pz + (0.12 if off > 0.06 else 0.08), OPEN)
        if hz - pz > 0.045:
            return toward(seen.hand, px, py, pz + 0.03, OPEN)
        if seen.opening > 0.75:
            return toward(seen.hand, px, py, pz + 0.03, CLOSED)
        return toward(seen.hand, seen.goal[0], seen.goal[1], pz + 0.03, CLOSED)


class ClumsyPusher(Expert):
    """A sloppy demonstrator: fists the gripper, gets behind the puck and shoves it past the goal, then looks again.

    The first aim is always beside the goal on the same side, as with a camera mounted askew: errors of both signs would
    average out in a policy that imitates them, and leave it nothing to fail at.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw where this episode aims first, where the fist touches the puck, and how hard it pushes."""
        self.aim_offset = (float(rng.uniform(0.04, 0.10)), float(rng.uniform(-0.04, 0.02)))
        self.contact_offset = float(rng.uniform(-0.02, 0.02))
        self.gain = float(rng.uniform(0.4, 0.7))

    def act(self, obs: Observation) -> Action:
        """Push towards the aim; arrived beside the goal, see most of the mistake and aim anew."""
        seen = Seen.of(obs)
        if math.dist(self._aim(seen), seen.puck[:2]) < 0.025 or seen.puck[1] > self._aim(seen)[1]:
            self.aim_offset = (0.3 * self.aim_offset[0], 0.3 * self.aim_offset[1])
        return push(seen, self._aim(seen), self.contact_offset, self.gain)

    def _aim(self, seen: Seen) -> Vec2:
        return seen.goal[0] + self.aim_offset[0], seen.goal[1] + self.aim_offset[1]


class BoundarySeeker(Expert):
    """Pushes the puck out through one side of the boundary."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the side, where along it, and the pusher's habits."""
        self.side = int(rng.integers(3))
        self.along = float(rng.uniform(-0.05, 0.05))
        self.contact_offset = float(rng.uniform(-0.015, 0.015))
        self.gain = float(rng.uniform(0.4, 0.7))

    def act(self, obs: Observation) -> Action:
        """Push through the chosen side."""
        seen = Seen.of(obs)
        x_low, x_high, y_low, _ = seen.boundary
        px, py, _ = seen.puck
        target = [
            (x_low - 0.1, py + self.along),
            (x_high + 0.1, py + self.along),
            (px + self.along, y_low - 0.1),
        ][self.side]
        return push(seen, target, self.contact_offset, self.gain)


def push(seen: Seen, target: Vec2, contact_offset: float, gain: float) -> Action:
    """Closed gripper: go round to the side of the puck away from ``target``, come down, push through the puck."""
    (hx, hy, hz), (px, py, pz) = seen.hand, seen.puck
    away = math.hypot(target[0] - px, target[1] - py) or 1e-9
    ux, uy = (target[0] - px) / away, (target[1] - py) / away
    along = (hx - px) * ux + (hy - py) * uy
    across = -(hx - px) * uy + (hy - py) * ux - contact_offset
    if along > -0.02 or abs(across) > 0.04 or hz - pz > PUSH_HEIGHT_M + 0.03:
        return go_behind(seen, px - 0.08 * ux - contact_offset * uy, py - 0.08 * uy + contact_offset * ux)
    speed = gain * min(1.0, 30.0 * away + 0.2)
    x = ux * speed + uy * across * 10.0
    y = uy * speed - ux * across * 10.0
    return np.clip(np.array([x, y, 10.0 * (pz + PUSH_HEIGHT_M - hz), CLOSED], np.float32), -1.0, 1.0)


def go_behind(seen: Seen, x: float, y: float) -> Action:
    """Bring the fist down at (x, y) beside the puck without touching the puck on the way."""
    (hx, hy, hz), (px, py, pz) = seen.hand, seen.puck
    if math.hypot(x - hx, y - hy) < 0.03:
        return toward(seen.hand, x, y, pz + PUSH_HEIGHT_M, CLOSED)
    if hz - pz > CLEAR_ABOVE_M:
        return toward(seen.hand, x, y, pz + CLEAR_ABOVE_M + 0.03, CLOSED)
    if math.hypot(hx - px, hy - py) < CLEAR_BESIDE_M:
        return back_off(seen, hz)  # lifting while touching drags the puck's edge up and tips it
    return toward(seen.hand, hx, hy, pz + CLEAR_ABOVE_M + 0.03, CLOSED)


def back_off(seen: Seen, z: float) -> Action:
    """Full speed away from the puck at height ``z``."""
    dx, dy = seen.hand[0] - seen.puck[0], seen.hand[1] - seen.puck[1]
    distance = math.hypot(dx, dy) or 1e-9
    return np.clip(np.array([dx / distance, dy / distance, 10.0 * (z - seen.hand[2]), CLOSED], np.float32), -1.0, 1.0)


class Retreat(Expert):
    """Recovery: stop pushing at once, back off at constant height, lift only when clear."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Reverse inwards until clear of the puck, then lift and hold."""
        seen = Seen.of(obs)
        (hx, hy, hz), (px, py, _) = seen.hand, seen.puck
        dx, dy = hx - px, hy - py
        distance = math.hypot(dx, dy) or 1e-9
        if distance < 0.10 and hz < 0.15:
            return np.clip(np.array([dx / distance, dy / distance, 0.0, CLOSED], np.float32), -1.0, 1.0)
        return toward(seen.hand, hx, hy, 0.2, CLOSED)


KINDS: dict[str, type[Expert]] = {
    "task": GraspAndDrag,
    "pusher": ClumsyPusher,
    "failure": BoundarySeeker,
    "recovery": Retreat,
}


def make(kind: str, kinds: tuple[str, ...]) -> Expert:
    """Build the expert of that kind; ``reset`` it before use."""
    if kind not in kinds:
        raise ValueError(f"unknown expert {kind!r}; this task has {', '.join(kinds)}")
    return KINDS[kind]()
