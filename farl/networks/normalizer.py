"""One frozen observation normaliser, shared by every network of a bundle."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONSTANT = 1e-4
"""range in the data below which a dimension does not vary: a tenth of a millimetre"""


class Normalizer(nn.Module):
    """Standardise observations, and show small but telling differences at unit scale.

    ``forward`` gives the standardised observation ``x``; ``features`` appends its whitened principal components. A hand's
    velocity is the difference of two almost equal positions, and a hand-object offset that of two others: a few
    hundredths in ``x``, of order one after whitening. Networks read ``features``; models predict ``x``.

    A dimension that is constant in the data (17 of 39 in MetaWorld with a fixed goal) is not shown at all: no network can
    have learned what it means, and whitened, a wall that stands 1 cm elsewhere would be an input far outside everything
    seen. Below a floor, what varies little is not blown up either.
    """

    def __init__(self, obs_dim: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.mean: Tensor
        self.std: Tensor
        self.whitening: Tensor
        self.register_buffer("mean", torch.zeros(obs_dim))
        self.register_buffer("std", torch.ones(obs_dim))
        self.register_buffer("whitening", torch.eye(obs_dim))
        self.varies: Tensor
        self.register_buffer("varies", torch.ones(obs_dim))

    @property
    def obs_dim(self) -> int:
        return len(self.mean)

    @property
    def feature_dim(self) -> int:
        return 2 * len(self.mean)

    def fit(self, obs: Float[Tensor, "n obs"], std_floor: float = 1e-2, component_floor: float = 2e-2) -> None:
        """Set mean, std and whitening from data; ``component_floor`` bounds the amplification of a principal component."""
        obs = self.encode(obs)
        self.mean.copy_(obs.mean(0))
        self.std.copy_(obs.std(0).clamp_min(std_floor))
        self.varies.copy_(obs.amax(0) - obs.amin(0) > CONSTANT)
        x = self.standardise(obs).double()
        covariance = (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)
        variances, axes = torch.linalg.eigh(covariance)
        self.whitening.copy_((axes / variances.clamp_min(component_floor**2).sqrt()).float())

    def forward(self, obs: Float[Tensor, "b raw"]) -> Float[Tensor, "b obs"]:
        return self.standardise(self.encode(obs))

    def encode(self, obs: Float[Tensor, "b raw"]) -> Float[Tensor, "b obs"]:
        """The numbers that are standardised: of a plain vector, itself."""
        return obs

    def standardise(self, obs: Float[Tensor, "b obs"]) -> Float[Tensor, "b obs"]:
        """``x`` of numbers that are encoded already."""
        return ((obs - self.mean) / self.std * self.varies).clamp(-self.clip, self.clip)

    def inverse(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b obs"]:
        """Raw observation of a standardised one (exact only where nothing was clipped or constant)."""
        return self.restore(x)

    def restore(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b obs"]:
        """The encoded numbers in their own units, as exact as that."""
        return x * self.std + self.mean

    def features(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b features"]:
        """What networks read: ``x`` and its whitened components."""
        return torch.cat([x, (x @ self.whitening).clamp(-self.clip, self.clip)], dim=-1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Normalisers saved before constants were left out show every dimension."""
        state_dict.setdefault(f"{prefix}varies", torch.ones_like(self.varies))
        super()._load_from_state_dict(state_dict, prefix, *args)
