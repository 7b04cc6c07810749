"""Many episodes of one task as a Gymnasium vector environment, in this process or in workers of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from failurebench import HORIZON
from failurebench.chunk import Bools, Chunk, row_type
from failurebench.env import checked_render_mode
from failurebench.experts import Expert
from failurebench.interface import Interface, sawyer_interface
from failurebench.judged import INFO, Protocol, State
from failurebench.task import make_task
from failurebench.workers import Workers

Floats = NDArray[np.float64]
Observations = NDArray[np.float32]


class FailureVectorEnv(VectorEnv[Observations, NDArray[np.float32], NDArray[Any]]):
    """``num_envs`` episodes, transition for transition those of ``FailureEnv``; returned arrays are the caller's to keep.

    ``infos`` holds one array per key of the environment contract, with Gymnasium's ``_key`` masks. Under ``SAME_STEP``
    the last observation and info of an ended episode are in ``infos["final_obs"]`` and ``infos["final_info"]``.

    Args:
        task: ``module:Class`` of the task; the registered ids fill it in.
        num_envs: how many episodes run side by side.
        autoreset_mode: ``SAME_STEP``, ``NEXT_STEP`` or ``DISABLED`` (then reset ended episodes with ``reset_mask``).
        num_workers: processes the environments are split over; 0 and 1 both mean this process, which shares one model
            among all of them. Workers need the ``if __name__ == "__main__":`` that every Python program with processes
            needs, and are ended by ``close``, garbage collection or the end of this process, whichever is first.
        max_episode_steps: agent steps until truncation; None means 250.

    The other arguments are those of ``FailureEnv``.

    Raises:
        ValueError: an argument that cannot be meant, naming it and a cure.
        RuntimeError: a worker process died; the message names it and its environments.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012 (as in the base)
    single_observation_space: Box
    single_action_space: Box

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        num_workers: int = 0,
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
        self.interface = self._interface()
        self.metadata = {
            **type(self).metadata,
            "render_fps": self.interface.steps_per_s // action_repeat or 1,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = self.interface.observation_space
        self.single_action_space = self.interface.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._begun = False
        self._chunk = self._make_chunk(_worker_count(num_workers, num_envs))

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
        self._chunk.reset(mask, _seeds(seed, self.num_envs))
        self._begun = True
        return self.observations(), _infos(self._chunk.rows[0], mask)

    def step(self, actions: NDArray[np.float32]) -> tuple[Observations, Floats, Bools, Bools, dict[str, Any]]:
        """One agent step of every environment; actions are clipped to [-1, 1].

        Raises:
            ValueError: the actions have the wrong shape or are not finite.
        """
        now, final = self._chunk.rows
        self._require_ready(now["terminated"] | now["truncated"])
        now["move"] = self.interface.moves(actions, self.action_space.shape or ())
        self._chunk.step()
        terminations, truncations = now["terminated"].copy(), now["truncated"].copy()
        infos = _infos(now, np.ones(self.num_envs, np.bool_))
        ended = terminations | truncations
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            infos |= _final(final, ended, self.interface.unpacked)
        return self.observations(), now["reward"].copy(), terminations, truncations, infos

    def get_states(self) -> list[State]:
        """Each environment's whole episode."""
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset() before get_states()")
        return self._chunk.get_states()

    def set_states(self, states: list[State]) -> None:
        """Continue saved episodes, one per environment, bit for bit."""
        if len(states) != self.num_envs:
            raise ValueError(f"{len(states)} states for {self.num_envs} environments: pass one each")
        self._chunk.set_states(states)
        self._begun = True

    def observations(self) -> Observations:
        """The current observations, for use after ``set_states``."""
        observations: Observations = self.interface.unpacked(self._chunk.rows[0]["observation"].copy())
        return observations

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One picture per environment, or None without ``render_mode="rgb_array"``."""
        return None if self.render_mode is None else tuple(self._chunk.pictures())

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer, end the workers."""
        self._chunk.close()

    def _interface(self) -> Interface:
        """Of the arm that plays these environments' task."""
        return sawyer_interface()

    def _make_chunk(self, num_workers: int) -> Chunk | Workers:
        what = self.interface.episode, self.task, self.protocol, self.autoreset_mode, self.interface.view
        if num_workers > 1:
            return Workers(*what, self.num_envs, num_workers)
        return Chunk(*what, np.zeros((2, self.num_envs), row_type(self.interface.episode, self.task)))

    def _require_ready(self, ended: Bools) -> None:
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if self.autoreset_mode == AutoresetMode.DISABLED and ended.any():
            raise gymnasium.error.ResetNeeded(
                f"environments {np.flatnonzero(ended).tolist()} have ended and autoreset is disabled: "
                'call reset(options={"reset_mask": terminations | truncations}) first'
            )


def _infos(rows: NDArray[Any], mask: Bools) -> dict[str, Any]:
    """Every environment's info as arrays; ``mask`` marks those this call is about."""
    infos: dict[str, Any] = {}
    for key, kind in INFO.items():
        infos[key] = rows[key].astype(object if kind is str else kind)
        infos[f"_{key}"] = mask.copy()
    return infos


def _final(rows: NDArray[Any], ended: Bools, unpacked: Callable[[NDArray[Any]], Any]) -> dict[str, Any]:
    """The last observation and info of ended episodes, under Gymnasium's ``final_`` keys."""
    final_obs = np.full(len(rows), None, dtype=object)
    for i in np.flatnonzero(ended):
        final_obs[i] = unpacked(rows["observation"][i].copy())
    info = _infos(rows, ended)
    return {"final_obs": final_obs, "_final_obs": ended.copy(), "final_info": info, "_final_info": ended.copy()}


def _worker_count(num_workers: int, num_envs: int) -> int:
    if isinstance(num_workers, bool) or not isinstance(num_workers, int | np.integer) or num_workers < 0:
        raise ValueError(f"num_workers is {num_workers!r}; give a number of processes, 0 for this one")
    if num_workers > num_envs:
        raise ValueError(f"num_workers is {num_workers} for {num_envs} environments; give one per environment at most")
    return int(num_workers)


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
