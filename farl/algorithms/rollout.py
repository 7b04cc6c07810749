"""What the actor hands to the learner: the steps of one iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass
class Rollout:
    """``t`` steps of ``b`` environments as the actor saw them; observations raw, rewards scaled."""

    obs: Float[Tensor, "t b obs"]
    next_obs: Float[Tensor, "t b obs"]
    """the observation each step led to, before any reset"""
    proposed: Float[Tensor, "t b act"]
    executed: Float[Tensor, "t b act"]
    proposed_log_prob: Float[Tensor, "t b"]
    executed_log_prob: Float[Tensor, "t b"]
    z_max: Float[Tensor, "t b"]
    """largest |executed - mean| / std over action dimensions"""
    reward: Float[Tensor, "t b"]
    terminated: Bool[Tensor, "t b"]
    truncated: Bool[Tensor, "t b"]
    failure: Bool[Tensor, "t b"]
    success: Bool[Tensor, "t b"]
    """the step ended its episode by success"""
    failed: Bool[Tensor, "t b"]
    """the episode had failed before this step"""
    gated: Bool[Tensor, "t b"]
    handover: Bool[Tensor, "t b"]
    """recovery took over on this step"""
    risk: Float[Tensor, "t b"]

    @classmethod
    def empty(cls, steps: int, envs: int, obs: int, act: int) -> Rollout:
        """Storage for one iteration."""
        wide = {"obs": obs, "next_obs": obs, "proposed": act, "executed": act}
        flags = {"terminated", "truncated", "failure", "success", "failed", "gated", "handover"}
        return cls(
            **{
                name: torch.zeros(steps, envs, wide[name])
                if name in wide
                else torch.zeros(steps, envs, dtype=torch.bool if name in flags else torch.float32)
                for name in cls.__dataclass_fields__
            }
        )
