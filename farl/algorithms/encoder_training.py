"""Training of the encoders of point clouds: a code that tells where surfaces are and how the step that led here went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from farl.algorithms.optimisation import anneal, descend
from farl.networks.encoders import CloudNormalizer, PointEncoder
from farl.networks.mlp import mlp
from farl.networks.normalizer import Normalizer
from farl.progress import Progress
from farl.types import Episode

JITTER, FAR = 0.15, 0.5
"""in units of a cloud's size: how far beside points one asks for the nearest surface, and what distances beyond count as"""


@dataclass(frozen=True)
class EncoderConfig:
    """Encoders of point clouds; where observations are plain vectors there is none."""

    updates: int = 4000
    """gradient steps"""
    batch: int = 128
    lr: float = 1e-3
    """decayed linearly to 0"""
    code: int = 16
    """numbers that stand for a cloud"""
    queries: int = 32
    """places of each cloud at which the distance to the nearest point is asked for"""
    onset_fraction: float = 0.2
    """share of each batch on which a failure begins"""
    near_m: float = 0.03
    """margin from which on one is as good as another"""

    def __post_init__(self) -> None:
        if self.code < 1:
            raise ValueError(f"encoder.code is {self.code}; give 1 or more numbers")


def fit_normalizer(
    normalizer: Normalizer,
    episodes: Sequence[Episode],
    config: EncoderConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Fit a normaliser in place: its encoders first, if it has any, then what all numbers are standardised by."""
    train_encoders(normalizer, episodes, config, generator, progress)
    normalizer.fit(torch.from_numpy(np.concatenate([e.obs[:-1] for e in episodes])).float())


class _Heads(nn.Module):
    """What is asked of a code while it is learned."""

    def __init__(self, layout_plain: int, code: int, clouds: Sequence[str]) -> None:
        super().__init__()
        self.surface = nn.ModuleDict({name: mlp([code + 3, 64, 64, 1]) for name in clouds})
        self.outcome = mlp([layout_plain + code * len(clouds), 128, 128, 3])


@dataclass(frozen=True)
class _Steps:
    """Observations, and of the step that led to each: scaled reward, margin in units of ``near_m`` (nan where unknown), failure."""

    obs: Float[Tensor, "n raw"]
    outcome: Float[Tensor, "n 3"]
    onsets: Tensor
    """rows on which a failure begins"""


def train_encoders(
    normalizer: Normalizer,
    episodes: Sequence[Episode],
    config: EncoderConfig,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Fit the encoders of a normaliser in place, if it has any.

    Two things are asked of a code. How far is the nearest surface from a place beside one of the points, or of another cloud's?
    That needs no label. And, with the plain numbers: reward, margin and failure of the step that led here, because what decides
    them (how far a box is from a wall) should be what the code is finest about.
    """
    if not isinstance(normalizer, CloudNormalizer):
        return
    layout, steps = normalizer.layout, _steps(episodes, config)
    plain = Normalizer(layout.plain)
    plain.fit(steps.obs[:, : layout.plain])
    for name, points in layout.points(steps.obs).items():
        normalizer.encoders[name].fit(points)   # type: ignore[operator]
    heads = _Heads(layout.plain, config.code, list(normalizer.encoders))
    normalizer.encoders.requires_grad_(True)
    parameters = [*normalizer.encoders.parameters(), *heads.parameters()]
    optimizer = torch.optim.Adam(parameters, config.lr)
    progress.stage("encoders of point clouds", config.updates)
    for update in range(1, config.updates + 1):
        anneal(optimizer, (update - 1) / config.updates)
        rows = torch.randint(len(steps.obs), (config.batch,), generator=generator)
        if len(steps.onsets):
            count = int(config.batch * config.onset_fraction)
            rows[:count] = steps.onsets[torch.randint(len(steps.onsets), (count,), generator=generator)]
        parts = _losses(normalizer, plain, heads, steps.obs[rows], steps.outcome[rows], config, generator)
        descend(sum(parts.values(), torch.zeros(())), optimizer, parameters, max_norm=10.0)
        if update % 50 == 0:
            progress.at(update, " ".join(f"{name} {value.item():.3f}" for name, value in parts.items()))
    normalizer.encoders.requires_grad_(False)


def _losses(
    normalizer: CloudNormalizer,
    plain: Normalizer,
    heads: _Heads,
    obs: Tensor,
    outcome: Tensor,
    config: EncoderConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    seen, surface = [plain(obs[:, : normalizer.layout.plain])], torch.zeros(())
    for name, points in normalizer.layout.points(obs).items():
        encoder, head = normalizer.encoders[name], heads.surface[name]
        assert isinstance(encoder, PointEncoder)
        code: Tensor = encoder(points)
        surface = surface + _surface_loss(head, code, encoder.scaled(points), config.queries, generator)
        seen.append(code)
    reward, margin, failure = heads.outcome(torch.cat(seen, dim=-1)).unbind(-1)
    known = outcome[:, 1].isfinite()
    return {
        "surface": 10.0 * surface,
        "reward": mse_loss(reward, outcome[:, 0]),
        "margin": mse_loss(margin[known], outcome[known, 1]) if known.any() else torch.zeros(()),
        "failure": 0.3 * binary_cross_entropy_with_logits(failure, outcome[:, 2]),
    }


def _surface_loss(head: nn.Module, code: Tensor, points: Tensor, queries: int, generator: torch.Generator) -> Tensor:
    """How well the code tells distances to its cloud from places beside its own points and beside those of the cloud before."""
    batch, count, _ = points.shape
    own, other = (torch.randint(count, (batch, queries // 2, 1), generator=generator).expand(-1, -1, 3) for _ in range(2))
    places = torch.cat([points.gather(1, own), points.roll(1, 0).gather(1, other)], dim=1)
    places = places + JITTER * torch.randn(places.shape, generator=generator)
    distance = torch.cdist(places, points, compute_mode="donot_use_mm_for_euclid_dist").amin(-1).clamp_max(FAR)
    asked = torch.cat([code[:, None].expand(-1, places.shape[1], -1), places], dim=-1)
    told: Tensor = head(asked.flatten(0, 1))
    return mse_loss(told.view_as(distance), distance)


def _steps(episodes: Sequence[Episode], config: EncoderConfig) -> _Steps:
    """Every observation that a step led to."""
    obs = torch.cat([torch.from_numpy(e.obs[1:]) for e in episodes]).float()
    reward, margin = (torch.cat([torch.from_numpy(getattr(e, name)) for e in episodes]).float() for name in ("rewards", "margin"))
    failure = torch.cat([torch.from_numpy(e.failure) for e in episodes])
    begun = torch.cat([torch.from_numpy((e.failure.cumsum() == 1) & e.failure) for e in episodes])
    scaled = (reward - reward.mean()) / reward.std().clamp_min(1e-6)
    outcome = torch.stack([scaled, (margin / config.near_m).clamp(-1, 1), failure.float()], dim=1)
    return _Steps(obs, outcome, begun.nonzero().flatten())
