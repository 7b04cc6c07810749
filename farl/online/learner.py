"""The learner: what makes a better policy of every rollout, the same object in the actor's process and in one of its own."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from farl.algorithms.ppo import PPO
from farl.algorithms.rollout import Rollout
from farl.online.finite import FiniteGuard


@dataclass(frozen=True)
class Handover:
    """One rollout on its way from the actor to the learner."""

    number: int
    """counts from 1; learning from it makes the policy's version of the same number"""
    rollout: Rollout
    done: float
    """share of the run's budget used, for the learning rates"""
    figures: dict[str, Any] = field(default_factory=dict)
    """what the actor knew when it was finished: its part of the line in ``metrics.jsonl``"""


@dataclass(frozen=True)
class Update:
    """What came of a rollout."""

    handover: Handover
    losses: dict[str, float]
    seconds: float
    """the learner's time for it"""
    policy: dict[str, Tensor] | None
    """the policy's weights after it, or None where they are in place already"""


class Learner:
    """PPO, and the check that nothing leaves it that is no number."""

    def __init__(self, ppo: PPO, guard: FiniteGuard) -> None:
        self.ppo, self.guard = ppo, guard

    @property
    def version(self) -> int:
        """Updates behind the policy."""
        return self.ppo.iteration

    def learn(self, rollout: Rollout, done: float) -> tuple[dict[str, float], float]:
        """One update: its losses and how many seconds it took; raises NotFinite before anything acts on it."""
        start = time.perf_counter()
        losses = self.ppo.update(rollout, done)
        self.guard.learned(losses)
        return losses, time.perf_counter() - start

    def state_dict(self) -> dict[str, Any]:
        return self.ppo.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ppo.load_state_dict(state)


class Learning(Protocol):
    """Where the learner is, and who waits for whom: the only thing in which one process and two differ."""

    checkpoint_every: int
    """boundaries between two checkpoints"""

    def start(self) -> None:
        """Make sure that there is a learner, without waiting for it."""
        ...

    @property
    def outstanding(self) -> list[Handover]:
        """Rollouts handed over whose update has not been taken yet, oldest first."""
        ...

    def submit(self, handover: Handover) -> None:
        """Hand over the next rollout; does not wait."""
        ...

    def next_update(self, drain: bool = False) -> Update | None:
        """The next finished update in the order of the rollouts; waits for it only if too many are outstanding.

        None if there is none and the actor may go on. With ``drain`` any that is outstanding is one too many.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """The learner's state after the last update taken."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; nothing is outstanding then."""
        ...

    def close(self) -> None:
        """Let go of the learner; what has been taken is not lost by it."""
        ...


class SameProcess:
    """The learner beside the actor: the two take turns, on one policy."""

    def __init__(self, learner: Learner, checkpoint_every: int) -> None:
        self.learner, self.checkpoint_every = learner, checkpoint_every
        self._waiting: deque[Handover] = deque()

    def start(self) -> None:
        """It is there."""

    @property
    def outstanding(self) -> list[Handover]:
        return list(self._waiting)

    def submit(self, handover: Handover) -> None:
        self._waiting.append(handover)

    def next_update(self, drain: bool = False) -> Update | None:
        if not self._waiting:
            return None
        handover = self._waiting.popleft()
        losses, seconds = self.learner.learn(handover.rollout, handover.done)
        return Update(handover, losses, seconds, policy=None)

    def state_dict(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state)
        self._waiting.clear()

    def close(self) -> None:
        """It ends with the process."""
