"""Demonstrators that push or drag a puck: one who can, one who is clumsy, one who wants to fail, one who saves the day."""

from __future__ import annotations

import math

import numpy as np

from failurebench.experts import (
    CLEAR_BESIDE_M,
    CLOSED,
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
    inside,
    outside,
    push,
    toward,
)


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
    edge up and sets it rolling, which nothing stops. Once clear, lift and wait. Overtaking a rolling puck and pinning it from
    above saves more of the states twenty steps before a failure, but in closed loop the hand that comes late pushes it out:
    worse than no recovery at all.
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
        over, grip = beside < 0.03, OPEN if seen.opening > 0.75 else CLOSED
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
