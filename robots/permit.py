"""What no action passes: finite numbers, step, speed, force, lead, box and keep-out regions, for policies, humans and resets alike.

Pure functions of limits and a reading. This file alone makes a ``Permit``, and trackers follow nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from failurebench.franka.definition import FINGER_HEIGHT_M, FrankaTask, Range
from failurebench.franka.geometry import Vec2
from robots.limits import Limits, Vec3, within

SKIN_M = 1e-4
"""how far before a keep-out region a move into it ends"""


class Stance(NamedTuple):
    """Where the arm is when it is asked to move."""

    reference: Vec3
    """where the finger was last asked to be"""
    tip: Vec3
    force: Vec3
    """external force at the finger, N; only its axis counts, not its sign"""


@dataclass(frozen=True)
class Permit:
    """A reference that passed every limit. Made by ``admit``, ``stand`` and ``rest`` alone."""

    reference: Vec3
    executed: Vec2
    """the displacement that is really commanded, in units of the task's full command"""
    clipped: tuple[str, ...]
    """which limits changed it"""


def admit(
    limits: Limits, task: FrankaTask, stance: Stance, action: Vec2, height_m: float = FINGER_HEIGHT_M
) -> Permit | None:
    """Where one control step may move the reference; None where anything is not a number.

    The reference is integrated by the task's own rule (``FrankaTask.advance``); the limits come after it and only ever
    take away. From inside the box and outside the keep-out regions it never leaves that set; from outside it is brought
    back no faster than ``speed_mps``.

    Args:
        action: displacement along x and y, in units of the task's full command.
        height_m: of the tip; approached by no more than ``reach_m`` in one step.
    """
    numbers = (*stance.reference, *stance.tip, *stance.force, *action, height_m)
    if not all(map(math.isfinite, numbers)):
        return None
    clipped: list[str] = []
    action = _command(limits, task, action, clipped)
    reference = stance.reference
    rise = _clamp(height_m - reference[2], (-limits.reach_m, limits.reach_m))
    point: Vec3 = (*_advance(task, stance, action, clipped), reference[2] + rise)
    point = _unpressed(limits, stance, point, clipped)
    point = _led(limits, stance, point, clipped)
    point = _boxed(limits, reference, point, clipped)
    point = _kept_out(limits, reference, point, clipped)
    scale = task.step_m * task.actuator_gain
    executed = tuple(_clamp((point[axis] - reference[axis]) / scale, (-1.0, 1.0)) for axis in (0, 1))
    return Permit(point, (executed[0], executed[1]), tuple(dict.fromkeys(clipped)))


def stand(tip: Vec3) -> Permit:
    """The finger is asked to be where it is."""
    return Permit(tip, (0.0, 0.0), ("held",))


def rest(permit: Permit) -> Permit:
    """The reference stays where it was permitted to be."""
    return Permit(permit.reference, (0.0, 0.0), ("held",))


def _command(limits: Limits, task: FrankaTask, action: Vec2, clipped: list[str]) -> Vec2:
    """Within -1 to 1 on each axis, and no faster than the limits allow."""
    x, y = (_clamp(value, (-1.0, 1.0)) for value in action)
    if (x, y) != action:
        clipped.append("step")
    fastest = limits.reach_m / (task.step_m * task.actuator_gain)
    if (size := math.hypot(x, y)) > fastest:
        clipped.append("speed")
        x, y = x * fastest / size, y * fastest / size
    return x, y


def _advance(task: FrankaTask, stance: Stance, action: Vec2, clipped: list[str]) -> Vec2:
    """The task's own rule, and the names of what it changed."""
    at, tip, scale = stance.reference, stance.tip, task.step_m * task.actuator_gain
    wanted = at[0] + scale * action[0], at[1] + scale * action[1]
    worked = _clamp(wanted[0], task.workspace[0]), _clamp(wanted[1], task.workspace[1])
    if worked != wanted:
        clipped.append("box")
    moved = task.advance((at[0], at[1]), (tip[0], tip[1]), action)
    if moved != worked:
        clipped.append("lead")
    return moved


def _unpressed(limits: Limits, stance: Stance, point: Vec3, clipped: list[str]) -> Vec3:
    """Above the soft force, the lead over the finger does not grow along the force's axis, whichever way it points."""
    size = math.hypot(*stance.force)
    if size <= limits.soft_force_n:
        return point
    axis = tuple(part / size for part in stance.force)
    led = sum((r - t) * a for r, t, a in zip(stance.reference, stance.tip, axis, strict=True))
    leads = sum((p - t) * a for p, t, a in zip(point, stance.tip, axis, strict=True))
    allowed = _clamp(leads, (-abs(led), abs(led)))
    if allowed == leads:
        return point
    clipped.append("force")
    return _vec3(p + (allowed - leads) * a for p, a in zip(point, axis, strict=True))


def _led(limits: Limits, stance: Stance, point: Vec3, clipped: list[str]) -> Vec3:
    """No further from the finger than ``lead_m``."""
    ahead = math.dist(point, stance.tip)
    if ahead <= limits.lead_m:
        return point
    clipped.append("lead")
    share = limits.lead_m / ahead
    return _vec3(t + share * (p - t) for p, t in zip(point, stance.tip, strict=True))


def _boxed(limits: Limits, reference: Vec3, point: Vec3, clipped: list[str]) -> Vec3:
    """In the box, or on the way into it."""
    inside = limits.nearest(point)
    if inside != point:
        clipped.append("box")
    way = math.dist(inside, reference)
    if limits.inside(reference) or way <= limits.reach_m:
        return inside
    share = limits.reach_m / way
    return _vec3(r + share * (p - r) for p, r in zip(inside, reference, strict=True))


def _kept_out(limits: Limits, reference: Vec3, point: Vec3, clipped: list[str]) -> Vec3:
    """Up to the first keep-out region on the way; out of one by the shortest side only."""
    for block in limits.keep_out:
        low, high = block.grown()
        if within(reference, low, high):
            if _depth(point, low, high) > _depth(reference, low, high):
                clipped.append(f"keep_out:{block.name}")
                point = reference
            continue
        entry = _enters(reference, point, low, high)
        if entry is not None:
            clipped.append(f"keep_out:{block.name}")
            way = math.dist(reference, point)
            share = max(entry - SKIN_M / way, 0.0) if way else 0.0
            point = _vec3(r + share * (p - r) for p, r in zip(point, reference, strict=True))
    return point


def _enters(start: Vec3, end: Vec3, low: Vec3, high: Vec3) -> float | None:
    """Share of the way from ``start`` to ``end`` at which it enters a block (slab method); None where it does not."""
    enter, leave = 0.0, 1.0
    for a, b, lowest, highest in zip(start, end, low, high, strict=True):
        if a == b:
            if not lowest < a < highest:
                return None
            continue
        near, far = sorted(((lowest - a) / (b - a), (highest - a) / (b - a)))
        enter, leave = max(enter, near), min(leave, far)
    return enter if enter < leave else None


def _depth(point: Vec3, low: Vec3, high: Vec3) -> float:
    """How far inside a block, m; negative outside."""
    return min(min(value - a, b - value) for value, a, b in zip(point, low, high, strict=True))


def _clamp(value: float, side: Range) -> float:
    return min(max(value, side[0]), side[1])


def _vec3(values: Iterator[float]) -> Vec3:
    x, y, z = values
    return x, y, z
