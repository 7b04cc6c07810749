"""Obstructed Push is MetaWorld's push-v3, to the last bit of the physics: the published vase touches nothing."""

from __future__ import annotations

import gymnasium
import metaworld
import numpy as np
import pytest

OBSTRUCTED_PUSH = "FailureBench/ObstructedPush-v0"
HAZARD = slice(11, 18)
STEPS = 250


@pytest.fixture(scope="module")
def stock():
    benchmark = metaworld.MT1("push-v3", seed=0)
    env = benchmark.train_classes["push-v3"]()
    env.set_task(benchmark.train_tasks[0])
    env._freeze_rand_vec = True
    return env


def actions(kind, env, rng):
    """A function from our observation to the next action."""
    if kind == "free":  # wander smoothly, the fingers opening and closing
        wander = np.zeros(4)

        def free(obs):
            wander[:] = 0.9 * wander + 0.5 * rng.standard_normal(4)
            return wander

        return free
    expert = env.expert({"grasp": "task", "push": "pusher", "through the vase": "failure"}[kind])
    expert.reset(rng)
    if kind == "through the vase":
        expert.how = "push"
    return lambda obs: expert.act(obs) + (0.3 if kind == "push" else 0.1) * rng.standard_normal(4)


@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "push", "through the vase"])
def test_physics_observation_and_reward_are_those_of_stock_push(stock, kind, start_range):
    ours = gymnasium.make(
        OBSTRUCTED_PUSH, action_repeat=1, stop_on_success=False, max_episode_steps=STEPS, start_range=start_range
    ).unwrapped
    moved, rewards, margins = compare(ours, stock, kind)
    assert (moved > 0.05) == (kind != "free")
    assert np.ptp(rewards) > (0.01 if kind == "free" else 1.0)
    assert (min(margins) < -0.1) == (kind == "through the vase")


def test_a_solid_vase_changes_nothing_until_it_is_touched(stock):
    ours = gymnasium.make(
        OBSTRUCTED_PUSH, action_repeat=1, stop_on_success=False, max_episode_steps=STEPS, solid=True
    ).unwrapped
    moved, _, margins = compare(ours, stock, "grasp")
    assert moved > 0.05
    assert min(margins) > -0.05


def compare(ours, stock, kind):
    """Drive both with the same actions and compare; returns the puck's way, rewards and margins."""
    obs, _ = ours.reset(seed=11)
    state = ours.get_state()
    stock._last_rand_vec = np.concatenate([state["start"], state["goal"]])
    stock.reset()
    choose = actions(kind, ours, np.random.default_rng(3))
    moved, rewards, margins = 0.0, [], []
    for _ in range(STEPS):
        action = np.clip(choose(obs), -1, 1).astype(np.float32)
        obs, reward, _, _, info = ours.step(action)
        stock_obs, stock_reward, _, _, stock_info = stock.step(action)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qpos, stock.data.qpos)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qvel, stock.data.qvel)
        assert reward == pytest.approx(stock_reward, abs=1e-9)
        assert info["success"] == bool(stock_info["success"])
        frames = np.insert(ours.get_state()["frames"], [11] * 7 + [22] * 7, 0.0)
        np.testing.assert_allclose(frames, stock_obs[:36], rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.delete(obs, HAZARD), np.delete(stock_obs, HAZARD).astype(np.float32), atol=1e-7)
        moved = max(moved, abs(stock_obs[4:6] - state["start"][:2]).max())
        rewards.append(stock_reward)
        margins.append(info["margin"])
    return moved, rewards, margins
