"""Training of the latent world model: TD-MPC2's losses with a decoder, and a constraint loss over the whole horizon."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from farl.algorithms.advantage import held_success
from farl.algorithms.optimisation import descend, half_precision, track
from farl.algorithms.state_model_training import masked_mean
from farl.data.batches import Windows, WindowSampler
from farl.networks.latent_model import LatentModel
from farl.networks.normalizer import Normalizer
from farl.progress import Progress


@dataclass(frozen=True)
class LatentModelConfig:
    """Latent world model with seven parts."""

    updates: int = 20000
    """gradient steps"""
    batch: int = 128
    """windows per step"""
    lr: float = 3e-4
    encoder_lr_scale: float = 0.3
    horizon: int = 11
    """agent steps unrolled in training; the gate must not look further (it takes risk.horizon + 1 steps)"""
    latent: int = 128
    width: int = 384
    heads: int = 3
    rho: float = 0.9
    """weight per step ahead of consistency, decoder, reward and value losses"""
    rho_failure: float = 0.95
    """weight per step ahead of the failure loss; TD-MPC2's 0.5 would leave step 10 untrained"""
    onset_fraction: float = 0.3
    gamma: float = 0.98
    tau: float = 0.01
    consistency: float = 20.0
    reward: float = 0.1
    value: float = 0.1
    failure: float = 1.0
    decoder: float = 1.0


def train_latent_model(
    model: LatentModel,
    normalizer: Normalizer,
    sampler: WindowSampler,
    config: LatentModelConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Fit all seven parts in place."""
    trunk = [p for name, p in model.named_parameters() if not name.startswith(("prior", "encoder"))]
    groups: list[dict[str, Any]] = [
        {"params": trunk},
        {"params": model.encoder.parameters(), "lr": config.lr * config.encoder_lr_scale},
    ]
    optimizer = torch.optim.Adam(groups, config.lr)
    prior_optimizer = torch.optim.Adam(model.prior.parameters(), config.lr)
    target = copy.deepcopy(model.value_heads)
    progress.stage("latent world model", config.updates)
    for update in range(1, config.updates + 1):
        windows = sampler.sample(config.batch, generator)
        with half_precision():
            parts, latents = model_losses(model, target, normalizer, windows, config)
        descend(
            sum(parts.values(), torch.zeros(())), optimizer, trunk + list(model.encoder.parameters()), max_norm=20.0
        )
        model.value_heads.requires_grad_(False)
        with half_precision():
            prior = prior_loss(model, latents.detach(), windows)
        model.value_heads.requires_grad_(True)
        descend(prior, prior_optimizer, model.prior.parameters(), max_norm=20.0)
        track(target, model.value_heads, config.tau)
        if update % 50 == 0:
            progress.at(update, " ".join(f"{name} {value.item():.3f}" for name, value in parts.items()))


def model_losses(
    model: LatentModel, target: torch.nn.Module, normalizer: Normalizer, windows: Windows, config: LatentModelConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """The five losses of one batch, and the imagined latents ``[t, b, z]`` they were computed on.

    Only the dynamics have to go step by step; everything that reads latents reads all steps at once.
    """
    steps, batch = windows.action.shape[:2]
    x = normalizer.standardise(windows.obs.flatten(0, 1)).view(steps + 1, batch, -1)
    with torch.no_grad():
        encoded = model.encode(x[1:].flatten(0, 1)).view(steps, batch, -1)
        backup = _td_target(model, target, encoded, windows, config)
    z = model.encode(x[0])
    imagined = [z]
    for t in range(steps):
        z = model.dynamics(torch.cat([z, windows.action[t]], dim=-1))
        imagined.append(z)
    path = torch.stack(imagined).float()
    joint = torch.cat([path[:-1], windows.action], dim=-1).flatten(0, 1)
    valid = windows.valid.float()
    rho = config.rho ** torch.arange(steps, device=x.device) / steps
    seen = (path[1:] - encoded).square().mean(-1)
    # Step 0 is decoded, too: the encoder alone must keep what the policy reads.
    drawn = (model.decode(path.flatten(0, 1)).float().view_as(x) - x).square().mean(-1)
    reward = model.two_hot.loss(model.reward_head(joint).float(), windows.reward.flatten())
    value = torch.stack([model.two_hot.loss(q(joint).float(), backup.flatten()) for q in model.value_heads]).mean(0)
    logits = model.failure(joint).float().view(-1, steps, batch)
    label = windows.failure.float().expand_as(logits)
    bce = binary_cross_entropy_with_logits(logits, label, reduction="none").mean(0)
    losses = {
        "consistency": config.consistency * rho @ step_means(seen, valid),
        "decoder": config.decoder * (step_means(drawn[:1], valid[:1]).sum() / steps + rho @ step_means(drawn[1:], valid)),
        "reward": config.reward * rho @ step_means(reward.view_as(valid), valid),
        "value": config.value * rho @ step_means(value.view_as(valid), valid),
        "failure": config.failure
        * (config.rho_failure ** torch.arange(steps, device=x.device) / steps)
        @ step_means(bce, windows.failure_weight * valid),
    }
    return losses, path[:-1]


def step_means(value: Float[Tensor, "t b"], weight: Float[Tensor, "t b"]) -> Float[Tensor, " t"]:
    """Weighted mean of every step over the batch; 0 where nothing counts."""
    return (value * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def _td_target(
    model: LatentModel, target: torch.nn.Module, encoded: Tensor, windows: Windows, config: LatentModelConfig
) -> Tensor:
    flat = encoded.flatten(0, 1)
    joint = torch.cat([flat, model.propose(flat)], dim=-1)
    values = torch.stack([model.two_hot.decode(q(joint)) for q in target])  # type: ignore[attr-defined]
    following = held_success(values.amin(0).view_as(windows.reward), windows.reward, windows.success, config.gamma)
    return windows.reward + config.gamma * following


def prior_loss(model: LatentModel, latents: Tensor, windows: Windows) -> Tensor:
    """Maximise the model's value, held to the data by cloning: offline, an unconstrained prior exploits value errors."""
    flat, mask = latents.flatten(0, 1), windows.valid.flatten()
    action = model.propose(flat)
    joint = torch.cat([flat, action], dim=-1)
    value = torch.stack([model.two_hot.decode(q(joint)) for q in model.value_heads]).amin(0)
    scale = value.detach().abs().mean().clamp_min(1.0)
    cloned = mse_loss(action, windows.action.flatten(0, 1), reduction="none").mean(-1)
    return masked_mean(cloned - 0.1 * value / scale, mask)
