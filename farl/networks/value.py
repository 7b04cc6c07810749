"""State value and double action value, on the shared normaliser."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farl.networks.mlp import EnsembleMLP, mlp
from farl.networks.normalizer import Normalizer


class ValueFunction(nn.Module):
    """V(x) of standardised observations, in units of scaled reward."""

    def __init__(self, normalizer: Normalizer, hidden: tuple[int, ...] = (256, 256)) -> None:
        super().__init__()
        self._normalizer = (normalizer,)
        self.net = mlp([normalizer.feature_dim, *hidden, 1])

    def forward(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, " b"]:
        return self.of_features(self._normalizer[0].features(x))

    def of_features(self, features: Float[Tensor, "b features"]) -> Float[Tensor, " b"]:
        """V for the features of observations, where they are known already."""
        return self.of_output(self.net(features))

    def of_output(self, output: Float[Tensor, "b 1"]) -> Float[Tensor, " b"]:
        """V for what ``net`` gives."""
        return output.squeeze(-1)


class DoubleQ(nn.Module):
    """Two action values Q(x, a); take the smaller one."""

    def __init__(self, normalizer: Normalizer, act_dim: int, hidden: tuple[int, ...] = (256, 256)) -> None:
        super().__init__()
        self._normalizer = (normalizer,)
        self.net = EnsembleMLP([normalizer.feature_dim + act_dim, *hidden, 1], members=2)

    def forward(self, x: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, "2 b"]:
        return self.of_features(self._normalizer[0].features(x), action)

    def of_features(self, features: Float[Tensor, "b features"], action: Float[Tensor, "b act"]) -> Float[Tensor, "2 b"]:
        """Both values for the features of observations, where they are known already."""
        both: Tensor = self.net(torch.cat([features, action], dim=-1))
        return both.squeeze(-1)

    def smaller(self, x: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        both: Tensor = self(x, action)
        return both.amin(0)
