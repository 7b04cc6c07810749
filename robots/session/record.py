"""What a session keeps of every control step: a line of its journal, and what page, replay and report read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """One acknowledged control step. Actions in units of the task's full command, times in seconds of the wall clock."""

    episode: int
    """counts from 1 over the whole session"""
    step: int
    """counts from 0 in the episode"""
    time: float
    """``time.time()`` at the command"""
    obs: list[float]
    """what the decision was made on"""
    next_obs: list[float]
    proposed: list[float]
    recovery: list[float]
    executed: list[float]
    """what was commanded after the limits"""
    risk: float
    threshold: float
    source: str
    """task, recovery or human"""
    reward: float
    failure: bool
    failure_type: str
    success: bool
    margin: float
    terminated: bool
    truncated: bool
    fault: str
    """of the infrastructure, such as ``camera_stale``; such an episode is not counted"""
    clipped: list[str]
    status: str
    """of the arm"""
    tip: list[float]
    force: list[float]
    reference: list[float]
    ages: dict[str, float]
    """of what was seen, by source, s"""
    period: float
    """since the command before, s"""
    decision: float
    """from the observation until the decision was there, s; its command waits for the deadline"""
    policy_version: int
    images: dict[str, str]
    """camera -> name of the picture in ``images/``"""
    decided: list[float] = field(default_factory=list)
    """what was to be executed, before the limits"""
    failure_detail: str = ""
    """which way of failing, such as ``box``"""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; NaN stays NaN."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class EventRecord:
    """Something that a person or the session said."""

    time: float
    """``time.time()``"""
    episode: int
    """the one that is running, or the last one; 0 before the first"""
    step: int
    """the next one of that episode: an event at step 3 came after step 2 was acknowledged"""
    word: str
    """``robots.operator.interface.Word``'s value, or the session's own: see docs/robots/sessions.md"""
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self.__dict__)
