"""Limits: nothing that is asked for leaves the box, and limits that make no sense are refused before anything moves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from failurebench.franka.definition import FrankaTask
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.errors import RobotError
from robots.limits import KeepOut, Limits
from robots.permit import Permit, Stance, admit, stand

TASK = FrankaFragilePushWall()
WALL = KeepOut("wall", (0.54, -0.20, 0.0), (0.56, 0.04, 0.10))
RADIUS = 0.012
CALM = (0.0, 0.0, 0.0)
START = (0.36, 0.0, 0.02)
NASTY = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e9, -1e9, 5e-324, 0.0, -1.0, 1.0, 0.3, 0.999999, -0.7)


def admitted(action: tuple[float, float], limits: Limits | None = None, **stance: object) -> Permit:
    at = Stance(START, START, CALM)._replace(**stance)
    permit = admit(limits or Limits(), TASK, at, action)
    assert permit is not None
    return permit


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_adversarial_actions_never_leave_the_box_nor_enter_the_wall(seed):
    rng = np.random.default_rng(seed)
    limits = Limits(x_m=(0.35, 0.70), y_m=(-0.2, 0.22), speed_mps=0.2, keep_out=(WALL,))
    reference = tip = START
    refused = 0
    for step in range(2500):
        action = adversarial(rng, step)
        force = tuple((rng.normal(size=3) * rng.choice([0.0, 5.0, 50.0])).tolist())
        permit = admit(limits, TASK, Stance(reference, tip, force), action)
        if permit is None:
            assert not all(map(math.isfinite, action))
            refused += 1
            continue
        x, y, z = permit.reference
        assert 0.35 <= x <= 0.70
        assert -0.2 <= y <= 0.22
        assert 0.012 <= z <= 0.30
        assert not (0.54 - RADIUS < x < 0.56 + RADIUS and -0.20 - RADIUS < y < 0.04 + RADIUS and z < 0.10)
        assert not crosses_the_wall(reference, permit.reference)
        if (
            math.dist(permit.reference, reference) > math.hypot(0.02, 0.02) + 1e-9
        ):  # re-anchored: towards the finger only
            assert math.dist(permit.reference, tip) < math.dist(reference, tip)
        assert all(-1.0 <= part <= 1.0 for part in permit.executed)
        reference = permit.reference
        tip = follower(rng, reference, tip)
    assert 0 < refused < 2500


def adversarial(rng: np.random.Generator, step: int) -> tuple[float, float]:
    kind = (step // 100) % 5
    if kind == 0:
        return float(rng.choice(NASTY)), float(rng.choice(NASTY))
    if kind == 1:  # ping-pong, far beyond full commands
        return (1e6, 1e6) if step % 2 else (-1e6, -1e6)
    if kind == 2:  # a long way into one corner
        turn = math.pi / 4 * ((step // 100) % 8)
        return math.cos(turn), math.sin(turn)
    return tuple(rng.normal(scale=1.5, size=2).tolist())


def follower(
    rng: np.random.Generator, reference: tuple[float, float, float], tip: tuple[float, float, float]
) -> tuple[float, float, float]:
    """A finger that lags, sticks, or is pushed somewhere by a person, also out of the box."""
    chance = rng.random()
    if chance < 0.05:
        return tip
    if chance < 0.07:
        push = rng.normal(scale=0.1, size=3)
        return tip[0] + push[0], tip[1] + push[1], abs(tip[2] + push[2])
    return tuple(t + 0.7 * (r - t) for t, r in zip(tip, reference, strict=True))


def crosses_the_wall(start: tuple[float, float, float], end: tuple[float, float, float]) -> bool:
    """By looking at many points of the way."""
    for share in np.linspace(0.0, 1.0, 25):
        x, y, z = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        if 0.54 - RADIUS < x < 0.56 + RADIUS and -0.20 - RADIUS < y < 0.04 + RADIUS and z < 0.10:
            return True
    return False


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["action", "tip", "force", "reference"])
def test_nothing_moves_on_what_is_not_a_number(bad, place):
    stance, action = Stance(START, START, CALM), (0.5, 0.5)
    if place == "action":
        action = (0.5, bad)
    else:
        stance = stance._replace(**{place: (0.36, bad, 0.02)})
    assert admit(Limits(), TASK, stance, action) is None


def test_without_a_limit_in_its_way_the_reference_is_the_tasks_own():
    tip = (0.50, 0.01, 0.02)
    reference = (0.51, 0.02, 0.02)
    permit = admitted((0.4, -0.8), reference=reference, tip=tip)
    expected = TASK.advance(reference[:2], tip[:2], (0.4, -0.8))
    assert permit.reference[:2] == pytest.approx(expected)
    assert permit.executed == pytest.approx((0.4, -0.8))
    assert permit.clipped == ()


@pytest.mark.parametrize(
    ("action", "stance", "limits", "name"),
    [
        ((7.0, 0.0), {}, Limits(), "step"),
        ((1.0, 0.0), {}, Limits(speed_mps=0.05), "speed"),
        ((1.0, 0.0), {"reference": (0.40, 0.0, 0.02)}, Limits(), "lead"),
        ((-1.0, 0.0), {"reference": (0.345, 0.0, 0.02)}, Limits(), "box"),
        ((1.0, 0.0), {"reference": (0.365, 0.0, 0.02), "force": (-13.0, 0.0, 0.0)}, Limits(), "force"),
        (
            (1.0, 0.0),
            {"reference": (0.52, 0.0, 0.02), "tip": (0.51, 0.0, 0.02)},
            Limits(keep_out=(WALL,)),
            "keep_out:wall",
        ),
    ],
)
def test_every_clip_is_named(action, stance, limits, name):
    assert admitted(action, limits, **stance).clipped == (name,)


def test_a_shorter_lead_than_the_tasks_holds_in_all_three_directions():
    held_back = {"reference": (0.49, 0.0, 0.05), "tip": (0.47, 0.0, 0.05)}
    permit = admitted((1.0, 1.0), Limits(lead_m=0.025, error_clip_m=0.02), **held_back)
    assert math.dist(permit.reference, held_back["tip"]) == pytest.approx(0.025)
    assert permit.clipped == ("lead",)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_above_the_soft_force_nothing_presses_harder_whatever_sign_a_controller_gives_forces(sign):
    tip, reference = (0.50, 0.0, 0.02), (0.515, 0.0, 0.02)
    pressing = {"tip": tip, "reference": reference, "force": (sign * 15.0, 0.0, 0.0)}
    harder = admitted((1.0, 0.0), **pressing)
    assert harder.reference[0] == pytest.approx(reference[0])
    away = admitted((-1.0, 0.0), **pressing)
    assert away.reference[0] == pytest.approx(reference[0] - TASK.step_m)
    along = admitted((0.0, 1.0), **pressing)
    assert along.reference[1] == pytest.approx(TASK.step_m)


def test_a_finger_that_was_pushed_out_of_the_box_comes_back_no_faster_than_the_speed_limit():
    limits = Limits(speed_mps=0.1)
    reference = (0.80, 0.0, 0.02)
    for _ in range(20):
        permit = admit(limits, TASK, Stance(reference, reference, CALM), (1.0, 0.0))
        assert permit is not None
        assert math.dist(permit.reference, reference) <= 0.01 + 1e-9
        assert permit.reference[0] <= reference[0]
        reference = permit.reference
    assert reference[0] == pytest.approx(0.74)


def test_a_hold_is_where_the_finger_is():
    assert stand((0.5, 0.1, 0.03)) == Permit((0.5, 0.1, 0.03), (0.0, 0.0), ("held",))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_m": (0.7, 0.3)}, "x_m"),
        ({"speed_mps": math.nan}, "speed_mps"),
        ({"lead_m": 0.0}, "lead_m"),
        ({"reaction_force_n": 40.0}, "reflex"),
        ({"soft_force_n": 25.0}, "reflex"),
        ({"error_clip_m": 0.05}, "error_clip_m"),
        ({"stall_periods": 20.0}, "stall_periods"),
        ({"decision_age_s": 0.2}, "observation_age_s"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(changed, words):
    with pytest.raises(RobotError, match=words):
        replace(Limits(), **changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_m": (0.80, 0.90)}, "nothing in common"),
        ({"x_m": (0.40, 0.74)}, "starts with the finger"),
        ({"z_m": (0.05, 0.30)}, "starts with the finger"),
        ({"y_m": (-0.001, 0.001)}, "starts its object"),
        ({"keep_out": (KeepOut("box", (0.3, -0.1, 0.0), (0.4, 0.1, 0.1)),)}, "keep-out region 'box'"),
        ({"lead_m": 0.06}, "lead_m"),
    ],
)
@pytest.mark.parametrize("task", [FrankaFragilePushWall(), FrankaBoundedSoccer()])
def test_limits_that_contradict_the_task_are_refused(task: FrankaTask, changed, words):
    Limits().check(task)
    with pytest.raises(RobotError, match=words):
        replace(Limits(), **changed).check(task)


def test_a_keep_out_region_that_is_inside_out_is_refused():
    with pytest.raises(RobotError, match="'pole'"):
        KeepOut("pole", (0.5, 0.0, 0.0), (0.4, 0.1, 0.1))
