"""The outside of an environment: spaces, observations, seeding, scripted experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from farl.doctor import Finding
from farl.environments import expert_view

_STEPS = 50


def spaces(env: Any) -> Iterator[Finding]:
    """Flat float32 boxes, the action's from -1 to 1."""
    for what, space, wrapper in (
        ("action space", env.action_space, "gymnasium.wrappers.RescaleAction(env, -1, 1)"),
        ("observation space", env.observation_space, "gymnasium.wrappers.FlattenObservation(env)"),
    ):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            yield Finding(what, "broken", f"{space}", f"a flat Box is needed: wrap with {wrapper}")
        elif what == "action space" and not (np.all(space.low == -1) and np.all(space.high == 1)):
            yield Finding(what, "broken", f"bounds {space.low.min()} to {space.high.max()}", f"wrap with {wrapper}")
        elif space.dtype != np.float32:
            yield Finding(what, "broken", f"dtype {space.dtype}", "declare the Box with dtype=np.float32")
        else:
            yield Finding(what, "ok", f"{space.shape[0]} float32 numbers")


def observations(env: Any) -> Iterator[Finding]:
    """What reset and step return lies in the space that was declared."""
    for obs in rollout(env, seed=0):
        if not isinstance(obs, np.ndarray) or obs.dtype != np.float32:
            found = f"of dtype {getattr(obs, 'dtype', type(obs).__name__)}"
            yield Finding("observations", "broken", found, "return obs.astype(np.float32) from reset and step")
            return
        if not np.isfinite(obs).all() or not env.observation_space.contains(obs):
            cure = "make observation_space cover what reset and step return"
            yield Finding("observations", "broken", "outside the observation space", cure)
            return
    yield Finding("observations", "ok", "float32, inside the space")


def seeding(env: Any) -> Iterator[Finding]:
    """``reset(seed=...)`` alone decides an episode."""
    first, second = (list(rollout(env, seed=7)) for _ in range(2))
    cure = "draw everything from self.np_random after super().reset(seed=seed)"
    if not np.array_equal(first[0], second[0]):
        yield Finding("seeding", "broken", "reset(seed=7) twice gives different observations", cure)
    elif len(first) != len(second) or not all(map(np.array_equal, first, second)):
        cure = "a run cannot be repeated or continued exactly; " + cure
        yield Finding("seeding", "note", "the same seed and actions give different observations", cure)
    else:
        yield Finding("seeding", "ok", "the same seed and actions give the same episode")


def experts(env: Any) -> Iterator[Finding]:
    """Every scripted behaviour that is offered acts in the action space."""
    kinds = tuple(getattr(env.unwrapped, "expert_kinds", ()))
    if not kinds:
        cure = "optional: `farl demos` needs expert_kinds and expert(kind); otherwise bring your own dataset"
        yield Finding("scripted experts", "note", "none offered", cure)
        return
    obs, _ = env.reset(seed=0)
    for kind in kinds:
        expert = env.unwrapped.expert(kind)
        expert.reset(np.random.default_rng(0))
        action = expert.act(expert_view(env, obs))
        if getattr(action, "dtype", None) != np.float32 or action.shape != env.action_space.shape:
            cure = f"return a float32 array of shape {env.action_space.shape}"
            yield Finding("scripted experts", "broken", f"'{kind}' acts with {action!r}", cure)
            return
    yield Finding("scripted experts", "ok", ", ".join(kinds))


def rollout(env: Any, seed: int) -> Iterator[Any]:
    """The observations of a reset and of up to 50 random actions that ``seed`` decides."""
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    yield obs
    for _ in range(_STEPS):
        obs, _reward, terminated, truncated, _ = env.step(env.action_space.sample())
        yield obs
        if terminated or truncated:
            return
