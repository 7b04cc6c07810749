"""One matrix product for every network: of what PyTorch ships, the library that is fastest on this machine."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

WORTH = 2**20
"""multiply-adds above which oneDNN's longer preparation pays"""


def linear(
    x: Float[Tensor, "b n"], weight: Float[Tensor, "m n"], bias: Float[Tensor, " m"] | None = None
) -> Float[Tensor, "b m"]:
    """``x @ weight.T + bias``, through oneDNN where that is available and the product is large enough.

    ``torch.nn.functional.linear`` goes through MKL, which runs at half speed on processors of another make than Intel's
    (experiments/benchmark_ppo.py measures it). The choice follows from shapes and the machine alone, so runs repeat bit
    for bit.
    """
    if not applies(x, weight):
        return functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    return _product(x, weight, bias)


def applies(x: Tensor, weight: Tensor) -> bool:
    """Whether ``linear`` takes oneDNN for these operands."""
    return (
        AVAILABLE
        and x.dim() == 2
        and x.shape[0] * weight.numel() > WORTH
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # Without its fused activation: oneDNN's ReLU makes a zero of a NaN, and a broken network would look sure of itself.
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


class _Linear(torch.autograd.Function):
    """The same three products that PyTorch's own backward takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = (g.contiguous() for g in gradients)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t(), None) if needs_x else None,
            _product(gradient.t(), x.t(), None) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def _available() -> bool:
    """Whether this build of PyTorch has the product, and it is what it should be."""
    x, weight = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        return torch.equal(_product(x, weight, torch.ones(2)), weight.t() + 1)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        # Not an omission: the operator is PyTorch's own affair. A build may lack it, have it without a kernel for this processor,
        # or have changed its arguments; ``functional.linear`` then serves, as it does for small products.
        return False


AVAILABLE = _available()
