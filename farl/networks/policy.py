"""The Gaussian policy: one function of the observation, the same offline and online."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farl.networks.mlp import mlp
from farl.networks.normalizer import Normalizer

LOG_STD_RANGE = (-3.0, -0.5)


class GaussianPolicy(nn.Module):
    """Gaussian with a tanh-bounded mean and one standard deviation per action dimension.

    The environment clips what it executes; log-probabilities are always those of the raw, unclipped sample, so the ratio
    at unchanged parameters is exactly one, saturated actions included. The standard deviation does not depend on
    which stage uses the policy: the one it explores with online is the one it was trained with offline.
    """

    def __init__(
        self, normalizer: Normalizer, act_dim: int, std: float, hidden: tuple[int, ...] = (256, 256, 256)
    ) -> None:
        super().__init__()
        low, high = LOG_STD_RANGE
        if not math.exp(low) <= std <= math.exp(high):
            raise ValueError(f"exploration std {std} is outside {math.exp(low):.3f} to {math.exp(high):.3f}")
        # A tuple hides the normaliser from parameters() and state_dict(): the bundle stores it once for all networks.
        self._normalizer = (normalizer,)
        self.net = mlp([normalizer.feature_dim, *hidden, act_dim], output_gain=0.01)
        self.log_std = nn.Parameter(torch.full((act_dim,), math.log(std)))

    @property
    def normalizer(self) -> Normalizer:
        return self._normalizer[0]

    @property
    def std(self) -> Float[Tensor, " act"]:
        return self.log_std.clamp(*LOG_STD_RANGE).exp()

    def forward(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b act"]:
        """Mean action for standardised observations."""
        return self.of_features(self.normalizer.features(x))

    def of_features(self, features: Float[Tensor, "b features"]) -> Float[Tensor, "b act"]:
        """Mean action for the features of observations, where they are known already."""
        return self.of_output(self.net(features))

    def of_output(self, output: Float[Tensor, "b act"]) -> Float[Tensor, "b act"]:
        """Mean action for what ``net`` gives."""
        return torch.tanh(output)

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "b obs"]) -> Float[Tensor, "b act"]:
        """Mean action for raw observations."""
        mean: Tensor = self(self.normalizer(obs))
        return mean

    def log_prob(self, mean: Float[Tensor, "*b act"], action: Float[Tensor, "*b act"]) -> Float[Tensor, "*b"]:
        """Log-density of raw actions."""
        std = self.std
        z = (action - mean) / std
        return -0.5 * z.square().sum(-1) - (std.log() + 0.5 * math.log(2 * math.pi)).sum()

    @torch.no_grad()
    def sample(self, mean: Float[Tensor, "b act"], generator: torch.Generator) -> Float[Tensor, "b act"]:
        """A raw action around ``mean``."""
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
        return mean + self.std * noise
