"""Many episodes in one process: one shared model, the same stepping code as the single environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from failurebench import HORIZON
from failurebench.env import RENDER_FPS, action_space, checked_render_mode, displacement, observation_space
from failurebench.episode import OBS, Episode, Protocol, State
from failurebench.experts import Expert
from failurebench.task import make_task

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Observations = NDArray[np.float32]


class FailureVectorEnv(VectorEnv[Observations, NDArray[np.float32], NDArray[Any]]):
    """``num_envs`` episodes stepped one after another; returned arrays are fresh, callers may keep them.

    ``infos`` holds one array per key of the environment contract, with Gymnasium's ``_key`` masks. Under ``SAME_STEP``
    the last observation and info of an ended episode are in ``infos["final_obs"]`` and ``infos["final_info"]``.

    Args:
        task: ``module:Class`` of the task; the registered ids fill it in.
        num_envs: how many episodes run side by side.
        autoreset_mode: ``SAME_STEP``, ``NEXT_STEP`` or ``DISABLED`` (then reset ended episodes with ``reset_mask``).
        max_episode_steps: agent steps until truncation; None means 250.

    The other arguments are those of ``FailureEnv``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012 (as in the base)
    single_observation_space: Box
    single_action_space: Box

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        action_repeat: int = 2,
        max_episode_steps: int | None = None,
        stop_on_success: bool = True,
        terminate_on_failure: bool = False,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs!r}; give 1 or more")
        self.task = make_task(task, options)
        horizon = HORIZON if max_episode_steps is None else max_episode_steps
        self.protocol = Protocol(action_repeat, horizon, stop_on_success, terminate_on_failure)
        self.num_envs, self.render_mode = num_envs, checked_render_mode(render_mode)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            **type(self).metadata,
            "render_fps": RENDER_FPS // action_repeat,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space, self.single_action_space = observation_space(), action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes = [Episode(self.task, self.protocol) for _ in range(num_envs)]
        self._rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        self._observations = np.zeros((num_envs, OBS), np.float32)
        self._ended = np.ones(num_envs, np.bool_)
        self._begun = False
        self._renderer: Any = None

    @property
    def expert_kinds(self) -> tuple[str, ...]:
        """Scripted behaviours ``expert`` offers."""
        return tuple(self.task.experts)

    def expert(self, kind: str) -> Expert:
        """A scripted behaviour for one of the environments; make one each."""
        return self.task.expert(kind)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin episodes: all of them, or those where ``options["reset_mask"]`` is True.

        Args:
            seed: one per environment; an int stands for ``seed, seed + 1, ...``; None goes on with the generators.
            options: ``{"reset_mask": bool[num_envs]}`` or None. The other environments keep their episodes.
        """
        mask = _reset_mask(options, self.num_envs)
        if not self._begun and not mask.all():
            raise gymnasium.error.ResetNeeded("the first reset must reset every environment: leave reset_mask out")
        for i, one_seed in enumerate(_seeds(seed, self.num_envs)):
            if mask[i]:
                self._begin(i, one_seed)
        self._begun = True
        return self._observations.copy(), self._infos(mask)

    def step(self, actions: NDArray[np.float32]) -> tuple[Observations, Floats, Bools, Bools, dict[str, Any]]:
        """One agent step of every environment; actions are clipped to [-1, 1]."""
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise gymnasium.error.ResetNeeded(
                f"environments {np.flatnonzero(self._ended).tolist()} have ended and autoreset is disabled: "
                'call reset(options={"reset_mask": terminations | truncations}) first'
            )
        moves = displacement(actions, (self.num_envs, 4)).tolist()
        rewards = np.zeros(self.num_envs)
        for i, (episode, move) in enumerate(zip(self._episodes, moves, strict=True)):
            if self._ended[i]:  # NEXT_STEP: this step's action is spent on the reset
                self._begin(i, None)
            else:
                episode.step(*move)
                self._observations[i] = episode.observation()
                rewards[i] = episode.reward
        terminations = np.array([episode.terminated for episode in self._episodes])
        truncations = np.array([episode.truncated for episode in self._episodes])
        self._ended = terminations | truncations
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._autoreset()
        else:
            infos = self._infos(np.ones(self.num_envs, np.bool_))
        return self._observations.copy(), rewards, terminations, truncations, infos

    def get_states(self) -> list[State]:
        """Each environment's whole episode."""
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset() before get_states()")
        return [episode.get_state() for episode in self._episodes]

    def set_states(self, states: list[State]) -> None:
        """Continue saved episodes, one per environment, bit for bit."""
        if len(states) != self.num_envs:
            raise ValueError(f"{len(states)} states for {self.num_envs} environments: pass one each")
        for i, (episode, state) in enumerate(zip(self._episodes, states, strict=True)):
            episode.set_state(state)
            self._observations[i] = episode.observation()
        self._ended[:] = False
        self._begun = True

    def observations(self) -> Observations:
        """The current observations, for use after ``set_states``."""
        return self._observations.copy()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One picture per environment, or None without ``render_mode="rgb_array"``."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            from failurebench.rendering import Renderer

            self._renderer = Renderer(self._episodes[0].sawyer.model)
        return tuple(self._renderer.picture(episode) for episode in self._episodes)

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}

    def _begin(self, i: int, seed: int | None) -> None:
        if seed is not None:
            self._rngs[i] = seeding.np_random(seed)[0]
        self._episodes[i].begin(self._rngs[i])
        self._observations[i] = self._episodes[i].observation()
        self._ended[i] = False

    def _autoreset(self) -> dict[str, Any]:
        """Replace ended episodes, keeping their last observation and info under Gymnasium's ``final_`` keys."""
        ended = self._ended
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            final_obs[i] = self._observations[i].copy()
        final: dict[str, Any] = {"final_obs": final_obs, "_final_obs": ended.copy()}
        final |= {"final_info": self._infos(ended), "_final_info": ended.copy()}
        for i in np.flatnonzero(ended):
            self._begin(int(i), None)
        self._ended = np.zeros(self.num_envs, np.bool_)
        return {**self._infos(np.ones(self.num_envs, np.bool_)), **final}

    def _infos(self, mask: Bools) -> dict[str, Any]:
        """Every environment's info as arrays; ``mask`` marks those this call is about."""
        each = [episode.info() for episode in self._episodes]
        infos: dict[str, Any] = {}
        for key, value in each[0].items():
            infos[key] = np.array([info[key] for info in each], dtype=object if isinstance(value, str) else type(value))
            infos[f"_{key}"] = mask.copy()
        return infos


def _seeds(seed: int | list[int | None] | None, num_envs: int) -> list[int | None]:
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"{len(seed)} seeds for {num_envs} environments: pass one each, None where it does not matter")
    return [None if one is None else int(one) for one in seed]


def _reset_mask(options: dict[str, Any] | None, num_envs: int) -> Bools:
    mask = (options or {}).get("reset_mask")
    if mask is None:
        return np.ones(num_envs, np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f'options["reset_mask"] is {mask!r}; give a numpy bool array of shape ({num_envs},) with at least one True'
        )
    return mask.copy()
