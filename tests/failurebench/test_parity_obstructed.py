"""Obstructed Push is MetaWorld's push-v3, to the last bit of the physics: the published vase touches nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.failurebench.parity import free, our_env, ride, stock_env, trembling

OBSTRUCTED_PUSH = "FailureBench/ObstructedPush-v0"
STEPS = 250


@pytest.fixture(scope="module")
def stock():
    return stock_env("push-v3")


def behaviour(kind, env, rng):
    if kind == "free":
        return free(rng)
    expert = env.expert({"grasp": "task", "push": "pusher", "through the vase": "failure"}[kind])
    expert.reset(rng)
    if kind == "through the vase":
        expert.how = "push"
    return trembling(expert.act, rng, 0.3 if kind == "push" else 0.1)


@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "push", "through the vase"])
def test_physics_observation_and_reward_are_those_of_stock_push(stock, kind, start_range):
    ours = our_env(OBSTRUCTED_PUSH, STEPS, start_range=start_range)
    ridden = ride(ours, stock, behaviour(kind, ours, np.random.default_rng(3)), STEPS)
    assert (ridden.moved > 0.05) == (kind != "free")
    assert np.ptp(ridden.rewards) > (0.01 if kind == "free" else 1.0)
    assert (min(ridden.margins) < -0.1) == (kind == "through the vase")


def test_a_solid_vase_changes_nothing_until_it_is_touched(stock):
    ours = our_env(OBSTRUCTED_PUSH, STEPS, solid=True)
    ridden = ride(ours, stock, behaviour("grasp", ours, np.random.default_rng(3)), STEPS)
    assert ridden.moved > 0.05
    assert min(ridden.margins) > -0.05
