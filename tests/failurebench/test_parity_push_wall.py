"""Fragile Push Wall is MetaWorld's push-wall-v3, to the last bit of the physics."""

from __future__ import annotations

import gymnasium
import metaworld
import numpy as np
import pytest
from metaworld.policies import SawyerPushWallV3Policy

import failurebench  # noqa: F401  (registers the ids)
from failurebench.experts import Seen, push

FRAGILE_PUSH_WALL = "FailureBench/FragilePushWall-v0"
HAZARD = slice(11, 18)
STEPS = 300


class FreeMotion:
    """Wander smoothly, the fingers opening and closing."""

    def __init__(self):
        self.action = np.zeros(4)

    def act(self, obs, rng):
        self.action = 0.9 * self.action + 0.5 * rng.standard_normal(4)
        return self.action


class Scripted:
    """MetaWorld's own policy with a trembling hand."""

    def __init__(self):
        self.policy = SawyerPushWallV3Policy()

    def act(self, obs, rng):
        return self.policy.get_action(obs.astype(np.float64)) + 0.1 * rng.standard_normal(4)


class Ram:
    """Shove the puck straight into the wall: fingers that hold it would be in between."""

    def act(self, obs, rng):
        return push(Seen.of(obs), (0.05, 1.0), 0.0, 0.7) + 0.1 * rng.standard_normal(4)


BEHAVIOURS = {"free": FreeMotion, "grasp": Scripted, "collide": Ram}


@pytest.fixture(scope="module")
def stock():
    benchmark = metaworld.MT1("push-wall-v3", seed=0)
    env = benchmark.train_classes["push-wall-v3"]()
    env.set_task(benchmark.train_tasks[0])
    return env


def begin_alike(ours, stock, seed):
    """Reset both to the same start."""
    obs, _ = ours.reset(seed=seed)
    state = ours.get_state()
    stock._freeze_rand_vec = True
    stock._last_rand_vec = np.concatenate([state["start"], state["goal"]])
    return obs, stock.reset()[0], state


def puck_touches_wall(env):
    both = {env.model.body("obj").id, env.model.body("wall").id}
    return any(set(env.model.geom_bodyid[contact.geom].tolist()) == both for contact in env.data.contact)


@pytest.mark.filterwarnings("ignore:Constant")  # the stock policy asks for more than the action space holds
@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", BEHAVIOURS)
def test_physics_observation_and_reward_are_those_of_stock_push_wall(stock, kind, start_range):
    ours = gymnasium.make(
        FRAGILE_PUSH_WALL, action_repeat=1, stop_on_success=False, max_episode_steps=STEPS, start_range=start_range
    ).unwrapped
    rng, actor = np.random.default_rng(3), BEHAVIOURS[kind]()
    obs, stock_obs, state = begin_alike(ours, stock, seed=11)
    stock_rows, our_rows = [stock_obs], [np.insert(state["frames"], [11] * 7 + [22] * 7, 0.0)]
    moved = collided = succeeded = False
    for _ in range(STEPS):
        action = np.clip(actor.act(obs, rng), -1, 1).astype(np.float32)
        obs, reward, _, _, info = ours.step(action)
        stock_obs, stock_reward, _, _, stock_info = stock.step(action)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qpos, stock.data.qpos)
        np.testing.assert_array_equal(ours._episode.sawyer.data.qvel, stock.data.qvel)
        assert reward == pytest.approx(stock_reward, abs=1e-9)
        assert info["success"] == bool(stock_info["success"])
        stock_rows.append(stock_obs)
        our_rows.append(np.insert(ours.get_state()["frames"], [11] * 7 + [22] * 7, 0.0))
        np.testing.assert_allclose(np.delete(obs, HAZARD), np.delete(stock_obs, HAZARD).astype(np.float32), atol=1e-7)
        moved = moved or np.abs(stock_obs[4:6] - state["start"][:2]).max() > 0.01
        collided = collided or puck_touches_wall(stock)
        succeeded = succeeded or info["success"]
    stock_rows, our_rows = np.array(stock_rows), np.array(our_rows)
    np.testing.assert_allclose(our_rows, stock_rows[:, :36], rtol=0, atol=1e-9)
    assert not stock_rows[:, HAZARD].any()
    assert moved == (kind != "free")
    assert collided == (kind == "collide")
    assert succeeded or kind != "grasp"
