"""Episodes stepped one after another, what they say written as rows of one array: here or in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from failurebench.judged import INFO, Judged, Protocol, State

Bools = NDArray[np.bool_]

_TRANSITION = ("reward", "terminated", "truncated")


def row_type(kind: type[Judged], task: Any) -> Any:
    """The NumPy type of a row: an environment's next move, and what its last step came to."""
    widths = kind.widths(task)
    types = {bool: "?", float: "f8", str: f"U{widths.word}"}
    fields: list[Any] = [("move", "f4", widths.move), ("observation", "f4", widths.observation), ("reward", "f8")]
    fields += [("terminated", "?"), ("truncated", "?"), *((key, types[kind]) for key, kind in INFO.items())]
    return np.dtype(fields, align=True)


class Chunk:
    """The episodes of some environments.

    Args:
        kind: the class of the episodes.
        task: what they play.
        protocol: how.
        mode: what happens to an episode that has ended.
        view: the camera of pictures.
        rows: ``row_type(kind, task)[2, n]``; the first line is the environments now, the second how ended episodes ended
            (``SAME_STEP`` only). A worker's lie in shared memory.
    """

    def __init__(
        self,
        kind: type[Judged],
        task: Any,
        protocol: Protocol,
        mode: AutoresetMode,
        view: Any,
        rows: NDArray[Any],
    ) -> None:
        self.rows = rows
        self._mode, self._view = mode, view
        self._episodes = [kind(task, protocol) for _ in range(rows.shape[1])]
        self._rngs = [seeding.np_random()[0] for _ in self._episodes]
        self._renderer: Any = None

    def reset(self, mask: Bools, seeds: Sequence[int | None]) -> None:
        """Begin episodes where ``mask`` is set, each from its seed or, where that is None, its own generator."""
        for i in np.flatnonzero(mask).tolist():
            seed = seeds[i]
            if seed is not None:
                self._rngs[i] = seeding.np_random(seed)[0]
            self._episodes[i].begin(self._rngs[i])
        self._write()

    def step(self) -> None:
        """One agent step of every environment by the ``move`` in its row."""
        now, final = self.rows
        ended = self._ended()
        for i, (episode, move) in enumerate(zip(self._episodes, now["move"].tolist(), strict=True)):
            if self._mode == AutoresetMode.NEXT_STEP and ended[i]:  # this step's action is spent on the reset
                episode.begin(self._rngs[i])
            else:
                episode.step(*move)
        self._write()
        if self._mode == AutoresetMode.SAME_STEP and (ended := self._ended()).any():
            final[:] = now
            for i in np.flatnonzero(ended).tolist():
                self._episodes[i].begin(self._rngs[i])
            self._write()
            for key in _TRANSITION:  # of the step that ended the episode; the rest is the new episode's
                now[key] = final[key]

    def get_states(self) -> list[State]:
        """Each environment's whole episode."""
        return [episode.get_state() for episode in self._episodes]

    def set_states(self, states: list[State]) -> None:
        """Continue saved episodes, bit for bit."""
        for episode, state in zip(self._episodes, states, strict=True):
            episode.set_state(state)
        self._write()

    def expert_views(self) -> list[NDArray[np.float32]]:
        """What each environment's demonstrator sees, where that is not the observation."""
        return [episode.expert_view() for episode in self._episodes]  # type: ignore[attr-defined]

    def pictures(self) -> list[NDArray[np.uint8]]:
        """One picture per environment."""
        if self._renderer is None:
            from failurebench.rendering import Renderer

            self._renderer = Renderer(self._episodes[0].model, self._view)
        return [self._renderer.picture(episode) for episode in self._episodes]

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}

    def _ended(self) -> Bools:
        ended: Bools = self.rows[0]["terminated"] | self.rows[0]["truncated"]
        return ended

    def _write(self) -> None:
        now = self.rows[0]
        now["observation"] = [episode.observation() for episode in self._episodes]
        for key in _TRANSITION:
            now[key] = [getattr(episode, key) for episode in self._episodes]
        infos = [episode.info() for episode in self._episodes]
        for key in INFO:
            now[key] = [info[key] for info in infos]
