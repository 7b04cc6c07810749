"""When an imagined episode would have ended in success: world models predict failures, not successes, so the data is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from farl.algorithms.optimisation import descend
from farl.data.batches import Transitions
from farl.networks.mlp import mlp
from farl.networks.normalizer import Normalizer


@dataclass(frozen=True)
class SuccessHeadConfig:
    """Training of the success head."""

    updates: int = 600
    batch: int = 256
    positives: float = 0.25
    """share of successful steps in a batch; their chance is put right afterwards"""
    lr: float = 2e-3
    decay: float = 0.1
    """weight decay (AdamW)"""


class SuccessHead(nn.Module):
    """Probability that a step which led to a standardised observation was the successful one, and what such a step pays."""

    def __init__(self, normalizer: Normalizer, hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        self._normalizer = (normalizer,)
        self.net = mlp([normalizer.feature_dim, *hidden, 1], nn.SiLU)
        self.shift: Tensor
        self.reward: Tensor
        self.register_buffer("shift", torch.tensor(-math.inf))
        self.register_buffer("reward", torch.zeros(()))

    def forward(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, " b"]:
        return (self.logits(x) + self.shift).sigmoid()

    def logits(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, " b"]:
        """As trained, on batches with more successes than there are."""
        found: Tensor = self.net(self._normalizer[0].features(x))
        return found.squeeze(-1)


def train_success_head(
    normalizer: Normalizer, data: Transitions, generator: torch.Generator, config: SuccessHeadConfig | None = None
) -> SuccessHead:
    """A head fitted to where the episodes of ``data`` succeeded; without a success in them it says never.

    ``reward`` becomes the mean scaled reward of the successful steps. A reward head that is shown one of them in five hundred
    smooths it away (on the Hard boundary it predicts a quarter).
    """
    config = config or SuccessHeadConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        head = SuccessHead(normalizer)
    positive, negative = data.success.nonzero()[:, 0], (~data.success).nonzero()[:, 0]
    if not len(positive) or not len(negative):
        return head
    x = normalizer(data.next_obs)
    count = max(1, int(config.batch * config.positives))
    label = (torch.arange(config.batch) < count).float()
    optimizer = torch.optim.AdamW(head.net.parameters(), config.lr, weight_decay=config.decay)
    for _ in range(config.updates):
        rows = torch.cat([_draw(positive, count, generator), _draw(negative, config.batch - count, generator)])
        loss = binary_cross_entropy_with_logits(head.logits(x[rows]), label)
        descend(loss, optimizer, head.net.parameters(), max_norm=10.0)
    odds = len(positive) / len(negative) * (config.batch - count) / count
    head.shift.fill_(math.log(odds))
    head.reward.copy_(data.reward[positive].mean())
    return head


def _draw(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (count,), generator=generator)]
