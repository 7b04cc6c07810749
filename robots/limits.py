"""The bounds of everything that is commanded, refused where they contradict each other or the task."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from failurebench.franka.definition import CONTROL_HZ, FINGER_HEIGHT_M, FINGER_RADIUS_M, FrankaTask, Range
from robots.errors import RobotError

Vec3 = tuple[float, float, float]

PERIOD_S = 1.0 / CONTROL_HZ


@dataclass(frozen=True)
class KeepOut:
    """An upright block that the finger must not enter, such as a wall's slab; the finger's radius is added by the check."""

    name: str
    low: Vec3
    """its corner with the smallest x, y, z, m, in the table's frame"""
    high: Vec3

    def __post_init__(self) -> None:
        numbers = (*self.low, *self.high)
        if not all(map(math.isfinite, numbers)) or any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise RobotError(
                f"keep-out region {self.name!r} reaches from {self.low} to {self.high}: low must be below high"
            )

    def grown(self) -> tuple[Vec3, Vec3]:
        """Where the finger's axis may not be."""
        (x0, y0, z0), (x1, y1, z1), r = self.low, self.high, FINGER_RADIUS_M
        return (x0 - r, y0 - r, z0), (x1 + r, y1 + r, z1)


@dataclass(frozen=True)
class Limits:
    """Bounds of everything that is commanded. Metres, newtons, seconds; the frame is the table's."""

    x_m: Range = (0.34, 0.74)
    """the reference stays between these, ahead of the base"""

    y_m: Range = (-0.26, 0.26)
    """and to its left"""

    z_m: Range = (0.012, 0.30)
    """of the finger's tip over the table; what keeps it off the table itself"""

    keep_out: tuple[KeepOut, ...] = ()
    """blocks inside the box that the finger never enters"""

    speed_mps: float = 0.25
    """of the reference, across the table and up or down; below the task's 0.15 m/s along an axis it slows every command"""

    lead_m: float = 0.04
    """the reference is at most this far from the finger"""

    error_clip_m: float = 0.02
    """the error that the 1 kHz controller acts on: with its stiffness, the most it presses with"""

    soft_force_n: float = 12.0
    """above this no command presses any harder"""

    reaction_force_n: float = 20.0
    """at which the 1 kHz reaction ends the motion"""

    reflex_force_n: float = 40.0
    """at which the controller's own reflex stops the arm"""

    reflex_torque_nm: float = 30.0
    """the same for each joint's external torque"""

    decision_age_s: float = 0.05
    """from the gate's decision to its command; an older one holds"""

    observation_age_s: float = 0.15
    """from the observation to the command decided on it; an older one holds"""

    object_age_s: float = 0.5
    """of the estimate of objects; an older one holds"""

    camera_age_s: float = 0.5
    """of the newest picture; an older one holds"""

    stall_periods: float = 3.0
    """control periods without a command until the arm holds"""

    stop_periods: float = 10.0
    """and until its motion is ended"""

    def __post_init__(self) -> None:
        self._check_numbers()
        if not self.soft_force_n < self.reaction_force_n < self.reflex_force_n:
            raise RobotError(
                f"soft_force_n {self.soft_force_n:g}, reaction_force_n {self.reaction_force_n:g} and reflex_force_n "
                f"{self.reflex_force_n:g} must rise in this order: otherwise the reflex comes before what should prevent it"
            )
        if self.error_clip_m > self.lead_m:
            raise RobotError(
                f"error_clip_m {self.error_clip_m:g} is above lead_m {self.lead_m:g}: the reference would never lead far enough"
            )
        if self.stall_periods < 1.5 or self.stop_periods <= self.stall_periods:
            raise RobotError(
                f"stall_periods is {self.stall_periods:g} and stop_periods {self.stop_periods:g}; give 1.5 or more (a control "
                "loop is never exact), and a larger number of periods until the stop"
            )
        if self.decision_age_s > self.observation_age_s:
            raise RobotError(
                f"decision_age_s {self.decision_age_s:g} is above observation_age_s {self.observation_age_s:g}, but nobody "
                "decides before they see"
            )

    @property
    def box(self) -> tuple[Range, Range, Range]:
        """x, y and z of the reference."""
        return self.x_m, self.y_m, self.z_m

    @property
    def reach_m(self) -> float:
        """The furthest that the reference moves in one control step, across the table and up or down."""
        return self.speed_mps * PERIOD_S

    def inside(self, point: Vec3) -> bool:
        """Whether ``point`` is in the box."""
        return all(low <= value <= high for value, (low, high) in zip(point, self.box, strict=True))

    def nearest(self, point: Vec3) -> Vec3:
        """The point of the box that is nearest to ``point``."""
        x, y, z = (min(max(value, low), high) for value, (low, high) in zip(point, self.box, strict=True))
        return x, y, z

    def forbidden(self, point: Vec3) -> str:
        """Name of the keep-out region that a finger at ``point`` would be in; empty outside all."""
        return next((block.name for block in self.keep_out if within(point, *block.grown())), "")

    def check(self, task: FrankaTask) -> None:
        """Raise RobotError where a task cannot be played within these limits."""
        start = (*task.hand_start, FINGER_HEIGHT_M)
        for axis, (low, high), allowed in zip("xy", task.workspace, (self.x_m, self.y_m), strict=True):
            if allowed[1] <= low or allowed[0] >= high:
                raise RobotError(
                    f"the box allows {axis} from {allowed[0]:g} to {allowed[1]:g} m, {task.name} works from {low:g} to "
                    f"{high:g} m: they have nothing in common; change {axis}_m"
                )
        if not self.inside(start):
            raise RobotError(f"{task.name} starts with the finger at {_told(start)} m, outside the box {self._told()}")
        if name := self.forbidden(start):
            raise RobotError(f"{task.name} starts with the finger at {_told(start)} m, inside keep-out region {name!r}")
        for axis, (low, high), allowed in zip("xy", task.starts[task.start_range], (self.x_m, self.y_m), strict=True):
            if low < allowed[0] or high > allowed[1]:
                raise RobotError(
                    f"{task.name} starts its object at {axis} from {low:g} to {high:g} m; the box ends at {allowed[0]:g} and "
                    f"{allowed[1]:g} m, so the finger could not follow it; change {axis}_m"
                )
        if self.lead_m > task.lead_m:
            raise RobotError(
                f"lead_m is {self.lead_m:g}, but {task.name} never lets the reference lead by more than {task.lead_m:g} m"
            )

    def _check_numbers(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "keep_out":
                continue
            if field.name in ("x_m", "y_m", "z_m"):
                if not _ordered(value):
                    raise RobotError(f"{field.name} is {value!r}; give the smaller and the larger end in metres")
            elif not _positive(value):
                raise RobotError(f"{field.name} is {value!r}; give a finite number above 0")

    def _told(self) -> str:
        return ", ".join(f"{axis} {low:g}..{high:g}" for axis, (low, high) in zip("xyz", self.box, strict=True)) + " m"


def within(point: Vec3, low: Vec3, high: Vec3) -> bool:
    """Whether ``point`` is strictly inside a block."""
    return all(a < value < b for value, a, b in zip(point, low, high, strict=True))


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0.0


def _ordered(value: Any) -> bool:
    try:
        low, high = value
        return math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        return False


def _told(point: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in point) + ")"
