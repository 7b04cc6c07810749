"""Fragile Push Wall is MetaWorld's push-wall-v3, to the last bit of the physics."""

from __future__ import annotations

import numpy as np
import pytest
from metaworld.policies import SawyerPushWallV3Policy

from failurebench.experts import Seen, push
from tests.failurebench.parity import free, our_env, ride, stock_env, trembling

STEPS = 300


@pytest.fixture(scope="module")
def stock():
    return stock_env("push-wall-v3")


def behaviour(kind, rng):
    if kind == "free":
        return free(rng)
    if kind == "collide":  # shoved: fingers that hold the puck would be in between
        return trembling(lambda obs: push(Seen.of(obs), (0.05, 1.0), 0.0, 0.7), rng, 0.1)
    policy = SawyerPushWallV3Policy()
    return trembling(lambda obs: policy.get_action(obs.astype(np.float64)), rng, 0.1)


def puck_touches_wall(env):
    both = {env.model.body("obj").id, env.model.body("wall").id}
    return any(set(env.model.geom_bodyid[contact.geom].tolist()) == both for contact in env.data.contact)


@pytest.mark.filterwarnings("ignore:Constant")  # the stock policy asks for more than the action space holds
@pytest.mark.parametrize("start_range", ["narrow", "full"])
@pytest.mark.parametrize("kind", ["free", "grasp", "collide"])
def test_physics_observation_and_reward_are_those_of_stock_push_wall(stock, kind, start_range):
    collisions = []
    ours = our_env("FailureBench/FragilePushWall-v0", STEPS, start_range=start_range)
    ridden = ride(
        ours,
        stock,
        behaviour(kind, np.random.default_rng(3)),
        STEPS,
        lambda stock: collisions.append(puck_touches_wall(stock)),
    )
    assert (ridden.moved > 0.01) == (kind != "free")
    assert any(collisions) == (kind == "collide")
    assert ridden.succeeded or kind != "grasp"
