"""One optimiser step, and the schedule all of them share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def descend(loss: Tensor, optimizer: Optimizer, parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Back-propagate, clip the gradient to ``max_norm``, step; returns the norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = list(parameters)
    gradients = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
    norm = torch.stack([gradient.dot(gradient) for gradient in gradients]).sum().sqrt()
    if not norm <= max_norm:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    optimizer.step()
    return float(norm)


def anneal(optimizer: Optimizer, done: float) -> None:
    """Linear decay of every group's own rate, from what it was first to zero at ``done`` = 1."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("first_lr", group["lr"]) * max(0.0, 1.0 - done)


def half_precision() -> torch.autocast:
    """Matrix products in bfloat16 where the processor has them; a wide network trains in half the time.

    Parameters, sums and losses stay in float32. Without such instructions bfloat16 is emulated and slower, so nothing changes.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


@torch.no_grad()
def track(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Polyak averaging: move ``target``'s parameters towards ``source``'s by ``rate``."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, rate)
