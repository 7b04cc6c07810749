"""Bounded Push is MetaWorld's push-v3, to the last bit of the physics."""

from __future__ import annotations

import gymnasium
import metaworld
import numpy as np
import pytest

from tests.failurebench.conftest import BOUNDED_PUSH

HAZARD = slice(11, 18)


class FreeMotion:
    """Wander smoothly, the fingers opening and closing."""

    def __init__(self, rng):
        self.rng, self.action = rng, np.zeros(4)

    def act(self, obs):
        self.action = 0.9 * self.action + 0.5 * self.rng.standard_normal(4)
        return self.action


class Noisy:
    """An expert of the task with a trembling hand."""

    def __init__(self, expert, rng, std):
        self.expert, self.rng, self.std = expert, rng, std
        expert.reset(rng)

    def act(self, obs):
        return self.expert.act(obs) + self.std * self.rng.standard_normal(4)


def behaviour(kind, env, rng):
    if kind == "free":
        return FreeMotion(rng)
    if kind == "grasp":
        return Noisy(env.expert("task"), rng, 0.1)
    return Noisy(env.expert("pusher"), rng, 0.3)


@pytest.fixture(scope="module")
def stock():
    benchmark = metaworld.MT1("push-v3", seed=0)
    env = benchmark.train_classes["push-v3"]()
    env.set_task(benchmark.train_tasks[0])
    return env


def begin_alike(ours, stock, seed):
    """Reset both to the same start."""
    obs, _ = ours.reset(seed=seed)
    state = ours.get_state()
    stock._freeze_rand_vec = True
    stock._last_rand_vec = np.concatenate([state["start"], state["goal"]])
    return obs, stock.reset()[0], state


@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "push"])
def test_physics_observation_and_reward_are_those_of_stock_push(stock, kind, start_range):
    ours = gymnasium.make(
        BOUNDED_PUSH, action_repeat=1, stop_on_success=False, max_episode_steps=500, start_range=start_range
    ).unwrapped
    rng = np.random.default_rng(3)
    actor = behaviour(kind, ours, rng)
    obs, stock_obs, state = begin_alike(ours, stock, seed=11)
    stock_rows, our_rows = [stock_obs], [np.insert(state["frames"], [11] * 7 + [22] * 7, 0.0)]
    touched = False
    for _ in range(500):
        action = np.clip(actor.act(obs), -1, 1).astype(np.float32)
        obs, reward, _, _, info = ours.step(action)
        stock_obs, stock_reward, _, _, stock_info = stock.step(action)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qpos, stock.data.qpos)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qvel, stock.data.qvel)
        assert reward == pytest.approx(stock_reward, abs=1e-9)
        assert info["success"] == bool(stock_info["success"])
        stock_rows.append(stock_obs)
        our_rows.append(np.insert(ours.get_state()["frames"], [11] * 7 + [22] * 7, 0.0))
        np.testing.assert_allclose(np.delete(obs, HAZARD), np.delete(stock_obs, HAZARD).astype(np.float32), atol=1e-7)
        touched = touched or abs(stock_obs[4:6] - state["start"][:2]).max() > 0.01
    stock_rows, our_rows = np.array(stock_rows), np.array(our_rows)
    np.testing.assert_allclose(our_rows, stock_rows[:, :36], rtol=0, atol=1e-9)
    assert not stock_rows[:, HAZARD].any()
    assert touched == (kind != "free")
