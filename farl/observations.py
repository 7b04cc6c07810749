"""Dictionary observations as flat vectors: everything behind an environment's boundary sees one row of float32 numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from farl.errors import UserError

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """Which numbers of a flat observation are what: vectors come first, then clouds of points ``[n, 3]``, each row by row."""

    vectors: tuple[tuple[str, int], ...]
    """name and length"""
    clouds: tuple[tuple[str, int], ...]
    """name and number of points"""

    @classmethod
    def of(cls, space: Dict, where: str) -> Layout:
        """Of a dictionary's entries; raises UserError naming what is neither a vector nor a cloud."""
        vectors, clouds = [], []
        for name, part in space.spaces.items():
            shape = part.shape if isinstance(part, Box) else None
            if shape is not None and len(shape) == 1:
                vectors.append((name, shape[0]))
            elif shape is not None and len(shape) == 2 and shape[1] == 3:
                clouds.append((name, shape[0]))
            else:
                raise UserError(
                    f"{where} has '{name}' of {part} in its observation; a vector, Box of shape (n,), or a cloud of points, Box of "
                    "shape (n, 3), is needed: leave it out with gymnasium.wrappers.FilterObservation"
                )
        return cls(tuple(vectors), tuple(clouds))

    @property
    def plain(self) -> int:
        """How many numbers the vectors have together."""
        return sum(size for _, size in self.vectors)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.plain + sum(3 * count for _, count in self.clouds)

    def flatten(self, obs: Mapping[str, Any], lead: tuple[int, ...] = ()) -> Vector:
        """The dictionary as one fresh array ``[*lead, size]``."""
        parts = [np.asarray(obs[name], np.float32).reshape(*lead, -1) for name, _ in (*self.vectors, *self.clouds)]
        return np.concatenate(parts, axis=-1)

    def points(self, flat: Any) -> dict[str, Any]:
        """Every cloud of flat observations, an array or a tensor ``[..., size]``, as ``[..., n, 3]``."""
        found, begin = {}, self.plain
        for name, count in self.clouds:
            found[name] = flat[..., begin : begin + 3 * count].reshape(*flat.shape[:-1], count, 3)
            begin += 3 * count
        return found

    def space(self, given: Dict) -> Box:
        """The flat space."""
        low, high = (self.flatten({name: getattr(part, side) for name, part in given.spaces.items()}) for side in ("low", "high"))
        return Box(low, high, dtype=np.float32)

    def record(self) -> dict[str, list[list[Any]]]:
        """As JSON, for datasets and bundles."""
        return {"vectors": [list(one) for one in self.vectors], "clouds": [list(one) for one in self.clouds]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Layout:
        """What ``record`` gave."""
        vectors, clouds = (tuple((str(name), int(size)) for name, size in record[key]) for key in ("vectors", "clouds"))
        return cls(vectors, clouds)


class Flat(gym.ObservationWrapper[Any, Any, Any]):
    """One environment with a dictionary observation."""

    def __init__(self, env: gym.Env[Any, Any], where: str) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Dict)
        self.layout = Layout.of(env.observation_space, where)
        self.observation_space = self.layout.space(env.observation_space)

    def observation(self, observation: Any) -> Vector:
        return self.layout.flatten(observation)


class FlatVector(VectorWrapper[Any, Any, Any, Any, Any]):
    """Many of them, which never reset by themselves; what else the environments offer is passed on."""

    def __init__(self, env: VectorEnv[Any, Any, Any], where: str) -> None:
        super().__init__(env)
        given = env.single_observation_space
        assert isinstance(given, Dict)
        self.layout = Layout.of(given, where)
        self.single_observation_space = self.layout.space(given)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._flat(obs), info

    def step(self, actions: Any) -> tuple[Vector, Any, Any, Any, dict[str, Any]]:
        obs, *rest = self.env.step(actions)
        return self._flat(obs), *rest   # type: ignore[return-value]

    def observations(self) -> Vector:
        """Of the states the environments are in now."""
        return self._flat(self.env.observations())   # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def _flat(self, obs: Any) -> Vector:
        return self.layout.flatten(obs, (self.num_envs,))


def layout_of(env: Any) -> Layout | None:
    """What the flat observations of an environment, single or vector, were made from; None where they are plain vectors."""
    while not isinstance(env, Flat | FlatVector):
        inner = getattr(env, "envs", None)
        env = inner[0] if inner else env.__dict__.get("env")
        if env is None:
            return None
    return env.layout
