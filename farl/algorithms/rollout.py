"""What the actor hands to the learner: the steps of one iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
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
    version: Int[Tensor, "t b"]
    """updates behind the policy that proposed, and by which the log-probabilities are"""

    @classmethod
    def empty(cls, steps: int, envs: int, obs: int, act: int) -> Rollout:
        """Storage for one iteration."""
        wide = {"obs": obs, "next_obs": obs, "proposed": act, "executed": act}
        flags = ("terminated", "truncated", "failure", "success", "failed", "gated", "handover")
        kinds = {**dict.fromkeys(flags, torch.bool), "version": torch.long}
        return cls(
            **{
                name: torch.zeros(steps, envs, wide[name])
                if name in wide
                else torch.zeros(steps, envs, dtype=kinds.get(name, torch.float32))
                for name in cls.__dataclass_fields__
            }
        )

    def until(self, stop: int) -> Rollout:
        """The first steps of it, on storage of their own."""
        return Rollout(**{name: value[:stop].clone() for name, value in vars(self).items()})

    @classmethod
    def joined(cls, parts: Sequence[Rollout], dim: int) -> Rollout:
        """One after another (``dim`` 0: whole episodes of the same environments) or side by side (1: other environments)."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts], dim) for name in cls.__dataclass_fields__})
