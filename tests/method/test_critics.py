"""Implicit Q-learning on problems whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from farl.algorithms.iql import IQLConfig, expectile_loss, train_critics
from farl.data.batches import Transitions, transitions
from farl.networks.normalizer import Normalizer
from farl.networks.value import DoubleQ, ValueFunction
from farl.progress import Progress
from farl.types import Episode


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_expectile_loss_weighs_shortfalls_and_excesses_as_the_paper_does(expectile):
    error = torch.tensor([2.0, -3.0, 0.0])
    by_hand = (expectile * 4 + (1 - expectile) * 9) / 3
    assert expectile_loss(error, expectile).item() == pytest.approx(by_hand, abs=1e-6)


def test_the_expectile_losss_minimum_is_the_expectile_of_the_data():
    """At the minimiser m of the tau-expectile, tau E[(x - m)+] = (1 - tau) E[(m - x)+]."""
    data = torch.tensor([0.0, 1.0, 5.0, 9.0])
    grid = torch.linspace(0, 9, 9001)
    best = grid[int(torch.stack([expectile_loss(data - m, 0.7) for m in grid]).argmin())]
    above, below = (data - best).clamp_min(0).mean(), (best - data).clamp_min(0).mean()
    assert 0.7 * above.item() == pytest.approx(0.3 * below.item(), abs=1e-2)


def one_step(terminated: bool) -> Transitions:
    """A state that leads to itself with reward 1, for ever or until the very next step."""
    rows = 64
    return Transitions(
        obs=torch.ones(rows, 2),
        action=torch.zeros(rows, 1),
        reward=torch.ones(rows),
        next_obs=torch.ones(rows, 2),
        terminated=torch.full((rows,), terminated),
        failure=torch.zeros(rows, dtype=torch.bool),
    )


@pytest.mark.parametrize(("terminated", "worth"), [(True, 1.0), (False, 1 / (1 - 0.8))])
def test_only_termination_stops_the_bootstrap(terminated, worth, generator):
    normalizer = Normalizer(2)
    torch.manual_seed(0)
    q, value = DoubleQ(normalizer, 1, hidden=(32,)), ValueFunction(normalizer, hidden=(32,))
    config = IQLConfig(updates=600, batch=32, lr=3e-3, gamma=0.8, tau=0.05)
    train_critics(q, value, normalizer, one_step(terminated), config, generator, Progress(None, ""))
    x = torch.ones(1, 2)
    assert value(x).item() == pytest.approx(worth, rel=0.03)
    assert q.smaller(x, torch.zeros(1, 1)).item() == pytest.approx(worth, rel=0.03)


def test_episodes_become_transitions_with_scaled_rewards_and_true_final_observations():
    episode = Episode(
        obs=np.arange(8, dtype=np.float32).reshape(4, 2),
        actions=np.array([[0.5], [3.0], [-2.0]], np.float32),
        rewards=np.array([1, 2, 3], np.float32),
        terminated=np.zeros(3, bool),
        truncated=np.array([False, False, True]),
        failure=np.array([False, True, False]),
        margin=np.zeros(3, np.float32),
        outcome="success",
        seed=0,
    )
    flat = transitions([episode, episode], reward_scale=0.1)
    assert flat.next_obs[2].tolist() == [6, 7]
    assert flat.obs[3].tolist() == [0, 1]  # the second episode starts over: nothing leads across
    assert flat.reward.tolist() == pytest.approx([0.1, 0.2, 0.3] * 2)
    assert flat.action.flatten().tolist() == [0.5, 1.0, -1.0] * 2  # what the environment executed
    assert not flat.terminated.any()  # success and time-out bootstrap
    assert flat.failure.tolist() == [False, True, False] * 2
