"""The arm's driver with the real franky client on a simulated controller: it follows, and it refuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.arm.interface import ArmStatus
from robots.errors import RobotError
from robots.limits import Limits
from tests.robots.arm_under_test import PATIENT, becomes, bring, decided, drive, made_ready, waited_for

pytest.importorskip("franky", reason="the driver is franky-control (extra 'robot')")

TASK = FrankaFragilePushWall()


@pytest.fixture(scope="module")
def twin(start_twin: Callable[..., Any]) -> Any:
    return start_twin(seed=3, controller=PATIENT)


@pytest.fixture
def make_arm(twin: Any) -> Iterator[Callable[..., FrankyArm]]:
    """Connects arms to the module's twin, one at a time; the last one is closed after the test."""
    arms: list[FrankyArm] = []

    def make(limits: Limits | None = None, ages: Any = None, **config: Any) -> FrankyArm:
        arms.append(FrankyArm(ArmConfig(twin.host, **config), TASK, limits or Limits(), ages))
        return made_ready(arms[-1])

    yield make
    for arm in arms:
        arm.close()


def test_it_follows_ten_commands_a_second_within_15_mm_and_knows_where_its_finger_is(make_arm, twin):
    arm = make_arm()
    bring(arm, 0.36, -0.15)
    told = drive(arm, 0.0, 1.0, 16) + drive(arm, 0.0, -1.0, 16)
    assert not any(commanded.fault or commanded.clipped for commanded, _ in told)
    errors = [math.dist(state.tip[:2], state.reference) for _, state in told]
    assert np.percentile(errors, 90) < 0.015  # the rest is for a machine that has no time now and then
    assert max(state.tip[1] for _, state in told) > 0.06  # it really went there and back
    arm.hold("test")
    time.sleep(0.5)
    truth, _ = twin.scene()
    assert math.dist(arm.state().tip[:2], truth.tcp) < 0.002
    assert arm.state().tip[2] == pytest.approx(0.02, abs=0.012)


def test_whatever_is_commanded_the_finger_stays_in_the_box(make_arm, twin):
    limits = Limits(x_m=(0.35, 0.46), y_m=(-0.20, 0.02))
    arm = make_arm(limits, ages=None)
    bring(arm, 0.40, -0.15)
    rng = np.random.default_rng(0)
    due = time.monotonic()
    for step in range(50):
        wild = rng.choice([1e9, -1e9, 3.0, -3.0, math.nan], size=2) if step % 20 < 10 else [(-1) ** step * 1e6, 1e6]
        arm.command(decided(float(wild[0]), float(wild[1])))
        (x, y), _, _ = twin.scene()[0][:3]
        assert 0.35 - 0.012 < x < 0.46 + 0.012
        assert -0.20 - 0.012 < y < 0.02 + 0.012
        due += 0.1
        time.sleep(max(due - time.monotonic(), 0.0))


LATE = {"decided_at": -0.2, "observed_at": -0.3}


@pytest.mark.parametrize(
    ("changed", "shifted", "fault"),
    [
        ({"executed": (math.nan, 0.0)}, {}, "not_finite"),
        ({"executed": (0.0, math.inf), "source": "human"}, {}, "not_finite"),
        ({"risk": math.nan}, {}, "not_permitted"),
        ({"risk": 0.31}, {}, "not_permitted"),
        ({}, {"decided_at": -0.2}, "late_decision"),
        ({}, {"observed_at": -0.3}, "late_observation"),
        ({}, {"decided_at": 5.0}, "late_decision"),
        ({"decided_at": math.nan}, {}, "late_decision"),
        ({"source": "recovery", "risk": 0.9}, LATE, "late_decision"),
    ],
)
def test_what_is_not_known_to_be_safe_holds_the_arm(make_arm, changed, shifted, fault):
    arm = make_arm()
    drive(arm, 0.0, 1.0 if arm.state().tip[1] < 0 else -1.0, 3)
    for _ in range(5):
        later = {name: time.monotonic() + shift for name, shift in shifted.items()}
        told = arm.command(decided(0.0, 1.0, **{**changed, **later}))
        if told.fault != "silent":  # a simulated controller without a moment's time says nothing of the action
            break
        time.sleep(0.2)
    assert (told.clipped, told.fault, told.executed) == (("held",), fault, (0.0, 0.0))
    assert arm.state().status is ArmStatus.HOLD
    assert math.dist(told.reference, arm.state().tip[:2]) < 0.01


def test_a_recovery_action_goes_through_whatever_the_risk_of_what_was_proposed(make_arm):
    arm = make_arm()
    for risk in (0.9, math.nan):
        assert arm.command(decided(0.0, 0.5, source="recovery", risk=risk)).fault == ""


@pytest.mark.parametrize("thing", [None, (0.1, 0.0), [0.1, 0.0], np.zeros(2), {"executed": (0.1, 0.0)}])
def test_only_a_gated_action_is_taken(make_arm, thing):
    arm = make_arm()
    drive(arm, 0.0, 0.2, 2)
    with pytest.raises(TypeError, match="GatedAction"):
        arm.command(thing)
    assert arm.state().status is ArmStatus.HOLD


def test_a_policy_that_stalls_makes_the_arm_hold_then_rest_and_it_goes_on_when_the_policy_does(make_arm):
    arm = make_arm(Limits(stall_periods=3.0, stop_periods=6.0))
    bring(arm, 0.36, -0.10)
    drive(arm, 0.0, 1.0, 5)
    held = becomes(arm, ArmStatus.HOLD, 2.0)
    assert held is not None
    assert held > 0.1
    tip = arm.state().tip
    assert becomes(arm, ArmStatus.IDLE, 4.0) is not None
    assert math.dist(arm.state().tip, tip) < 0.02
    assert arm.command(decided(0.0, 0.5)).fault == ""
    assert [change.reason for change in arm.changes if "stalled" in change.reason] == ["stalled", "stopping: stalled"]


def test_a_stale_estimate_holds_a_moving_arm_and_refuses_commands_but_not_resets(make_arm):
    age = [0.0]
    arm = make_arm(Limits(object_age_s=0.3), ages={"object": lambda: age[0]})
    drive(arm, 0.0, 0.5, 3)
    age[0] = 0.5
    assert becomes(arm, ArmStatus.HOLD, 1.0) is not None
    assert arm.command(decided(0.0, 0.5)).fault == "stale_object"
    assert arm.move_to((0.38, -0.10), 0.25)
    age[0] = math.nan
    assert arm.command(decided(0.0, 0.5)).fault == "stale_object"
    age[0] = 0.0
    assert arm.command(decided(0.0, 0.5)).fault == ""


def test_resets_stay_inside_the_limits_too(make_arm):
    arm = make_arm(Limits(x_m=(0.35, 0.50)))
    assert not arm.move_to((0.60, 0.0), 0.2)
    assert not arm.move_to((0.40, 0.0), 0.2, height_m=0.8)
    assert not arm.move_to((0.40, 0.0), 0.2, height_m=-0.05)
    assert not arm.move_to((math.nan, 0.0), 0.2)
    begun = time.monotonic()
    assert arm.move_to((0.40, -0.15), 0.05)
    assert arm.state().tip[0] == pytest.approx(0.40, abs=0.015)
    assert time.monotonic() - begun > 0.2


def test_a_command_far_from_the_working_height_is_refused(make_arm):
    arm = make_arm()
    at = arm.state().tip
    assert arm.move_to((at[0], at[1]), 0.2, 0.10)
    assert arm.command(decided(1.0, 0.0)).fault == "height"
    assert arm.move_to((at[0], at[1]), 0.2)


def test_the_velocity_backend_follows_and_comes_to_rest_by_itself(make_arm):
    arm = make_arm(Limits(stall_periods=30.0, stop_periods=60.0), backend="velocity")  # nobody stops it but itself
    bring(arm, 0.36, -0.10)
    told = drive(arm, 0.0, 0.7, 15)
    assert max(math.dist(state.tip[:2], state.reference) for _, state in told) < 0.06
    assert arm.state().tip[1] > -0.06
    assert becomes(arm, ArmStatus.IDLE, 2.0) is not None
    assert waited_for(lambda: math.hypot(*arm.state().tip_velocity) < 0.005, 2.0) is not None


def test_a_closed_arm_takes_nothing_and_can_be_closed_again(make_arm):
    arm = make_arm()
    arm.command(decided(0.0, 0.3))
    arm.close()
    arm.close()
    assert arm.state().status is ArmStatus.CLOSED
    assert arm.command(decided(0.0, 0.3)).fault == "closed"
    assert not arm.move_to((0.4, 0.0), 0.1)


def test_limits_and_gains_that_contradict_each_other_are_refused_before_anything_is_connected_to():
    with pytest.raises(RobotError, match="presses with up to 40 N"):
        FrankyArm(ArmConfig("127.0.0.1", stiffness_npm=2000.0), TASK, Limits())
    with pytest.raises(RobotError, match="starts with the finger"):
        FrankyArm(ArmConfig("127.0.0.1"), TASK, Limits(x_m=(0.4, 0.7)))
