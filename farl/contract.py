"""``farl doctor --env ID``: does an environment honour the contract of docs/design.md? Each breach with its cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from farl.configuration import Options
from farl.doctor import Finding
from farl.environments import TaskConfig, make
from farl.errors import UserError

_STEPS = 50


def check_environment(env_id: str, options: Options) -> list[Finding]:
    """What ``env_id`` keeps and breaks of the contract; raises UserError if it cannot be made at all."""
    env = make(TaskConfig(env_id, options))
    findings = [Finding("environment", "ok", f"{env_id} can be made")]
    try:
        for check in (_spaces, _observations, _failure, _seeding, _state, _experts):
            findings += _guarded(check, env)
            if any(finding.state == "broken" and finding.what.endswith("space") for finding in findings):
                break   # without actions and observations of the right shape the rest cannot run
    finally:
        env.close()
    return findings


def _guarded(check: Callable[[Any], Iterator[Finding]], env: Any) -> list[Finding]:
    """The findings of ``check``; an environment that raises is a finding, too."""
    try:
        return list(check(env))
    except UserError:
        raise
    except Exception as error:   # anything a foreign environment may do
        what = check.__name__.removeprefix("_")
        return [Finding(what, "broken", f"raised {type(error).__name__}: {error}", "make it run without an exception")]


def _spaces(env: Any) -> Iterator[Finding]:
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


def _rollout(env: Any, seed: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Observation and info of a reset and of up to ``_STEPS`` steps of random actions."""
    env.action_space.seed(seed)
    obs, info = env.reset(seed=seed)
    yield obs, info
    for _ in range(_STEPS):
        obs, _reward, terminated, truncated, info = env.step(env.action_space.sample())
        yield obs, info
        if terminated or truncated:
            return


def _observations(env: Any) -> Iterator[Finding]:
    for obs, _ in _rollout(env, seed=0):
        if not isinstance(obs, np.ndarray) or obs.dtype != np.float32:
            found = f"of dtype {getattr(obs, 'dtype', type(obs).__name__)}"
            yield Finding("observations", "broken", found, "return obs.astype(np.float32) from reset and step")
            return
        if not np.isfinite(obs).all() or not env.observation_space.contains(obs):
            cure = "make observation_space cover what reset and step return"
            yield Finding("observations", "broken", "outside the observation space", cure)
            return
    yield Finding("observations", "ok", "float32, inside the space")


def _failure(env: Any) -> Iterator[Finding]:
    infos = [info for _, info in _rollout(env, seed=0)]
    for place, info in (("reset", infos[0]), *(("step", info) for info in infos[1:])):
        if "failure" not in info:
            cure = f'set info["failure"] to True or False in every {place}'
            yield Finding('info["failure"]', "broken", f"missing after {place}", cure)
            return
        flag = info["failure"]
        if not isinstance(flag, (bool, np.bool_, int, np.integer)) or flag not in (0, 1):
            cure = "it must be True where a person would have to step in, else False"
            yield Finding('info["failure"]', "broken", f"{flag!r} after {place}", cure)
            return
    yield Finding('info["failure"]', "ok", "reported after reset and every step")
    differing = sorted({key for info in infos for key in info.keys() ^ infos[0].keys()})
    if differing:
        cure = "report the same keys in reset and step: vector environments and datasets need it"
        yield Finding("info keys", "note", f"not always there: {', '.join(differing)}", cure)
    missing = [key for key in ("success", "margin") if key not in infos[-1]]
    if missing:
        yield Finding("info keys", "note", f"without {', '.join(missing)}", "optional: reports are then less detailed")


def _seeding(env: Any) -> Iterator[Finding]:
    first, second = ([obs for obs, _ in _rollout(env, seed=7)] for _ in range(2))
    cure = "draw everything from self.np_random after super().reset(seed=seed)"
    if not np.array_equal(first[0], second[0]):
        yield Finding("seeding", "broken", "reset(seed=7) twice gives different observations", cure)
    elif len(first) != len(second) or not all(map(np.array_equal, first, second)):
        cure = "a run cannot be repeated or continued exactly; " + cure
        yield Finding("seeding", "note", "the same seed and actions give different observations", cure)
    else:
        yield Finding("seeding", "ok", "the same seed and actions give the same episode")


def _state(env: Any) -> Iterator[Finding]:
    task = env.unwrapped
    if not (hasattr(task, "get_state") and hasattr(task, "set_state")):
        cure = "optional: without them a run cannot continue bit for bit, and recoveries cannot start from snapshots"
        yield Finding("get_state, set_state", "note", "not offered", cure)
        return
    env.reset(seed=3)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape)).astype(np.float32)
    for action in actions[:5]:
        env.step(action)
    state = task.get_state()
    before = [task.step(action)[0] for action in actions[5:]]
    task.set_state(state)
    after = [task.step(action)[0] for action in actions[5:]]
    if all(map(np.array_equal, before, after)):
        yield Finding("get_state, set_state", "ok", "the same actions give the same observations")
    else:
        cure = "put everything that step reads into the state (clocks, previous observation, solver warm start)"
        yield Finding("get_state, set_state", "broken", "afterwards the same actions give other observations", cure)


def _experts(env: Any) -> Iterator[Finding]:
    kinds = tuple(getattr(env.unwrapped, "expert_kinds", ()))
    if not kinds:
        cure = "optional: `farl demos` needs expert_kinds and expert(kind); otherwise bring your own dataset"
        yield Finding("scripted experts", "note", "none offered", cure)
        return
    obs, _ = env.reset(seed=0)
    for kind in kinds:
        expert = env.unwrapped.expert(kind)
        expert.reset(np.random.default_rng(0))
        action = expert.act(obs)
        if getattr(action, "dtype", None) != np.float32 or action.shape != env.action_space.shape:
            cure = f"return a float32 array of shape {env.action_space.shape}"
            yield Finding("scripted experts", "broken", f"'{kind}' acts with {action!r}", cure)
            return
    yield Finding("scripted experts", "ok", ", ".join(kinds))
