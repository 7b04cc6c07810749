"""Bounded Soccer is MetaWorld's soccer-v3, to the last bit of the physics."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from metaworld.policies.sawyer_soccer_v3_policy import SawyerSoccerV3Policy

from tests.failurebench.parity import free, our_env, ride, stock_env, trembling

BOUNDED_SOCCER = "FailureBench/BoundedSoccer-v0"
STEPS = 250


@pytest.fixture(scope="module")
def stock():
    return stock_env("soccer-v3")


def behaviour(kind, env, rng):
    if kind == "free":
        return free(rng)
    if kind == "grasp":
        expert = env.expert("task")
        expert.reset(rng)
        return trembling(expert.act, rng, 0.1)
    policy = SawyerSoccerV3Policy()
    return lambda obs, stock_obs: np.clip(policy.get_action(stock_obs), -1, 1) + 0.3 * rng.standard_normal(4)


@pytest.mark.filterwarnings("ignore:Constant")
@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "kick"])
def test_physics_observation_and_reward_are_those_of_stock_soccer(stock, kind, start_range):
    ours = our_env(BOUNDED_SOCCER, STEPS, start_range=start_range)
    ridden = ride(ours, stock, behaviour(kind, ours, np.random.default_rng(3)), STEPS)
    assert (ridden.moved > 0.05) == (kind != "free")
    assert np.ptp(ridden.rewards) > (0.01 if kind == "free" else 1.0)


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
