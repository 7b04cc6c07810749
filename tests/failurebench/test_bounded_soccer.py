"""Bounded Soccer: its boundary, drawn anew or not, its goal, its experts. The boundary's tests hold for Bounded Push too."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import failurebench
from failurebench.demonstrators.soccer import catch, way_out
from failurebench.experts import CLOSED, Seen, toward
from failurebench.tasks.bounded_soccer import START_RANGES
from tests.failurebench.conftest import BOUNDED_PUSH, HARD
from tests.failurebench.test_experts import run

SOCCER = "FailureBench/BoundedSoccer-v0"
HARD_SOCCER = "FailureBench/BoundedSoccer-Hard-v0"
BOUNDED = [BOUNDED_PUSH, HARD, SOCCER, HARD_SOCCER]


def make(task_id=SOCCER, **kwargs):
    return gymnasium.make(task_id, **kwargs).unwrapped


def hazard(obs):
    return obs[11:15]


@pytest.mark.parametrize(
    ("task_id", "sides"), [(SOCCER, (-0.30, 0.30, 0.50, 1.00)), (HARD_SOCCER, (-0.13, 0.13, 0.57, 0.93))]
)
def test_an_episode_begins_as_published_and_says_where_the_boundary_is(task_id, sides):
    for seed in range(5):
        obs, info = make(task_id).reset(seed=seed)
        seen = Seen.of(obs)
        assert hazard(obs) == pytest.approx(sides)
        assert not obs[15:18].any()
        assert seen.object == pytest.approx((0.0, 0.65, 0.03), abs=0.021)
        assert seen.goal == pytest.approx((0.05, 0.85, 0.0))
        assert not info["failure"]
        assert not info["success"]


def test_the_margin_is_the_signed_distance_to_the_nearest_side():
    env = make(HARD_SOCCER)
    env.reset(seed=0)
    sawyer, start = env._episode.sawyer, env._episode.start
    normals = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    offsets = np.array([0.13, 0.13, -0.57, 0.93])  # inside: normal . p + offset > 0
    signs = set()
    for x, y in np.random.default_rng(0).uniform((-0.2, 0.5), (0.2, 1.0), (50, 2)):
        sawyer.reset((x, y, 0.026), {})
        margin = env.task.margin(sawyer, start)
        assert margin == pytest.approx((normals @ (x, y) + offsets).min())
        signs.add(margin > 0)
    assert signs == {True, False}


def test_success_is_plain_distance_as_in_stock_though_the_reward_weights_the_side_by_three():
    env = make(stop_on_success=False)
    env.reset(seed=0)
    gx, gy, _ = env._episode.start.goal
    beside, reward = (gx + 0.05, gy, 0.026), env._episode._reward
    assert env.task.reached(beside, env._episode.start.goal)
    assert not env.task.reached((gx + 0.07, gy, 0.026), env._episode.start.goal)
    env._episode.sawyer.reset(beside, {})
    assert reward(env._episode.sawyer, 0.0) < 10.0
    env._episode.sawyer.reset((gx, gy - 0.05, 0.026), {})
    assert reward(env._episode.sawyer, 0.0) == 10.0


@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("task_id", BOUNDED)
def test_a_randomised_boundary_is_shifted_whole_and_leaves_room(task_id, start_range):
    fixed, drawn = make(task_id, start_range=start_range), make(task_id, start_range=start_range, randomize_hazard=True)
    shifts = []
    for seed in range(40):
        usual, obs = fixed.reset(seed=seed)[0], drawn.reset(seed=seed)[0]
        shift = hazard(obs) - hazard(usual)
        assert shift[0] == pytest.approx(shift[1], abs=1e-6)
        assert shift[2] == pytest.approx(shift[3], abs=1e-6)
        np.testing.assert_array_equal(np.delete(obs, np.s_[11:15]), np.delete(usual, np.s_[11:15]))
        x_low, x_high, y_low, y_high = hazard(obs)
        for box in START_RANGES[start_range]:
            assert x_low < box[0] - 0.009
            assert x_high > box[1] + 0.009
            assert y_low < box[2] - 0.009
            assert y_high > box[3] + 0.009
        np.testing.assert_array_equal(obs, drawn.reset(seed=seed)[0])
        (first, _), *_ = drawn.task.outline(drawn._episode.start)
        assert first[:2] == pytest.approx((x_low, y_low))
        shifts.append(shift[[0, 2]])
    shifts = np.array(shifts)
    assert (np.abs(shifts) <= 0.02 + 1e-6).all()
    assert (np.ptp(shifts, axis=0) > 0.025).all()


def test_the_drawn_boundary_is_the_one_that_is_judged():
    env = make(HARD_SOCCER, randomize_hazard=True)
    obs, info = env.reset(seed=3)
    x, y = env.get_state()["start"][:2]
    x_low, x_high, y_low, y_high = hazard(obs)
    assert info["margin"] == pytest.approx(min(x - x_low, x_high - x, y - y_low, y_high - y), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boundary": (-0.01, 0.3, 0.5, 1.0)}, "leaves no room.*narrow"),
        ({"boundary": (-0.2, 0.2, 0.5, 0.9), "start_range": "full"}, "leaves no room.*full"),
        ({"boundary": (0.1, 0.2)}, "four finite numbers"),
        ({"boundary": (-0.3, float("nan"), 0.5, 1.0)}, "four finite numbers"),
        ({"boundary": "wide"}, "four finite numbers"),
        ({"start_range": "wide"}, "narrow, full"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_restored_state_brings_its_goal_along():
    one, other = make(start_range="full"), make(start_range="full")
    one.reset(seed=1)
    other.reset(seed=2)
    expert = one.expert("pusher")
    expert.reset(np.random.default_rng(0))
    obs = one.observation()
    for _ in range(20):
        obs, *_ = one.step(expert.act(obs))
    other.set_state(one.get_state())
    np.testing.assert_array_equal(other.observation(), obs)
    for _ in range(60):
        action = expert.act(obs)
        obs, reward, *_, info = one.step(action)
        again, same_reward, *_, same_info = other.step(action)
        np.testing.assert_array_equal(again, obs)
        assert (same_reward, same_info) == (reward, info)


def test_vector_environments_take_the_same_steps_as_single_ones():
    envs = failurebench.make_vec(HARD_SOCCER, 2, start_range="full", randomize_hazard=True)
    singles = [make(HARD_SOCCER, start_range="full", randomize_hazard=True) for _ in range(2)]
    obs, _ = envs.reset(seed=5)
    np.testing.assert_array_equal(obs, [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.uniform(-1, 1, (2, 4)).astype(np.float32)
        obs, rewards, *_, info = envs.step(actions)
        for i, env in enumerate(singles):
            one, reward, *_, one_info = env.step(actions[i])
            np.testing.assert_array_equal(obs[i], one)
            assert rewards[i] == reward
            assert info["margin"][i] == one_info["margin"]


@pytest.mark.parametrize("terminates", [False, True])
def test_a_ball_that_leaves_fails_and_ends_the_episode_only_if_asked(terminates):
    env = make(HARD_SOCCER, terminate_on_failure=terminates)
    env.reset(seed=0)
    sawyer = env._episode.sawyer
    sawyer.data.qvel[sawyer._object_qvel] = -0.8
    for _ in range(40):
        _, _, terminated, truncated, info = env.step(np.zeros(4, np.float32))
        if info["failure"]:
            break
    assert info["failure_type"] == "out_of_bounds"
    assert info["cost"] == 1.0
    assert (terminated, truncated) == (terminates, False)


@pytest.mark.parametrize("start_range", ["narrow", "full"])
def test_the_task_expert_carries_the_ball_home(start_range):
    success, failed = run(HARD_SOCCER, "task", 70, start_range=start_range)
    assert success.all()
    assert not failed.any()


def test_the_clumsy_dribbler_mostly_succeeds_and_sometimes_fails():
    success, failed = run(HARD_SOCCER, "pusher", 200)
    assert success.mean() > 0.7
    assert 0 < failed.mean() < 0.7


@pytest.mark.parametrize("task_id", [SOCCER, HARD_SOCCER])
def test_the_failure_expert_fails_within_a_hundred_steps(task_id):
    _, failed = run(task_id, "failure", 100)
    assert failed.mean() > 0.9


@pytest.mark.parametrize(("task_id", "kind"), [(HARD_SOCCER, "pusher"), (HARD_SOCCER, "failure"), (SOCCER, "failure")])
def test_recovery_saves_the_ball_five_steps_before_it_would_leave_and_takes_it_back_inside(task_id, kind):
    lead, saved, inside = 5, [], []
    env = failurebench.make_vec(task_id, 1, autoreset_mode=AutoresetMode.DISABLED, stop_on_success=False)
    actor, recovery = env.expert(kind), env.expert("recovery")
    for seed in range(60):
        obs, _ = env.reset(seed=seed)
        actor.reset(np.random.default_rng(seed))
        states = []
        for _ in range(90):
            states.append(env.get_states())
            obs, *_, info = env.step(actor.act(obs[0])[None])
            if info["failure"][0]:
                break
        if not info["failure"][0]:
            continue
        env.set_states(states[-lead])
        recovery.reset(np.random.default_rng(0))
        obs, failed = env.observations(), False
        for _ in range(80):
            obs, *_, info = env.step(recovery.act(obs[0])[None])
            failed = failed or info["failure"][0]
        saved.append(not failed)
        inside.append(info["margin"][0] > 0.05)
        if len(saved) == 12:
            break
    assert len(saved) == 12
    assert np.mean(saved) >= 0.8
    assert np.mean(inside) >= 0.6


def test_a_rolling_ball_is_caught_and_carried_back():
    env = make(stop_on_success=False)
    obs, _ = env.reset(seed=0)
    sawyer, recovery = env._episode.sawyer, env.expert("recovery")
    recovery.reset(np.random.default_rng(0))
    sawyer.data.qvel[sawyer._object_qvel] = 0.3
    for _ in range(60):
        obs, *_, info = env.step(recovery.act(obs))
        assert not info["failure"]
    assert info["margin"] > 0.05
    assert np.hypot(*Seen.of(obs).object_velocity[:2]) < 0.001


@pytest.mark.parametrize(
    ("fist", "velocity"),
    [
        pytest.param((0.045, -0.040, 0.09), (0.20, 0.0), id="ahead and above: comes down on it"),
        pytest.param((0.055, -0.005, 0.02), (0.20, 0.0), id="ahead: pushes it back"),
        pytest.param((-0.010, -0.060, 0.02), (0.06, 0.0), id="beside: goes round to its outer side"),
    ],
)
def test_a_fist_that_is_not_behind_the_ball_stops_it_without_drawing_back_first(fist, velocity):
    env = make(stop_on_success=False)
    env.reset(seed=0)
    sawyer, recovery = env._episode.sawyer, env.expert("recovery")
    ball = np.array([0.28, 0.65, 0.026])
    for _ in range(60):
        env.step(toward(tuple(sawyer.hand), *(ball + fist), CLOSED))
    sawyer.data.qpos[sawyer._object_qpos : sawyer._object_qpos + 3] = ball
    sawyer.data.qvel[sawyer._object_qvel : sawyer._object_qvel + 6] = (*velocity, 0, 0, 0, 0)
    sawyer.set_state(sawyer.get_state())
    begun = env.get_state()

    def fails(act):
        env.set_state(begun)
        obs, *_, info = env.step(np.array([0, 0, 0, CLOSED], np.float32))
        failed = info["failure"]
        for _ in range(40):
            obs, *_, info = env.step(act(obs))
            failed = failed or info["failure"]
        return failed

    recovery.reset(np.random.default_rng(0))
    assert fails(lambda obs: catch(Seen.of(obs), (0.0, 0.65)))
    assert not fails(recovery.act)


def test_a_ball_that_lies_never_leaves_and_one_that_rolls_leaves_by_the_side_it_reaches_first():
    obs = make().reset(seed=0)[0]
    obs[4:6], obs[22:24] = (0.1, 0.7), (0.1, 0.7)
    assert way_out(Seen.of(obs))[0] == np.inf
    obs[22:24] = (0.08, 0.71)
    steps, outward = way_out(Seen.of(obs))
    assert (steps, outward) == (pytest.approx(10.0, rel=1e-3), (1.0, 0.0))
    obs[22:24] = (0.11, 0.72)
    steps, outward = way_out(Seen.of(obs))
    assert (steps, outward) == (pytest.approx(10.0, rel=1e-3), (0.0, -1.0))
