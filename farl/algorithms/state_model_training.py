"""Training of the state-space world model over the whole horizon it is queried at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from farl.algorithms.optimisation import anneal, descend
from farl.data.batches import Transitions, Windows, WindowSampler
from farl.networks.normalizer import Normalizer
from farl.networks.state_model import StateModel
from farl.progress import Progress


@dataclass(frozen=True)
class StateModelConfig:
    """State-space world model."""

    updates: int = 4000
    """gradient steps"""
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
    change = (x_next - x).square().mean(0).sqrt().clamp_min(1e-2)  # error is counted in steps' worth of motion
    heads = list(model.failure.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("failure.")]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": heads, "weight_decay": config.head_decay}]
    optimizer = torch.optim.AdamW(groups, config.lr)
    progress.stage("state-space world model", config.updates)
    for update in range(1, config.updates + 1):
        anneal(optimizer, (update - 1) / config.updates)
        parts = rollout_loss(model, normalizer, sampler.sample(config.batch, generator), change, config.pos_weight)
        descend(sum(parts.values(), torch.zeros(())), optimizer, model.parameters(), max_norm=20.0)
        if update % 50 == 0:
            progress.at(update, " ".join(f"{name} {value.item():.3f}" for name, value in parts.items()))


def rollout_loss(
    model: StateModel, normalizer: Normalizer, windows: Windows, change: Tensor, pos_weight: float
) -> dict[str, Tensor]:
    """Losses of an open-loop rollout from each window's first observation.

    The heads learn from the states the model imagines, because that is what the gate shows them, and from the true ones,
    where label and place agree exactly. They do not steer the dynamics.
    """
    z = model.encode(normalizer(windows.obs[0]))
    targets = normalizer(windows.obs[1:].flatten(0, 1)).view(*windows.obs[1:].shape)
    imagined, rewards = [], []
    for t in range(len(windows.action)):
        z, transition = model.advance(z, windows.action[t])
        imagined.append(model.decode(z))
        rewards.append(model.reward_head(transition).squeeze(-1))
    states = torch.stack(imagined)
    error = (states - targets) / change
    # Huber, because a lost contact makes single rows arbitrarily wrong
    dynamics = torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").mean(-1)
    failure = [_failure_loss(model, x, windows, pos_weight) for x in (states.detach(), targets)]
    return {
        "dynamics": masked_mean(dynamics, windows.valid),
        "failure": 0.5 * (failure[0] + failure[1]),
        "reward": 0.1 * masked_mean((torch.stack(rewards) - windows.reward).square(), windows.valid),
    }


def _failure_loss(model: StateModel, x: Tensor, windows: Windows, pos_weight: float) -> Tensor:
    logits = model.failure_logits(x.flatten(0, 1))
    label = windows.failure.flatten().float().expand_as(logits)
    bce = binary_cross_entropy_with_logits(logits, label, reduction="none", pos_weight=torch.tensor(pos_weight))
    weight = (windows.failure_weight * windows.valid).flatten().expand_as(bce)
    return (bce * weight).sum() / weight.sum().clamp_min(1.0)
