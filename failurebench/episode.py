"""One episode, judged for reward, success and failure; single and vector environments share it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench import HORIZON
from failurebench.sawyer import FRAME, Sawyer, load_world
from failurebench.task import Start, Task

OBS = 2 * FRAME + 3
"""numbers in an observation: this frame, the previous simulator step's frame, the goal"""

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


def observation_bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Finite limits of an observation; readings outside are clipped. The hand's are MetaWorld's own."""
    frame_low = [-0.525, 0.348, -0.0525, 0.0, *[-2.0] * 3, *[-1.0] * 4, *[-2.0] * 7]
    frame_high = [0.525, 1.025, 0.7, 1.0, *[2.0] * 3, *[1.0] * 4, *[2.0] * 7]
    goal_low, goal_high = [-0.525, 0.348, 0.0], [0.525, 1.025, 0.7]
    return np.array([*frame_low, *frame_low, *goal_low]), np.array([*frame_high, *frame_high, *goal_high])


_LOW, _HIGH = observation_bounds()


class Episode:
    """One arm, one task, one running episode. ``begin``, then ``step``; read the outcome from the attributes."""

    reward: float
    """sum over the action repeat"""
    failure: bool
    onset: bool
    success: bool
    margin: float
    """smallest over the action repeat, m"""
    terminated: bool
    truncated: bool

    def __init__(self, task: Task, protocol: Protocol) -> None:
        self.task, self.protocol = task, protocol
        self.sawyer = Sawyer(load_world(task.scene))
        self._clipped = np.empty(OBS)
        self.begun = False
        self._row = np.zeros(OBS)

    def begin(self, rng: np.random.Generator) -> None:
        """Start an episode that ``rng`` alone decides."""
        world = self.sawyer.world
        self._set_start(self.task.start(rng, world.object_z))
        self.sawyer.reset(self.start.object, self.task.props(self.start))
        frame = self.sawyer.frame()
        self._row[:11] = self._row[FRAME : FRAME + 11] = frame
        self.steps = 0
        self.failed = False
        self._nothing_happened()

    def step(self, dx: float, dy: float, dz: float, grip: float) -> None:
        """One agent step: hand displacement per simulator step (m) and grip command in [-1, 1]."""
        protocol, task, sawyer, row = self.protocol, self.task, self.sawyer, self._row
        reward, margin, success, failure = 0.0, math.inf, False, False
        for _ in range(protocol.action_repeat):
            sawyer.advance(dx, dy, dz, grip)
            row[FRAME : FRAME + 11] = row[:11]
            row[:11] = sawyer.frame()
            reward += self._reward(sawyer, grip)
            margin = min(margin, task.margin(sawyer, self.start))
            failure = margin <= 0.0
            success = success or task.reached(sawyer.object, self.start.goal)
            if failure and protocol.terminate_on_failure:
                break  # terminal: what the rest of the repeat would do belongs to nobody
        self.steps += 1
        self.reward, self.margin, self.success, self.failure = reward, margin, success, failure
        self.onset = failure and not self.failed
        self.failed = self.failed or failure
        self.terminated = failure and protocol.terminate_on_failure
        out_of_time = protocol.max_episode_steps is not None and self.steps >= protocol.max_episode_steps
        self.truncated = (success and protocol.stop_on_success) or out_of_time

    def observation(self) -> NDArray[np.float32]:
        """A fresh float32 array, within the bounds."""
        np.maximum(self._row, _LOW, out=self._clipped)
        np.minimum(self._clipped, _HIGH, out=self._clipped)
        return self._clipped.astype(np.float32)

    def info(self) -> dict[str, Any]:
        """The contract's keys, the same after reset and after step."""
        return {
            "failure": self.failure,
            "failed": self.failed,
            "failure_onset": self.onset,
            "failure_type": self.task.failure_type if self.failure else "",
            "failure_detail": self.task.detail(self.sawyer) if self.failure else "",
            "success": self.success,
            "margin": self.margin,
            "cost": float(self.failure),
        }

    def get_state(self) -> State:
        """The whole episode: physics, the frames shown, the start, the counters."""
        return {
            "task": self.task.name,
            "mujoco": mujoco.__version__,
            "physics": self.sawyer.get_state(),
            "frames": np.concatenate([self._row[:11], self._row[FRAME : FRAME + 11]]),
            "start": np.array(self.start.object),
            "goal": np.array(self.start.goal),
            "hazard": np.array(self.start.hazard),
            "steps": self.steps,
            "failed": self.failed,
        }

    def set_state(self, state: State) -> None:
        """Continue from a saved state, bit for bit.

        Raises:
            ValueError: the state is another task's, another MuJoCo version's, or not a state.
        """
        self._check(state)
        self._set_start(Start(*(tuple(state[part].tolist()) for part in ("start", "goal", "hazard"))))
        self.sawyer.set_state(state["physics"])
        self._row[:11], self._row[FRAME : FRAME + 11] = state["frames"][:11], state["frames"][11:]
        self.steps, self.failed = int(state["steps"]), bool(state["failed"])
        self._nothing_happened()

    def __reduce__(self) -> tuple[Any, ...]:
        # Simulator memory does not pickle, and a plain deep copy would share it: a copy is rebuilt and set to this state.
        return _revive, (self.task, self.protocol, self.get_state() if self.begun else None)

    def _check(self, state: State) -> None:
        missing = {"task", "mujoco", "physics", "frames", "start", "goal", "hazard", "steps", "failed"} - set(state)
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
        expected = self.sawyer.world.settled.shape
        if np.shape(state["physics"]) != expected:
            raise ValueError(
                f"the state's physics has shape {np.shape(state['physics'])}, expected {expected}: it was saved with "
                "another model, record it again"
            )

    def _set_start(self, start: Start) -> None:
        self.start, self.begun = start, True
        self._row[11 : 11 + len(start.hazard)] = start.hazard
        self._row[2 * FRAME :] = start.goal
        self._reward = self.task.reward(start, self.sawyer.world.tcp_start)

    def _nothing_happened(self) -> None:
        self.reward, self.margin = 0.0, self.task.margin(self.sawyer, self.start)
        self.failure = self.onset = self.success = self.terminated = self.truncated = False


def _revive(task: Task, protocol: Protocol, state: State | None) -> Episode:
    episode = Episode(task, protocol)
    if state is not None:
        episode.set_state(state)
    return episode
