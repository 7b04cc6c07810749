"""What goes wrong at an arm, and that it is safe, told and recovered from where that is anybody's but a person's business."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.config import ArmConfig, RecoveryConfig
from robots.arm.franky_arm import FrankyArm
from robots.arm.interface import ArmStatus
from robots.errors import RobotError
from robots.limits import Limits
from tests.robots.arm_under_test import PATIENT, becomes, decided, drive, made_ready, waited_for

pytest.importorskip("franky", reason="the driver is franky-control (extra 'robot')")

TASK = FrankaFragilePushWall()
LIMITS = Limits()
ONCE = RecoveryConfig(per_episode=1, per_session=2)


@pytest.fixture(scope="module")
def twin(start_twin: Callable[..., Any]) -> Any:
    return start_twin(seed=3, controller=PATIENT)


@pytest.fixture
def make_arm(twin: Any) -> Iterator[Callable[..., FrankyArm]]:
    """Connects arms to the module's twin, one at a time; the last one is closed after the test."""
    arms: list[FrankyArm] = []

    def make(recovery: RecoveryConfig | None = None, host: str = "", limits: Limits = LIMITS) -> FrankyArm:
        config = ArmConfig(host or twin.host, recovery=recovery or RecoveryConfig())
        arms.append(FrankyArm(config, TASK, limits))
        return made_ready(arms[-1])

    twin.user_stop(False)
    yield make
    for arm in arms:
        arm.close()


def over_the_table(arm: FrankyArm, x: float, y: float) -> None:
    at = arm.state().tip
    arm.move_to((at[0], at[1]), 0.25, 0.13)
    arm.move_to((x, y), 0.25, 0.13)
    assert arm.move_to((x, y), 0.25)


def test_a_wall_trips_the_reaction_before_the_reflex_and_the_hand_backs_off(make_arm):
    arm = make_arm()
    over_the_table(arm, 0.47, -0.12)  # the wall's near side is at 0.54, the finger's radius 0.012
    told = drive(arm, 1.0, 0.0, 12, until=lambda state: state.status is ArmStatus.REACTION_STOP)
    assert arm.state().status is ArmStatus.REACTION_STOP
    assert max(math.hypot(*state.force) for _, state in told) < LIMITS.reflex_force_n
    assert arm.command(decided(1.0, 0.0)).fault == "reaction_stop"
    at = arm.state().tip[0]
    assert at == pytest.approx(0.528, abs=0.005)
    assert arm.recover()
    assert arm.state().status is ArmStatus.IDLE
    assert arm.state().tip[0] < at - 0.015
    assert arm.command(decided(-1.0, 0.0)).fault == ""


def test_a_reflex_is_recovered_from_as_often_as_allowed_and_then_needs_a_person(make_arm, twin):
    arm = make_arm(ONCE)
    for recovered in (True, False):
        assert arm.move_to((0.40, -0.10), 0.25) or not recovered
        drive(arm, 0.0, 0.0, 2)
        twin.push("finger", (0.0, -70.0, 0.0), 0.2)
        drive(arm, 0.0, 0.0, 10, until=lambda state: state.status is ArmStatus.REFLEX)
        assert becomes(arm, ArmStatus.REFLEX, 1.0) is not None
        assert arm.state().errors == ("cartesian_reflex",)
        assert arm.command(decided(0.0, 1.0)).fault == "reflex"
        assert not arm.move_to((0.40, 0.0), 0.1)
        assert arm.recover() is recovered
        assert twin.status()["mode"] == ("kIdle" if recovered else "kReflex")
    assert arm.state().status is ArmStatus.REFLEX
    arm.new_episode()
    assert arm.recover()  # a new episode has its own allowance, the session's is one more
    arm.new_episode()
    assert not arm.budget.spend()


def test_a_persons_stop_is_only_waited_for(make_arm, twin):
    arm = make_arm()
    drive(arm, 0.0, 0.2, 3)
    twin.user_stop(True)
    assert becomes(arm, ArmStatus.USER_STOP, 1.0) is not None
    before = len(arm.changes)
    assert not arm.recover()
    assert arm.command(decided(0.0, 0.2)).fault == "user_stop"
    time.sleep(0.5)
    assert (arm.state().status, arm.budget.session, len(arm.changes)) == (ArmStatus.USER_STOP, 0, before)
    twin.user_stop(False)
    assert becomes(arm, ArmStatus.IDLE, 2.0) is not None
    assert arm.command(decided(0.0, 0.2)).fault == ""


def test_an_arm_that_is_stopped_by_a_person_when_it_is_connected_to_moves_after_the_release(make_arm, twin):
    twin.user_stop(True)
    arm = make_arm()
    assert becomes(arm, ArmStatus.USER_STOP, 1.0) is not None
    twin.user_stop(False)
    assert becomes(arm, ArmStatus.IDLE, 2.0) is not None
    assert arm.command(decided(0.0, 0.2)).fault == ""


@pytest.mark.parametrize("moving", [True, False])
def test_a_controller_that_hangs_is_lost_and_found_again(make_arm, twin, moving):
    arm = make_arm()
    if moving:
        drive(arm, 0.0, 0.2, 3)
    twin.freeze()
    try:
        lost = becomes(arm, ArmStatus.LOST, 4.5)
        assert lost is not None  # 1.0 s, on a machine that is not too busy
        asked = time.monotonic()
        assert arm.command(decided(0.0, 0.2)).fault == "lost"
        assert time.monotonic() - asked < 0.3
        assert not arm.recover()
    finally:
        twin.thaw()
    found = waited_for(lambda: arm.state().status in (ArmStatus.IDLE, ArmStatus.REFLEX), 10.0)
    assert found is not None
    time.sleep(0.3)
    assert arm.recover()
    assert arm.command(decided(0.0, 0.2)).fault == ""


def test_a_killed_controller_is_found_again_at_its_address(make_arm, start_twin):
    address = f"127.{50 + os.getpid() % 200}.7.1"  # a free one would be taken by the next twin that starts anywhere
    first = start_twin(host=address, controller=PATIENT)
    arm = make_arm(host=address)
    drive(arm, 0.0, 0.2, 3)
    first.kill()
    assert becomes(arm, ArmStatus.LOST, 4.5) is not None
    start_twin(host=address, controller=PATIENT)
    assert becomes(arm, ArmStatus.IDLE, 10.0) is not None
    assert arm.command(decided(0.0, 0.2)).fault == ""


def test_a_second_client_gets_a_message_instead_of_hanging_and_never_the_robot(make_arm, twin):
    first = make_arm()
    second = FrankyArm(ArmConfig(twin.host, connect_timeout_s=0.7), TASK, LIMITS)
    begun = time.monotonic()
    with pytest.raises(RobotError, match="another program holds it"):
        second.connect()
    assert time.monotonic() - begun < 3.0
    assert first.command(decided(0.0, 0.2)).fault == ""
    first.close()

    def free() -> bool:
        try:
            make_arm()
        except RobotError:
            return False
        return True

    assert waited_for(free, 10.0) is not None  # the attempt that was given up does not keep the robot from others
    assert (
        waited_for(lambda: "supervised call" not in {thread.name for thread in threading.enumerate()}, 5.0) is not None
    )


def test_a_hold_during_a_reset_ends_the_reset(make_arm):
    arm = make_arm()
    threading.Timer(0.5, arm.hold, ("somebody is there",)).start()
    begun = time.monotonic()
    assert not arm.move_to((0.36, 0.2 if arm.state().tip[1] < 0 else -0.2), 0.05)
    assert time.monotonic() - begun < 2.0
    assert arm.state().status is ArmStatus.HOLD
