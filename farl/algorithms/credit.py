"""Credit for gated steps: which action PPO learns from where recovery acted, and with which weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CreditMode = Literal["handover", "proposed", "mask", "executed", "zfilter"]


@dataclass(frozen=True)
class Credit:
    """What the policy loss sees; all rows of a rollout."""

    action: Float[Tensor, "n act"]
    log_prob: Float[Tensor, " n"]
    """log-probability of ``action`` under the policy that acted"""
    weight: Float[Tensor, " n"]


def assign(
    mode: CreditMode,
    proposed: Float[Tensor, "n act"],
    executed: Float[Tensor, "n act"],
    proposed_log_prob: Float[Tensor, " n"],
    executed_log_prob: Float[Tensor, " n"],
    gated: Bool[Tensor, " n"],
    handover: Bool[Tensor, " n"],
    z_max: Float[Tensor, " n"],
    z_limit: float = 4.0,
) -> Credit:
    """Action, log-probability and weight of every step.

    * ``handover`` (default): the task policy's own action where it called recovery; what it proposes while recovery acts is
      not executed and only says when recovery may let go, so those steps train the critic only (docs/method.md has the
      measurements).
    * ``proposed``: the task policy's own action on every step.
    * ``mask``: gated steps train the critic only, the one that called recovery included.
    * ``executed`` (the paper): the recovery action. It was not drawn from the policy, so the ratio starts at one but
      saturates at once and its gradient is large where |a_rec - mu| is many standard deviations.
    * ``zfilter``: as ``executed``, but not where a coordinate is more than ``z_limit`` standard deviations away.
    """
    everywhere = torch.ones_like(proposed_log_prob)
    if mode == "proposed":
        return Credit(proposed, proposed_log_prob, everywhere)
    if mode == "handover":
        return Credit(proposed, proposed_log_prob, (~gated | handover).float())
    if mode == "mask":
        return Credit(proposed, proposed_log_prob, (~gated).float())
    if mode == "zfilter":
        return Credit(executed, executed_log_prob, (~(gated & (z_max > z_limit))).float())
    return Credit(executed, executed_log_prob, everywhere)
