"""Multi-layer perceptrons, alone and as an ensemble evaluated in one batched product."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU, output_gain: float = 1.0) -> nn.Sequential:
    """Linear layers of ``sizes`` with ``activation`` between them; orthogonal initialisation, ``output_gain`` on the last layer."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        last = index == len(sizes) - 2
        linear = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(linear.weight, output_gain if last else math.sqrt(2.0))
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, activation()]
    return nn.Sequential(*layers)


class EnsembleMLP(nn.Module):
    """``members`` independent MLPs; one ``baddbmm`` a layer instead of a Python loop over members."""

    def __init__(self, sizes: Sequence[int], members: int, output_gain: float = 1.0) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            gain = output_gain if index == len(sizes) - 2 else math.sqrt(2.0)
            stacked = torch.stack([nn.init.orthogonal_(torch.empty(fan_in, fan_out), gain) for _ in range(members)])
            self.weights.append(nn.Parameter(stacked))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "k b m"]:
        h = x.expand(len(self.weights[0]), *x.shape)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if index < len(self.weights) - 1:
                h = torch.relu(h)
        return h
