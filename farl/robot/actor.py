"""The actor with an arm: episodes begin when everything is ready, and labels can change until they have ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from farl.algorithms.rollout import Rollout
from farl.algorithms.takeover import Takeover
from farl.online.accounting import EpisodeRecord, cause_of
from farl.online.actor import Actor
from farl.robot.journalled import JournalledEnv
from farl.types import Decision
from robots.actions import Source
from robots.session.labels import SPOKEN


class RobotActor(Actor):
    """Counts and learns from the final verdict on an episode, which a person's labels are part of."""

    envs: JournalledEnv

    def collect_episode(self) -> Rollout:
        """Begin the episode that was prepared, and act until it ends."""
        self.obs = self.envs.begin()
        rollout = super().collect_episode()
        failed = torch.tensor([bool(kind) for kind in self.envs.verdict.kinds])
        rollout.failure[:, 0] = failed
        rollout.failed[:, 0] = (failed.cumsum(0) - failed.long()) > 0
        return rollout

    def _account(
        self,
        action: NDArray[np.float32],
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        failure: NDArray[np.bool_],
        info: dict[str, Any],
        decision: Decision,
    ) -> None:
        if terminated[0] or truncated[0]:
            *before, last = self.envs.verdict.kinds
            relabel(self.records[0], before)
            failure = np.array([bool(last)])
            info = {**info, "failure_type": np.array([last], dtype=object)}
        super()._account(action, reward, terminated, truncated, failure, info, decision)


def relabel(record: EpisodeRecord, kinds: list[str]) -> None:
    """Put the final verdict on an episode's steps in place of what was judged on the spot."""
    failures = [bool(kind) for kind in kinds]
    first = failures.index(True) if any(failures) else None
    if first != record.first_failure:
        record.failure_detail = None if first is None else SPOKEN
    record.failures, record.failing_steps, record.first_failure = failures, sum(failures), first
    record.failure_type = "" if first is None else kinds[first]
    record.cause = None if first is None else cause_of(record.gated[: first + 1])


class Permits:
    """Tells the arm who decided each action, before it is executed: the actor's ``check``.

    Args:
        envs: the arm.
        router: what decides, a person included.
        check: what else looks at every decision.
    """

    def __init__(self, envs: JournalledEnv, router: Takeover, check: Any) -> None:
        self.envs, self.router, self.check = envs, router, check

    def __call__(self, obs: torch.Tensor, decision: Decision) -> None:
        self.check(obs, decision)
        source: Source = "human" if bool(self.router.human[0]) else "recovery" if bool(decision.gated[0]) else "task"
        gate = self.router.gate
        self.envs.permit(
            _pair(decision.executed),
            _pair(decision.proposed),
            _pair(decision.recovery),
            float(decision.risk[0]),
            float("inf") if gate is None else float(gate.threshold),
            source,
        )


def _pair(action: torch.Tensor) -> tuple[float, float]:
    x, y = action[0].clamp(-1, 1).tolist()
    return x, y
