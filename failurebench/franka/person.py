"""A scripted person who carries something fragile back and forth across the table, and reacts late."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from failurebench.franka.geometry import Vec2

WAYS = 64
"""ways drawn for an episode; after the last the first comes again"""

DELAY_STEPS = 64
"""positions remembered at most"""


@dataclass(frozen=True)
class Habits:
    """How somebody moves; ranges are drawn from anew for every way."""

    x_m: tuple[float, float] = (0.51, 0.59)
    """where the table is crossed"""

    away_m: tuple[float, float] = (0.10, 0.18)
    """how far beside the middle a way ends, left and right in turn"""

    speed_mps: tuple[float, float] = (0.08, 0.18)
    pause_s: tuple[float, float] = (0.0, 1.0)
    """rest at the end of a way"""

    reaction_s: float = 0.3
    """what is seen of object and finger is this old"""

    keep_m: float = 0.10
    """nearer than this, axis to centre, to where object or finger were seen, nobody goes on"""

    patience_s: float = 1.0
    """after waiting this long in front of the object the person turns round"""


class Person:
    """Moves by itself with ``step``; everything it will do follows from ``script`` and from what it sees.

    Args:
        script: seed of the ways.
        habits: how they are walked.
        period_s: simulated time between two steps.
    """

    position: Vec2
    velocity: Vec2

    def __init__(self, script: int, habits: Habits, period_s: float) -> None:
        self.habits, self.period_s = habits, period_s
        rng = np.random.default_rng(script)
        side = np.where(np.arange(WAYS) % 2 == 0, 1.0, -1.0) * rng.choice([-1.0, 1.0])
        self._x = rng.uniform(*habits.x_m, WAYS)
        self._y = side * rng.uniform(*habits.away_m, WAYS)
        self._speed, self._pause = rng.uniform(*habits.speed_mps, WAYS), rng.uniform(*habits.pause_s, WAYS)
        self.position, self.velocity = (float(self._x[-1]), float(self._y[-1])), (0.0, 0.0)
        self._way, self._resting_s, self._waiting_s = 0, float(rng.uniform(*habits.pause_s)), 0.0
        self._late = min(max(round(habits.reaction_s / period_s), 1), DELAY_STEPS)
        self._memory: list[tuple[float, float, float, float]] = []

    def step(self, object_at: Vec2, finger_at: Vec2) -> None:
        """Move for one period; the two positions are of now, and will be reacted to later."""
        self._memory.append((*object_at, *finger_at))
        ox, oy, fx, fy = self._memory[0]
        if len(self._memory) > self._late:
            del self._memory[0]
        self.velocity = (0.0, 0.0)
        if self._resting_s > 0.0:
            self._resting_s -= self.period_s
            return
        dx, dy = self._x[self._way] - self.position[0], self._y[self._way] - self.position[1]
        distance, pace = math.hypot(dx, dy), float(self._speed[self._way])
        if distance <= pace * self.period_s:
            self._turn(float(self._pause[self._way]))
            return
        ux, uy = float(dx) / distance, float(dy) / distance
        if self._nears(ux, uy, (ox, oy)) or self._nears(ux, uy, (fx, fy)):
            self._waiting_s += self.period_s
            if self._waiting_s >= self.habits.patience_s:
                self._turn(0.0)
            return
        self.velocity = (pace * ux, pace * uy)
        self.position = (
            self.position[0] + self.velocity[0] * self.period_s,
            self.position[1] + self.velocity[1] * self.period_s,
        )

    def get_state(self) -> NDArray[np.float64]:
        """Everything that ``step`` reads, apart from the script: a flat array of fixed length."""
        memory = np.full((DELAY_STEPS, 4), np.nan)
        memory[: len(self._memory)] = np.reshape(self._memory, (-1, 4))
        own = [*self.position, *self.velocity, self._way, self._resting_s, self._waiting_s, len(self._memory)]
        return np.concatenate([own, memory.ravel()])

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Go on from ``state``."""
        px, py, vx, vy, way, self._resting_s, self._waiting_s, known = (float(value) for value in state[:8])
        self.position, self.velocity, self._way = (px, py), (vx, vy), int(way)
        rows = state[8:].reshape(DELAY_STEPS, 4)[: int(known)].tolist()
        self._memory = [(row[0], row[1], row[2], row[3]) for row in rows]

    def _turn(self, rest_s: float) -> None:
        self._way, self._resting_s, self._waiting_s = (self._way + 1) % WAYS, rest_s, 0.0

    def _nears(self, ux: float, uy: float, other: Vec2) -> bool:
        """Whether going on in that direction comes nearer to something that is near already."""
        dx, dy = other[0] - self.position[0], other[1] - self.position[1]
        return math.hypot(dx, dy) < self.habits.keep_m and dx * ux + dy * uy > 0.0
