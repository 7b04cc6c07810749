"""Failure accounting: every episode counted once, every failure attributed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.algorithms.calibration import CalibrationConfig
from farl.offline.collecting import outcome_of
from farl.online.reliability import RiskHistogram
from farl.types import Cause

LOOKBACK = 10
"""agent steps before a failure in which a closed gate counts as having seen it coming"""
TOTALS = ("episodes", "successes", "timeouts", "terminal_failures", "failures", "lost")
"""what a ledger counts"""
WARNING = (CalibrationConfig.min_lead, CalibrationConfig.max_lead)
"""agent steps before a failure between which a high risk counts as a warning in time, as in calibration"""


@dataclass
class EpisodeRecord:
    """One episode as it happens."""

    seed: int
    length: int = 0
    total_reward: float = 0.0
    failing_steps: int = 0
    first_failure: int | None = None
    failure_type: str = ""
    failure_detail: str | None = None
    """what the environment says may have made the failure; None where it says nothing"""
    cause: Cause | None = None
    gated: list[bool] = field(default_factory=list)
    risks: list[float] = field(default_factory=list)
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    failures: list[bool] = field(default_factory=list)

    def add(
        self,
        reward: float,
        failure: bool,
        failure_type: str,
        gated: bool,
        risk: float,
        action: NDArray[np.float32],
        failure_detail: str | None = None,
    ) -> None:
        """Account for one step."""
        self.gated.append(gated)
        self.risks.append(risk)
        self.actions.append(action)
        self.failures.append(failure)
        if failure and self.first_failure is None:
            self.first_failure, self.failure_type, self.failure_detail = self.length, failure_type, failure_detail
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
    def warning(self) -> float | None:
        """The largest risk shown early enough before the first failure; None where none was or could be."""
        nearest, farthest = WARNING
        if self.first_failure is None:
            return None
        early = self.risks[max(0, self.first_failure - farthest) : max(0, self.first_failure - nearest + 1)]
        return max((risk for risk in early if np.isfinite(risk)), default=None)

    @property
    def lead(self) -> int | None:
        """Agent steps from recovery's last takeover to the first failure; None where it did not act within the look-back."""
        return None if self.first_failure is None else lead_of(self.gated[: self.first_failure + 1])

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


def lead_of(gated: list[bool]) -> int | None:
    """Agent steps between the start of the last burst and the last of these steps, on which the failure came.

    0 where recovery took over on the very step that violated; None where it did not act within the look-back.
    """
    recent = [step for step in range(max(0, len(gated) - LOOKBACK), len(gated)) if gated[step]]
    if not recent:
        return None
    start = recent[-1]
    while start > 0 and gated[start - 1]:
        start -= 1
    return len(gated) - 1 - start


@dataclass
class Ledger:
    """Totals of training episodes; evaluation never touches it."""

    episodes: int = 0
    successes: int = 0
    timeouts: int = 0
    terminal_failures: int = 0
    failures: int = 0
    """episodes with at least one violating step"""
    lost: int = 0
    """episodes whose environment broke before they ended"""
    recent: deque[tuple[bool, bool, float, int]] = field(default_factory=lambda: deque(maxlen=100))
    """(success, failed, return, length) of the last hundred episodes"""
    reliability: RiskHistogram = field(default_factory=RiskHistogram)
    """predicted risk against failures that came, on steps of the task policy"""

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
        self.reliability.add(record.risks, record.gated, record.first_failure)
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
            "failure_detail": record.failure_detail,
            "cause": record.cause,
            "lead": record.lead,
            "warning": record.warning,
            "gated_steps": sum(record.gated),
            "bursts": record.bursts,
            "risk_max": max(finite, default=0.0),
            "risk_mean": float(np.mean(finite)) if finite else 0.0,
        }

    def lose(self, record: EpisodeRecord, reason: str) -> dict[str, Any]:
        """Note an episode whose environment broke, and return its line for ``lost.jsonl``.

        It is in no other total, unless it had failed: its failure did happen, and ``close`` has to count it as well.
        """
        self.lost += 1
        return {
            "seed": record.seed,
            "length": record.length,
            "failed": record.first_failure is not None,
            "first_failure": record.first_failure,
            "reason": reason,
        }

    def adopt_all(self, lines: Sequence[Mapping[str, Any]], lost: int) -> int:
        """Count episodes of which only their lines are left, and lost ones; the agent step at which the last of them ended."""
        for line in lines:
            self.adopt(line)
        self.lost += lost
        return max((int(line["end_step"]) for line in lines), default=0)

    def adopt(self, line: Mapping[str, Any]) -> None:
        """Count an episode of which only its line in ``episodes.jsonl`` is left."""
        self.episodes += 1
        self.successes += line["outcome"] == "success"
        self.timeouts += line["outcome"] == "timeout"
        self.terminal_failures += line["outcome"] == "failure"
        self.failures += line["failed"]
        self.recent.append((line["outcome"] == "success", line["failed"], line["return"], line["length"]))
        self.check()

    def check(self) -> None:
        """Every episode ended in exactly one way, and none failed twice."""
        if self.episodes != self.successes + self.timeouts + self.terminal_failures:
            raise AssertionError(f"episodes do not add up: {self}")
        if not self.terminal_failures <= self.failures <= self.episodes:
            raise AssertionError(f"failures do not add up: {self}")

    def summary(self) -> dict[str, Any]:
        """Totals, and rates over the last hundred episodes."""
        count = max(len(self.recent), 1)
        success, failed, returns, lengths = zip(*self.recent, strict=True) if self.recent else ((0,),) * 4
        return {
            "episodes": self.episodes,
            "successes": self.successes,
            "failures": self.failures,
            "lost": self.lost,
            "success_rate": sum(success) / count,
            "failure_rate": sum(failed) / count,
            "return_mean": sum(returns) / count,
            "length_mean": sum(lengths) / count,
            "reliability": self.reliability.rows(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "recent": list(self.recent), "reliability": self.reliability.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self.recent = deque(map(tuple, state.pop("recent")), maxlen=100)
        self.reliability.counts = np.array(state.pop("reliability"))
        for name in TOTALS:
            setattr(self, name, state[name])
