"""A FailureBench task beside stock MetaWorld: driven by the same actions, compared to the last bit of the physics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import metaworld
import numpy as np
import pytest

import failurebench  # noqa: F401  (registers the ids)

HAZARD = slice(11, 18)
"""spare numbers of stock's observation; ours says there where the hazard is"""

Choose = Callable[[Any, Any], Any]
"""(our observation, stock's) -> the next action"""


class Ridden(NamedTuple):
    """What both did."""

    moved: float
    """furthest that the object was from its start along an axis, m"""
    rewards: list[float]
    margins: list[float]
    succeeded: bool


def stock_env(name: str) -> Any:
    """MetaWorld's own environment, which starts where it is told."""
    benchmark = metaworld.MT1(name, seed=0)
    env = benchmark.train_classes[name]()
    env.set_task(benchmark.train_tasks[0])
    env._freeze_rand_vec = True
    return env


def our_env(task_id: str, steps: int, **options: Any) -> Any:
    """Ours, step for step and without an end, as stock is."""
    return gymnasium.make(task_id, action_repeat=1, stop_on_success=False, max_episode_steps=steps, **options).unwrapped


def free(rng: np.random.Generator) -> Choose:
    """Wander smoothly, the fingers opening and closing."""
    action = np.zeros(4)

    def choose(obs: Any, stock_obs: Any) -> Any:
        action[:] = 0.9 * action + 0.5 * rng.standard_normal(4)
        return action

    return choose


def trembling(act: Callable[[Any], Any], rng: np.random.Generator, std: float) -> Choose:
    """What ``act`` does with our observation, the hand shaking."""
    return lambda obs, stock_obs: act(obs) + std * rng.standard_normal(4)


def ride(
    ours: Any, stock: Any, choose: Choose, steps: int, watch: Callable[[Any], None] = lambda stock: None
) -> Ridden:
    """Drive both from the same start with the same actions; physics, rewards, success and observations must agree."""
    obs, _ = ours.reset(seed=11)
    state = ours.get_state()
    stock._last_rand_vec = np.concatenate([state["start"], state["goal"]])
    stock_obs = stock.reset()[0]
    moved, rewards, margins, succeeded = 0.0, [], [], False
    for _ in range(steps):
        action = np.clip(choose(obs, stock_obs), -1, 1).astype(np.float32)
        obs, reward, _, _, info = ours.step(action)
        stock_obs, stock_reward, _, _, stock_info = stock.step(action)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qpos, stock.data.qpos)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qvel, stock.data.qvel)
        assert reward == pytest.approx(stock_reward, abs=1e-9)
        assert info["success"] == bool(stock_info["success"])
        frames = np.insert(ours.get_state()["frames"], [11] * 7 + [22] * 7, 0.0)
        np.testing.assert_allclose(frames, stock_obs[:36], rtol=0, atol=1e-9)
        assert not stock_obs[HAZARD].any()
        np.testing.assert_allclose(np.delete(obs, HAZARD), np.delete(stock_obs, HAZARD).astype(np.float32), atol=1e-7)
        moved = max(moved, float(np.abs(stock_obs[4:6] - state["start"][:2]).max()))
        rewards.append(stock_reward)
        margins.append(info["margin"])
        succeeded = succeeded or info["success"]
        watch(stock)
    return Ridden(moved, rewards, margins, succeeded)
