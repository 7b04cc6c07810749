"""A task as a Gymnasium environment that says, at every step, whether a person would have had to step in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from failurebench.episode import Episode, Protocol, State, observation_bounds
from failurebench.experts import Expert
from failurebench.rendering import Renderer
from failurebench.sawyer import ACTION_SCALE
from failurebench.task import make_task
from failurebench.versions import warn_of_other_mujoco
from failurebench.window import Window, has_display, require_display

warn_of_other_mujoco(
    mujoco.__version__
)  # on import: every environment, single or vector, passes here, and once is enough

RENDER_MODES = ("rgb_array", "depth_array", "human")
"""what ``FailureEnv`` offers; ``human`` only where there is a display"""

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
        render_mode: ``"rgb_array"``, ``"depth_array"``, ``"human"`` (a window, in real time) or None.
        **options: the task's own, such as ``boundary`` and ``start_range``.

    Raises:
        ValueError: an argument that cannot be meant, naming it and a cure.
        RuntimeError: ``render_mode="human"`` without a display.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": RENDER_FPS}  # noqa: RUF012 (as in the base)

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
        self.metadata = {"render_modes": modes, "render_fps": RENDER_FPS // action_repeat}
        self.observation_space, self.action_space = observation_space(), action_space()
        self._episode = Episode(self.task, self.protocol)
        self._renderer: Renderer | None = None
        self._window: Window | None = None

    @property
    def model(self) -> Any:
        """The compiled ``mjModel``; all environments of this scene in this process share it, so it is only to be read."""
        return self._episode.sawyer.model

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
        if self.render_mode == "human":
            self._show()
        return self._episode.observation(), self._episode.info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One agent step; the action is clipped to [-1, 1].

        Raises:
            ValueError: the action has the wrong shape, is not made of real numbers, or is not finite.
        """
        self._require_reset("step")
        episode = self._episode
        episode.step(*displacement(action, (4,)).tolist())
        if self.render_mode == "human":
            self._show()
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
            self._renderer = Renderer(self.model)
        draw = self._renderer.depth if self.render_mode == "depth_array" else self._renderer.picture
        return draw(self._episode)

    def close(self) -> None:
        """Free the renderer and close the window."""
        for drawing in (self._renderer, self._window):
            if drawing is not None:
                drawing.close()
        self._renderer = self._window = None

    def _show(self) -> None:
        if self._window is None:
            self._window = Window(self.model, self.metadata["render_fps"])
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


def displacement(actions: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Actions as metres per simulator step (x, y, z) and grip command: checked, clipped to [-1, 1], a fresh array.

    Args:
        actions: ``shape``; floats or integers of any width.
        shape: ``(4,)``, or ``(n, 4)`` with a row per environment.

    Raises:
        ValueError: another shape, something that is no real number, or a number that is not finite.
    """
    given = _as_numbers(actions)
    if given.shape != shape:
        raise ValueError(f"the action has shape {given.shape}, expected {shape}: x, y, z and gripper in [-1, 1]")
    # A finite sum of squares is finite throughout; one that overflows says nothing yet. A third of the time of the full look.
    if not math.isfinite(np.vdot(given, given)) and not np.isfinite(given).all():
        raise ValueError(f"the action {_first_not_finite(given)} is not finite: give numbers in [-1, 1]")
    clipped: NDArray[np.float32] = np.minimum(np.maximum(given, _LOWEST), _HIGHEST).astype(np.float32, copy=False)
    return clipped * _SCALES


_HIGHEST = np.ones(4, np.float32)
_LOWEST = -_HIGHEST
_SCALES = np.array([ACTION_SCALE, ACTION_SCALE, ACTION_SCALE, 1], np.float32)


def _as_numbers(actions: NDArray[Any]) -> NDArray[Any]:
    try:
        given = np.asarray(actions)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"the action is no array of numbers: {error}") from error
    if given.dtype.kind not in "fiu":
        # Strings and objects would often convert, and hide that something else was meant.
        raise ValueError(
            f"the action has dtype {given.dtype} ({given.tolist()!r:.80}); give float32 numbers in [-1, 1], integers will do"
        )
    return given


def _first_not_finite(given: NDArray[Any]) -> str:
    """The offending action, and in a batch whose it is."""
    if given.ndim == 1:
        return str(given.tolist())
    row = int(np.flatnonzero(~np.isfinite(given).all(axis=-1))[0])
    return f"{given[row].tolist()} of environment {row}"
