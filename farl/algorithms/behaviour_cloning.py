"""Behaviour cloning: the task and the recovery policy start as what the demonstrations did."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from farl.algorithms.optimisation import anneal, descend
from farl.data.batches import Transitions
from farl.networks.policy import GaussianPolicy
from farl.progress import Progress


@dataclass(frozen=True)
class BCConfig:
    """Behaviour cloning."""

    updates: int = 2500
    """gradient steps"""
    batch: int = 256
    lr: float = 3e-4
    decay: bool = False
    """let the learning rate fall linearly to 0 over ``updates``; for long training, whose end is then fine work"""
    patience: int = 10
    """held-out checks without a better likelihood before stopping early"""
    check_every: int = 250
    """updates between two held-out checks"""


def clone(
    policy: GaussianPolicy,
    train: Transitions,
    held_out: Transitions,
    config: BCConfig,
    generator: torch.Generator,
    progress: Progress,
    name: str = "behaviour cloning",
) -> float:
    """Maximise the demonstrations' likelihood; returns the best held-out negative log-likelihood per step.

    The standard deviation stays as it is: it is the exploration the policy will be run with, and the mean's optimum does
    not depend on it.
    """
    progress.stage(name, config.updates)
    optimizer = torch.optim.Adam(policy.net.parameters(), config.lr)
    x, x_held = policy.normalizer(train.obs), policy.normalizer(held_out.obs)
    best, best_weights, stale = float("inf"), copy.deepcopy(policy.net.state_dict()), 0
    for update in range(1, config.updates + 1):
        if config.decay:
            anneal(optimizer, (update - 1) / config.updates)
        rows = torch.randint(len(train), (config.batch,), generator=generator)
        loss = -policy.log_prob(policy(x[rows]), train.action[rows]).mean()
        descend(loss, optimizer, policy.net.parameters(), max_norm=1.0)
        if update % config.check_every == 0 or update == config.updates:
            with torch.no_grad():
                score = -policy.log_prob(policy(x_held), held_out.action).mean().item()
            progress.at(update, f"held-out NLL {score:.3f}")
            stale = 0 if score < best else stale + 1
            if score < best:
                best, best_weights = score, copy.deepcopy(policy.net.state_dict())
            if stale >= config.patience:
                break
    policy.net.load_state_dict(best_weights)
    return best
