"""The gate: from risk to who acts, with a small state machine per environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class GateConfig:
    """When the recovery policy takes over, and for how long."""

    threshold: float | None = None
    """risk above which recovery acts (paper: eps_safe); None takes the bundle's calibrated threshold"""
    leave: float = 1.0
    """recovery hands back below this share of the threshold; below 1 it is hysteresis"""
    min_dwell: int = 1
    """agent steps that recovery keeps control once it has it"""
    max_dwell: int = 100
    """agent steps after which recovery must hand back (a recovery that gets stuck must not hold the robot for ever)"""
    cooldown: int = 5
    """agent steps the task policy then acts unhindered"""
    miss_rate: float | None = None
    """choose the threshold that promises at most this share of missed failures, by the bundle's conformal bound; None takes the
    threshold as it was calibrated"""
    confidence: float = 0.9
    """chance that the promise of ``miss_rate`` holds for this very bundle; 0 promises it on average over bundles"""
    adapt: float = 0.0
    """step size with which the threshold follows the failures it misses online (adaptive conformal inference: eta); 0 keeps it"""
    unfamiliar: float = 0.0
    """an action is unsafe after a step that the world model predicted worse than this share of the calibration steps, such as
    0.99; 0 asks no such question"""

    def __post_init__(self) -> None:
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"gate.threshold is {self.threshold}; a risk is never negative, so give 0 or more")
        if self.threshold is not None and self.miss_rate is not None:
            raise ValueError(
                f"gate.threshold is {self.threshold} and gate.miss_rate {self.miss_rate}: either would set the threshold; give one"
            )
        if self.miss_rate is not None and not 0 < self.miss_rate < 1:
            raise ValueError(f"gate.miss_rate is {self.miss_rate}; give a share between 0 and 1, such as 0.05")
        if not 0 <= self.confidence < 1:
            raise ValueError(f"gate.confidence is {self.confidence}; give a chance from 0 up to, not including, 1")
        if not 0 <= self.adapt <= 1:
            raise ValueError(f"gate.adapt is {self.adapt}; give a step size from 0 to 1")
        if self.threshold is not None and self.adapt:
            raise ValueError(
                f"gate.adapt is {self.adapt} and gate.threshold {self.threshold}: what adapts is a promise, so give gate.miss_rate "
                "in place of the threshold"
            )
        if not 0 <= self.unfamiliar < 1:
            raise ValueError(f"gate.unfamiliar is {self.unfamiliar}; give a share of steps from 0 up to, not including, 1")
        if not 0 <= self.leave <= 1:
            raise ValueError(f"gate.leave is {self.leave}; give a share of the threshold between 0 and 1")
        if self.cooldown < 0:
            raise ValueError(f"gate.cooldown is {self.cooldown}; give 0 or more")
        if not 1 <= self.min_dwell <= self.max_dwell:
            raise ValueError(f"gate.min_dwell {self.min_dwell} must lie between 1 and gate.max_dwell {self.max_dwell}")


def memoryless(gate: GateConfig) -> GateConfig:
    """The paper's gate: every step is decided by C_H alone, as in its equation; no hysteresis, dwell or cap."""
    return replace(gate, leave=1.0, min_dwell=1, max_dwell=sys.maxsize, cooldown=0)


class Gate:
    """Routes each environment to the task policy or to recovery.

    The question is always "is this action known to be safe?": comparisons are written so that a NaN risk answers no. An
    infinite threshold never gates a finite or infinite risk. A NaN recovers even through a cooldown and past the cap:
    those exist to let a working critic be overruled, not a broken one.
    """

    def __init__(self, config: GateConfig, threshold: float, num_envs: int) -> None:
        self.config, self.threshold = config, threshold
        self.dwell = torch.zeros(num_envs, dtype=torch.long)
        """steps recovery has held control so far, 0 while the task policy acts"""
        self.cooling = torch.zeros(num_envs, dtype=torch.long)
        """steps left of the cooldown"""
        self.cap_hits = torch.zeros(num_envs, dtype=torch.long)
        """times the cap ended a burst, this episode"""

    def step(self, risk: Float[Tensor, " b"]) -> Bool[Tensor, " b"]:
        """Whether recovery acts now, per environment."""
        cfg = self.config
        holding = self.dwell > 0
        limit = torch.where(holding, cfg.leave * self.threshold, self.threshold)
        safe = risk <= limit
        wants = ~safe | (holding & (self.dwell < cfg.min_dwell))
        unknown = risk.isnan()
        capped = holding & (self.dwell >= cfg.max_dwell) & wants & ~unknown
        self.cap_hits += capped
        self.cooling = torch.where(capped, max(cfg.cooldown, 1), self.cooling)
        recovers = (wants & (self.cooling == 0)) | unknown
        self.cooling = (self.cooling - 1).clamp_min(0)
        self.dwell = torch.where(recovers, self.dwell + 1, 0)
        return recovers

    def reset(self, mask: Bool[Tensor, " b"]) -> None:
        """Forget the past of environments that start a new episode."""
        for counter in (self.dwell, self.cooling, self.cap_hits):
            counter[mask] = 0

    def state_dict(self) -> dict[str, Any]:
        return {"dwell": self.dwell, "cooling": self.cooling, "cap_hits": self.cap_hits, "threshold": self.threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dwell, self.cooling, self.cap_hits = state["dwell"], state["cooling"], state["cap_hits"]
        self.threshold = state["threshold"]
