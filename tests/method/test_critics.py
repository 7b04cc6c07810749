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


def one_step(ending: str) -> Transitions:
    """Reward 1 in a state that goes on for ever, or ends at the very next step in a state nobody ever acted in."""
    rows = 64
    flags = {name: torch.full((rows,), ending == name) for name in ("terminated", "success")}
    return Transitions(
        obs=torch.ones(rows, 2),
        action=torch.zeros(rows, 1),
        reward=torch.ones(rows),
        next_obs=torch.ones(rows, 2) if ending == "goes on" else torch.full((rows, 2), -3.0),
        failure=torch.zeros(rows, dtype=torch.bool),
        **flags,
    )


@pytest.mark.parametrize(
    ("ending", "worth"), [("terminated", 1.0), ("goes on", 1 / (1 - 0.8)), ("success", 1 / (1 - 0.8))]
)
def test_only_termination_stops_the_bootstrap_and_a_success_is_worth_its_reward_for_ever(ending, worth, generator):
    normalizer = Normalizer(2)
    torch.manual_seed(0)
    q, value = DoubleQ(normalizer, 1, hidden=(32,)), ValueFunction(normalizer, hidden=(32,))
    config = IQLConfig(updates=600, batch=32, lr=3e-3, gamma=0.8, tau=0.05)
    train_critics(q, value, normalizer, one_step(ending), config, generator, Progress(None, ""))
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
    assert flat.success.tolist() == [False, False, True] * 2


@pytest.mark.parametrize(("outcome", "expected"), [("success", True), ("timeout", False), ("failure", False)])
def test_only_the_last_step_of_a_successful_episode_is_a_success(outcome, expected):
    nothing = np.zeros(2, bool)
    zeros = np.zeros((3, 1), np.float32)
    episode = Episode(zeros, zeros[:2], zeros[:2, 0], nothing, nothing, nothing, zeros[:2, 0], outcome, seed=0)
    assert transitions([episode], 1.0).success.tolist() == [False, expected]
