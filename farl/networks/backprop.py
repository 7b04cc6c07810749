"""Training steps of a ReLU network with the gradient written out, for a learner that takes thousands of small ones.

A minibatch of PPO is 256 rows: what autograd does beside the products (a node and a new gradient for every layer, activations
that may not be overwritten, a norm per tensor) then takes half as long as the products do. Written out, with all gradients
in one buffer, an update takes 7 to 11 % less (``experiments/benchmark_ppo.py``, *autograd*).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from farl.networks.linear import linear
from farl.networks.mlp import MLP


class Backprop:
    """Takes the place of a network while it trains.

    Calling it gives the network's output as a leaf. Whatever loss is made of that, autograd differentiates as far as the
    output; ``descend`` goes on from there. ``others`` are parameters that the loss depends on beside the network's.
    """

    def __init__(self, net: MLP, *others: nn.Parameter) -> None:
        if unknown := [layer for layer in net if not isinstance(layer, (nn.Linear, nn.ReLU))]:
            raise TypeError(f"only linear layers and ReLU are differentiated by hand, not {unknown[0]}")
        self.layers = [layer for layer in net if isinstance(layer, nn.Linear)]
        self.others = others
        parameters = [*net.parameters(), *others]
        sizes = [parameter.numel() for parameter in parameters]
        self.gradient = torch.zeros(sum(sizes))
        parts = torch.split(self.gradient, sizes)
        self._parts = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
        for parameter, part in zip(parameters, self._parts, strict=True):
            parameter.grad = part
        self._inputs: list[Tensor] = []
        self._output = torch.zeros(0)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
        """The network's output, of which ``descend`` takes the loss."""
        self._inputs = []
        for layer in self.layers:
            x = torch.relu_(x) if self._inputs else x
            self._inputs.append(x)
            x = linear(x, layer.weight, layer.bias)
        self._output = x.requires_grad_()
        return self._output

    def descend(self, loss: Float[Tensor, ""], optimizer: Optimizer, max_norm: float) -> None:
        """Back-propagate ``loss``, clip the gradient to ``max_norm``, step."""
        upstream, *rest = torch.autograd.grad(loss, [self._output, *self.others])
        self._backward(upstream)
        for part, gradient in zip(self._parts[2 * len(self.layers) :], rest, strict=True):
            part.copy_(gradient)
        norm = self.gradient.norm()
        if not norm <= max_norm:
            self.gradient.mul_(max_norm / (norm + 1e-6))
        optimizer.step()

    @torch.no_grad()
    def _backward(self, gradient: Float[Tensor, "b m"]) -> None:
        for index in reversed(range(len(self.layers))):
            x, weight = self._inputs[index], self.layers[index].weight
            self._parts[2 * index].copy_(linear(gradient.t(), x.t()))
            torch.sum(gradient, 0, out=self._parts[2 * index + 1])
            if index:
                gradient = torch.ops.aten.threshold_backward(linear(gradient, weight.t()), x, 0)
