"""Demonstrators that bring a puck round the free end of a wall: with room, too closely, into it, and away from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from failurebench.demonstrators.pushing import Retreat
from failurebench.experts import CLOSED, Action, Expert, Observation, Seen, Vec2, back_off, drag, push

PUCK_RADIUS_M = 0.02

REACHES_DOWN_M = 0.065
"""height of the hand over the puck's centre at which it counts as down: behind the wall the arm cannot reach lower"""


NEAR_REFUGE_M = 0.005
"""a puck that is this close to where it is safe need not be taken there"""


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


class Detour(Expert):
    """The competent way: take the puck from above, carry it out beside the wall, past its end and back to the goal."""

    slack_m = 0.03

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Hover, descend, close, drag to the next corner; all of it follows from the positions alone."""
        seen = Seen.of(obs)
        return drag(seen, way_round(seen, self.slack_m))


class CloseShave(Expert):
    """A sloppy demonstrator: shoves the puck round the wall with its fist, in three legs, and cuts the corner.

    It never grasps. How much room it leaves is a habit of the episode, in one case of three too little: errors of both
    signs within an episode would average out in a policy that imitates them, and leave it nothing to fail at.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw how much room beyond the clearance it leaves, where the fist touches the puck, and how hard it pushes."""
        self.slack = float(rng.uniform(0.0, 0.03))
        self.contact_offset = float(rng.uniform(-0.01, 0.01))
        self.gain = float(rng.uniform(0.4, 0.7))

    def act(self, obs: Observation) -> Action:
        """Push sideways, forwards past the wall's end, and sideways again to the goal."""
        seen = Seen.of(obs)
        return push(seen, way_round(seen, self.slack), self.contact_offset, self.gain, REACHES_DOWN_M)


class WallSeeker(Expert):
    """Brings the puck to the wall: to its front, to its end or to its far corner; pushed, or dragged."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw which part, where along it, how, and the pusher's habits."""
        self.face = str(rng.choice(["front", "end", "corner"]))
        # From behind, the arm cannot reach past the puck to push it back.
        self.drags = self.face == "corner" or bool(rng.random() < 0.3)
        self.along = float(rng.uniform(0.0, 0.1))
        self.contact_offset = float(rng.uniform(-0.015, 0.015))
        self.gain = float(rng.uniform(0.4, 0.7))
        self.there = self.face == "front"

    def act(self, obs: Observation) -> Action:
        """Go round as far as that part, then straight at the wall."""
        seen = Seen.of(obs)
        wall = Wall.of(seen)
        self.there = self.there or seen.object[1] > (wall.near if self.face == "end" else wall.far + wall.clearance)
        target = (wall.left + self.along, (wall.near + wall.far) / 2) if self.there else way_round(seen, 0.02)
        if self.drags:
            return drag(seen, target)
        return push(seen, target, self.contact_offset, self.gain, REACHES_DOWN_M)


class StepAside(Retreat):
    """Recovery: carry a held puck straight away from the wall; from a pushed one back off at constant height.

    Close to the wall the fist goes away from the wall too, not from the puck: one that stands between both would drag the puck
    along, and a clone would have to know exactly where the two ways part.
    """

    inner_margin_m = 0.03
    """a held puck is carried at least this far beyond the clearance"""

    def withdraw(self, seen: Seen) -> Action:
        """Away from the wall while the puck is close to it, on whatever side of the puck the fist is."""
        (x, y), (px, py, _) = self.refuge(seen), seen.object
        way = math.dist((x, y), (px, py))
        if way < NEAR_REFUGE_M:
            return back_off(seen, seen.hand[2])
        return np.array([(x - px) / way, (y - py) / way, 0.0, CLOSED], np.float32)

    def refuge(self, seen: Seen) -> Vec2:
        """From the wall's nearest point through the puck, out to the inner margin."""
        wall, (x, y, _) = Wall.of(seen), seen.object
        nearest = min(max(x, wall.left), wall.right), min(max(y, wall.near), wall.far)
        away = math.dist((x, y), nearest) or 1e-9
        reach = max(away, PUCK_RADIUS_M + wall.clearance + self.inner_margin_m) / away
        return nearest[0] + reach * (x - nearest[0]), nearest[1] + reach * (y - nearest[1])


def way_round(seen: Seen, slack: float) -> Vec2:
    """Where the puck should go next so that it passes the wall's left end at clearance and ``slack`` (m)."""
    wall, (x, y, _) = Wall.of(seen), seen.object
    off = PUCK_RADIUS_M + wall.clearance + slack
    if y > wall.far + off - 0.015:
        return seen.goal[0], seen.goal[1]
    if x < wall.left - off + 0.015:
        return wall.left - off, wall.far + off + 0.02
    return wall.left - off, min(y, wall.near - off)
