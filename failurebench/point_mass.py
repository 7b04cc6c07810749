"""A point mass beside a cliff: the environment contract in two dimensions, without MuJoCo, for tests that take seconds.

A cliff cuts into the plane between start and goal: the straight way leads over it, so a hasty policy fails and a careful one
goes round. Everything is deterministic given seed and actions.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

Observation = NDArray[np.float32]
State = dict[str, Any]

DT = 0.1
"""seconds per step"""

CLIFF_X = (-0.25, 0.25)
CLIFF_TOP = 0.0
"""metres: inside CLIFF_X everything below this is the abyss"""

GOAL = (0.8, -0.1)
GOAL_RADIUS = 0.1


class PointMassCliff(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Accelerate a damped point mass from the left to the goal on the right without going over the cliff.

    Observation: position (m), velocity (m/s), goal minus position (m). Action: acceleration in units of 2 m/s^2.
    Reward: 1 - distance to the goal, at least 0. Failure: the position is over the cliff.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}  # type: ignore[misc]
    expert_kinds: ClassVar[tuple[str, ...]] = ("task", "pusher", "failure", "recovery")
    tracked_positions: ClassVar[dict[str, tuple[int, ...]]] = {"point": (0, 1)}

    def __init__(
        self,
        *,
        max_episode_steps: int = 60,
        stop_on_success: bool = True,
        terminate_on_failure: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; give 1 or more")
        self.horizon, self.stop_on_success = max_episode_steps, stop_on_success
        self.terminate_on_failure, self.render_mode = terminate_on_failure, render_mode
        bound = np.array([2, 2, 4, 4, 4, 4], dtype=np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self._position, self._velocity = np.zeros(2), np.zeros(2)
        self._steps, self._failed = 0, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self._position = np.array([-0.8, -0.1]) + self.np_random.uniform(-0.1, 0.1, 2)
        self._velocity = np.zeros(2)
        self._steps, self._failed = 0, False
        return self.observation(), self._info(was_failed=False)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        push = np.clip(np.asarray(action, dtype=np.float64), -1, 1)
        self._velocity = 0.9 * self._velocity + 2.0 * DT * push
        self._position = np.clip(self._position + DT * self._velocity, -2, 2)
        self._steps += 1
        was_failed, failure = self._failed, self._margin() <= 0
        self._failed |= failure
        info = self._info(was_failed)
        terminated = failure and self.terminate_on_failure
        truncated = (info["success"] and self.stop_on_success) or self._steps >= self.horizon
        return self.observation(), max(0.0, 1 - self._distance()), terminated, bool(truncated and not terminated), info

    def observation(self) -> Observation:
        """What a policy sees now."""
        return np.concatenate([self._position, self._velocity, np.array(GOAL) - self._position]).astype(np.float32)

    def get_state(self) -> State:
        """The whole episode."""
        return {
            "position": self._position.copy(),
            "velocity": self._velocity.copy(),
            "steps": self._steps,
            "failed": self._failed,
        }

    def set_state(self, state: State) -> None:
        """Continue a saved episode, bit for bit."""
        self._position, self._velocity = np.array(state["position"], float), np.array(state["velocity"], float)
        self._steps, self._failed = int(state["steps"]), bool(state["failed"])

    def expert(self, kind: str) -> PointMassExpert:
        """Scripted behaviour: careful ``task``, hasty ``pusher``, ``failure`` seeker, ``recovery``."""
        return PointMassExpert(kind)

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The plane from above, 120 x 120 pixels: abyss dark, goal green, mass red."""
        if self.render_mode != "rgb_array":
            return None
        axis = np.linspace(-1.2, 1.2, 120)
        x, y = np.meshgrid(axis, axis[::-1])
        picture = np.full((120, 120, 3), 235, np.uint8)
        picture[(x > CLIFF_X[0]) & (x < CLIFF_X[1]) & (y < CLIFF_TOP)] = (60, 60, 70)
        picture[np.hypot(x - GOAL[0], y - GOAL[1]) < GOAL_RADIUS] = (90, 170, 110)
        picture[np.hypot(x - self._position[0], y - self._position[1]) < 0.05] = (200, 60, 50)
        return picture

    def _margin(self) -> float:
        """Signed distance to the cliff's edge, negative over the abyss."""
        x, y = self._position
        outside_x = max(CLIFF_X[0] - x, x - CLIFF_X[1])
        outside_y = y - CLIFF_TOP
        if outside_x <= 0 and outside_y <= 0:
            return float(max(outside_x, outside_y))
        return float(np.hypot(max(outside_x, 0.0), max(outside_y, 0.0)))

    def _distance(self) -> float:
        return float(np.hypot(*(self._position - GOAL)))

    def _info(self, was_failed: bool) -> dict[str, Any]:
        margin = self._margin()
        failure = margin <= 0
        return {
            "failure": failure,
            "failed": self._failed,
            "failure_onset": failure and not was_failed,
            "failure_type": "over_the_cliff" if failure else "",
            "success": self._distance() <= GOAL_RADIUS,
            "margin": margin,
            "cost": float(failure),
        }


class PointMassExpert:
    """A waypoint follower whose height over the cliff is its character."""

    HEIGHTS: ClassVar[dict[str, tuple[float, float]]] = {
        "task": (0.3, 0.4),
        "pusher": (0.06, 0.25),
        "failure": (-0.2, 0.02),
        "recovery": (0.4, 0.4),
    }

    def __init__(self, kind: str) -> None:
        if kind not in self.HEIGHTS:
            raise ValueError(f"unknown expert {kind!r}; there are {', '.join(self.HEIGHTS)}")
        self.kind, self.height = kind, 0.3

    def reset(self, rng: np.random.Generator) -> None:
        """Draw how high this episode passes over the cliff."""
        self.height = float(rng.uniform(*self.HEIGHTS[self.kind]))

    def act(self, obs: Observation) -> NDArray[np.float32]:
        """Proportional-derivative control towards the next waypoint; recovery brakes and climbs."""
        x, y = float(obs[0]), float(obs[1])
        if self.kind == "recovery":
            climb = 1.0 if y < self.height else 0.0
            return np.clip(np.array([-2.0 * obs[2], climb - 1.0 * obs[3]], np.float32), -1, 1)
        target = (0.35, self.height) if x < 0.3 else GOAL
        if x < -0.35 and y < self.height - 0.05:
            target = (-0.3, self.height)
        pull = np.array([target[0] - x, target[1] - y]) * 4.0 - 1.5 * obs[2:4]
        return np.clip(pull, -1, 1).astype(np.float32)
