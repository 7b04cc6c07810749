"""What the tests of the arm share: decisions that let an action through, and a loop at the control rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from robots.actions import GatedAction
from robots.arm.franky_arm import FrankyArm
from robots.arm.interface import ArmState, ArmStatus, Commanded
from robots.twin.configuration import ControllerConfig

PATIENT = ControllerConfig(silence_s=1.0)
"""a simulated controller that does not mind a machine which has no time for its client now and then"""


def decided(x: float, y: float, **changed: Any) -> GatedAction:
    """A permitted action of the task policy, decided just now."""
    now = time.monotonic()
    usual = {
        "executed": (x, y),
        "proposed": (x, y),
        "recovery": (0.0, 0.0),
        "risk": 0.0,
        "threshold": 0.3,
        "source": "task",
        "observed_at": now,
        "decided_at": now,
    }
    return GatedAction(**{**usual, **changed})


def drive(
    arm: FrankyArm, x: float, y: float, steps: int, until: Callable[[ArmState], bool] = lambda state: False
) -> list[tuple[Commanded, ArmState]]:
    """The same command at 10 Hz, with the state before each."""
    told, due = [], time.monotonic()
    for _ in range(steps):
        state = arm.state()
        told.append((arm.command(decided(x, y)), state))
        if until(arm.state()):
            break
        due += 0.1
        time.sleep(max(due - time.monotonic(), 0.0))
    return told


def waited_for(condition: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until ``condition`` came true; None where it did not."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if condition():
            return time.monotonic() - begun
        time.sleep(0.005)
    return None


def becomes(arm: FrankyArm, status: ArmStatus, seconds: float) -> float | None:
    """Seconds until the arm is in that state; None where it does not get there."""
    return waited_for(lambda: arm.state().status is status, seconds)


def bring(arm: FrankyArm, x: float, y: float) -> None:
    """Along the near edge of the table, where nothing stands in the way."""
    assert arm.move_to((x, y), 0.25)


def made_ready(arm: FrankyArm) -> FrankyArm:
    """Connected, and recovered from what a test before may have left behind."""
    arm.connect()
    if arm.state().status is ArmStatus.REFLEX:
        assert arm.recover()
        arm.budget.episode = arm.budget.session = 0
    return arm
