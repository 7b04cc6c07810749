"""Before anything real moves: the same arm class, limits and watchdog on a wire twin, asked for what must not happen."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import NamedTuple

from failurebench.franka.definition import CONTROL_HZ, FrankaTask
from failurebench.franka.geometry import Vec2
from robots.actions import GatedAction
from robots.arm.interface import Arm, ArmStatus, Commanded
from robots.config import TWIN, RobotConfig
from robots.errors import RobotError
from robots.limits import Limits
from robots.operator.choice import OperatorConfig
from robots.session.opening import station_of

PERIOD_S = 1.0 / CONTROL_HZ
FOLLOWED_M = 0.015
STANDS_M = 0.008


class Tried(NamedTuple):
    """One thing that was tried."""

    what: str
    well: bool
    found: str


def rehearse(config: RobotConfig, task: FrankaTask) -> list[Tried]:
    """Try everything on a twin of the configured table.

    Raises:
        RobotError: something did not behave, with what was found; or there is no simulator.
    """
    arm = dataclasses.replace(config.arm, host=TWIN)
    station = station_of(dataclasses.replace(config, arm=arm, operator=OperatorConfig("nobody"), eyes=""), task)
    try:
        station.open()
        tried = list(_tries(station.arm, config.bounds))
    finally:
        station.close()
    if badly := [one for one in tried if not one.well]:
        told = "; ".join(f"{one.what}: {one.found}" for one in badly)
        raise RobotError(f"the rehearsal on the twin failed, so nothing real moves ({told})")
    return tried


def _tries(arm: Arm, limits: Limits) -> list[Tried]:
    return [_follows(arm), _stays_inside(arm, limits), *_holds(arm), _falls_silent(arm, limits), _moves_again(arm)]


def _follows(arm: Arm) -> Tried:
    reference: Vec2 = (0.0, 0.0)
    for _ in range(10):
        reference = _command(arm, (0.0, 0.5)).reference
        time.sleep(PERIOD_S)
    time.sleep(0.3)
    error = math.dist(arm.state().tip[:2], reference)
    return Tried("commands are followed", error < FOLLOWED_M, f"{1000 * error:.1f} mm beside the reference")


def _stays_inside(arm: Arm, limits: Limits) -> Tried:
    worst = -math.inf
    for _ in range(25):
        _command(arm, (-1.0, 1.0))
        time.sleep(PERIOD_S)
        x, y, _ = arm.state().tip
        worst = max(worst, limits.x_m[0] - x, y - limits.y_m[1])
    return Tried("the box is not left", worst < FOLLOWED_M, f"at most {1000 * worst:.1f} mm beyond its edge")


def _holds(arm: Arm) -> list[Tried]:
    """Decisions that must not be executed."""
    late = time.monotonic() - 1.0
    refused = {
        "a risk that is no number holds": _decision((1.0, -1.0), risk=math.nan),
        "a risk above the threshold holds": _decision((1.0, -1.0), risk=0.9),
        "an action that is no number holds": _decision((math.nan, 0.0)),
        "a late decision holds": dataclasses.replace(_decision((1.0, -1.0)), observed_at=late, decided_at=late),
    }
    tried = []
    for what, action in refused.items():
        before = arm.state().tip
        commanded = arm.command(action)
        time.sleep(3 * PERIOD_S)
        moved = math.dist(arm.state().tip, before)
        tried.append(Tried(what, "held" in commanded.clipped and moved < STANDS_M, f"moved {1000 * moved:.1f} mm"))
    return tried


def _falls_silent(arm: Arm, limits: Limits) -> Tried:
    _command(arm, (0.3, -0.3))
    begun = time.monotonic()
    while arm.state().status is ArmStatus.RUNNING and time.monotonic() - begun < 3.0:
        time.sleep(0.005)
    after = time.monotonic() - begun
    allowed = 3.0 * (limits.stall_periods + 1.0) * PERIOD_S
    return Tried("silence holds", after < allowed, f"after {after:.2f} s")


def _moves_again(arm: Arm) -> Tried:
    commanded = _command(arm, (0.0, -0.3))
    return Tried("and it goes on", not commanded.fault, commanded.fault or "yes")


def _command(arm: Arm, action: Vec2) -> Commanded:
    return arm.command(_decision(action))


def _decision(action: Vec2, risk: float = 0.0) -> GatedAction:
    now = time.monotonic()
    return GatedAction(action, action, (0.0, 0.0), risk, 0.5, "task", now, now)
