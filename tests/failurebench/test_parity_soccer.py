"""Bounded Soccer is MetaWorld's soccer-v3, to the last bit of the physics."""

from __future__ import annotations

import gymnasium
import metaworld
import numpy as np
import pytest
from metaworld.policies.sawyer_soccer_v3_policy import SawyerSoccerV3Policy

BOUNDED_SOCCER = "FailureBench/BoundedSoccer-v0"
HAZARD = slice(11, 18)
STEPS = 250


@pytest.fixture(scope="module")
def stock():
    benchmark = metaworld.MT1("soccer-v3", seed=0)
    env = benchmark.train_classes["soccer-v3"]()
    env.set_task(benchmark.train_tasks[0])
    env._freeze_rand_vec = True
    return env


def actions(kind, env, rng):
    """A function from (our observation, stock's) to the next action."""
    if kind == "free":  # wander smoothly, the fingers opening and closing
        wander = np.zeros(4)

        def free(obs, stock_obs):
            wander[:] = 0.9 * wander + 0.5 * rng.standard_normal(4)
            return wander

        return free
    if kind == "grasp":
        expert = env.expert("task")
        expert.reset(rng)
        return lambda obs, stock_obs: expert.act(obs) + 0.1 * rng.standard_normal(4)
    policy = SawyerSoccerV3Policy()
    return lambda obs, stock_obs: np.clip(policy.get_action(stock_obs), -1, 1) + 0.3 * rng.standard_normal(4)


@pytest.mark.filterwarnings("ignore:Constant")
@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "kick"])
def test_physics_observation_and_reward_are_those_of_stock_soccer(stock, kind, start_range):
    ours = gymnasium.make(
        BOUNDED_SOCCER, action_repeat=1, stop_on_success=False, max_episode_steps=STEPS, start_range=start_range
    ).unwrapped
    obs, _ = ours.reset(seed=11)
    state = ours.get_state()
    stock._last_rand_vec = np.concatenate([state["start"], state["goal"]])
    stock_obs = stock.reset()[0]
    choose = actions(kind, ours, np.random.default_rng(3))
    moved, rewards = 0.0, []
    for _ in range(STEPS):
        action = np.clip(choose(obs, stock_obs), -1, 1).astype(np.float32)
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
    assert (moved > 0.05) == (kind != "free")
    assert np.ptp(rewards) > (0.01 if kind == "free" else 1.0)


@pytest.mark.parametrize(("goal_y", "stops_between"), [(0.82, (0.75, 0.87)), (0.90, (0.89, 0.96))])
def test_the_net_stands_where_the_goal_is(goal_y, stops_between):
    ours = gymnasium.make(BOUNDED_SOCCER).unwrapped
    ours.reset(seed=0)
    sawyer = ours._episode.sawyer
    sawyer.reset((-0.05, 0.62, 0.03), {"goal_whole": (-0.05, goal_y, 0.0)})
    sawyer.data.qvel[sawyer._object_qvel + 1] = 0.5
    furthest = 0.0
    for _ in range(80):
        sawyer.advance(0.0, 0.0, 0.0, -1.0)
        furthest = max(furthest, sawyer.object[1])
    assert stops_between[0] < furthest < stops_between[1]
