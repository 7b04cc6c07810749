"""Offline PPO and the imagined episodes that decide what it keeps, with critics and worlds whose answers are known."""

from __future__ import annotations

import copy

import pytest
import torch

from farl.algorithms.imagined_evaluation import ImaginedEpisodes, ImaginedEvaluation, Starts
from farl.algorithms.offline_ppo import OfflinePPOConfig, improve_offline, is_better
from farl.algorithms.success_head import SuccessHead
from farl.data.batches import Transitions
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.progress import Progress


class Pays:
    """A world that never moves, pays ``offset + slope * first action`` and fails where that action exceeds ``edge``."""

    def __init__(self, slope: float, offset: float = 0.0, edge: float = 9.0) -> None:
        self.slope, self.offset, self.edge = slope, offset, edge

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def step(self, z, action):
        return z, 30 * (action[None, :, 0] - self.edge).sign()

    def reward(self, z, action):
        return self.offset + self.slope * action[:, 0]


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


def judge(data, world, steps=3):
    return ImaginedEvaluation(world, SuccessHead(Normalizer(3)), Starts(data.obs[:64], steps), 1.0, noise=False)


def improve(policy, q, data, world=None, **settings):
    """Against a world that pays what the critic promises, unless told otherwise."""
    config = OfflinePPOConfig(**{"updates": 200, "lr": 1e-2, "batch": 64, "check_every": 20, **settings})
    evaluation = judge(data, world or Pays(q.slope, q.offset))
    return improve_offline(
        policy, evaluation, q, Zero(), data, config, torch.Generator().manual_seed(1), Progress(None, "")
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
    """The imagined return of what is left is a score that was accepted, not the one training stopped at."""
    q = Prefers(1.0)
    result = improve(policy, q, data, margin=0.3)
    best, accepted = result.scores[0], 0
    for score in result.scores[1:]:
        if score > best + 0.3 * abs(best):
            best, accepted = score, accepted + 1
    kept = judge(data, Pays(1.0)).play(policy)
    assert result.accepted == accepted >= 1
    assert float(kept.returned.mean()) == pytest.approx(best, abs=1e-5)


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


def test_what_the_critic_promises_and_the_model_does_not_pay_is_not_accepted(policy, data):
    before = copy.deepcopy(policy)
    result = improve(policy, Prefers(1.0), data, world=Pays(-1.0))
    assert result.accepted == 0
    assert min(result.scores) < result.scores[0] - 0.1  # it did learn what the critic promised
    assert same(policy, before)


def test_a_higher_return_with_more_failures_is_not_accepted(policy, data):
    policy.net[-1].weight.data.zero_()  # every row starts well below the edge
    result = improve(policy, Prefers(1.0), data, world=Pays(1.0, edge=0.3))
    assert 1 <= result.accepted < len(result.scores) - 1
    assert float(policy.act(data.obs[:64])[:, 0].max()) <= 0.3
    assert max(result.scores) > 0.3 * 3  # later policies paid more, beyond the edge


def imagined(returned, failed):
    return ImaginedEpisodes(torch.tensor(returned), torch.tensor(failed), torch.zeros(len(returned)))


@pytest.mark.parametrize(
    ("returned", "failed", "better"),
    [
        ([10.6, 20.6, 30.6, 40.6], [0.5, 0.0, 0.0, 0.5], False),  # 0.6 more on each, 5 % of the mean are 1.25
        ([11.5, 21.5, 31.5, 41.5], [0.5, 0.0, 0.0, 0.5], True),  # start by start it is certain
        ([0.0, 31.5, 21.5, 53.0], [0.5, 0.0, 0.0, 0.5], False),  # the same mean by chance
        ([11.5, 21.5, 31.5, 41.5], [0.6, 0.1, 0.1, 0.6], False),  # every start fails more often
        ([11.5, 21.5, 31.5, 41.5], [1.0, 0.0, 0.0, 0.4], True),  # that may be chance
        ([float("nan")] * 4, [0.5, 0.0, 0.0, 0.5], False),
        ([11.5, 21.5, 31.5, 41.5], [float("nan")] * 4, False),
    ],
)
def test_better_means_more_return_and_no_more_failures_beyond_chance(returned, failed, better):
    assert (
        is_better(imagined(returned, failed), imagined([10.0, 20.0, 30.0, 40.0], [0.5, 0.0, 0.0, 0.5]), 0.05) is better
    )


@pytest.mark.parametrize(("setting", "value"), [("starts", 1), ("rollout", 0)])
def test_an_evaluation_that_says_nothing_is_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} is {value}; give"):
        OfflinePPOConfig(**{setting: value})
