"""Training of the state-space world model over the whole horizon it is queried at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from farl.algorithms.optimisation import anneal, descend
from farl.data.batches import Transitions, Windows, WindowSampler
from farl.networks.normalizer import Normalizer
from farl.networks.state_model import StateModel
from farl.progress import Progress


@dataclass(frozen=True)
class StateModelConfig:
    """State-space world model."""

    updates: int = 10000
    """gradient steps; contacts are learned last: with 4000 a shoved ball got half its speed (docs/method.md)"""
    batch: int = 96
    """windows per step"""
    lr: float = 1e-3
    """decayed linearly to 0"""
    horizon: int = 11
    """agent steps unrolled in training; the gate must not look further (it takes risk.horizon + 1 steps)"""
    onset_fraction: float = 0.3
    """share of windows that contain the onset of a failure"""
    pos_weight: float = 1.0
    """weight of violating steps in the heads' loss, on top of onset_fraction"""
    head_decay: float = 1.0
    """weight decay (AdamW) of the failure heads: accidents are few, and smooth heads carry over to a policy's own"""
    hidden: tuple[int, ...] = (256, 256)
    heads: int = 3


def masked_mean(value: Float[Tensor, "*shape"], mask: Tensor) -> Float[Tensor, ""]:
    """Mean over the entries where ``mask`` is non-zero."""
    weight = mask.to(value.dtype).expand_as(value)
    return (value * weight).sum() / weight.sum().clamp_min(1.0)


def train_state_model(
    model: StateModel,
    normalizer: Normalizer,
    sampler: WindowSampler,
    data: Transitions,
    config: StateModelConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Fit ``model`` in place: linear part in closed form, then dynamics, failure and reward together, unrolled."""
    x, x_next = normalizer(data.obs), normalizer(data.next_obs)
    model.fit_linear(x, data.action, x_next)
    units = Units(normalizer, x, x_next)
    heads = list(model.failure.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("failure.")]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": heads, "weight_decay": config.head_decay}]
    optimizer = torch.optim.AdamW(groups, config.lr)
    progress.stage("state-space world model", config.updates)
    for update in range(1, config.updates + 1):
        anneal(optimizer, (update - 1) / config.updates)
        parts = rollout_loss(model, normalizer, sampler.sample(config.batch, generator), units, config.pos_weight)
        descend(sum(parts.values(), torch.zeros(())), optimizer, model.parameters(), max_norm=20.0)
        if update % 50 == 0:
            progress.at(update, " ".join(f"{name} {value.item():.3f}" for name, value in parts.items()))


class Units:
    """What an error of the dynamics is counted in: steps' worth of motion, along each dimension and each principal component.

    A velocity in a stacked observation is the difference of two positions. Counted by dimension alone, an error of a
    millimetre in either is small, and the ball's speed wrong by 8 cm/s.
    """

    def __init__(self, normalizer: Normalizer, x: Float[Tensor, "n obs"], x_next: Float[Tensor, "n obs"]) -> None:
        self.axes = normalizer.whitening
        change = x_next - x
        self.dimension, self.component = (c.square().mean(0).sqrt().clamp_min(1e-2) for c in (change, change @ self.axes))

    def loss(self, error: Float[Tensor, "*shape obs"]) -> Float[Tensor, "*shape"]:
        """Huber, because a lost contact makes single rows arbitrarily wrong."""
        parts = (error / self.dimension, error @ self.axes / self.component)
        return torch.stack([smooth_l1_loss(p, torch.zeros_like(p), reduction="none").mean(-1) for p in parts]).sum(0)


def rollout_loss(
    model: StateModel, normalizer: Normalizer, windows: Windows, units: Units, pos_weight: float
) -> dict[str, Tensor]:
    """Losses of an open-loop rollout from each window's first observation.

    The heads learn from the states the model imagines, because that is what the gate shows them, and from the true ones,
    where label and place agree exactly. They do not steer the dynamics.
    """
    z = model.encode(normalizer.standardise(windows.obs[0]))
    targets = normalizer.standardise(windows.obs[1:].flatten(0, 1)).view(*windows.obs[1:].shape)
    imagined, rewards = [], []
    for t in range(len(windows.action)):
        z, transition = model.advance(z, windows.action[t])
        imagined.append(model.decode(z))
        rewards.append(model.reward_head(transition).squeeze(-1))
    states = torch.stack(imagined)
    failure = [_failure_loss(model, x, windows, pos_weight) for x in (states.detach(), targets)]
    return {
        "dynamics": masked_mean(units.loss(states - targets), windows.valid),
        "failure": 0.5 * (failure[0] + failure[1]),
        "reward": 0.1 * masked_mean((torch.stack(rewards) - windows.reward).square(), windows.valid),
    }


def _failure_loss(model: StateModel, x: Tensor, windows: Windows, pos_weight: float) -> Tensor:
    logits = model.failure_logits(x.flatten(0, 1))
    label = windows.failure.flatten().float().expand_as(logits)
    bce = binary_cross_entropy_with_logits(logits, label, reduction="none", pos_weight=torch.tensor(pos_weight))
    weight = (windows.failure_weight * windows.valid).flatten().expand_as(bce)
    return (bce * weight).sum() / weight.sum().clamp_min(1.0)
