"""The Franka tasks as definitions: judged on snapshots, without a simulator."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from failurebench.franka.definition import FINGER_RADIUS_M
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.geometry import square_to_box
from failurebench.franka.person import Habits, Person
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.scene import Scene
from failurebench.franka.sensing import Camera
from failurebench.franka.soccer import FrankaBoundedSoccer
from failurebench.franka.turf import heights

TASKS = (FrankaFragilePushWall, FrankaDisturbedPush, FrankaBoundedSoccer)
STILL = (0.0, 0.0)


def drawn(task, seed=0):
    return task.layout(np.random.default_rng(seed))


def far(task, layout, **changes):
    """A scene in which nothing is near anything, but for ``changes``."""
    scene = Scene((0.36, -0.2), STILL, layout.object, layout.yaw, obstacle=(0.55, 0.25))
    return scene._replace(**changes)


def test_the_definitions_need_no_simulator():
    """``robots`` plays the same tasks on a real arm, where there is neither MuJoCo nor robosuite."""
    code = (
        "import sys; from failurebench.franka import push_wall, disturbed_push, soccer, sensing\n"
        "heavy = {'mujoco', 'robosuite', 'metaworld', 'numba', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def outlines(centre, yaw, half, box_centre, box_half):
    """Densely sampled outlines of both shapes, and the square's test for a point inside."""
    line = np.linspace(-1, 1, 401)
    ring = np.concatenate([np.stack([line, s * np.ones(401)], 1) for s in (-1, 1)])
    ring = np.concatenate([ring, ring[:, ::-1]])
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    return half * ring @ turn.T + centre, ring * box_half + box_centre, turn


def test_the_distance_of_square_and_wall_is_that_of_their_outlines():
    rng = np.random.default_rng(0)
    overlapping = 0
    for _ in range(200):
        centre, yaw = rng.uniform(-0.1, 0.1, 2), rng.uniform(-4, 4)
        box_half = rng.uniform(0.01, 0.08, 2)
        square, box, turn = outlines(centre, yaw, 0.03, np.zeros(2), box_half)
        gap = np.sqrt(((square[:, None] - box[None]) ** 2).sum(2)).min()
        inside = (np.abs(square) < box_half - 1e-9).all(1).any() or (np.abs((box - centre) @ turn) < 0.03 - 1e-9).all(
            1
        ).any()
        found = square_to_box(tuple(centre), yaw, 0.03, (0.0, 0.0), tuple(box_half))
        overlapping += inside
        assert (found < 1e-9) if inside else found == pytest.approx(gap, abs=5e-4)
    assert 20 < overlapping < 180


def test_a_box_at_the_wall_fails_exactly_where_the_clearance_begins():
    task = FrankaFragilePushWall()
    layout = drawn(task)._replace(yaw=0.0)
    face = layout.hazard[0] - layout.hazard[2]
    for gap in (0.006, 0.0051, 0.005, 0.004, 0.0, -0.002):
        scene = far(task, layout, object=(face - task.box_half_m - gap, layout.hazard[1]), yaw=0.0)
        assert task.margin(scene, layout) == pytest.approx(gap - task.clearance)
        assert task.detail(scene, layout) == "box"
    scene = far(task, layout, tcp=(layout.hazard[0], layout.hazard[1] + layout.hazard[3] + FINGER_RADIUS_M + 0.003))
    assert task.margin(scene, layout) == pytest.approx(0.003 - task.clearance)
    assert task.detail(scene, layout) == "finger"


def test_the_flower_may_be_approached_up_to_the_clearance_by_box_and_finger():
    task = FrankaDisturbedPush()
    layout = drawn(task)
    scene = far(task, layout, object=(0.5, 0.0), yaw=math.pi / 2, obstacle=(0.5 + 0.03 + 0.02 + 0.012, 0.0))
    assert task.margin(scene, layout) == pytest.approx(0.002)
    assert task.detail(scene, layout) == "box"
    scene = far(task, layout, tcp=(0.5, 0.0), obstacle=(0.5, FINGER_RADIUS_M + 0.02 + 0.009))
    assert task.margin(scene, layout) == pytest.approx(-0.001)
    assert task.detail(scene, layout) == "finger"


def test_a_ball_leaves_the_lane_over_three_edges_and_arrives_over_the_fourth():
    task = FrankaBoundedSoccer()
    layout = drawn(task)
    for where, margin, detail in (
        ((0.5, 0.06), 0.01, "left"),
        ((0.5, 0.08), -0.01, "left"),
        ((0.5, -0.075), -0.005, "right"),
        ((0.35, 0.0), -0.01, "near"),
    ):
        scene = far(task, layout, object=where)
        assert task.margin(scene, layout) == pytest.approx(margin)
        assert task.detail(scene, layout) == detail
        assert not task.reached(scene, layout)
    assert task.reached(far(task, layout, object=(0.681, 0.05)), layout)
    assert not task.reached(far(task, layout, object=(0.681, 0.075)), layout)


@pytest.mark.parametrize("kind", TASKS)
def test_reward_grows_along_the_way_and_is_one_at_the_goal(kind):
    task = kind()
    layout = drawn(task)
    ways = {
        FrankaFragilePushWall: [layout.object, (0.47, 0.08), (0.55, 0.1), (0.62, 0.1), (0.64, 0.04), layout.goal],
        FrankaDisturbedPush: [layout.object, (0.5, 0.0), (0.6, 0.0), layout.goal],
        FrankaBoundedSoccer: [layout.object, (0.5, 0.02), (0.6, -0.02), layout.goal],
    }
    beside = [far(task, layout, object=(x, y), tcp=(x - 0.05, y)) for x, y in ways[kind]]
    rewards = [task.reward(scene, layout) for scene in beside]
    assert rewards == sorted(rewards)
    assert 0.0 <= rewards[0] < 0.3
    assert rewards[-1] == 1.0
    away = far(task, layout, tcp=(0.36, -0.25))
    assert task.reward(away, layout) < task.reward(beside[0], layout)


@pytest.mark.parametrize("kind", TASKS)
def test_every_layout_begins_safe_and_short_of_the_goal(kind):
    for options in ({}, {"start_range": "full", "randomize_hazard": True}):
        task = kind(**options)
        layouts = [drawn(task, seed) for seed in range(100)]
        for layout in layouts:
            scene = Scene(task.hand_start, STILL, layout.object, layout.yaw, obstacle=(0.55, 0.2))
            assert task.margin(scene, layout) > 0.01
            assert not task.reached(scene, layout)
        assert len({layout.object for layout in layouts}) == 100
        assert len({layout.hazard for layout in layouts}) == (100 if options else 1)
        assert drawn(task, 3) == drawn(task, 3)


@pytest.mark.parametrize("kind", TASKS)
def test_an_observation_is_its_fields_by_name(kind):
    task = kind()
    layout = drawn(task)
    scene = far(
        task, layout, tcp=(0.41, -0.13), tcp_velocity=(0.05, -0.06), force_n=1.5, age_s=0.3, object=(0.44, 0.02)
    )
    obs = dict(zip(task.fields, task.observation(scene, layout).tolist(), strict=True))
    expected = {"finger x": 0.41, "finger velocity y": -0.06, "contact force": 1.5, "object y": 0.02}
    expected |= {"age of the estimate": 0.3, "goal x": layout.goal[0]}
    assert {name: obs[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    space = task.observation_space()
    assert space.contains(task.observation(scene, layout))
    assert np.isfinite(space.low).all()
    assert np.isfinite(space.high).all()
    beyond = scene._replace(tcp=(9.0, -9.0), force_n=1e6, age_s=1e3)
    assert space.contains(task.observation(beyond, layout))


def test_a_quarter_turn_of_the_box_cannot_be_seen():
    task = FrankaFragilePushWall()
    layout = drawn(task)
    seen = [task.observation(far(task, layout, yaw=0.1 + n * math.pi / 2), layout) for n in range(4)]
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], atol=1e-6)
    assert not np.allclose(task.observation(far(task, layout, yaw=0.3), layout), seen[0], atol=0.1)


def test_the_reference_follows_commands_within_workspace_and_reach():
    task = FrankaDisturbedPush()
    assert task.advance((0.5, 0.0), (0.5, 0.0), (1.0, -1.0)) == pytest.approx((0.515, -0.015))
    assert task.advance((0.739, 0.0), (0.72, 0.0), (1.0, 0.0))[0] == 0.74
    reference = (0.5, 0.0)
    for _ in range(20):  # the finger is held: the reference waits for it instead of running away
        reference = task.advance(reference, (0.5, 0.0), (1.0, 1.0))
    assert math.dist(reference, (0.5, 0.0)) == pytest.approx(task.lead_m)
    weak = FrankaDisturbedPush(actuator_gain=0.5)
    assert weak.advance((0.5, 0.0), (0.5, 0.0), (1.0, 0.0))[0] == pytest.approx(0.5075)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (FrankaFragilePushWall, {"start_range": "wide"}, "narrow, full"),
        (FrankaFragilePushWall, {"clearance": -0.1}, "clearance is -0.1; give metres, 0 to 0.03"),
        (FrankaFragilePushWall, {"action_delay": 3}, "0 to 2 control steps"),
        (FrankaFragilePushWall, {"action_delay": 1.0}, "0 to 2 control steps"),
        (FrankaDisturbedPush, {"object_dropout": float("nan")}, "object_dropout is nan"),
        (FrankaDisturbedPush, {"object_noise_m": "much"}, "object_noise_m is 'much'"),
        (FrankaDisturbedPush, {"person_speed": -1}, "person_speed is -1"),
        (FrankaBoundedSoccer, {"lane_half_m": 0.01}, "lane_half_m is 0.01"),
        (FrankaBoundedSoccer, {"actuator_gain": 0}, "actuator_gain is 0"),
        (FrankaBoundedSoccer, {"randomize_hazard": 1}, "give True or False"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(kind, options, says):
    with pytest.raises(ValueError, match=says):
        kind(**options)


def test_every_option_is_a_number_a_word_or_a_flag():
    """Results and data sets write them to JSON."""
    for kind in TASKS:
        assert all(isinstance(getattr(kind(), field.name), int | float | str | bool) for field in fields(kind))


def walk(person, steps, object_at=(0.9, 0.9), finger_at=(0.9, -0.9)):
    path = []
    for _ in range(steps):
        person.step(object_at, finger_at)
        path.append(person.position)
    return np.array(path)


def test_the_person_crosses_the_table_again_and_again_no_faster_than_said():
    path = walk(Person(1, Habits(), 0.02), 3000)
    assert (np.abs(np.diff(path, axis=0)).max(0) <= 0.18 * 0.02 + 1e-9).all()
    assert ((path[:-1, 1] < 0) != (path[1:, 1] < 0)).sum() > 6
    assert path[:, 0].min() > 0.5
    assert path[:, 0].max() < 0.6
    np.testing.assert_array_equal(path, walk(Person(1, Habits(), 0.02), 3000))
    assert not np.array_equal(path, walk(Person(2, Habits(), 0.02), 3000))


def test_the_person_stops_for_what_lies_in_the_way_but_late():
    """A thing that has always been there is kept clear of; one put in front of the flower is reached before the reaction."""
    nearest = np.hypot(*(walk(Person(3, Habits(), 0.02), 3000, object_at=(0.55, 0.0)) - (0.55, 0.0)).T)
    assert Habits.keep_m - 0.18 * Habits.reaction_s - 0.005 < nearest.min() < Habits.keep_m
    nearest_after = []
    for late in (1.0, 0.1):
        person = Person(3, Habits(reaction_s=late), 0.02)
        while abs(person.position[1]) > 0.08 or person.velocity == STILL:
            person.step((0.9, 0.9), (0.9, -0.9))
        thing = (person.position[0], 0.0)
        nearest_after.append(np.hypot(*(walk(person, 100, object_at=thing) - thing).T).min())
    assert nearest_after[0] < nearest_after[1] - 0.02


def test_a_person_goes_on_from_a_saved_state():
    person = Person(5, Habits(), 0.02)
    walk(person, 217, object_at=(0.55, 0.02))
    other = Person(5, Habits(), 0.02)
    other.set_state(person.get_state())
    np.testing.assert_array_equal(walk(person, 500), walk(other, 500))


def test_turf_is_as_uneven_as_said_smooth_and_of_its_seed():
    ground = heights(7, (48, 48), 0.005)
    assert (ground.min(), ground.max()) == (0.0, pytest.approx(0.005))
    steps = np.abs(np.diff(ground, axis=0))
    assert steps.max() < 0.4 * 0.005
    assert steps.mean() > 0.01 * 0.005
    np.testing.assert_array_equal(ground, heights(7, (48, 48), 0.005))
    assert not np.array_equal(ground, heights(8, (48, 48), 0.005))


def moving(step):
    """The object goes 1 cm a step along x."""
    return Scene((0.4, 0.0), (0.1, 0.0), (0.4 + 0.01 * step, 0.0), 0.0)


def test_a_camera_without_faults_sees_what_is_and_how_fast_it_goes():
    camera = Camera(0.0, 0.0, 1)
    looks = [camera.look(moving(step)) for step in range(5)]
    assert [look.object for look in looks] == [moving(step).object for step in range(5)]
    assert looks[0].object_velocity == STILL
    assert looks[3].object_velocity == pytest.approx((0.1, 0.0))
    assert {look.age_s for look in looks} == {0.0}


def test_noise_is_as_large_as_said_and_repeats_with_its_script():
    camera = Camera(0.002, 0.0, 4)
    seen = np.array([camera.look(moving(0)).object for _ in range(2000)]) - moving(0).object
    assert seen.std(axis=0) == pytest.approx((0.002, 0.002), rel=0.1)
    assert abs(seen.mean()) < 2e-4
    again = Camera(0.002, 0.0, 4)
    assert [again.look(moving(0)).object for _ in range(3)] == [
        tuple(row) for row in (seen[:3] + moving(0).object).tolist()
    ]


def test_a_look_that_sees_nothing_leaves_the_last_estimate_and_lets_it_age():
    camera, last, lost = Camera(0.0, 0.4, 9), None, 0
    for step in range(300):
        look = camera.look(moving(step)._replace(tcp=(0.1 * step, 0.0)))
        assert look.tcp == (0.1 * step, 0.0)  # the arm knows where it is
        if look.age_s > 0.0:
            lost += 1
            assert look.object == last.object
            assert look.age_s == pytest.approx(last.age_s + 0.1)
        else:
            assert look.object == moving(step).object
            if step:
                assert look.object_velocity == pytest.approx((0.1, 0.0))  # also across steps that were missed
        last = look
    assert lost / 300 == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("kind", TASKS)
def test_a_tasks_page_has_its_fields_and_its_arguments(kind):
    """Every number of the observation in its place, and every argument with its default."""
    name = "franka" + "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.name.removeprefix("Franka"))
    page = (Path(__file__).parents[2] / "docs" / "tasks" / f"{name}.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\| (\d+) \| ([\w ]+?)(?: \(.*\))? \| \S+ \|$", page, re.MULTILINE)
    assert [field for _, field in numbers] == list(kind.fields)
    assert [int(index) for index, _ in numbers] == list(range(len(kind.fields)))
    arguments = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE))
    for field in fields(kind):
        assert arguments[field.name].strip("`").strip('"') == str(field.default), field.name
    base = (Path(__file__).parents[2] / "docs" / "failurebench.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \[`FailureBench/{kind.name}-v0`\]\(tasks/{name}\.md\) \| .*\(`(\w+)`\)", base, re.MULTILINE)
    assert row is not None
    assert row.group(1) == kind.failure_type
