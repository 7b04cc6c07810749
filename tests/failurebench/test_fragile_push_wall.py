"""Fragile Push Wall: its wall, drawn anew or not, its margin, its options, its experts."""

from __future__ import annotations

import math
import pickle

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import failurebench
from failurebench.demonstrators.wall import PUCK_RADIUS_M, Wall
from failurebench.experts import CLOSED, Seen, toward
from tests.failurebench.test_experts import run

WALL = "FailureBench/FragilePushWall-v0"
HARD = "FailureBench/FragilePushWall-Hard-v0"
CENTRE, HALF = np.array((0.1, 0.75, 0.06)), np.array((0.12, 0.01, 0.06))


def make(task_id=WALL, **kwargs):
    return gymnasium.make(task_id, **kwargs).unwrapped


def turned(angle, axis):
    quat = np.zeros(4)
    mujoco.mju_axisAngle2Quat(quat, np.asarray(axis, float), angle)
    return quat


def place(env, position, quat=(1, 0, 0, 0)):
    """Put the puck somewhere, at rest, and look at it."""
    sawyer = env._episode.sawyer
    sawyer.data.qpos[9:16] = (*position, *quat)
    sawyer.data.qvel[9:15] = 0
    mujoco.mj_forward(sawyer.model, sawyer.data)
    return env.task.margin(sawyer, env._episode.start)


def failing(env, seed=0, steps=150):
    """Results of every step of an episode that seeks the wall."""
    expert = env.expert("failure")
    expert.reset(np.random.default_rng(seed))
    obs, _ = env.reset(seed=seed)
    for _ in range(steps):
        obs, *rest = env.step(expert.act(obs))
        yield obs, *rest


@pytest.mark.parametrize(
    ("task_id", "wall"),
    [(WALL, (0.1, 0.75, 0.06, 0.12, 0.01, 0.06, 0.05)), (HARD, (0.08, 0.745, 0.06, 0.14, 0.015, 0.06, 0.05))],
)
def test_an_episode_begins_as_documented_and_says_where_the_wall_is(task_id, wall):
    env = make(task_id)
    for seed in range(5):
        obs, info = env.reset(seed=seed)
        seen = Seen.of(obs)
        assert seen.hazard == pytest.approx(wall)
        assert abs(seen.object[0]) <= 0.02
        assert 0.605 <= seen.object[1] <= 0.635
        assert seen.goal[:2] == pytest.approx((0.05, 0.86))
        assert info["margin"] > 0.02
        assert not info["failure"]
        for geom in ("wall", "wall_col"):
            np.testing.assert_allclose(env._episode.sawyer.data.geom(geom).xpos, wall[:3])
            np.testing.assert_allclose(env._episode.sawyer.model.geom(geom).size, wall[3:6])


def test_the_margin_of_a_standing_puck_is_the_gap_between_circle_and_rectangle_less_the_clearance():
    env = make()
    env.reset(seed=0)
    signs = set()
    for x, y in np.random.default_rng(0).uniform((-0.3, 0.5), (0.4, 0.95), (60, 2)):
        gap = np.maximum(np.abs((x, y) - CENTRE[:2]) - HALF[:2], 0.0)
        if (away := math.hypot(*gap) - 0.02) > 0:
            assert place(env, (x, y, 0.02)) == pytest.approx(away - 0.05, abs=2e-5)
            signs.add(away > 0.05)
    assert signs == {True, False}


def test_the_margin_of_a_tipped_puck_is_that_of_its_nearest_point():
    env = make()
    env.reset(seed=0)
    angles, radii, heights = np.linspace(0, 2 * np.pi, 361), np.linspace(0, 0.02, 9), np.linspace(-0.02, 0.02, 9)
    angle, radius, height = (grid.ravel() for grid in np.meshgrid(angles, radii, heights))
    puck = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    for axis in np.random.default_rng(1).normal(size=(6, 3)):
        margin = place(env, (-0.08, 0.7, 0.05), turned(1.2, axis / np.linalg.norm(axis)))
        data = env._episode.sawyer.data.geom("objGeom")
        points = puck @ data.xmat.reshape(3, 3).T + data.xpos
        nearest = np.linalg.norm(np.maximum(np.abs(points - CENTRE) - HALF, 0.0), axis=1).min()
        assert margin == pytest.approx(nearest - 0.05, abs=1e-4)


def test_with_no_clearance_only_contact_fails():
    env = make(clearance=0)
    env.reset(seed=0)
    assert place(env, (-0.042, 0.75, 0.02)) == pytest.approx(0.002, abs=2e-5)
    assert place(env, (-0.038, 0.75, 0.02)) < 0


@pytest.mark.parametrize("task_id", [WALL, HARD])
@pytest.mark.parametrize("start_range", ["narrow", "full"])
def test_a_randomised_wall_moves_along_x_and_is_the_one_that_collides(task_id, start_range):
    fixed, drawn = make(task_id, start_range=start_range), make(task_id, start_range=start_range, randomize_hazard=True)
    shifts = []
    for seed in range(40):
        usual, obs = fixed.reset(seed=seed)[0], drawn.reset(seed=seed)[0]
        shifts.append(obs[11] - usual[11])
        np.testing.assert_array_equal(np.delete(obs, 11), np.delete(usual, 11))
        np.testing.assert_allclose(drawn._episode.sawyer.data.geom("wall").xpos[0], obs[11], atol=1e-7)
        np.testing.assert_allclose(drawn._episode.sawyer.data.geom("wall_col").xpos[0], obs[11], atol=1e-7)
        np.testing.assert_array_equal(obs, drawn.reset(seed=seed)[0])
        (first, _), *_ = drawn.task.outline(drawn._episode.start)
        assert first[0] == pytest.approx(obs[11] + obs[14] + obs[17])
    assert np.abs(shifts).max() <= 0.03 + 1e-6
    assert np.ptp(shifts) > 0.045


def test_the_reward_leads_past_the_end_of_the_wall_wherever_it_stands():
    env = make(randomize_hazard=True)
    env.reset(seed=1)
    start = env._episode.start
    end = start.hazard[0] - start.hazard[3]
    assert abs(end + 0.02) > 0.005
    sawyer = env._episode.sawyer

    def reward(x):  # held where the puck is
        sawyer.object = [x, 0.745, 0.02]
        sawyer.tcp, sawyer.opening = (x, 0.745, 0.02), 0.4
        return env._episode._reward(sawyer, 0.0)

    places = np.linspace(end - 0.2, end + 0.14, 171)
    assert places[int(np.argmax([reward(x) for x in places]))] == pytest.approx(end - 0.03, abs=0.02)


@pytest.mark.parametrize(
    ("task_id", "options", "message"),
    [
        (WALL, {"clearance": -0.01}, "clearance is -0.01"),
        (WALL, {"clearance": float("nan")}, "distance in metres"),
        (WALL, {"clearance": "near"}, "clearance is 'near'"),
        (WALL, {"clearance": None}, "clearance is None"),
        (WALL, {"clearance": True}, "clearance is True"),
        (WALL, {"clearance": 0.08}, "leaves no room.*narrow"),
        (WALL, {"clearance": 0.075, "start_range": "full"}, "leaves no room.*full"),
        (HARD, {"clearance": 0.08}, "leaves no room.*narrow"),
        (WALL, {"start_range": "wide"}, "narrow, full"),
        (WALL, {"randomize_hazard": "yes"}, "randomize_hazard is 'yes'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(task_id, options, message):
    with pytest.raises(ValueError, match=message):
        make(task_id, **options)


@pytest.mark.parametrize(
    ("task_id", "options"),
    [(WALL, {"clearance": 0.079}), (WALL, {"clearance": 0.069, "start_range": "full"}), (HARD, {"clearance": 0.074})],
)
def test_the_largest_clearance_leaves_every_start_free(task_id, options):
    env = make(task_id, **options)
    for seed in range(20):
        obs, info = env.reset(seed=seed)
        assert info["margin"] > 0
        assert obs[17] == pytest.approx(options["clearance"])
        assert place(env, (obs[36], obs[37], 0.02)) > 0


def test_failure_type_cost_and_margin_agree_step_by_step():
    outcomes = set()
    for obs, _, _, _, info in failing(make(action_repeat=1), steps=100):
        gap = np.maximum(np.abs(obs[4:6] - CENTRE[:2]) - HALF[:2], 0.0)
        assert info["margin"] == pytest.approx(math.hypot(*gap) - 0.07, abs=4e-3)  # it leans a little
        assert info["failure"] == (info["margin"] <= 0) == (info["cost"] == 1.0)
        assert info["failure_type"] == ("hit_wall" if info["failure"] else "")
        outcomes.add(info["failure"])
    assert outcomes == {True, False}


@pytest.mark.parametrize("terminate", [False, True])
def test_a_failure_ends_the_episode_only_on_request(terminate):
    ends = [
        (info["failure_onset"], terminated) for *_, terminated, _, info in failing(make(terminate_on_failure=terminate))
    ]
    onset = next(i for i, (first, _) in enumerate(ends) if first)
    assert ends[onset] == (True, terminate)
    assert not any(terminated for _, terminated in ends[:onset])


def test_the_hand_may_touch_the_wall_only_the_puck_counts():
    env = make()
    obs, info = env.reset(seed=0)
    margin, touched = info["margin"], False
    for _ in range(60):
        obs, *_, info = env.step(toward(Seen.of(obs).hand, 0.1, 0.75, 0.15, CLOSED))
        data, model = env._episode.sawyer.data, env._episode.sawyer.model
        wall = model.body("wall").id
        touched = touched or any(wall in model.geom_bodyid[contact.geom] for contact in data.contact)
        assert not info["failure"]
    assert touched
    assert info["margin"] == pytest.approx(margin, abs=1e-3)


def test_a_restored_state_brings_its_wall_along_bit_for_bit():
    one, other = make(randomize_hazard=True), make()
    expert = one.expert("pusher")
    expert.reset(np.random.default_rng(0))
    obs, _ = one.reset(seed=4)
    other.reset(seed=2)
    for _ in range(70):
        obs, *_ = one.step(expert.act(obs))
    other.set_state(pickle.loads(pickle.dumps(one.get_state())))
    np.testing.assert_array_equal(other.observation(), obs)
    for _ in range(40):
        action = expert.act(obs)
        obs, *results = one.step(action)
        again, *same = other.step(action)
        np.testing.assert_array_equal(again, obs)
        assert same == results
    np.testing.assert_allclose(other._episode.sawyer.data.geom("wall").xpos[0], obs[11], atol=1e-7)


def test_a_state_of_the_other_wall_is_refused():
    env, hard = make(), make(HARD)
    env.reset(seed=0)
    hard.reset(seed=0)
    with pytest.raises(ValueError, match="FragilePushWall"):
        hard.set_state(env.get_state())


def test_vector_environments_take_the_same_steps_as_single_ones():
    envs = failurebench.make_vec(WALL, 2, start_range="full", randomize_hazard=True)
    singles = [make(start_range="full", randomize_hazard=True) for _ in range(2)]
    obs, _ = envs.reset(seed=5)
    np.testing.assert_array_equal(obs, [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.uniform(-1, 1, (2, 4)).astype(np.float32)
        obs, rewards, *_, info = envs.step(actions)
        for i, env in enumerate(singles):
            one, reward, *_, alone = env.step(actions[i])
            np.testing.assert_array_equal(obs[i], one)
            assert (rewards[i], info["margin"][i]) == (reward, alone["margin"])


@pytest.mark.parametrize(
    ("task_id", "options"), [(WALL, {}), (HARD, {}), (WALL, {"start_range": "full", "randomize_hazard": True})]
)
def test_the_task_expert_passes_the_wall_without_failing(task_id, options):
    success, failed = run(task_id, "task", 90, **options)
    assert success.mean() > 0.9
    assert not failed.any()


def test_the_pusher_never_grasps_mostly_arrives_and_sometimes_passes_too_closely():
    success, failed = run(WALL, "pusher", 200)
    assert success.mean() > 0.9
    assert 0 < failed.mean() < 0.7
    env = make()
    expert = env.expert("pusher")
    expert.reset(np.random.default_rng(0))
    obs, _ = env.reset(seed=0)
    for step in range(80):
        obs, *_ = env.step(expert.act(obs))
        assert step < 20 or Seen.of(obs).opening < 0.33


@pytest.mark.parametrize("task_id", [WALL, HARD])
def test_the_failure_expert_fails_in_several_ways(task_id):
    _, failed = run(task_id, "failure", 140)
    assert failed.mean() > 0.9
    seekers = [make(task_id).expert("failure") for _ in range(12)]
    for i, seeker in enumerate(seekers):
        seeker.reset(np.random.default_rng(i))
    assert {(seeker.face, seeker.drags) for seeker in seekers} >= {("front", False), ("end", False), ("corner", True)}


@pytest.mark.parametrize("kind", ["pusher", "failure"])
def test_recovery_saves_the_puck_three_steps_before_it_would_be_too_close(kind):
    saved = []
    env = failurebench.make_vec(WALL, 1, autoreset_mode=AutoresetMode.DISABLED, stop_on_success=False)
    actor, recovery = env.expert(kind), env.expert("recovery")
    for seed in range(60):
        obs, _ = env.reset(seed=seed)
        actor.reset(np.random.default_rng(seed))
        states = []
        for _ in range(120):
            states = [*states[-2:], env.get_states()]
            obs, *_, info = env.step(actor.act(obs[0])[None])
            if info["failure"][0]:
                break
        if not info["failure"][0]:
            continue
        env.set_states(states[0])
        recovery.reset(np.random.default_rng(0))
        obs, failed = env.observations(), False
        for _ in range(30):
            obs, *_, info = env.step(recovery.act(obs[0])[None])
            failed = failed or info["failure"][0]
        saved.append(not failed)
        if len(saved) == 5:
            break
    assert len(saved) == 5
    assert np.mean(saved) >= 0.8


def test_a_fist_between_puck_and_wall_goes_away_from_the_wall():
    obs, _ = make().reset(seed=0)
    recovery = make().expert("recovery")
    recovery.reset(np.random.default_rng(0))
    wall = Wall.of(Seen.of(obs))
    obs[3] = 0.3
    for distance, leaves in ((0.005, True), (0.05, False)):
        y = wall.near - wall.clearance - PUCK_RADIUS_M - distance
        obs[4:6] = (wall.left + wall.right) / 2, y
        obs[0:3] = obs[4], y + 0.04, obs[6] + 0.02
        away = recovery.act(obs)
        assert (away[1] < -0.9) == leaves
        assert away[2] == 0.0


@pytest.mark.parametrize("face", ["front", "end", "corner"])
def test_recovery_carries_a_held_puck_straight_away_from_the_wall(face):
    env = make(stop_on_success=False)
    dragger = env.expert("failure")
    dragger.reset(np.random.default_rng(0))
    dragger.face, dragger.drags, dragger.there = face, True, face == "front"
    obs, info = env.reset(seed=0)
    while not (dragger.there and Seen.of(obs).opening < 0.7 and info["margin"] < 0.04):
        obs, *_, info = env.step(dragger.act(obs))
    recovery = env.expert("recovery")
    recovery.reset(np.random.default_rng(0))
    for _ in range(30):
        obs, *_, info = env.step(recovery.act(obs))
        assert not info["failure"]
    assert info["margin"] >= 0.02
