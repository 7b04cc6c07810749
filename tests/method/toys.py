"""Environments that break one promise of the contract each."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import gymnasium
from gymnasium.vector import SyncVectorEnv

from failurebench.point_mass import PointMassCliff


class Silent(PointMassCliff):
    """Reports no failure."""

    def _info(self, was_failed: bool) -> dict[str, Any]:
        info = super()._info(was_failed)
        del info["failure"]
        return info


class Stateless(PointMassCliff):
    """A robot: no state to get or set."""

    @property
    def get_state(self) -> Any:  # type: ignore[override]
        raise AttributeError("get_state")

    @property
    def set_state(self) -> Any:  # type: ignore[override]
        raise AttributeError("set_state")


class Slippery(PointMassCliff):
    """Slides over the cliff whatever one does."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, info = super().reset(seed=seed, options=options)
        self._velocity[:] = 1.5, 0.0
        return obs, info

    def step(self, action: Any) -> Any:
        return super().step(0 * action)


class Unreliable(PointMassCliff):
    """Breaks on the ``break_at``-th step of episodes whose seed ends in the digit ``unlucky`` (any, if negative).

    ``manner`` says how; with ``slide`` those episodes go over the cliff before.
    """

    def __init__(
        self, break_at: int = 3, unlucky: int = 4, manner: str = "raise", slide: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.break_at, self.unlucky, self.manner, self.slide = break_at, unlucky, manner, slide
        self._seed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._seed = seed or 0
        obs, info = super().reset(seed=seed, options=options)
        if self._unlucky and self.slide:
            self._velocity[:] = 1.5, 0.0
            obs = self.observation()
        return obs, info

    def step(self, action: Any) -> Any:
        if self._unlucky and self._steps + 1 == self.break_at:
            BREAKS[self.manner]()
        return super().step(0 * action if self._unlucky and self.slide else action)

    @property
    def _unlucky(self) -> bool:
        return self.unlucky < 0 or self._seed % 10 == self.unlucky


def _raise() -> None:
    raise RuntimeError("the motor stalled")


def _hang() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # a driver that goes on whatever happens
            continue


def _deadlock() -> None:
    """In C, where no signal gets through: the same mutex twice."""
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_init(mutex, None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


class Together(SyncVectorEnv):
    """Unreliable environments that step in one call, and break in one."""

    def __init__(self, num_envs: int, autoreset_mode: Any, **options: Any) -> None:
        super().__init__([lambda: Unreliable(**options)] * num_envs, autoreset_mode=autoreset_mode)


BREAKS = {"raise": _raise, "hang": _hang, "deadlock": _deadlock}

for _toy in (Silent, Stateless, Slippery, Unreliable):
    gymnasium.register(f"Toys/{_toy.__name__}-v0", _toy)
gymnasium.register("Toys/Together-v0", Unreliable, vector_entry_point=Together)
