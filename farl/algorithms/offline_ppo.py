"""Offline PPO, whose improvements count only if imagined episodes bear them out (after Uni-O4, Lei et al. 2024)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from farl.algorithms.imagined_evaluation import Estimate, ImaginedEpisodes, ImaginedEvaluation
from farl.algorithms.objective import clipped_surrogate
from farl.algorithms.optimisation import anneal, descend
from farl.data.batches import Transitions
from farl.networks.policy import GaussianPolicy
from farl.networks.value import DoubleQ, ValueFunction
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
    """updates between two evaluations in the world model"""
    starts: int = 256
    """imagined episodes of an evaluation"""
    rollout: int | None = None
    """agent steps of an imagined episode; None takes the longest of the data"""
    margin: float = 0.05
    """relative growth of the imagined return (or twice its standard error) with which a new policy replaces the old one"""

    def __post_init__(self) -> None:
        if self.starts < 2:
            raise ValueError(f"starts is {self.starts}; give 2 or more, so that there is a standard error")
        if self.rollout is not None and self.rollout < 1:
            raise ValueError(f"rollout is {self.rollout}; give 1 or more")


@dataclass(frozen=True)
class OfflinePPOResult:
    """What offline PPO did: imagined returns in order, and how many replacements were accepted."""

    scores: tuple[float, ...]
    accepted: int


def is_better(new: ImaginedEpisodes, old: ImaginedEpisodes, margin: float) -> bool:
    """Whether the return grew by more than ``margin`` of itself and the failure rate did not rise, either beyond chance.

    Start by start, because the differences of two policies scatter much less than the policies do. Numbers that are no
    numbers are never better.
    """
    gain, harm = Estimate.of(new.returned - old.returned), Estimate.of(new.failed - old.failed)
    needed = max(margin * abs(float(old.returned.mean())), 2 * gain.error)
    return gain.mean > needed and harm.mean <= 2 * harm.error


def improve_offline(
    policy: GaussianPolicy,
    evaluation: ImaginedEvaluation,
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
    best = evaluation.play(policy)
    scores, accepted = [float(best.returned.mean())], 0
    for update in range(1, config.updates + 1):
        anneal(optimizer, (update - 1) / config.updates)
        rows = torch.randint(len(data), (config.batch,), generator=generator)
        loss = _surrogate(learner, accepted_policy, q, value, x[rows], config.clip, generator)
        descend(loss, optimizer, learner.net.parameters(), max_norm=0.5)
        if update % config.check_every == 0:
            imagined = evaluation.play(learner)
            scores.append(float(imagined.returned.mean()))
            if is_better(imagined, best, config.margin):
                best, accepted = imagined, accepted + 1
                accepted_policy.load_state_dict(learner.state_dict())
            progress.at(update, f"imagined return {scores[-1]:.0f}, accepted {accepted}")
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
