"""A task as a Gymnasium environment that says, at every step, whether a person would have had to step in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from failurebench import HORIZON
from failurebench.episode import Episode, Protocol, State, observation_bounds
from failurebench.experts import Expert
from failurebench.sawyer import ACTION_SCALE
from failurebench.task import make_task

if TYPE_CHECKING:
    from failurebench.rendering import Renderer

RENDER_FPS = 80
"""simulator steps per second; divided by the action repeat for agent steps"""

Observation = NDArray[np.float32]
Action = NDArray[np.float32]


def observation_space() -> Any:
    """39 finite float32 numbers, see ``docs/tasks``."""
    low, high = observation_bounds()
    return Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def action_space() -> Any:
    """Hand displacement x, y, z (1 = 1 cm per simulator step) and gripper (1 closes, -1 opens)."""
    return Box(-1.0, 1.0, (4,), np.float32)


class FailureEnv(gymnasium.Env[Observation, Action]):
    """One episode at a time of one task.

    Args:
        task: ``module:Class`` of the task; the registered ids fill it in.
        action_repeat: simulator steps per agent step, rewards summed; stops early where the episode ends.
        max_episode_steps: agent steps until truncation; None leaves it to ``gymnasium.make``'s ``TimeLimit``.
        stop_on_success: truncate the episode when the goal is reached.
        terminate_on_failure: terminate the episode at the first failing step.
        render_mode: ``"rgb_array"`` or None.
        **options: the task's own, such as ``boundary`` and ``start_range``.

    Raises:
        ValueError: an argument that cannot be meant, naming it and a cure.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012 (as in the base)

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 2,
        max_episode_steps: int | None = HORIZON,
        stop_on_success: bool = True,
        terminate_on_failure: bool = False,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.task = make_task(task, options)
        self.protocol = Protocol(action_repeat, max_episode_steps, stop_on_success, terminate_on_failure)
        self.render_mode = checked_render_mode(render_mode)
        self.metadata = {**type(self).metadata, "render_fps": RENDER_FPS // action_repeat}
        self.observation_space, self.action_space = observation_space(), action_space()
        self._episode = Episode(self.task, self.protocol)
        self._renderer: Renderer | None = None

    @property
    def tracked_positions(self) -> dict[str, tuple[int, ...]]:
        """Observation indices of positions in metres, by what is there: for judging models and drawing paths."""
        return {"hand": (0, 1, 2), "object": (4, 5, 6)}

    @property
    def expert_kinds(self) -> tuple[str, ...]:
        """Scripted behaviours ``expert`` offers."""
        return tuple(self.task.experts)

    def expert(self, kind: str) -> Expert:
        """A scripted behaviour; it sees observations only and serves one environment at a time."""
        return self.task.expert(kind)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; ``seed`` alone decides it. ``options`` has no effect."""
        super().reset(seed=seed)
        self._episode.begin(self.np_random)
        return self._episode.observation(), self._episode.info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One agent step; the action is clipped to [-1, 1].

        Raises:
            ValueError: the action has the wrong shape or is not finite.
        """
        self._require_reset("step")
        episode = self._episode
        episode.step(*displacement(action, (4,)).tolist())
        return episode.observation(), episode.reward, episode.terminated, episode.truncated, episode.info()

    def get_state(self) -> State:
        """The whole episode, as plain arrays and scalars."""
        self._require_reset("get_state")
        return self._episode.get_state()

    def set_state(self, state: State) -> None:
        """Continue a saved episode: the same actions then give the same observations, bit for bit."""
        self._episode.set_state(state)

    def observation(self) -> Observation:
        """The current observation, for use after ``set_state``."""
        return self._episode.observation()

    def render(self) -> Any:
        """A 480x480 picture with the hazard outlined, or None without ``render_mode="rgb_array"``."""
        if self.render_mode is None:
            return None
        self._require_reset("render")
        if self._renderer is None:
            from failurebench.rendering import Renderer

            self._renderer = Renderer(self._episode.sawyer.model)
        return self._renderer.picture(self._episode)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _require_reset(self, what: str) -> None:
        if not self._episode.begun:
            raise gymnasium.error.ResetNeeded(f"call reset() before {what}()")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}


def checked_render_mode(render_mode: str | None) -> str | None:
    """The render mode, if there is such a one."""
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode is {render_mode!r}; the choices are 'rgb_array' and None")
    return render_mode


def displacement(actions: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Actions in [-1, 1] as metres per simulator step (x, y, z) and grip command, checked and clipped."""
    commands = np.array(actions, dtype=np.float32)
    if commands.shape != shape:
        raise ValueError(f"the action has shape {commands.shape}, expected {shape}: x, y, z and gripper in [-1, 1]")
    if not math.isfinite(commands.sum()):
        raise ValueError(f"the action {commands.tolist()} is not finite: give numbers in [-1, 1]")
    np.maximum(commands, np.float32(-1), out=commands)
    np.minimum(commands, np.float32(1), out=commands)
    commands[..., :3] *= ACTION_SCALE
    return commands
