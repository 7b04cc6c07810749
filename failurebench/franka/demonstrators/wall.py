"""Demonstrators that push a box round the free end of a wall: with room, too closely, into it, and out of its reach."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from failurebench.experts import Action, Expert, Observation
from failurebench.franka.demonstrators.pushing import (
    BOX_HALF_M,
    Seen,
    away,
    go_round,
    push,
    reach,
    still,
)
from failurebench.franka.geometry import Vec2

PASSED_M = 0.012
"""how near to a corner of the way counts as there"""


class Wall(NamedTuple):
    """The wall and the goal, by the task's own numbers in the observation, metres."""

    near: float
    far: float
    end: float
    """y of the free end"""

    start: float
    clearance: float
    goal: Vec2

    @classmethod
    def of(cls, seen: Seen) -> Wall:
        """Name them."""
        x, y, half_x, half_y, clearance, gx, gy = seen.rest
        return cls(x - half_x, x + half_x, y + half_y, y - half_y, clearance, (gx, gy))


class Detour(Expert):
    """The competent way: sideways to beyond the wall's end, past it with room, and back to the goal behind it."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the pace, within a little."""
        self.speed = float(rng.uniform(0.6, 0.75))
        self.way = Way(0.035)

    def act(self, obs: Observation) -> Action:
        """Push to the next corner of the way; which it is follows from where the box is."""
        seen = Seen.of(obs)
        return push(seen, self.way.next(seen), self.speed)


class CloseShave(Expert):
    """A sloppy demonstrator: hurries, pushes beside the middle, and cuts the corner.

    How much room it leaves is a habit of the episode: errors of both signs within an episode would average out in a policy
    that imitates them, and leave it nothing to fail at.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw how much room beyond the clearance it leaves, where the finger touches the box, and how hard it pushes."""
        self.way = Way(float(rng.uniform(0.014, 0.05)))
        self.offset = float(rng.uniform(-0.003, 0.003))
        self.speed = float(rng.uniform(0.6, 0.9))

    def act(self, obs: Observation) -> Action:
        """As the competent way, with those habits."""
        seen = Seen.of(obs)
        return push(seen, self.way.next(seen), self.speed, self.offset)


class WallSeeker(Expert):
    """Pushes the box into the wall: into its front, its end or its back."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw which part, where along it, and the pusher's habits."""
        self.face = str(rng.choice(["front", "end", "back"], p=[0.4, 0.3, 0.3]))
        self.along = float(rng.uniform(0.01, 0.08))
        self.offset = float(rng.uniform(-0.006, 0.006))
        self.speed = float(rng.uniform(0.5, 1.0))
        self.there, self.way = self.face == "front", Way(0.02)

    def act(self, obs: Observation) -> Action:
        """Go round as far as that part, then straight at the wall."""
        seen = Seen.of(obs)
        wall = Wall.of(seen)
        middle = (wall.near + wall.far) / 2
        beyond = middle - 0.01 if self.face == "end" else wall.far + BOX_HALF_M + 0.02
        self.there = self.there or seen.object[0] > beyond
        target = (middle, wall.end - self.along) if self.there else self.way.next(seen)
        return push(seen, target, self.speed, self.offset)


class StepAside(Expert):
    """Recovery: off the box and off the wall, then round to the side from which pushing leads along the wall, and wait there.

    A box cannot be pulled back. What can be done is to stop pushing at once, and to stand where the next push is a good one.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Draw back, go round, stand."""
        seen = Seen.of(obs)
        wall = Wall.of(seen)
        nearest = min(max(seen.finger[0], wall.near), wall.far), min(max(seen.finger[1], wall.start), wall.end)
        if math.dist(seen.finger, nearest) < wall.clearance + 0.032:
            return away(seen, nearest)
        side = _good_side(seen, wall)
        touch = reach(seen, side, ball=False)
        dx, dy = seen.finger[0] - seen.object[0], seen.finger[1] - seen.object[1]
        if math.hypot(dx, dy) < touch + 0.008 and dx * side[0] + dy * side[1] < 0.8 * math.hypot(dx, dy):
            return away(seen, seen.object)
        stand = seen.object[0] + (touch + 0.03) * side[0], seen.object[1] + (touch + 0.03) * side[1]
        if math.dist(seen.finger, stand) < 0.012:
            return still()
        return go_round(seen, stand, ball=False)


def _good_side(seen: Seen, wall: Wall) -> Vec2:
    """From which side pushing leads along the wall and on: right of the box, before it, or left of it."""
    x, y = seen.object
    if x > wall.far:
        return (0.0, 1.0)
    return (-1.0, 0.0) if y > wall.end + BOX_HALF_M else (0.0, -1.0)


class Way:
    """Three legs round the wall: sideways beyond its end, along it, and back behind it. Which leg it is stays until the next.

    Args:
        slack: how far beyond the clearance the box passes the wall's end, m.
    """

    def __init__(self, slack: float) -> None:
        self.slack, self.leg = slack, 1

    def next(self, seen: Seen) -> Vec2:
        """Where the box should go now."""
        wall, (x, y) = Wall.of(seen), seen.object
        off = BOX_HALF_M * 1.15 + wall.clearance + self.slack
        if self.leg == 1 and y > wall.end + off - PASSED_M:
            self.leg = 2
        beyond = max(wall.far + off, wall.goal[0] - 1.5 * PASSED_M)
        if x > beyond - PASSED_M:
            self.leg = 3
        if self.leg == 2 and x < wall.near and y < wall.end + BOX_HALF_M:
            self.leg = 1
        if self.leg == 3 and x < wall.far + BOX_HALF_M * 0.8:
            self.leg = 2 if y > wall.end else 3
        if self.leg == 1:
            return min(x, wall.near - off), wall.end + off + 0.02
        if self.leg == 2:
            return beyond + 0.015, wall.end + off
        return wall.goal
