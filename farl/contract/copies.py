"""Copies of an environment: from a saved state, in another environment, in a vector, pickled. All go on alike."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from farl.doctor import Finding
from farl.environments import TaskConfig, make_vector, reset_where

Maker = Callable[[], Any]

_BEFORE, _AFTER = 5, 15
_VECTOR, _VECTOR_STEPS = 3, 40


def state(env: Any) -> Iterator[Finding]:
    """``set_state(get_state())`` continues the same episode."""
    if not _offers_state(env):
        cure = "optional: without them a run cannot continue bit for bit, and recoveries cannot start from snapshots"
        yield Finding("get_state, set_state", "note", "not offered", cure)
        return
    saved, actions = _interrupted(env)
    before = _observations(env, actions)
    env.unwrapped.set_state(saved)
    if _same(before, _observations(env, actions)):
        yield Finding("get_state, set_state", "ok", "the same actions give the same observations")
    else:
        cure = "put everything that step reads into the state (clocks, previous observation, solver warm start)"
        yield Finding("get_state, set_state", "broken", "afterwards the same actions give other observations", cure)


def fresh_state(env: Any, another: Maker) -> Iterator[Finding]:
    """A state also continues in an environment that has played something else: recoveries and ``oracle-gate`` need it."""
    if not _offers_state(env):
        return
    saved, actions = _interrupted(env)
    before = _observations(env, actions)
    other = another()
    try:
        other.reset(seed=99)
        other.unwrapped.set_state(saved)
        same = _same(before, _observations(other, actions))
    finally:
        other.close()
    if same:
        yield Finding("state elsewhere", "ok", "continues in another environment")
    else:
        cure = "what a reset draws (goal, hazard, start) is part of the state, too: get_state must hold it"
        yield Finding("state elsewhere", "broken", "another environment goes on differently from the same state", cure)


def vector(task: TaskConfig, another: Maker) -> Iterator[Finding]:
    """Several environments in one vector do what single ones do, transition for transition."""
    seeds = [11, 12, 13][:_VECTOR]
    envs = make_vector(task, _VECTOR)
    singles = [another() for _ in seeds]
    try:
        differing = _first_difference(envs, singles, seeds)
    finally:
        for env in (envs, *singles):
            env.close()
    if differing:
        cure = "share nothing that changes between environments; a vector of your own must step as the single one does"
        yield Finding("vector", "broken", f"{differing} than in single environments", cure)
    else:
        yield Finding("vector", "ok", f"{_VECTOR} environments at once equal {_VECTOR} single ones")


def copies(env: Any) -> Iterator[Finding]:
    """Optional: worker processes started by ``spawn`` pickle their environments."""
    env.reset(seed=5)
    ways: dict[str, Callable[[Any], Any]] = {"deepcopy": copy.deepcopy, "pickle": _through_pickle}
    for what, copied in ways.items():
        try:
            twin = copied(env)
        except Exception as error:   # anything a foreign environment may do
            cure = "optional: keep no open files, lambdas and simulator handles in attributes, or define __reduce__"
            yield Finding(what, "note", f"raised {type(error).__name__}: {str(error)[:80]}", cure)
            continue
        actions = _actions(env)
        if _same(_observations(env, actions), _observations(twin, actions)):
            yield Finding(what, "ok", "the copy goes on as the original does")
        else:
            yield Finding(what, "note", "the copy goes on differently", "optional: copy everything that step reads")


def _through_pickle(env: Any) -> Any:
    return pickle.loads(pickle.dumps(env))


def _offers_state(env: Any) -> bool:
    return hasattr(env.unwrapped, "get_state") and hasattr(env.unwrapped, "set_state")


def _actions(env: Any) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (_BEFORE + _AFTER, *env.action_space.shape)).astype(np.float32)


def _interrupted(env: Any) -> tuple[Any, Any]:
    """A state in the middle of an episode, and actions to go on with."""
    env.reset(seed=3)
    actions = _actions(env)
    for action in actions[:_BEFORE]:
        env.unwrapped.step(action)
    return env.unwrapped.get_state(), actions[_BEFORE:]


def _observations(env: Any, actions: Any) -> list[Any]:
    return [env.unwrapped.step(action)[0] for action in actions]


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _first_difference(envs: Any, singles: list[Any], seeds: list[int]) -> str:
    """What differs first between a vector and single environments, in words; empty if nothing does."""
    obs, info = reset_where(envs, np.ones(len(seeds), dtype=bool), seeds)
    alone: list[tuple[Any, ...]] = []
    for env, seed in zip(singles, seeds, strict=True):
        first, its_info = env.reset(seed=seed)
        alone.append((first, 0.0, False, False, its_info))
    together: tuple[Any, ...] = (obs, np.zeros(len(seeds)), np.zeros(len(seeds)), np.zeros(len(seeds)), info)
    rng = np.random.default_rng(1)
    for step in range(_VECTOR_STEPS):
        place = f"at step {step}" if step else "after reset"
        for i, single in enumerate(alone):
            for what, a, b in zip(("observation", "reward", "terminated", "truncated"), single, together, strict=False):
                if not np.array_equal(a, b[i]):
                    return f"another {what} {place}"
            if bool(single[4].get("failure")) != bool(np.asarray(together[4].get("failure", [False] * len(seeds)))[i]):
                return f'another info["failure"] {place}'
        if any(single[2] or single[3] for single in alone):
            break
        actions = rng.uniform(-1, 1, (len(seeds), *singles[0].action_space.shape)).astype(np.float32)
        alone = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        together = envs.step(actions)
    return ""
