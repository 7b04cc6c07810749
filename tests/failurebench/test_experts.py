"""The scripted experts do what their names say, from observations alone."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import failurebench
from failurebench.experts import Seen
from tests.failurebench.conftest import BOUNDED_PUSH, HARD

EPISODES = 12


def run(task_id, kind, steps, **kwargs):
    """Roll one episode per environment; return whether each succeeded and failed."""
    envs = failurebench.make_vec(task_id, EPISODES, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
    experts = [envs.expert(kind) for _ in range(EPISODES)]
    for i, expert in enumerate(experts):
        expert.reset(np.random.default_rng(i))
    obs, _ = envs.reset(seed=0)
    success, failed, running = np.zeros(EPISODES, bool), np.zeros(EPISODES, bool), np.ones(EPISODES, bool)
    for _ in range(steps):
        obs, _, _, truncated, info = envs.step(np.stack([e.act(o) for e, o in zip(experts, obs, strict=True)]))
        success |= running & info["success"]
        failed |= running & info["failure"]
        running &= ~truncated
        if truncated.any():
            obs, _ = envs.reset(options={"reset_mask": truncated})
    return success, failed


@pytest.mark.parametrize("start_range", ["narrow", "full"])
def test_the_task_expert_succeeds_without_failing(start_range):
    success, failed = run(HARD, "task", 60, start_range=start_range)
    assert success.all()
    assert not failed.any()


def test_the_clumsy_pusher_often_succeeds_and_sometimes_fails():
    success, failed = run(HARD, "pusher", 200)
    assert success.mean() > 0.7
    assert 0 < failed.mean() < 0.7


@pytest.mark.parametrize("task_id", [BOUNDED_PUSH, HARD])
def test_the_failure_expert_fails_within_a_hundred_steps(task_id):
    _, failed = run(task_id, "failure", 100)
    assert failed.mean() > 0.9


@pytest.mark.parametrize("kind", ["pusher", "failure"])
def test_recovery_saves_the_puck_five_steps_before_it_would_leave(kind):
    lead, saved = 5, []
    env = failurebench.make_vec(HARD, 1, autoreset_mode=AutoresetMode.DISABLED, stop_on_success=False)
    actor, recovery = env.expert(kind), env.expert("recovery")
    for seed in range(60):
        obs, _ = env.reset(seed=seed)
        actor.reset(np.random.default_rng(seed))
        states = []
        for _ in range(120):
            states.append(env.get_states())
            obs, *_, info = env.step(actor.act(obs[0])[None])
            if info["failure"][0]:
                break
        if not info["failure"][0]:
            continue
        env.set_states(states[-lead])
        recovery.reset(np.random.default_rng(0))
        obs, failed = env.observations(), False
        for _ in range(30):
            obs, *_, info = env.step(recovery.act(obs[0])[None])
            failed = failed or info["failure"][0]
        saved.append(not failed)
        if len(saved) == 10:
            break
    assert len(saved) == 10
    assert np.mean(saved) >= 0.8


def test_recovery_drags_a_held_puck_back_inside():
    env = failurebench.make_vec(HARD, 1, autoreset_mode=AutoresetMode.DISABLED, stop_on_success=False)
    dragger = env.expert("failure")
    dragger.reset(np.random.default_rng(0))
    dragger.drags, dragger.side = True, 1
    obs, info = env.reset(seed=0)
    while info["margin"][0] > 0.03:
        obs, *_, info = env.step(dragger.act(obs[0])[None])
    recovery = env.expert("recovery")
    recovery.reset(np.random.default_rng(0))
    for _ in range(30):
        obs, *_, info = env.step(recovery.act(obs[0])[None])
        assert not info["failure"][0]
    assert info["margin"][0] >= 0.05


def test_recovery_lifts_open_fingers_off_a_puck_instead_of_taking_it_along():
    env = failurebench.make_vec(
        "FailureBench/FragilePushWall-Hard-v0", 1, autoreset_mode=AutoresetMode.DISABLED, stop_on_success=False
    )
    task, recovery = env.expert("task"), env.expert("recovery")
    for seed in range(4):
        obs, _ = env.reset(seed=seed)
        task.reset(np.random.default_rng(0))
        while (seen := Seen.of(obs[0])).hand[2] - seen.object[2] > 0.05:
            obs, *_ = env.step(task.act(obs[0])[None])
        assert seen.opening > 0.75
        recovery.reset(np.random.default_rng(0))
        for _ in range(30):
            obs, *_ = env.step(recovery.act(obs[0])[None])
        after = Seen.of(obs[0])
        assert after.hand[2] > 0.15
        assert np.hypot(*(np.array(after.object[:2]) - seen.object[:2])) < 0.005


@pytest.mark.parametrize("way", [(-1, 0), (1, 0), (0, -1)])
def test_recovery_stops_a_puck_that_rolls_on_its_side_where_holding_still_lets_it_out(way):
    lost = {}
    for who in ("recovery", "nobody"):
        env = gymnasium.make(HARD, stop_on_success=False, start_range="narrow").unwrapped
        recovery = env.expert("recovery")
        recovery.reset(np.random.default_rng(0))
        env.reset(seed=0)
        # Its axis lies across the way it rolls, at 0.16 m/s: that is what tipped pucks did in training.
        sawyer, radius, speed, half = env._episode.sawyer, 0.02, 0.16, np.sqrt(0.5)
        across = (-way[1], way[0])
        sawyer.data.qpos[9:16] = (0.0, 0.72, radius, half, -half * across[1], half * across[0], 0.0)
        sawyer.data.qvel[9:15] = (speed * way[0], speed * way[1], 0.0, 0.0, 0.0, speed / radius)
        obs, lost[who] = env.step(np.zeros(4, np.float32))[0], False
        for _ in range(80):
            action = recovery.act(obs) if who == "recovery" else np.zeros(4, np.float32)
            obs, *_, info = env.step(action)
            lost[who] = lost[who] or info["failure"]
        assert lost[who] == (who == "nobody")


@pytest.mark.parametrize("kind", ["task", "pusher", "failure", "recovery"])
def test_experts_are_decided_by_their_generator_and_give_valid_actions(env, kind):
    obs, _ = env.reset(seed=0)
    actions = []
    for _ in range(2):
        expert = env.expert(kind)
        expert.reset(np.random.default_rng(3))
        actions.append(expert.act(obs))
    np.testing.assert_array_equal(*actions)
    assert actions[0] in env.action_space
    assert kind in env.expert_kinds


def test_an_observation_is_named_in_metres(env):
    obs, _ = env.reset(seed=0)
    seen = Seen.of(obs)
    assert seen.hand == pytest.approx((0, 0.6, 0.2), abs=0.02)
    assert seen.object[2] == pytest.approx(0.02, abs=0.002)
    assert seen.upright == pytest.approx(1.0)
    assert seen.hand_velocity == (0, 0, 0)
    assert seen.hazard[:4] == pytest.approx((-0.2, 0.2, 0.5, 1.0))
    assert seen.goal[:2] == pytest.approx((0.05, 0.84))
