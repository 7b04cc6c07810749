"""One episode of a MetaWorld task, judged for reward, success and failure; single and vector environments share it."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.judged import INFO, Judged, Protocol, State, Widths
from failurebench.sawyer import FRAME, Sawyer, load_world
from failurebench.task import TIPPED, Start, Task

__all__ = ["INFO", "OBS", "Episode", "Protocol", "State", "observation_bounds"]

OBS = 2 * FRAME + 3
"""numbers in an observation: this frame, the previous simulator step's frame, the goal"""


def observation_bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Finite limits of an observation; readings outside are clipped. The hand's are MetaWorld's own."""
    frame_low = [-0.525, 0.348, -0.0525, 0.0, *[-2.0] * 3, *[-1.0] * 4, *[-2.0] * 7]
    frame_high = [0.525, 1.025, 0.7, 1.0, *[2.0] * 3, *[1.0] * 4, *[2.0] * 7]
    goal_low, goal_high = [-0.525, 0.348, 0.0], [0.525, 1.025, 0.7]
    return np.array([*frame_low, *frame_low, *goal_low]), np.array([*frame_high, *frame_high, *goal_high])


_LOW, _HIGH = observation_bounds()


class Episode(Judged):
    """An episode of a MetaWorld task, played by the Sawyer arm."""

    def __init__(self, task: Task, protocol: Protocol) -> None:
        super().__init__(task, protocol)
        self.sawyer = Sawyer(load_world(task.scene))
        self._clipped = np.empty(OBS)
        self._row = np.zeros(OBS)

    @classmethod
    def widths(cls, task: Task) -> Widths:
        """Displacement and grip; two frames and the goal."""
        return Widths(4, OBS, max(len(task.failure_type), len(TIPPED)))

    @property
    def model(self) -> Any:
        """The scene's."""
        return self.sawyer.model

    @property
    def data(self) -> Any:
        """The arm's."""
        return self.sawyer.data

    def begin(self, rng: np.random.Generator) -> None:
        """Start an episode that ``rng`` alone decides."""
        world = self.sawyer.world
        self._set_start(self.task.start(rng, world.object_z))
        self.sawyer.reset(self.start.object, self.task.props(self.start))
        frame = self.sawyer.frame()
        self._row[:11] = self._row[FRAME : FRAME + 11] = frame
        self.steps, self.failed = 0, False
        self.nothing_happened(self.task.margin(self.sawyer, self.start))

    def step(self, *move: float) -> None:
        """One agent step: hand displacement per simulator step (x, y, z, m) and grip command in [-1, 1]."""
        dx, dy, dz, grip = move
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
        self.judge(reward, margin, success, failure)

    def observation(self) -> NDArray[np.float32]:
        """A fresh float32 array, within the bounds."""
        np.maximum(self._row, _LOW, out=self._clipped)
        np.minimum(self._clipped, _HIGH, out=self._clipped)
        return self._clipped.astype(np.float32)

    def detail(self) -> str:
        """Whether the object has tipped over."""
        return str(self.task.detail(self.sawyer))

    def outline(self) -> list[Any]:
        """The task's, for this start."""
        return list(self.task.outline(self.start))

    def dress(self, model: Any, data: Any) -> None:
        """The goal's marker: the model is shared by many episodes, so it is placed here and not there."""
        data.site("goal").xpos = self.start.goal

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
        self.require(state, {"frames", "start", "goal", "hazard", "steps", "failed"}, self.sawyer.world.settled.shape)
        self._set_start(Start(*(tuple(state[part].tolist()) for part in ("start", "goal", "hazard"))))
        self.sawyer.set_state(state["physics"])
        self._row[:11], self._row[FRAME : FRAME + 11] = state["frames"][:11], state["frames"][11:]
        self.steps, self.failed = int(state["steps"]), bool(state["failed"])
        self.nothing_happened(self.task.margin(self.sawyer, self.start))

    def _set_start(self, start: Start) -> None:
        self.start, self.begun = start, True
        self._row[11 : 11 + len(start.hazard)] = start.hazard
        self._row[2 * FRAME :] = start.goal
        self._reward = self.task.reward(start, self.sawyer.world.tcp_start)
