"""Offline PPO and its off-policy evaluation gate, with critics whose answers are known."""

from __future__ import annotations

import copy

import pytest
import torch

from farl.algorithms.offline_ppo import OfflinePPOConfig, evaluate_in_model, improve_offline
from farl.data.batches import Transitions
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.progress import Progress


class Frozen:
    """A world that never moves, and fails with a given logit at every step."""

    def __init__(self, logit: float = -30.0) -> None:
        self.logit = logit

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def step(self, z, action):
        return z, torch.full((1, len(z)), self.logit)


class Prefers:
    """Q = offset + slope * first action."""

    def __init__(self, slope: float, offset: float = 0.0) -> None:
        self.slope, self.offset = slope, offset

    def smaller(self, x, action):
        return self.offset + self.slope * action[:, 0]


class Zero:
    def __call__(self, x):
        return torch.zeros(len(x))


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return GaussianPolicy(Normalizer(3), 2, std=0.3, hidden=(16,))


@pytest.fixture
def data(generator):
    obs = torch.randn(400, 3, generator=generator)
    nothing = torch.zeros(400)
    never = nothing.bool()
    return Transitions(obs, torch.zeros(400, 2), nothing, obs, terminated=never, failure=never, success=never)


def improve(policy, q, data, model=None, **settings):
    config = OfflinePPOConfig(**{"updates": 200, "lr": 1e-2, "batch": 64, "check_every": 20, "rollout": 3, **settings})
    return improve_offline(
        policy, model or Frozen(), q, Zero(), data, config, torch.Generator().manual_seed(1), Progress(None, "")
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_better_policy_is_accepted_and_kept(policy, data):
    before = float(policy.act(data.obs)[:, 0].mean())
    result = improve(policy, Prefers(1.0), data)
    assert result.accepted >= 1
    after = float(policy.act(data.obs)[:, 0].mean())
    assert after > before + 0.1
    assert max(result.scores) > result.scores[0] + 0.05


def test_the_policy_ends_as_the_last_accepted_one_however_far_the_learner_went(policy, data):
    """The imagined value of what is returned is a score that was accepted, not the one training stopped at."""
    q = Prefers(1.0)
    result = improve(policy, q, data, margin=0.3)
    best, accepted = result.scores[0], 0
    for score in result.scores[1:]:
        if score > best + 0.3 * abs(best) and score > best:
            best, accepted = score, accepted + 1
    starts = data.obs[torch.randint(len(data), (64,), generator=torch.Generator().manual_seed(1))]
    kept, _ = evaluate_in_model(policy, Frozen(), q, 0.0, starts, 3)
    assert result.accepted == accepted
    assert kept == pytest.approx(best, abs=1e-6)


def test_without_a_real_improvement_the_cloned_policy_stays_bit_for_bit(policy, data):
    before = copy.deepcopy(policy)
    assert improve(policy, Prefers(0.0, offset=2.0), data).accepted == 0
    assert same(policy, before)


def test_an_improvement_within_the_noise_is_not_accepted(policy, data):
    before = copy.deepcopy(policy)
    result = improve(policy, Prefers(0.01, offset=100.0), data)  # at most 0.01 better where 5 % are asked for
    assert result.accepted == 0
    assert same(policy, before)


def test_no_updates_keep_the_cloned_policy(policy, data):
    before = copy.deepcopy(policy)
    result = improve(policy, Prefers(1.0), data, updates=0)
    assert (result.accepted, len(result.scores)) == (0, 1)
    assert same(policy, before)


def test_imagined_value_is_the_mean_of_q_along_the_rollout(policy, data):
    score, error = evaluate_in_model(policy, Frozen(), Prefers(1.0, offset=5.0), -9.0, data.obs, rollout=4)
    first = 5 + policy.act(data.obs)[:, 0]
    assert score == pytest.approx(float(first.mean()), abs=1e-5)
    assert error == pytest.approx(float(first.std() / len(first) ** 0.5), rel=1e-4)


def test_a_rollout_that_fails_counts_the_floor_from_there_on(policy, data):
    """Dropping it would reward a policy that fails early at a high value."""
    score, _ = evaluate_in_model(policy, Frozen(logit=30.0), Prefers(0.0, offset=5.0), -9.0, data.obs, rollout=4)
    assert score == pytest.approx((5 - 9 - 9 - 9) / 4, abs=1e-5)


def test_a_longer_rollout_does_not_inflate_the_score(policy, data):
    scores = [evaluate_in_model(policy, Frozen(), Prefers(1.0, 5.0), 0.0, data.obs, rollout=n)[0] for n in (1, 5, 50)]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-4)
