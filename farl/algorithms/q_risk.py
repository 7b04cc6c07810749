"""Q-risk, the model-free critic of Recovery RL (Thananjeyan et al. 2021): the discounted chance of failing ahead."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from farl.algorithms.optimisation import descend, track
from farl.data.batches import Transitions, transitions
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import DoubleQ, ValueFunction
from farl.progress import Progress
from farl.types import Episode


@dataclass(frozen=True)
class QRiskConfig:
    """Recovery RL's critic, trained offline."""

    updates: int = 6000
    """gradient steps; 0 leaves Q-risk, and with it the tail of the risk, simple-critic, ppo-lag and p3o, out of the bundle"""
    value_updates: int = 1000
    """gradient steps of the cost critic, which is the mean of Q-risk over the policy's actions"""
    batch: int = 128
    lr: float = 3e-4
    gamma: float = 0.95
    """discount per step ahead (paper of Recovery RL: gamma_risk, 0.5 to 0.85, a look-ahead of 3 to 6 steps)"""
    tau: float = 0.005
    """rate at which the target critic follows"""
    onset_fraction: float = 0.3
    """share of each batch that begins a failure (paper of Recovery RL: pos_fraction)"""

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; give a discount between 0 and 1")
        if not 0 <= self.onset_fraction < 1:
            raise ValueError(f"onset_fraction is {self.onset_fraction}; give a share from 0 up to, not including, 1")


class QRisk:
    """A ``FailureCritic`` without a model: the larger of two learned discounted chances of failing, each in 0..1."""

    def __init__(self, q: DoubleQ, normalizer: Normalizer) -> None:
        self.q, self.normalizer = q, normalizer

    @torch.no_grad()
    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        return larger(self.q, self.normalizer(obs), action.clamp(-1, 1))


def larger(q: DoubleQ, x: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
    """The more pessimistic of the two chances."""
    both: Tensor = q(x, action)
    return both.sigmoid().amax(0)


def risk_target(failure: Tensor, over: Tensor, following: Float[Tensor, " b"], gamma: float) -> Float[Tensor, " b"]:
    """``c + (1 - c) gamma Q'``: a failure is worth 1 once, whatever comes after it, and nothing fails once it is ``over``.

    Recovery RL leaves (1 - c) to its environments, which end on a violation; ours go on.
    """
    return torch.where(failure, 1.0, gamma * following * ~over)


def onsets(episodes: Sequence[Episode]) -> Tensor:
    """Rows of the stacked transitions on which an episode first fails; failures persist, so most others only say "already"."""
    starts = torch.tensor([0, *(len(episode) for episode in episodes[:-1])]).cumsum(0)
    return torch.tensor([int(s) + e.onset for s, e in zip(starts, episodes, strict=True) if e.onset is not None]).long()


def train_q_risk(
    q: DoubleQ,
    policy: GaussianPolicy,
    episodes: Sequence[Episode],
    config: QRiskConfig,
    generator: torch.Generator,
    progress: Progress,
    name: str = "Q-risk",
) -> None:
    """Fit ``q`` in place to the failures ahead of ``policy``, exploration included, on what others did.

    A success ends an episode, so nothing fails after it; a time-out bootstraps.
    """
    progress.stage(name, config.updates)
    data, rare = transitions(episodes, 1.0), onsets(episodes)
    over = data.terminated | data.success
    x, x_next = policy.normalizer(data.obs), policy.normalizer(data.next_obs)
    with torch.no_grad():
        intended: Tensor = policy(x_next)  # the policy stands still here: once for all updates
    target = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), config.lr)
    for update in range(1, config.updates + 1):
        rows = _draw(data, rare, config, generator)
        with torch.no_grad():
            upcoming = policy.sample(intended[rows], generator).clamp(-1, 1)
            following = larger(target, x_next[rows], upcoming)
            backup = risk_target(data.failure[rows], over[rows], following, config.gamma)
        both = q(x[rows], data.action[rows]).sigmoid()
        loss = mse_loss(both, backup.expand_as(both))
        descend(loss, optimizer, q.parameters(), max_norm=10.0)
        track(target, q, config.tau)
        if update % 200 == 0:
            progress.at(update, f"loss {loss.item():.4f}")


def _draw(data: Transitions, rare: Tensor, config: QRiskConfig, generator: torch.Generator) -> Tensor:
    """Rows of a batch, the stated share of them onsets (where there are any)."""
    rows = torch.randint(len(data), (config.batch,), generator=generator)
    if len(rare):
        count = int(config.batch * config.onset_fraction)
        rows[:count] = rare[torch.randint(len(rare), (count,), generator=generator)]
    return rows


def distil_cost_value(
    value: ValueFunction,
    q: DoubleQ,
    policy: GaussianPolicy,
    episodes: Sequence[Episode],
    config: QRiskConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Fit ``value`` in place to the mean of Q-risk over ``policy``'s actions: the cost critic of ppo-lag and p3o.

    The mean of the two chances, not the larger: a baseline should not be pessimistic.
    """
    progress.stage("cost critic", config.value_updates)
    x = policy.normalizer(transitions(episodes, 1.0).obs)
    optimizer = torch.optim.Adam(value.parameters(), config.lr)
    for update in range(1, config.value_updates + 1):
        rows = torch.randint(len(x), (config.batch,), generator=generator)
        with torch.no_grad():
            action = policy.sample(policy(x[rows]), generator).clamp(-1, 1)
            chance = q(x[rows], action).sigmoid().mean(0)
        loss = mse_loss(value(x[rows]), chance)
        descend(loss, optimizer, value.parameters(), max_norm=10.0)
        if update % 200 == 0:
            progress.at(update, f"loss {loss.item():.4f}")
