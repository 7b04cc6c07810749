"""Offline PPO, gated by off-policy evaluation in the world model (Uni-O4, Lei et al. 2024)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farl.algorithms.objective import clipped_surrogate
from farl.algorithms.optimisation import anneal, descend
from farl.algorithms.risk import pessimistic
from farl.data.batches import Transitions
from farl.networks.policy import GaussianPolicy
from farl.networks.value import DoubleQ, ValueFunction
from farl.networks.world_model import WorldModel
from farl.progress import Progress


@dataclass(frozen=True)
class OfflinePPOConfig:
    """Offline policy improvement before any interaction."""

    updates: int = 1000
    """gradient steps; 0 keeps the cloned policy"""
    lr: float = 3e-5
    """decayed linearly to 0"""
    clip: float = 0.2
    batch: int = 512
    check_every: int = 100
    """updates between two off-policy evaluations"""
    rollout: int = 10
    """imagined agent steps of an evaluation"""
    margin: float = 0.05
    """relative improvement (or twice the standard error) a new policy must show to replace the old one"""


@dataclass(frozen=True)
class OfflinePPOResult:
    """What offline PPO did: evaluation scores in order, and how many replacements were accepted."""

    scores: tuple[float, ...]
    accepted: int


@torch.no_grad()
def evaluate_in_model(
    policy: GaussianPolicy,
    model: WorldModel,
    q: DoubleQ,
    value_floor: float,
    obs: Float[Tensor, "b obs"],
    rollout: int,
) -> tuple[float, float]:
    """AM-Q: mean Q along imagined rollouts of the policy's mean action, and its standard error.

    A rollout that is more likely failed than not counts ``value_floor`` from there on: dropping it would reward policies
    that fail early at a high value.
    """
    z = model.encode(policy.normalizer(obs))
    alive = torch.ones(len(obs))
    total = torch.zeros(len(obs))
    for _ in range(rollout):
        x = model.decode(z)
        action = policy(x).clamp(-1, 1)
        total += torch.where(alive > 0.5, q.smaller(x, action), torch.tensor(value_floor))
        z, logits = model.step(z, action)
        alive = alive * (1 - pessimistic(logits[None], 0.0)[0])
    scores = total / rollout
    return float(scores.mean()), float(scores.std() / len(scores) ** 0.5)


def improve_offline(
    policy: GaussianPolicy,
    model: WorldModel,
    q: DoubleQ,
    value: ValueFunction,
    data: Transitions,
    config: OfflinePPOConfig,
    generator: torch.Generator,
    progress: Progress,
) -> OfflinePPOResult:
    """Improve ``policy`` in place; it ends as the last accepted policy, which may be the one it started as."""
    progress.stage("offline PPO", config.updates)
    accepted_policy, learner = copy.deepcopy(policy), copy.deepcopy(policy)
    optimizer = torch.optim.Adam(learner.net.parameters(), config.lr)
    x = policy.normalizer(data.obs)
    floor = float(value(x[: 4 * config.batch]).detach().amin())
    starts = data.obs[torch.randint(len(data), (config.batch,), generator=generator)]
    best, _ = evaluate_in_model(policy, model, q, floor, starts, config.rollout)
    scores, accepted = [best], 0
    for update in range(1, config.updates + 1):
        anneal(optimizer, (update - 1) / config.updates)
        rows = torch.randint(len(data), (config.batch,), generator=generator)
        loss = _surrogate(learner, accepted_policy, q, value, x[rows], config.clip, generator)
        descend(loss, optimizer, learner.net.parameters(), max_norm=0.5)
        if update % config.check_every == 0:
            score, error = evaluate_in_model(learner, model, q, floor, starts, config.rollout)
            scores.append(score)
            if score > best + max(config.margin * abs(best), 2 * error):
                best, accepted = score, accepted + 1
                accepted_policy.load_state_dict(learner.state_dict())
            progress.at(update, f"imagined value {score:.2f}, accepted {accepted}")
    policy.load_state_dict(accepted_policy.state_dict())
    return OfflinePPOResult(tuple(scores), accepted)


def _surrogate(
    learner: GaussianPolicy,
    old: GaussianPolicy,
    q: DoubleQ,
    value: ValueFunction,
    x: Tensor,
    clip: float,
    generator: torch.Generator,
) -> Tensor:
    with torch.no_grad():
        mean = old(x)
        action = old.sample(mean, generator)
        old_log_prob = old.log_prob(mean, action)
        advantage = q.smaller(x, action.clamp(-1, 1)) - value(x)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    return clipped_surrogate(learner.log_prob(learner(x), action), old_log_prob, advantage, clip).mean()
