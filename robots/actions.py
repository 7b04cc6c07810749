"""The only thing that moves the arm: an action with the decision that let it through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from failurebench.franka.geometry import Vec2

Source = Literal["task", "recovery", "human", "reset"]
"""who acts; a reset is scripted and moves through the same limits"""


@dataclass(frozen=True)
class GatedAction:
    """One command and why it may be executed. An arm takes nothing else.

    Actions are displacements of the finger's reference in units of the task's full command, each axis -1 to 1.
    """

    executed: Vec2
    """what is sent to the limits, and after them to the arm"""
    proposed: Vec2
    """the task policy's own action"""
    recovery: Vec2
    """the recovery policy's action, also where it did not act"""
    risk: float
    """what the critic said of ``proposed``; NaN is "not known to be safe" """
    threshold: float
    source: Source
    observed_at: float
    """``time.monotonic()`` of the observation that it was decided on"""
    decided_at: float
    """``time.monotonic()`` when the decision was made"""

    @property
    def finite(self) -> bool:
        """Whether what would be executed is numbers."""
        return all(map(math.isfinite, self.executed))

    @property
    def permitted(self) -> bool:
        """Whether the decision allows what is executed: the task policy acts only below the threshold, a NaN is above every one."""
        return self.source != "task" or self.risk <= self.threshold
