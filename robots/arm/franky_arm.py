"""A Franka arm through franky, or its twin on the wire: the same class with another address."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from failurebench.franka.definition import FINGER_HEIGHT_M, FrankaTask
from failurebench.franka.geometry import Vec2
from robots.actions import GatedAction
from robots.arm import host
from robots.arm.body import Body, Change
from robots.arm.config import ArmConfig
from robots.arm.connection import load_franky
from robots.arm.interface import ArmState, Commanded
from robots.arm.recovery import Budget, back_off
from robots.arm.states import STOPPED_BY_FORCE
from robots.limits import PERIOD_S, Limits, Vec3
from robots.permit import Permit, Stance, admit, rest, stand
from robots.watchdog import Deadlines, Watchdog

SILENT_S = 0.2
"""a reading that is older belongs to a controller that does not answer"""

UPRIGHT_RAD = 0.2
"""by which the finger may be turned away from upright when a motion begins"""

NEAR_HEIGHT_M = 0.03
"""a command is for a finger at its working height; further from it only ``move_to`` goes"""

START_S = 0.5
"""until a motion that was accepted must have begun"""

SETTLE_S = 1.5
"""that the finger may take to come to rest at the end of a way"""

RESTING_MPS = 0.005
ARRIVED_M = 0.015
"""what counts as being there; friction leaves an impedance a little short"""


class FrankyArm:
    """Every motion goes through ``admit``: policy, person, reset and retreat alike.

    Args:
        config: address, gains, recovery.
        task: whose rule integrates the reference.
        limits: bounds of every command.
        ages: seconds since each camera and each estimate was last good, by name; one that is too old holds the arm.

    Raises:
        RobotError: the limits contradict the task or the gains; nothing has been connected to then.
    """

    def __init__(
        self, config: ArmConfig, task: FrankaTask, limits: Limits, ages: Mapping[str, Callable[[], float]] | None = None
    ) -> None:
        limits.check(task)
        config.check(limits)
        self.config, self.task, self.limits = config, task, limits
        self.budget = Budget(config.recovery)
        self.warnings: list[str] = []
        """what the checks before the first motion found; each says what it means"""
        self._body = Body(config, limits)
        self._holds = 0
        """times that somebody made the arm hold: a way that is under way ends with the next"""
        self._watchdog = Watchdog(Deadlines(limits, ages or {}), self._stand, self._stop)

    @property
    def changes(self) -> list[Change]:
        """Every change of state so far, with its time and reason."""
        return list(self._body.changes)

    def connect(self) -> None:
        """Reach the controller and check it, within seconds.

        Raises:
            RobotError: unreachable, silent, held by another program, another version or another robot.
        """
        self.warnings = host.warnings()
        self._body.open()
        resting = math.hypot(*self._body.reading.force)
        if resting > self.limits.soft_force_n / 2:
            self.warnings.append(
                f"the arm at rest feels {resting:.1f} N: its load is not set or it touches something; set its mass in Desk"
            )
        self._watchdog.start()

    def state(self) -> ArmState:
        """The newest reading; waits for nothing."""
        body, reading = self._body, self._body.reading
        x, y, _ = body.reference
        return ArmState(
            body.status,
            reading.time,
            reading.joints,
            reading.tip,
            reading.tip_velocity,
            reading.force,
            (x, y),
            body.errors,
        )

    def command(self, action: GatedAction) -> Commanded:
        """Move the reference by one control step, through every limit.

        A decision that is late, not permitted or not a number holds the arm instead, and so do stale sources.

        Raises:
            TypeError: this is no GatedAction; the arm holds.
        """
        if type(action) is not GatedAction:
            self._stand("no decision")
            raise TypeError(
                f"an arm takes a GatedAction, not {type(action).__name__}: nothing moves without a decision"
            )
        refused = self._refusal(action)
        permit = None if refused else admit(self.limits, self.task, self._stance(), action.executed)
        if permit is None:
            refused = refused or "not_finite"
            self._stand(refused)
            return Commanded(self._reference(), (0.0, 0.0), ("held",), refused)
        if not self._go(permit):
            return Commanded(self._reference(), (0.0, 0.0), ("held",), self._fault() or "motion_not_started")
        self._watchdog.feed()
        x, y, _ = permit.reference
        return Commanded((x, y), permit.executed, permit.clipped)

    def hold(self, reason: str) -> None:
        """Stand where the finger is now, for as long as it takes."""
        self._watchdog.disarm()
        self._stand(reason)

    def move_to(self, target: Vec2, speed_mps: float, height_m: float = FINGER_HEIGHT_M) -> bool:
        """Bring the finger to ``target`` in a straight line, inside the same limits; whether it arrived. It holds there.

        Args:
            height_m: of the tip at the end; lift the finger before it crosses the table, lower it afterwards.
        """
        end = (*target, height_m)
        if not self._body.able or self._out_of_order() or not self.limits.inside(end):
            return False
        return self._drive(end, speed_mps)

    def recover(self) -> bool:
        """Leave REACTION_STOP or REFLEX by backing off along the contact; False where a person is needed.

        That is: a person's stop, an error that does not clear, or more stops than the configuration allows.
        """
        if self._body.status not in STOPPED_BY_FORCE:
            return self._body.able
        return self.budget.spend() and back_off(self._body, self.config.recovery, self._retreat)

    def new_episode(self) -> None:
        """Stops by force are counted anew, towards the episode's allowance."""
        self.budget.new_episode()

    def close(self) -> None:
        """Stop and let go; can be called twice."""
        self._watchdog.close()
        self._body.close()

    def _refusal(self, action: GatedAction) -> str:
        """Why nothing may move now; empty where it may."""
        now, limits = time.monotonic(), self.limits
        if fault := self._fault():
            return fault
        # Comparisons that a NaN fails: what is not known to be fresh or permitted is not.
        if not 0.0 <= now - action.decided_at <= limits.decision_age_s:
            return "late_decision"
        if not 0.0 <= now - action.observed_at <= limits.observation_age_s:
            return "late_observation"
        if not action.permitted:
            return "not_permitted"
        if not action.finite:
            return "not_finite"
        if stale := self._watchdog.deadlines.stale():
            return stale
        if abs(self._body.reading.tip[2] - FINGER_HEIGHT_M) > NEAR_HEIGHT_M:
            return "height"
        return self._out_of_order()

    def _fault(self) -> str:
        """What keeps the arm from following anything."""
        body = self._body
        if body.stopping:
            return "stopping"
        if not body.able:
            return body.status.value
        return "silent" if time.monotonic() - body.reading.time > SILENT_S else ""

    def _out_of_order(self) -> str:
        """What keeps a motion from beginning."""
        if self._body.moving or self._body.reading.tilt_rad <= UPRIGHT_RAD:
            return ""
        return "tilted"

    def _stance(self) -> Stance:
        reading = self._body.reading
        return Stance(self._body.reference, reading.tip, reading.force)

    def _reference(self) -> Vec2:
        x, y, _ = self._body.reference
        return x, y

    def _go(self, permit: Permit) -> bool:
        """Follow a permit; False where the controller accepts a motion and never begins it, or refuses it."""
        begins = not self._body.moving
        try:
            self._body.follow(permit)
        except (ConnectionError, load_franky().CommandException):
            return False
        if begins and not self._body.started(START_S):
            self._body.stop("motion_not_started")
            return False
        return self._body.moving

    def _stop(self, reason: str) -> None:
        self._holds += 1
        self._body.stop(reason)

    def _stand(self, reason: str) -> None:
        self._holds += 1
        if self._body.moving:
            self._body.follow(stand(self._body.reading.tip), reason)

    def _retreat(self, target: Vec3, speed_mps: float) -> bool:
        """As far towards ``target`` as the box allows."""
        return self._drive(self.limits.nearest(target), speed_mps)

    def _drive(self, target: Vec3, speed_mps: float) -> bool:
        """In steps of a control period, until the finger has settled there, somebody interferes, or it takes too long."""
        limits = replace(self.limits, speed_mps=min(speed_mps, self.limits.speed_mps))
        scale, due = self.task.step_m * self.task.actuator_gain, time.monotonic()
        ends = due + 2.0 * math.dist(target, self._body.reading.tip) / limits.speed_mps + SETTLE_S
        permit, holds = None, self._holds
        while time.monotonic() < ends:
            stance = self._stance()
            x, y = ((target[axis] - stance.reference[axis]) / scale for axis in (0, 1))
            permit = admit(limits, self.task, stance, (x, y), target[2])
            if permit is None or self._holds != holds or not self._go(permit):
                self._stand("not_reached")
                return False
            self._watchdog.feed(seeing=False)
            due += PERIOD_S
            time.sleep(max(due - time.monotonic(), 0.0))
            if (
                math.dist(permit.reference, target) < 1e-3
                and math.hypot(*self._body.reading.tip_velocity) < RESTING_MPS
            ):
                break
        self._watchdog.disarm()
        if permit is not None:
            self._body.follow(rest(permit), "arrived")
        return math.dist(self._body.reading.tip, target) < ARRIVED_M
