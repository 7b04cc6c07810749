"""Failure accounting: every episode counted once, every failure attributed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.offline.collecting import outcome_of
from farl.types import Cause

LOOKBACK = 10
"""agent steps before a failure in which a closed gate counts as having seen it coming"""


@dataclass
class EpisodeRecord:
    """One episode as it happens."""

    seed: int
    length: int = 0
    total_reward: float = 0.0
    failing_steps: int = 0
    first_failure: int | None = None
    failure_type: str = ""
    cause: Cause | None = None
    gated: list[bool] = field(default_factory=list)
    risks: list[float] = field(default_factory=list)
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    failures: list[bool] = field(default_factory=list)

    def add(
        self, reward: float, failure: bool, failure_type: str, gated: bool, risk: float, action: NDArray[np.float32]
    ) -> None:
        """Account for one step."""
        self.gated.append(gated)
        self.risks.append(risk)
        self.actions.append(action)
        self.failures.append(failure)
        if failure and self.first_failure is None:
            self.first_failure, self.failure_type = self.length, failure_type
            self.cause = cause_of(self.gated)
        self.failing_steps += int(failure)
        self.length += 1
        self.total_reward += reward

    def state_dict(self) -> dict[str, Any]:
        """The record with its actions as one array."""
        return {**vars(self), "actions": np.stack(self.actions) if self.actions else np.zeros((0, 0), np.float32)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> EpisodeRecord:
        return cls(**{**state, "actions": list(state["actions"])})

    @property
    def bursts(self) -> list[int]:
        """Lengths of the stretches in which recovery acted."""
        lengths, run = [], 0
        for gated in [*self.gated, False]:
            if gated:
                run += 1
            elif run:
                lengths.append(run)
                run = 0
        return lengths


def cause_of(gated: list[bool]) -> Cause:
    """What the gate had done when the last of these steps violated.

    ``during_recovery``: recovery acted on the violating step; ``late``: it had acted within the look-back but the task
    policy had control again, or it only took over on the very step that violated; ``ungated``: it never saw it coming.
    """
    if gated[-1]:
        return "during_recovery" if len(gated) > 1 and gated[-2] else "late"
    return "late" if any(gated[-LOOKBACK:]) else "ungated"


@dataclass
class Ledger:
    """Totals of training episodes; evaluation never touches it."""

    episodes: int = 0
    successes: int = 0
    timeouts: int = 0
    terminal_failures: int = 0
    failures: int = 0
    """episodes with at least one violating step"""
    recent: deque[tuple[bool, bool, float, int]] = field(default_factory=lambda: deque(maxlen=100))
    """(success, failed, return, length) of the last hundred episodes"""

    def close(self, record: EpisodeRecord, terminated: bool, success: bool) -> dict[str, Any]:
        """Count a finished episode and return its line for ``episodes.jsonl``."""
        outcome = outcome_of(terminated, record.failures[-1], success)
        failed = record.first_failure is not None
        self.episodes += 1
        self.successes += outcome == "success"
        self.timeouts += outcome == "timeout"
        self.terminal_failures += outcome == "failure"
        self.failures += failed
        self.recent.append((outcome == "success", failed, record.total_reward, record.length))
        self.check()
        finite = [r for r in record.risks if np.isfinite(r)]
        return {
            "episode": self.episodes - 1,
            "seed": record.seed,
            "length": record.length,
            "return": record.total_reward,
            "outcome": outcome,
            "failed": failed,
            "failing_steps": record.failing_steps,
            "first_failure": record.first_failure,
            "failure_type": record.failure_type,
            "cause": record.cause,
            "gated_steps": sum(record.gated),
            "bursts": record.bursts,
            "risk_max": max(finite, default=0.0),
            "risk_mean": float(np.mean(finite)) if finite else 0.0,
        }

    def check(self) -> None:
        """Every episode ended in exactly one way, and none failed twice."""
        if self.episodes != self.successes + self.timeouts + self.terminal_failures:
            raise AssertionError(f"episodes do not add up: {self}")
        if not self.terminal_failures <= self.failures <= self.episodes:
            raise AssertionError(f"failures do not add up: {self}")

    def summary(self) -> dict[str, float]:
        """Totals, and rates over the last hundred episodes."""
        count = max(len(self.recent), 1)
        success, failed, returns, lengths = zip(*self.recent, strict=True) if self.recent else ((0,),) * 4
        return {
            "episodes": self.episodes,
            "successes": self.successes,
            "failures": self.failures,
            "success_rate": sum(success) / count,
            "failure_rate": sum(failed) / count,
            "return_mean": sum(returns) / count,
            "length_mean": sum(lengths) / count,
        }

    def state_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, deque(map(tuple, value), maxlen=100) if name == "recent" else value)
