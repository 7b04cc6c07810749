"""Demonstrators that bring a puck round the free end of a wall: whole, too closely, into it, and away from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from failurebench.experts import Action, Expert, Observation, Seen, Vec2, drag

PUCK_RADIUS_M = 0.02


class Wall(NamedTuple):
    """The wall on the table, by the observation's hazard slots, metres."""

    left: float
    right: float
    near: float
    far: float
    clearance: float
    """between the surfaces of wall and puck"""

    @classmethod
    def of(cls, seen: Seen) -> Wall:
        """Name the hazard slots."""
        x, y, _, half_x, half_y, _, clearance = seen.hazard
        return cls(x - half_x, x + half_x, y - half_y, y + half_y, clearance)


def way_round(seen: Seen, slack: float) -> Vec2:
    """Where the puck should go next so that it passes the wall's left end at clearance and ``slack`` (m)."""
    wall, (x, y, _) = Wall.of(seen), seen.object
    off = PUCK_RADIUS_M + wall.clearance + slack
    if y > wall.far + off - 0.015:
        return seen.goal[0], seen.goal[1]
    if x < wall.left - off + 0.015:
        return wall.left - off, wall.far + off + 0.02
    return wall.left - off, min(y, wall.near - off)


class Detour(Expert):
    """The competent way: take the puck from above, carry it out beside the wall, past its end and back to the goal."""

    slack_m = 0.02

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Hover, descend, close, drag to the next corner; all of it follows from the positions alone."""
        seen = Seen.of(obs)
        return drag(seen, way_round(seen, self.slack_m))
