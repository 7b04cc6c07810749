"""Implicit Q-learning (Kostrikov et al. 2022): the critics of offline PPO, and the value function PPO starts from online."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from farl.algorithms.advantage import held_success
from farl.algorithms.optimisation import descend, track
from farl.data.batches import Transitions
from farl.networks.normalizer import Normalizer
from farl.networks.value import DoubleQ, ValueFunction
from farl.progress import Progress


@dataclass(frozen=True)
class IQLConfig:
    """Implicit Q-learning."""

    updates: int = 8000
    """gradient steps"""
    batch: int = 256
    lr: float = 3e-4
    expectile: float = 0.7
    """above 0.5 leans towards the better actions of the data"""
    gamma: float = 0.99
    tau: float = 0.005
    """rate at which the target critic follows"""


def expectile_loss(error: Float[Tensor, " b"], expectile: float) -> Float[Tensor, ""]:
    """Asymmetric squared error (IQL, eq. 5); ``error`` = target - prediction."""
    weight = torch.where(error > 0, expectile, 1 - expectile)
    return (weight * error.square()).mean()


def train_critics(
    q: DoubleQ,
    value: ValueFunction,
    normalizer: Normalizer,
    data: Transitions,
    config: IQLConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Fit ``q`` and ``value`` in place. Only ``terminated`` stops the bootstrap; a success counts as held, as online."""
    progress.stage("IQL critics", config.updates)
    target = copy.deepcopy(q)
    q_optimizer = torch.optim.Adam(q.parameters(), config.lr)
    v_optimizer = torch.optim.Adam(value.parameters(), config.lr)
    x, x_next = normalizer(data.obs), normalizer(data.next_obs)
    for update in range(1, config.updates + 1):
        rows = torch.randint(len(data), (config.batch,), generator=generator)
        here, action = x[rows], data.action[rows]
        with torch.no_grad():
            best = target.smaller(here, action)
            alive = (~data.terminated[rows]).float()
            following = held_success(value(x_next[rows]), data.reward[rows], data.success[rows], config.gamma)
            backup = data.reward[rows] + config.gamma * alive * following
        v_loss = expectile_loss(best - value(here), config.expectile)
        descend(v_loss, v_optimizer, value.parameters(), max_norm=10.0)
        both = q(here, action)
        q_loss = mse_loss(both, backup.expand_as(both))
        descend(q_loss, q_optimizer, q.parameters(), max_norm=10.0)
        track(target, q, config.tau)
        if update % 200 == 0:
            progress.at(update, f"Q loss {q_loss.item():.3f}")
