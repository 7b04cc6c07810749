"""A task as a Gymnasium environment that says, at every step, whether a person would have had to step in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.experts import Expert
from failurebench.interface import Interface, sawyer_interface
from failurebench.judged import Protocol, State
from failurebench.rendering import Renderer
from failurebench.task import make_task
from failurebench.versions import warn_of_other_mujoco
from failurebench.window import Window, has_display, require_display

warn_of_other_mujoco(
    mujoco.__version__
)  # on import: every environment, single or vector, passes here, and once is enough

RENDER_MODES = ("rgb_array", "depth_array", "human")
"""what ``FailureEnv`` offers; ``human`` only where there is a display"""

Observation = NDArray[np.float32]
Action = NDArray[np.float32]


class FailureEnv(gymnasium.Env[Observation, Action]):
    """One episode at a time of one task.

    Args:
        task: ``module:Class`` of the task; the registered ids fill it in.
        action_repeat: simulator steps per agent step, rewards summed; stops early where the episode ends.
        max_episode_steps: agent steps until truncation; None leaves it to ``gymnasium.make``'s ``TimeLimit``.
        stop_on_success: truncate the episode when the goal is reached.
        terminate_on_failure: terminate the episode at the first failing step.
        render_mode: ``"rgb_array"``, ``"depth_array"``, ``"human"`` (a window, in real time) or None.
        **options: the task's own, such as ``boundary`` and ``start_range``.

    Raises:
        ValueError: an argument that cannot be meant, naming it and a cure.
        RuntimeError: ``render_mode="human"`` without a display.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 80}  # noqa: RUF012 (as in the base)

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 2,
        max_episode_steps: int | None = None,
        stop_on_success: bool = True,
        terminate_on_failure: bool = False,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.task = make_task(task, options)
        self.protocol = Protocol(action_repeat, max_episode_steps, stop_on_success, terminate_on_failure)
        self.render_mode = checked_render_mode(render_mode, RENDER_MODES)
        if render_mode == "human":
            require_display()
        modes = [mode for mode in RENDER_MODES if mode != "human" or has_display()]
        self.interface = self._interface()
        self.metadata = {"render_modes": modes, "render_fps": self.interface.steps_per_s // action_repeat or 1}
        self.observation_space, self.action_space = self.interface.observation_space, self.interface.action_space
        self._episode = self.interface.episode(self.task, self.protocol)
        self._renderer: Renderer | None = None
        self._window: Window | None = None

    @property
    def model(self) -> Any:
        """The compiled ``mjModel``; all environments of this scene in this process share it, so it is only to be read."""
        return self._episode.model

    @property
    def tracked_positions(self) -> dict[str, tuple[int, ...]]:
        """Observation indices of positions in metres, by what is there: for judging models and drawing paths."""
        return self.interface.tracked

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
        if self.render_mode == "human":
            self._show()
        return self.observation(), self._episode.info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One agent step; the action is clipped to [-1, 1].

        Raises:
            ValueError: the action has the wrong shape, is not made of real numbers, or is not finite.
        """
        self._require_reset("step")
        episode = self._episode
        episode.step(*self.interface.moves(action, self.action_space.shape or ()).tolist())
        if self.render_mode == "human":
            self._show()
        return self.observation(), episode.reward, episode.terminated, episode.truncated, episode.info()

    def get_state(self) -> State:
        """The whole episode, as plain arrays and scalars."""
        self._require_reset("get_state")
        return self._episode.get_state()

    def set_state(self, state: State) -> None:
        """Continue a saved episode: the same actions then give the same observations, bit for bit."""
        self._episode.set_state(state)

    def observation(self) -> Observation:
        """The current observation, for use after ``set_state``."""
        seen: Observation = self.interface.unpacked(self._episode.observation())
        return seen

    def render(self) -> Any:
        """What the render mode says, or None without one.

        ``rgb_array``: uint8[480, 480, 3], the hazard outlined. ``depth_array``: float32[480, 480], metres along the
        camera's axis. ``human``: None; ``reset`` and ``step`` have drawn already.

        Raises:
            RuntimeError: there is no off-screen OpenGL; the message names what to install.
        """
        if self.render_mode is None:
            return None
        self._require_reset("render")
        if self.render_mode == "human":
            return self._show()
        if self._renderer is None:
            self._renderer = Renderer(self.model, self.interface.view)
        draw = self._renderer.depth if self.render_mode == "depth_array" else self._renderer.picture
        return draw(self._episode)

    def close(self) -> None:
        """Free the renderer and close the window."""
        for drawing in (self._renderer, self._window):
            if drawing is not None:
                drawing.close()
        self._renderer = self._window = None

    def _interface(self) -> Interface:
        """Of the arm that plays this environment's task."""
        return sawyer_interface()

    def _show(self) -> None:
        if self._window is None:
            self._window = Window(self.model, self.metadata["render_fps"], self.interface.view)
        self._window.show(self._episode)

    def _require_reset(self, what: str) -> None:
        if not self._episode.begun:
            raise gymnasium.error.ResetNeeded(f"call reset() before {what}()")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None, "_window": None}


def checked_render_mode(render_mode: str | None, modes: Sequence[str] = ("rgb_array",)) -> str | None:
    """The render mode, if it is one of ``modes`` or None."""
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode is {render_mode!r}; the choices are {', '.join(map(repr, modes))} and None")
    return render_mode
