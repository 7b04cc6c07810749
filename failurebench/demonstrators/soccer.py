"""Demonstrators for a ball that rolls: one who can, one who is clumsy, one who wants to fail, one who saves the day.

A ball pushed by a fist slides against it without turning: a fist that stops stops the ball too, one that lifts or draws
back lets it roll, and nothing but a wall ends that. A ball between the fingers is caught by closing them.
"""

from __future__ import annotations

import math

import numpy as np

from failurebench.experts import (
    CLOSED,
    FIST_BELOW,
    FIST_OPENING,
    OPEN,
    PUSH_HEIGHT_M,
    WAIT_HEIGHT_M,
    Action,
    Expert,
    Observation,
    Seen,
    Vec2,
    follow,
    inside,
    outside,
    push,
    toward,
)

BALL_RADIUS_M = 0.026

CARRY_HEIGHT_M = 0.025
"""height of the hand over the ball's centre at which the pads close round its equator"""

CLEAR_M = 0.085
"""height of the hand over the ball's centre at which the fingertips pass above it"""

GAP_M = 0.015
"""sideways error with which open fingers still come down on either side of the ball"""

FIST_X_M, FIST_Y_M, FIST_MIDDLE_Y_M = 0.0154, 0.0187, 0.005
"""a fist seen from above: half its width and depth, and its middle relative to the hand"""

OPEN_REACH_M = 0.09
"""horizontal distance from which open fingers do not touch the ball"""

STILL_M_PER_STEP = 0.0004
"""speed below which a ball counts as lying (0.03 m/s)"""

BRAKE = 1.75
"""how hard a wedged ball is braked: this over the simulator steps left, as a share of full speed slower than the ball"""

WEDGED_M = 0.002
"""how near to the middle of the fist the ball is held by both fingertips"""

SLIP = -0.6
"""sideways action with which a fist lets go of a wedged ball; to the other side (+0.6) it saved 177 balls instead of 192"""

SOON_STEPS = 40
"""simulator steps (0.5 s) to the boundary within which there is no time to draw back, lift and catch the ball"""

NEAR_M = 0.03
"""distance of fist and ball within which the fist can still get round the ball"""

CORNER_M = 0.03
"""how far beside the middle of the fist the ball touches its corner, not its front"""

RESTS_M_PER_STEP = 0.0002
"""speed below which a caught ball is let go (0.016 m/s)"""

RELEASED_OPENING = 0.9
"""gripper opening from which the fingers rise past the ball without touching it"""

PUT_DOWN_M = 0.01
"""distance from where a held ball belongs at which the fingers open"""

CROSSBAR_DEPTH_M = 0.09
"""how far before the goal's centre a hand must be to lift past the crossbar"""


class CarryBall(Expert):
    """The competent way: come down over the ball, close the fingers round it, carry it to the goal."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Catch, then carry; which of them follows from the positions alone."""
        seen = Seen.of(obs)
        return catch(seen, (seen.goal[0], seen.goal[1]))


class ClumsyDribbler(Expert):
    """A sloppy demonstrator: shoves the ball with the fist to a spot beside the goal, then looks again and shoves it in.

    The first aim is always on the same side, as with a camera mounted askew: errors of both signs would average out in a
    policy that imitates them, and leave it nothing to fail at.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Draw where this episode aims first, where the fist touches the ball, and how hard it pushes."""
        self.aim_offset = (float(rng.uniform(0.06, 0.13)), float(rng.uniform(-0.10, -0.04)))
        self.contact_offset = float(rng.uniform(-0.01, 0.01))
        self.gain = float(rng.uniform(0.4, 0.7))

    def act(self, obs: Observation) -> Action:
        """Push towards the aim; arrived there, aim at the goal itself."""
        seen = Seen.of(obs)
        if math.dist(self._aim(seen), seen.object[:2]) < 0.03 or seen.object[1] > self._aim(seen)[1]:
            self.aim_offset = (0.0, 0.0)
        if under_crossbar(seen):
            return out_of_goal(seen, CLOSED)
        return push(seen, self._aim(seen), self.contact_offset, self.gain)

    def _aim(self, seen: Seen) -> Vec2:
        return seen.goal[0] + self.aim_offset[0], seen.goal[1] + self.aim_offset[1]


class BallSeeker(Expert):
    """Takes the ball out through one side of the boundary: shoved, or carried."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the side (left, right or near; the goal is in the way at the far one), how, and the pusher's habits."""
        self.side = int(rng.integers(3))
        self.carries = self.side == 2 or bool(rng.random() < 0.25)
        self.along = float(rng.uniform(-0.05, 0.05))
        self.contact_offset = float(rng.uniform(-0.01, 0.01))
        self.gain = float(rng.uniform(0.4, 0.7))

    def act(self, obs: Observation) -> Action:
        """Shove or carry through the chosen side."""
        seen = Seen.of(obs)
        target = outside(seen, self.side, self.along)
        return catch(seen, target) if self.carries else push(seen, target, self.contact_offset, self.gain)


class TrapBall(Expert):
    """Recovery: stop the ball, take it, and carry it back inside.

    What a fist does with a ball that will soon be outside depends on where it is: ahead of the ball, it comes down on it or
    pushes it back; beside, it goes round to its outer side; behind, it brakes, for a fist that touches the ball stops with
    it. With time enough it draws back, comes down over the ball, closes and carries. A ball that lies still inside is let go
    and the hand waits above it, as at the beginning of an episode: from there a task policy knows how to go on. A ball that
    has rolled away from the hand is out of reach.
    """

    inner_margin_m = 0.06
    """the ball is carried at least this far inside"""

    safe_margin_m = 0.05
    """a ball that rests at least this far inside is let go"""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Let a resting ball go; stop a moving one with the fist, or catch it and carry it back."""
        seen = Seen.of(obs)
        if held(seen):
            return self._put_down(seen)
        if self._safe(seen) and (over(seen) or clear(seen)):
            return let_go(seen)
        if seen.opening < FIST_BELOW:
            steps, (out_x, out_y) = way_out(seen)
            x, y = seen.hand[0] - seen.object[0], seen.hand[1] + FIST_MIDDLE_Y_M - seen.object[1]
            ahead, beside = x * out_x + y * out_y, y * out_x - x * out_y
            if steps < SOON_STEPS and ahead > 0.0:
                return press(seen)
            if steps < SOON_STEPS and abs(beside) > -2.0 * ahead and lowered(seen) and gap(seen) < NEAR_M:
                closer = -math.copysign(1.0, beside)
                return np.array([out_x - closer * out_y, out_y + closer * out_x, 0.0, CLOSED], np.float32)
            if pushing(seen) and math.hypot(*seen.object_velocity[:2]) > STILL_M_PER_STEP:
                if abs(beside) > CORNER_M:  # the ball slides off: do not push it on
                    return np.array([math.copysign(1.0, x), math.copysign(1.0, y), 0.0, CLOSED], np.float32)
                return brake(seen, steps)
        return catch(seen, inside(seen, self.inner_margin_m))

    def _put_down(self, seen: Seen) -> Action:
        """Carry the ball inside along the table, and open the fingers there.

        Where to is a matter of the hand, and how high of the table: a hand that follows the ball it holds drags it along for ever.
        """
        x, y = inside(seen, self.inner_margin_m, seen.hand)
        z = BALL_RADIUS_M + CARRY_HEIGHT_M
        if math.dist(seen.hand, (x, y, z)) < PUT_DOWN_M:
            return np.array([0.0, 0.0, 0.0, OPEN], np.float32)
        return toward(seen.hand, x, y, z, CLOSED)

    def _safe(self, seen: Seen) -> bool:
        x_low, x_high, y_low, y_high = seen.hazard[:4]
        x, y, _ = seen.object
        margin = min(x - x_low, x_high - x, y - y_low, y_high - y)
        return margin > self.safe_margin_m and math.hypot(*seen.object_velocity[:2]) < RESTS_M_PER_STEP


def way_out(seen: Seen) -> tuple[float, Vec2]:
    """In how many simulator steps the ball, rolling on, crosses the boundary, and the direction out of that side.

    A ball that lies never does: infinity.
    """
    ways: list[tuple[float, Vec2]] = [(math.inf, (1.0, 0.0))]
    for axis in (0, 1):
        velocity = seen.object_velocity[axis]
        if velocity != 0.0:
            side, sign = seen.hazard[2 * axis + (velocity > 0.0)], math.copysign(1.0, velocity)
            steps = (side - seen.object[axis]) / velocity
            ways.append((steps, (sign, 0.0) if axis == 0 else (0.0, sign)))
    return min(ways)


def held(seen: Seen) -> bool:
    """Whether the ball is between closed fingers."""
    (hx, hy, hz), (bx, by, bz) = seen.hand, seen.object
    between = math.hypot(hx - bx, hy - by) < 0.03 and hz - bz < 0.06
    return between and FIST_OPENING < seen.opening < 0.75


def gap(seen: Seen) -> float:
    """Distance (m) between a lowered fist and the ball, seen from above."""
    dx = abs(seen.object[0] - seen.hand[0]) - FIST_X_M
    dy = abs(seen.object[1] - seen.hand[1] - FIST_MIDDLE_Y_M) - FIST_Y_M
    return math.hypot(max(dx, 0.0), max(dy, 0.0)) - BALL_RADIUS_M


def lowered(seen: Seen) -> bool:
    """Whether the fingertips are beside the ball, not over it."""
    return seen.hand[2] - seen.object[2] < CLEAR_M - 0.02


def pushing(seen: Seen) -> bool:
    """Whether a fist touches, or is about to touch, the ball from the side."""
    return lowered(seen) and gap(seen) < 0.02


def press(seen: Seen) -> Action:
    """At full speed onto the ball from above, or against it from the side on which the fist is."""
    x, y, z = seen.object
    return toward(seen.hand, x, y - FIST_MIDDLE_Y_M, z + PUSH_HEIGHT_M, CLOSED, gain=100.0)


def brake(seen: Seen, steps: float) -> Action:
    """Stop the ball with the fist that pushes it, ``steps`` simulator steps before it would be outside.

    A ball wedged between the two fingertips is lifted off the table, whose friction has to stop it: slip sideways first, and
    brake no harder than there is need, or it leaves the fist. Any other ball stops with the fist.
    """
    vx, vy = 100.0 * seen.object_velocity[0], 100.0 * seen.object_velocity[1]
    wedged = abs(vx) > 2 * abs(vy) and abs(seen.object[1] - seen.hand[1] - FIST_MIDDLE_Y_M) < WEDGED_M
    if not wedged:
        return np.array([0.0, 0.0, 0.0, CLOSED], np.float32)
    slower = max(0.0, abs(vx) - BRAKE / max(steps, 1.0))
    return np.clip(np.array([math.copysign(slower, vx), SLIP, 0.0, CLOSED], np.float32), -1.0, 1.0)


def under_crossbar(seen: Seen) -> bool:
    """Whether the hand would hit the goal's crossbar if it lifted."""
    hx, hy, hz = seen.hand
    gx, gy, _ = seen.goal
    return hy > gy - CROSSBAR_DEPTH_M and abs(hx - gx) < 0.13 and hz < 0.2


def out_of_goal(seen: Seen, grip: float) -> Action:
    """Towards the robot at constant height, to where the hand may lift."""
    return toward(seen.hand, seen.hand[0], seen.goal[1] - 2 * CROSSBAR_DEPTH_M, seen.hand[2], grip)


def catch(seen: Seen, target: Vec2) -> Action:
    """Come down over the ball with open fingers, however it rolls; close; carry it to ``target``."""
    (hx, hy, hz), (bx, by, bz) = seen.hand, seen.object
    dx, dy, above = hx - bx, hy - by, hz - bz
    if held(seen):
        return toward(seen.hand, *target, bz + CARRY_HEIGHT_M, CLOSED)
    around = abs(dy) < GAP_M and seen.opening > 0.7
    if around and abs(dx) < GAP_M:
        grip = CLOSED if above < 0.04 else OPEN
        return follow(seen, bz + CARRY_HEIGHT_M, grip)
    if above > CLEAR_M:
        return follow(seen, bz + CLEAR_M + 0.02, OPEN)
    if around:
        return follow(seen, bz + CARRY_HEIGHT_M, OPEN)
    return draw_back(seen)


def over(seen: Seen) -> bool:
    """Whether the hand is right above the ball or around it."""
    (hx, hy, hz), (bx, by, bz) = seen.hand, seen.object
    return math.hypot(hx - bx, hy - by) < 0.03 and hz - bz < CLEAR_M


def clear(seen: Seen) -> bool:
    """Whether the hand can rise without touching the ball."""
    (hx, hy, hz), (bx, by, bz) = seen.hand, seen.object
    return hz - bz > CLEAR_M or math.hypot(hx - bx, hy - by) > OPEN_REACH_M


def let_go(seen: Seen) -> Action:
    """Open where the ball is, then rise and wait."""
    opens = over(seen) and seen.opening < RELEASED_OPENING
    rises = not opens and seen.hand[2] < WAIT_HEIGHT_M
    return np.array([0.0, 0.0, 1.0 if rises else 0.0, OPEN], np.float32)


def draw_back(seen: Seen) -> Action:
    """Away from the ball at constant height until clear of it, then up: lifting or opening while touching would roll it.

    A fist beside the ball rises as it is, and goes along with a ball that rolls: open fingers reach too far to rise there.
    """
    dx, dy = seen.hand[0] - seen.object[0], seen.hand[1] - seen.object[1]
    distance = math.hypot(dx, dy) or 1e-9
    fist = seen.opening < FIST_BELOW
    vx, vy, _ = seen.object_velocity
    leaves = -(vx * dx + vy * dy) / distance > STILL_M_PER_STEP
    if under_crossbar(seen):
        return out_of_goal(seen, CLOSED if fist else OPEN)
    if fist and gap(seen) > (0.0 if leaves else 0.01):
        return np.clip(np.array([100.0 * vx, 100.0 * vy, 1.0, CLOSED], np.float32), -1.0, 1.0)
    if not fist and distance > OPEN_REACH_M:
        return np.array([0.0, 0.0, 1.0, OPEN], np.float32)
    return np.array([dx / distance, dy / distance, 0.0, CLOSED if fist else OPEN], np.float32)
