"""Demonstrators for a ball on uneven turf: one dribbles with care, one with haste, one off the lane, one that fetches it back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from failurebench.experts import Action, Expert, Observation
from failurebench.franka.definition import FINGER_RADIUS_M
from failurebench.franka.demonstrators.pushing import (
    AROUND_M,
    BALL_RADIUS_M,
    GAIN_PER_M,
    Seen,
    command,
    go_round,
    push,
    still,
)
from failurebench.franka.geometry import Vec2

TOUCH_M = BALL_RADIUS_M + FINGER_RADIUS_M


class Lane(NamedTuple):
    """The lane and the goal line, by the task's own numbers in the observation, metres."""

    near: float
    right: float
    left: float
    goal_x: float

    @classmethod
    def of(cls, seen: Seen) -> Lane:
        """Name them."""
        near, _, right, left, goal_x, _ = seen.rest
        return cls(near, right, left, goal_x)

    @property
    def middle(self) -> float:
        """y of the line between the edges."""
        return (self.right + self.left) / 2


class Dribble(Expert):
    """The competent way: slowly, aiming at a point of the middle line a little ahead."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the pace, within a little."""
        self.speed = float(rng.uniform(0.45, 0.55))

    def act(self, obs: Observation) -> Action:
        """Push towards the point ahead."""
        seen = Seen.of(obs, box=False)
        return push(seen, ahead(seen, Lane.of(seen).middle, 0.10), self.speed, ball=True)


class HastyDribble(Expert):
    """A sloppy demonstrator: fast, and aiming beside the middle line.

    Which side is a habit: errors of both signs would average out in a policy that imitates them, and leave it nothing to
    fail at.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the pace, how far ahead and how far to the left it aims, and where the finger touches the ball."""
        self.speed = float(rng.uniform(0.6, 1.0))
        self.ahead = float(rng.uniform(0.10, 0.2))
        self.aside = float(rng.uniform(0.0, 0.045))
        self.offset = float(rng.uniform(-0.003, 0.006))

    def act(self, obs: Observation) -> Action:
        """Push towards that point."""
        seen = Seen.of(obs, box=False)
        target = ahead(seen, Lane.of(seen).middle + self.aside, self.ahead)
        return push(seen, target, self.speed, self.offset, ball=True)


class BallSeeker(Expert):
    """Takes the ball over an edge of the lane, straight or at an angle."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the edge, the angle, and the dribbler's habits."""
        self.side = float(rng.choice([-1.0, 1.0]))
        self.forward = float(rng.uniform(-0.02, 0.15))
        self.first = float(rng.uniform(0.44, 0.6))
        self.speed = float(rng.uniform(0.5, 1.0))

    def act(self, obs: Observation) -> Action:
        """Along the lane for a while, then out."""
        seen = Seen.of(obs, box=False)
        lane = Lane.of(seen)
        if seen.object[0] < self.first:
            return push(seen, ahead(seen, lane.middle, 0.1), self.speed, ball=True)
        target = seen.object[0] + self.forward, lane.middle + self.side * (lane.left - lane.right)
        return push(seen, target, self.speed, ball=True)


class TrapBall(Expert):
    """Recovery: get between the ball and the edge it nears, stop it there and press it back to the middle, then stand behind it."""

    inner_m = 0.03
    """how far from the middle line the ball may rest"""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Go round to the outer side, press inwards, or stand behind a ball that lies well."""
        seen = Seen.of(obs, box=False)
        lane = Lane.of(seen)
        x, y = seen.object
        soon = y + 0.4 * seen.object_velocity[1]
        off = soon - lane.middle
        if abs(off) < self.inner_m:
            behind = x - TOUCH_M - AROUND_M - 0.005, y
            if seen.finger[0] < x - TOUCH_M - 0.01 and abs(seen.finger[1] - y) < 0.02:
                return still()
            return go_round(seen, behind, ball=True)
        side = 1.0 if off > 0.0 else -1.0
        ahead_m = 0.25 * seen.object_velocity[0]
        dy = (seen.finger[1] - y) * side
        if dy > 0.6 * TOUCH_M and abs(seen.finger[0] - x - ahead_m) < 0.02:
            sideways = GAIN_PER_M * (x + ahead_m - seen.tip[0])
            return command(sideways, -side * 0.6)
        outside: Vec2 = (x + ahead_m, y + side * (TOUCH_M + AROUND_M))
        return go_round(seen, outside, ball=True)


def ahead(seen: Seen, y: float, distance: float) -> Vec2:
    """A point of the line at ``y``, that far ahead of the ball."""
    return seen.object[0] + distance, y
