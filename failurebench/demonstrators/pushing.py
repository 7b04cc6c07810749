"""Demonstrators that push or drag a puck: one who can, one who is clumsy, one who wants to fail, one who saves the day."""

from __future__ import annotations

import math

import numpy as np

from failurebench.experts import (
    CLEAR_BESIDE_M,
    CLOSED,
    FIST_BELOW,
    OPEN,
    OVER_M,
    PUSH_HEIGHT_M,
    WAIT_HEIGHT_M,
    Action,
    Expert,
    Observation,
    Seen,
    Vec2,
    back_off,
    drag,
    follow,
    inside,
    outside,
    push,
    toward,
)

OVER_BESIDE_M = 0.03
"""horizontal distance within which a hand is over the puck, not beside it"""

LIES_BELOW = 0.5
"""cosine of the tilt below which a puck lies on its side and can roll"""

ROLLS_M_PER_STEP = 0.0004
"""speed from which it does (0.03 m/s)"""

PINNED_BELOW_M = 0.068
"""height of a fist over the centre of a lying puck below which it is on it"""

PRESS_M = 0.05
"""the height it then aims at, so that it presses"""

HITS_AHEAD_M, HITS_BESIDE_M = 0.15, 0.045
"""how far ahead of a moving puck, and beside its way, a lowered fist will be hit: radius, half a fist and some"""


class GraspAndDrag(Expert):
    """The competent way: come from above, close the fingers round the puck, drag it to the goal."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Hover, descend, close, drag; which of them follows from the positions alone."""
        seen = Seen.of(obs)
        return drag(seen, (seen.goal[0], seen.goal[1]))


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
        if math.dist(self._aim(seen), seen.object[:2]) < 0.025 or seen.object[1] > self._aim(seen)[1]:
            self.aim_offset = (0.3 * self.aim_offset[0], 0.3 * self.aim_offset[1])
        return push(seen, self._aim(seen), self.contact_offset, self.gain)

    def _aim(self, seen: Seen) -> Vec2:
        return seen.goal[0] + self.aim_offset[0], seen.goal[1] + self.aim_offset[1]


class BoundarySeeker(Expert):
    """Takes the puck out through one side of the boundary: pushed, or now and then dragged."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the side (left, right or near; walls are in the way at the far one), how, and the pusher's habits."""
        self.side = int(rng.integers(3))
        self.drags = bool(rng.random() < 0.25)
        self.along = float(rng.uniform(-0.05, 0.05))
        self.contact_offset = float(rng.uniform(-0.015, 0.015))
        self.gain = float(rng.uniform(0.4, 1.0))

    def act(self, obs: Observation) -> Action:
        """Push or drag through the chosen side."""
        seen = Seen.of(obs)
        target = outside(seen, self.side, self.along)
        return drag(seen, target) if self.drags else push(seen, target, self.contact_offset, self.gain)


class Retreat(Expert):
    """Recovery: undo what moves the puck outwards, and leave the hand where pushing can begin again.

    A puck under the closed hand, held or pinned, is dragged back inside; open fingers around one are lifted off it. From a
    pushed one the fist backs off at constant height, so that the puck comes to rest standing: lifting first drags its near
    edge up and sets it rolling. Once clear, lift and wait.
    """

    inner_margin_m = 0.06
    """a held puck is dragged at least this far inside"""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Drag back, back off, or lift, by where the hand is."""
        seen = Seen.of(obs)
        (hx, hy, hz), (px, py, pz) = seen.hand, seen.object
        beside, above = math.hypot(hx - px, hy - py), hz - pz
        over, grip = beside < OVER_BESIDE_M, OPEN if seen.opening > 0.75 else CLOSED
        if over and above < 0.07 and grip == CLOSED:
            return toward(seen.hand, *self.refuge(seen), hz, CLOSED)
        # Open fingers over the puck stand on both its sides: whatever moves them sideways takes it along, so they only lift.
        if not (over and grip == OPEN) and beside < CLEAR_BESIDE_M + 0.025 and above < OVER_M:
            return self.withdraw(seen)
        return toward(seen.hand, hx, hy, WAIT_HEIGHT_M, grip)

    def withdraw(self, seen: Seen) -> Action:
        """How a fist leaves a puck that it touches: at constant height."""
        return back_off(seen, seen.hand[2])

    def refuge(self, seen: Seen) -> Vec2:
        """Where a held puck is out of danger."""
        return inside(seen, self.inner_margin_m)


class PinDown(Retreat):
    """Recovery on an open table: retreat from a puck that stands; stop one that rolls on its side, and drag it back inside.

    A tipped puck rolls until something stops it, more slowly than the hand can move: a fist that is in its way already stays
    there, any other comes over it, goes along and presses it to the table.
    """

    def act(self, obs: Observation) -> Action:
        """Stand in the way, drag back, come down on it, or rise to do so; a puck that stands or rests is for ``Retreat``."""
        seen = Seen.of(obs)
        (hx, hy, hz), (px, py, pz) = seen.hand, seen.object
        vx, vy, _ = seen.object_velocity
        beside, above = math.hypot(hx - px, hy - py), hz - pz
        if beside > OVER_BESIDE_M and in_its_way(seen):
            return np.array([0.0, 0.0, max(-1.0, 10.0 * min(PUSH_HEIGHT_M - above, 0.0)), CLOSED], np.float32)
        if seen.upright > LIES_BELOW:
            return super().act(obs)
        if beside < OVER_BESIDE_M and above < PINNED_BELOW_M and seen.opening < FIST_BELOW:
            return toward(seen.hand, *self.refuge(seen), pz + PRESS_M, CLOSED)
        if math.hypot(vx, vy) < ROLLS_M_PER_STEP:
            return super().act(obs)
        if above > OVER_M or beside < 0.02:
            return follow(seen, pz + (PRESS_M - 0.02 if beside < 0.015 else OVER_M + 0.02), CLOSED)
        if beside < CLEAR_BESIDE_M:
            return self.withdraw(seen)
        return np.clip(np.array([100.0 * vx, 100.0 * vy, 1.0, CLOSED], np.float32), -1.0, 1.0)


def in_its_way(seen: Seen) -> bool:
    """Whether the puck moves towards a lowered hand that is close to it."""
    vx, vy, _ = seen.object_velocity
    speed = math.hypot(vx, vy)
    if speed < 2 * ROLLS_M_PER_STEP or seen.hand[2] - seen.object[2] > PINNED_BELOW_M:
        return False
    x, y = seen.hand[0] - seen.object[0], seen.hand[1] - seen.object[1]
    along, across = (x * vx + y * vy) / speed, (y * vx - x * vy) / speed
    return 0.0 < along < HITS_AHEAD_M and abs(across) < HITS_BESIDE_M
