"""Who acted in an episode instead of the task policy, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Acting(NamedTuple):
    """Counts of one episode."""

    recoveries: int
    """times that recovery took over, from the task policy or from a person"""
    recovery_steps: int
    takeovers: int
    """times that a person took over"""
    human_steps: int


def acting(sources: Sequence[str]) -> Acting:
    """From the source of every step, as ``StepRecord.source`` has it."""
    begun = [now for before, now in zip(["", *sources], sources, strict=False) if now != before]
    return Acting(begun.count("recovery"), sources.count("recovery"), begun.count("human"), sources.count("human"))
