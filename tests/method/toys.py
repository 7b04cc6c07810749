"""Environments that break one promise of the contract each."""

from __future__ import annotations

from typing import Any

import gymnasium

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


for _toy in (Silent, Stateless, Slippery):
    gymnasium.register(f"Toys/{_toy.__name__}-v0", _toy)
