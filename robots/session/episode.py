"""One episode at a real table as it is judged: every step's outcome, and the verdict that labels can still change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from failurebench.franka.definition import FrankaTask
from failurebench.franka.scene import Layout, Scene
from robots.session.labels import SPOKEN, Verdict, judge
from robots.session.record import EventRecord


@dataclass(frozen=True)
class RulesConfig:
    """When an episode ends, and what labels count as."""

    max_episode_steps: int = 150
    stop_on_success: bool = True
    terminate_on_failure: bool = False
    label_back_steps: int = 3
    """how many steps before it was said a spoken failure may have begun"""
    verdict_s: float = 0.0
    """after an episode's last step, in which it can still be labelled"""


class Outcome(NamedTuple):
    """What a step came to."""

    reward: float = 0.0
    failure: bool = False
    onset: bool = False
    kind: str = ""
    detail: str = ""
    success: bool = False
    margin: float = math.nan
    terminated: bool = False
    truncated: bool = False
    fault: str = ""
    """of the infrastructure: the episode ends and is not counted"""


class Episode:
    """Counts steps, hears labels, judges."""

    def __init__(self, task: FrankaTask, rules: RulesConfig, layout: Layout) -> None:
        self.task, self.rules, self.layout = task, rules, layout
        self.steps = 0
        self.heard: list[EventRecord] = []
        """what was said since it began"""
        self.automatic: list[str] = []
        """kind of failure of every step by the definition, empty where there was none"""
        self.reached = False
        """whether the definition saw success at the last step"""
        self.outcome = Outcome()

    @property
    def verdict(self) -> Verdict:
        """As things stand."""
        return judge(self.automatic, self.reached, self.heard, self.rules.label_back_steps)

    def conclude(self, scene: Scene, margin: float, detail: str, fault: str, met_hazard: bool) -> Outcome:
        """Judge the step that led to ``scene``.

        Args:
            margin: the smallest of the step, m.
            fault: of the infrastructure; such a step is neither failure nor success.
            met_hazard: the arm stopped because it ran into the hazard, so nothing can go on.
        """
        failed_by_itself = not fault and (margin <= 0.0 or met_hazard)
        self.automatic.append(self.task.failure_type if failed_by_itself else "")
        self.reached = not fault and self.task.reached(scene, self.layout)
        self.steps += 1
        verdict, rules = self.verdict, self.rules
        kind = "" if fault else verdict.kinds[-1]
        success = verdict.success and not fault
        over = self.steps >= rules.max_episode_steps or (success and rules.stop_on_success)
        self.outcome = Outcome(
            reward=0.0 if fault else 1.0 if success else float(self.task.reward(scene, self.layout)),
            failure=bool(kind),
            onset=bool(kind) and not any(verdict.kinds[:-1]),
            kind=kind,
            detail=(detail if failed_by_itself else SPOKEN) if kind else "",
            success=success,
            margin=margin,
            terminated=bool(kind) and rules.terminate_on_failure,
            truncated=bool(fault) or met_hazard or over,
            fault=fault,
        )
        return self.outcome

    def lose(self, fault: str) -> None:
        """End it for a fault that came after its last step was judged."""
        self.outcome = self.outcome._replace(truncated=True, fault=fault, success=False)

    def close(self) -> str:
        """The last word on it, for the journal."""
        outcome = self.outcome = self.outcome._replace(success=self.verdict.success and not self.outcome.fault)
        if outcome.fault:
            return f"lost: {outcome.fault}"
        return "success" if outcome.success else "failure" if outcome.terminated else "timeout"

    def info(self) -> dict[str, Any]:
        """The keys that every FailureBench task has."""
        outcome = self.outcome
        return {
            "failure": outcome.failure,
            "failed": self.verdict.failed,
            "failure_onset": outcome.onset,
            "failure_type": outcome.kind,
            "failure_detail": outcome.detail,
            "success": outcome.success,
            "margin": float(outcome.margin),
            "cost": float(outcome.failure),
        }
