"""One running episode as every arm's backend gives it: begun, stepped, judged for reward, success and failure, saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench import HORIZON

State = dict[str, Any]

INFO = {
    "failure": bool,
    "failed": bool,
    "failure_onset": bool,
    "failure_type": str,
    "failure_detail": str,
    "success": bool,
    "margin": float,
    "cost": float,
}
"""what ``info`` says and in which type, the same after reset and after every step"""


@dataclass(frozen=True)
class Protocol:
    """How an agent meets the task."""

    action_repeat: int = 2
    """simulator steps (12.5 ms each) per agent step; their rewards are summed"""

    max_episode_steps: int | None = HORIZON
    """agent steps after which an episode is truncated; None leaves that to a wrapper outside"""

    stop_on_success: bool = True
    """truncate the episode when the goal is reached"""

    terminate_on_failure: bool = False
    """end the episode at the first failing step"""

    def __post_init__(self) -> None:
        if not _is_count(self.action_repeat):
            raise ValueError(f"action_repeat is {self.action_repeat!r}; give a whole number, 1 or more")
        if self.max_episode_steps is not None and not _is_count(self.max_episode_steps):
            raise ValueError(
                f"max_episode_steps is {self.max_episode_steps!r}; give a whole number of agent steps, 1 or more"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


class Widths(NamedTuple):
    """How much room a step of an episode takes in an array."""

    move: int
    """numbers in ``step``"""

    observation: int
    word: int
    """letters in the longest failure type or detail"""


class Judged(ABC):
    """One running episode of a task. ``begin``, then ``step``; read the outcome from the attributes."""

    reward: float
    """sum over the action repeat"""
    failure: bool
    onset: bool
    success: bool
    margin: float
    """smallest over the action repeat, m"""
    terminated: bool
    truncated: bool

    def __init__(self, task: Any, protocol: Protocol) -> None:
        self.task, self.protocol = task, protocol
        self.begun, self.steps, self.failed = False, 0, False

    @classmethod
    @abstractmethod
    def widths(cls, task: Any) -> Widths:
        """Of this task's episodes."""

    @property
    @abstractmethod
    def model(self) -> Any:
        """The compiled ``mjModel``, shared and only to be read."""

    @property
    @abstractmethod
    def data(self) -> Any:
        """This episode's own ``mjData``."""

    @abstractmethod
    def begin(self, rng: np.random.Generator) -> None:
        """Start an episode that ``rng`` alone decides."""

    @abstractmethod
    def step(self, *move: float) -> None:
        """One agent step."""

    @abstractmethod
    def observation(self) -> NDArray[np.float32]:
        """A fresh float32 array, within the bounds."""

    @abstractmethod
    def detail(self) -> str:
        """``info["failure_detail"]``, asked at a failing step."""

    @abstractmethod
    def get_state(self) -> State:
        """The whole episode, as plain arrays and scalars."""

    @abstractmethod
    def set_state(self, state: State) -> None:
        """Continue from a saved state, bit for bit."""

    @abstractmethod
    def outline(self) -> list[Any]:
        """Lines drawn in pictures to show the hazard."""

    @abstractmethod
    def dress(self, model: Any, data: Any) -> None:
        """Put into a picture's model and data what differs between episodes and is no physical state, such as the goal."""

    def info(self) -> dict[str, Any]:
        """The contract's keys, the same after reset and after step."""
        return {
            "failure": self.failure,
            "failed": self.failed,
            "failure_onset": self.onset,
            "failure_type": self.task.failure_type if self.failure else "",
            "failure_detail": self.detail() if self.failure else "",
            "success": self.success,
            "margin": self.margin,
            "cost": float(self.failure),
        }

    def judge(self, reward: float, margin: float, success: bool, failure: bool) -> None:
        """Close a step: what it came to, and whether it ends the episode."""
        protocol = self.protocol
        self.steps += 1
        self.reward, self.margin, self.success, self.failure = reward, margin, success, failure
        self.onset = failure and not self.failed
        self.failed = self.failed or failure
        self.terminated = failure and protocol.terminate_on_failure
        out_of_time = protocol.max_episode_steps is not None and self.steps >= protocol.max_episode_steps
        self.truncated = (success and protocol.stop_on_success) or out_of_time

    def nothing_happened(self, margin: float) -> None:
        """The outcome before the first step, and after ``set_state``."""
        self.reward, self.margin = 0.0, margin
        self.failure = self.onset = self.success = self.terminated = self.truncated = False

    def require(self, state: State, keys: set[str], physics: tuple[int, ...]) -> None:
        """Refuse what cannot be continued.

        Raises:
            ValueError: the state is another task's, another MuJoCo version's, or not a state.
        """
        missing = {"task", "mujoco", "physics", *keys} - set(state)
        if missing:
            raise ValueError(f"the state lacks {sorted(missing)}: pass what get_state() returned")
        if state["task"] != self.task.name:
            raise ValueError(
                f"the state is from task {state['task']!r}, this is {self.task.name!r}: make the task it came from"
            )
        if state["mujoco"] != mujoco.__version__:
            raise ValueError(
                f"the state was saved with MuJoCo {state['mujoco']}, this is {mujoco.__version__}, which may go on "
                "differently: install that version or record the state again"
            )
        if np.shape(state["physics"]) != physics:
            raise ValueError(
                f"the state's physics has shape {np.shape(state['physics'])}, expected {physics}: it was saved with "
                "another model, record it again"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # Simulator memory does not pickle, and a plain deep copy would share it: a copy is rebuilt and set to this state.
        return _revive, (type(self), self.task, self.protocol, self.get_state() if self.begun else None)


def _revive(kind: type[Judged], task: Any, protocol: Protocol, state: State | None) -> Judged:
    episode = kind(task, protocol)
    if state is not None:
        episode.set_state(state)
    return episode
