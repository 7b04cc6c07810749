"""Failure as a cost: the six values of safety-gymnasium, charged once an episode or at every failing step."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import failurebench
from failurebench.cmdp import SafetyTuple, VectorSafetyTuple
from tests.failurebench.bookkeeping import MODES, SEEDS, STEPS, TASK, Counter, N, behaviour, bookkeeping
from tests.failurebench.conftest import BOUNDED_PUSH, HARD


def fail_twice(charge, **kwargs):
    """Costs and infos of two episodes of the failure seeker."""
    env = SafetyTuple(gymnasium.make(HARD, max_episode_steps=80, **kwargs), charge=charge)
    expert = env.unwrapped.expert("failure")
    episodes = []
    for seed in range(2):
        expert.reset(np.random.default_rng(seed))
        obs, _ = env.reset(seed=seed)
        rows, over = [], False
        while not over:
            obs, reward, cost, terminated, truncated, info = env.step(expert.act(obs))
            assert (type(reward), type(cost), type(terminated), type(truncated)) == (float, float, bool, bool)
            rows.append((cost, info))
            over = terminated or truncated
        episodes.append(rows)
    return episodes


def test_a_failure_is_charged_once_at_its_onset():
    for rows in fail_twice("onset"):
        costs = [cost for cost, _ in rows]
        assert sum(costs) == 1.0
        assert rows[costs.index(1.0)][1]["failure_onset"]
        assert sum(info["failure"] for _, info in rows) > 1


def test_or_at_every_failing_step():
    for rows in fail_twice("step"):
        assert [cost for cost, _ in rows] == [float(info["failure"]) for _, info in rows]
        assert sum(cost for cost, _ in rows) > 1


def test_the_failure_that_ends_an_episode_is_charged():
    for rows in fail_twice("onset", terminate_on_failure=True):
        assert [cost for cost, _ in rows] == [0.0] * (len(rows) - 1) + [1.0]


def test_the_environments_own_cost_is_taken_where_every_step_is_charged():
    class Priced(Counter):
        def step(self, action):
            *results, info = super().step(action)
            return *results, {**info, "cost": 2.5 * info["failure"]}

    for charge, expected in (("step", 5.0), ("onset", 1.0)):
        env = SafetyTuple(Priced((2, 4), 5), charge=charge)
        env.reset(seed=0)
        assert sum(env.step(np.zeros(1))[2] for _ in range(5)) == expected


def test_reset_and_spaces_are_as_usual():
    env, plain = SafetyTuple(gymnasium.make(HARD)), gymnasium.make(HARD)
    obs, info = env.reset(seed=3)
    expected, expected_info = plain.reset(seed=3)
    np.testing.assert_array_equal(obs, expected)
    assert info == expected_info
    assert (env.action_space, env.observation_space) == (plain.action_space, plain.observation_space)
    assert isinstance(gymnasium.make(env.spec), SafetyTuple)


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("charge", ["onset", "step"])
@pytest.mark.parametrize("mode", MODES)
def test_a_vectors_costs_are_those_of_positions(mode, charge, terminate):
    envs = VectorSafetyTuple(
        failurebench.make_vec(BOUNDED_PUSH, N, autoreset_mode=mode, terminate_on_failure=terminate, **TASK),
        charge=charge,
    )
    obs, _ = envs.reset(seed=SEEDS)
    episodes, running = [[] for _ in range(N)], np.zeros(N)
    for _ in range(STEPS):
        actions = np.stack([behaviour(i, one) for i, one in enumerate(obs)])
        obs, rewards, costs, terminated, truncated, _ = envs.step(actions)
        assert costs.shape == rewards.shape == (N,)
        assert costs.dtype == np.float64
        running += costs
        ended = terminated | truncated
        for i in np.flatnonzero(ended):
            episodes[i].append(running[i])
        running[ended] = 0
        if mode == AutoresetMode.DISABLED and ended.any():
            obs, _ = envs.reset(options={"reset_mask": ended})
    for i, costs in enumerate(episodes):
        rows = bookkeeping(i, len(costs), terminate)
        assert costs == [float(row.onset > 0) if charge == "onset" else row.failing_steps for row in rows]
    assert sum(map(sum, episodes)) >= 2


def test_what_a_safe_rl_library_does_with_it_adds_up():
    """Batches of six float arrays, episodes ended by either flag, the mean episode cost: which is the failure rate."""
    envs = VectorSafetyTuple(SyncVectorEnv([lambda: Counter((2, 3), 4), lambda: Counter((), 4)]))
    envs.reset(seed=0)
    batch = [envs.step(np.zeros((2, 1), np.float32))[:5] for _ in range(4)]
    obs, rewards, costs, terminated, truncated = (
        np.stack(column).astype(np.float32) for column in zip(*batch, strict=True)
    )
    assert obs.shape == (4, 2, 1)
    assert (np.maximum(terminated, truncated).sum(axis=0) == 1).all()
    assert rewards.sum() == 8
    assert costs.sum(axis=0).mean() == 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SafetyTuple(Counter(), charge="twice"), ValueError, "'onset' and 'step'"),
        (lambda: VectorSafetyTuple(SyncVectorEnv([Counter]), charge=""), ValueError, "'onset' and 'step'"),
        (lambda: SafetyTuple(SyncVectorEnv([Counter])), TypeError, "VectorSafetyTuple"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
