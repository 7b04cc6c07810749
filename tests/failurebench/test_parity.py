"""Bounded Push is MetaWorld's push-v3, to the last bit of the physics."""

from __future__ import annotations

import numpy as np
import pytest

from tests.failurebench.conftest import BOUNDED_PUSH
from tests.failurebench.parity import free, our_env, ride, stock_env, trembling

STEPS = 500


@pytest.fixture(scope="module")
def stock():
    return stock_env("push-v3")


def behaviour(kind, env, rng):
    if kind == "free":
        return free(rng)
    expert = env.expert({"grasp": "task", "push": "pusher"}[kind])
    expert.reset(rng)
    return trembling(expert.act, rng, 0.3 if kind == "push" else 0.1)


@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "push"])
def test_physics_observation_and_reward_are_those_of_stock_push(stock, kind, start_range):
    ours = our_env(BOUNDED_PUSH, STEPS, start_range=start_range)
    ridden = ride(ours, stock, behaviour(kind, ours, np.random.default_rng(3)), STEPS)
    assert (ridden.moved > 0.01) == (kind != "free")
