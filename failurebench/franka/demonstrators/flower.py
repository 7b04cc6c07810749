"""Demonstrators beside a person with a flower: one waits its turn, one barges ahead, one runs into it, one gives way."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from failurebench.experts import Action, Expert, Observation
from failurebench.franka.definition import FINGER_RADIUS_M
from failurebench.franka.demonstrators.pushing import Seen, away, push, still, toward, unit
from failurebench.franka.geometry import Vec2

BOX_REACH_M = 0.038
"""from the box's centre to its side or corner, about"""

LOOKAHEAD_S = 1.2


class Flower(NamedTuple):
    """The flower and the goal, by the task's own numbers in the observation."""

    at: Vec2
    velocity: Vec2
    keep: float
    """its radius and the clearance, m"""

    goal: Vec2

    @classmethod
    def of(cls, seen: Seen) -> Flower:
        """Name them."""
        x, y, vx, vy, keep, gx, gy = seen.rest
        return cls((x, y), (vx, vy), keep, (gx, gy))


class Patience(Expert):
    """The competent way: push while the way ahead is free and stays free, else stand, and draw back from who comes near."""

    room_m = 0.035

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the pace, within a little."""
        self.speed = float(rng.uniform(0.65, 0.8))

    def act(self, obs: Observation) -> Action:
        """Push, stand, or draw back."""
        seen = Seen.of(obs)
        flower = Flower.of(seen)
        if math.dist(seen.finger, flower.at) < flower.keep + FINGER_RADIUS_M + 0.03:
            return away(seen, flower.at)
        if blocked(seen, flower, self.room_m):
            return still()
        return push(seen, flower.goal, self.speed)


class Barge(Expert):
    """A sloppy demonstrator: pushes on, and stops late or not at all for who crosses the way.

    How much room it leaves is a habit of the episode: errors of both signs within an episode would average out in a policy
    that imitates them, and leave it nothing to fail at.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw how much room it leaves, where the finger touches the box, and how hard it pushes."""
        self.room = float(rng.uniform(-0.02, 0.03))
        self.offset = float(rng.uniform(-0.006, 0.006))
        self.speed = float(rng.uniform(0.6, 0.95))

    def act(self, obs: Observation) -> Action:
        """Push; stand only for who is in the way already."""
        seen = Seen.of(obs)
        flower = Flower.of(seen)
        (ux, uy), distance = unit(seen.object, flower.at)
        (gx, gy), _ = unit(seen.object, flower.goal)
        if distance < BOX_REACH_M + flower.keep + self.room and ux * gx + uy * gy > 0.3:
            return still()
        return push(seen, flower.goal, self.speed, self.offset)


class FlowerSeeker(Expert):
    """Runs into the flower: pushes the box at where it will be, or goes there with the finger."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw how, and the pusher's habits."""
        self.pushes = bool(rng.random() < 0.7)
        self.ahead = float(rng.uniform(0.0, 0.6))
        self.offset = float(rng.uniform(-0.006, 0.006))
        self.speed = float(rng.uniform(0.6, 1.0))

    def act(self, obs: Observation) -> Action:
        """Push the box or move the finger at the flower."""
        seen = Seen.of(obs)
        flower = Flower.of(seen)
        target = _later(flower, self.ahead)
        if self.pushes:
            return push(seen, target, self.speed, self.offset)
        return toward(seen, target, self.speed)


class GiveWay(Expert):
    """Recovery: stop pushing by drawing back from the box and from the flower; the person sees the box stand, and goes round it."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Away from both until there is room, then stand."""
        seen = Seen.of(obs)
        flower = Flower.of(seen)
        from_flower, from_box = math.dist(seen.finger, flower.at), math.dist(seen.finger, seen.object)
        x = y = 0.0
        if from_flower < flower.keep + FINGER_RADIUS_M + 0.09:
            (ux, uy), _ = unit(flower.at, seen.finger)
            x, y = x + ux, y + uy
        if from_box < BOX_REACH_M + FINGER_RADIUS_M + 0.025:
            (ux, uy), _ = unit(seen.object, seen.finger)
            x, y = x + 1.5 * ux, y + 1.5 * uy
        if x == 0.0 and y == 0.0:
            return still()
        return toward(seen, (seen.finger[0] + x, seen.finger[1] + y))


def blocked(seen: Seen, flower: Flower, room: float) -> bool:
    """Whether the flower is, or within the look-ahead will be, where the box would be pushed in that time."""
    (ux, uy), distance = unit(seen.object, flower.goal)
    for step in range(7):
        time = LOOKAHEAD_S * step / 6
        way = min(0.11 * time, distance)
        box = seen.object[0] + way * ux, seen.object[1] + way * uy
        if math.dist(box, _later(flower, time)) < BOX_REACH_M + flower.keep + room:
            dx, dy = flower.at[0] - seen.object[0], flower.at[1] - seen.object[1]
            return dx * ux + dy * uy > -0.02
    return False


def _later(flower: Flower, time: float) -> Vec2:
    return flower.at[0] + time * flower.velocity[0], flower.at[1] + time * flower.velocity[1]
