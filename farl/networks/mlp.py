"""Multi-layer perceptrons, alone and as an ensemble evaluated in one batched product."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from farl.networks.linear import applies, linear

IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.SiLU: partial(functional.silu, inplace=True),
}
"""activations where no gradient will ask what they were given"""


class MLP(nn.Sequential):
    """A sequence of linear layers and activations."""

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
        for layer in self:
            if isinstance(layer, nn.Linear):
                x = linear(x, layer.weight, layer.bias)
            else:
                x = layer(x) if torch.is_grad_enabled() else IN_PLACE.get(type(layer), layer)(x)
        return x


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU, output_gain: float = 1.0) -> MLP:
    """Linear layers of ``sizes`` with ``activation`` between them; orthogonal initialisation, ``output_gain`` on the last layer."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        last = index == len(sizes) - 2
        layer = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(layer.weight, output_gain if last else math.sqrt(2.0))
        nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, activation()]
    return MLP(*layers)


class EnsembleMLP(nn.Module):
    """``members`` independent MLPs; one ``baddbmm`` a layer, or one member after the other where that is faster."""

    def __init__(self, sizes: Sequence[int], members: int, output_gain: float = 1.0) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            gain = output_gain if index == len(sizes) - 2 else math.sqrt(2.0)
            stacked = torch.stack([nn.init.orthogonal_(torch.empty(fan_in, fan_out), gain) for _ in range(members)])
            self.weights.append(nn.Parameter(stacked))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "k b m"]:
        if applies(x, self.weights[0][0]):
            return torch.stack([self._member(x, k) for k in range(len(self.weights[0]))])
        h = x.expand(len(self.weights[0]), *x.shape)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if index < len(self.weights) - 1:
                h = torch.relu(h)
        return h

    def _member(self, x: Float[Tensor, "b n"], k: int) -> Float[Tensor, "b m"]:
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = linear(x, weight[k].t(), bias[k, 0])
            if index < len(self.weights) - 1:
                x = torch.relu_(x)
        return x
