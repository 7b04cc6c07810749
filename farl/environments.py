"""Tasks by id: how farl makes environments, and what it asks of them (docs/design.md, environment contract)."""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from farl.configuration import Options
from farl.errors import UserError
from farl.observations import Flat, FlatVector, layout_of
from farl.types import State
from farl.watchdog import Guarded, GuardedVector, Watchdog

_CLOCK = "time_limit_steps"


@dataclass(frozen=True)
class TaskConfig:
    """Which environment, and with which keyword arguments."""

    id: str = "failurebench:FailureBench/BoundedPush-v0"
    """Gymnasium id, with the module that registers it in front: module:Namespace/Name-v0"""

    options: Options = field(default_factory=dict)
    """keyword arguments of the environment, such as max_episode_steps=100"""

    @property
    def name(self) -> str:
        """A short name for folders and tables: ``BoundedPush-v0``."""
        return self.id.rpartition("/")[2].rpartition(":")[2]


@runtime_checkable
class Expert(Protocol):
    """Scripted behaviour offered by an environment; serves one environment at a time."""

    def reset(self, rng: np.random.Generator) -> None:
        """Draw this episode's habits (an aim offset, a gain)."""
        ...

    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action for one observation."""
        ...


def make(task: TaskConfig, **extra: Any) -> gym.Env[Any, Any]:
    """One environment of ``task``, a dictionary observation made flat; raises UserError for an unknown id or option."""
    spec = _spec(task)
    try:
        env: gym.Env[Any, Any] = gym.make(spec, disable_env_checker=True, **{**task.options, **extra})
    except (TypeError, ValueError, RuntimeError) as error:
        raise _refused(task, error) from error
    return Flat(env, task.id) if isinstance(env.observation_space, gym.spaces.Dict) else env


def make_vector(task: TaskConfig, num_envs: int, watchdog: Watchdog | None = None) -> VectorEnv[Any, Any, Any]:
    """``num_envs`` environments in this process that never reset by themselves (AutoresetMode.DISABLED).

    With a watchdog, one that raises or does not return loses its episode (``lost``) and is made anew.
    """
    if _spec(task).vector_entry_point is not None:
        make_all = functools.partial(_make_together, task, num_envs)
        envs = make_all() if watchdog is None else GuardedVector(task.id, make_all, watchdog)
    else:
        one = functools.partial(make, task)
        makers: list[Callable[[], gym.Env[Any, Any]]] = [one] * num_envs
        if watchdog is not None:
            names = [f"environment {number} of {task.id}" for number in range(num_envs)]
            makers = [functools.partial(Guarded, name, one, watchdog) for name in names]
        envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    _check_spaces(task, envs)
    return envs


def _make_together(task: TaskConfig, num_envs: int) -> VectorEnv[Any, Any, Any]:
    """As the task itself makes many."""
    options: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, **task.options}
    try:
        envs = gym.make_vec(_spec(task), num_envs=num_envs, vectorization_mode="vector_entry_point", **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _refused(task, error) from error
    return FlatVector(envs, task.id) if isinstance(envs.single_observation_space, gym.spaces.Dict) else envs


def make_experts(task: TaskConfig, kind: str, count: int) -> list[Expert]:
    """``count`` scripted experts of ``kind``; raises UserError if the task offers none of that kind."""
    env = make(task)
    kinds: tuple[str, ...] = tuple(getattr(env.unwrapped, "expert_kinds", ()))
    if kind not in kinds:
        env.close()
        raise UserError(f"{task.id} has no scripted expert '{kind}'; it offers {', '.join(kinds) or 'none'}")
    experts = [env.unwrapped.expert(kind) for _ in range(count)]  # type: ignore[attr-defined]
    env.close()
    return experts


def reset_where(
    envs: VectorEnv[Any, Any, Any], mask: NDArray[np.bool_], seeds: list[int]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Start new episodes where ``mask`` is set, each from its own seed.

    Only the rows in ``mask`` of the returned observations mean anything: Gymnasium's own vector environment returns stale
    ones elsewhere after ``set_states``.
    """
    chosen: Any = seeds  # a list is what VectorEnv documents, though its base class is annotated with an int
    obs, info = envs.reset(seed=chosen, options={"reset_mask": mask})
    return obs, info


def get_states(envs: VectorEnv[Any, Any, Any]) -> list[State] | None:
    """The simulator states of all environments, or None where the task cannot give them."""
    if hasattr(envs, "get_states"):
        return list(envs.get_states())
    wrapped = getattr(envs, "envs", [])
    if not wrapped or not all(hasattr(env.unwrapped, "get_state") for env in wrapped):
        return None
    return [{**env.unwrapped.get_state(), _CLOCK: _clock(env).get("_elapsed_steps", 0)} for env in wrapped]


def set_states(envs: VectorEnv[Any, Any, Any], states: list[State]) -> None:
    """Put every environment into the given state."""
    if hasattr(envs, "set_states"):
        envs.set_states(states)
        return
    for env, state in zip(envs.envs, states, strict=True):  # type: ignore[attr-defined]
        env.unwrapped.set_state({key: value for key, value in state.items() if key != _CLOCK})
        if clock := _clock(env):
            clock["_elapsed_steps"] = state[_CLOCK]


def get_observations(envs: VectorEnv[Any, Any, Any]) -> NDArray[np.float32]:
    """Observations of the states the environments are in now, for use after ``set_states``."""
    if hasattr(envs, "observations"):
        return np.array(envs.observations(), dtype=np.float32)
    seen = [env.unwrapped.observation() for env in envs.envs]  # type: ignore[attr-defined]
    if (layout := layout_of(envs)) is not None:
        seen = [layout.flatten(one) for one in seen]
    return np.stack(seen).astype(np.float32)


def expert_views(envs: VectorEnv[Any, Any, Any], obs: NDArray[np.float32]) -> NDArray[np.float32]:
    """What scripted experts act on: ``obs``, except where observations are dictionaries and a demonstrator sees something else.

    A policy with a camera has to find out for itself what a script is told.
    """
    if layout_of(envs) is None:
        return obs
    if hasattr(envs, "expert_views"):
        return np.asarray(envs.expert_views(), dtype=np.float32)
    return np.stack([expert_view(env, row) for env, row in zip(envs.envs, obs, strict=True)])  # type: ignore[attr-defined]


def expert_view(env: gym.Env[Any, Any], obs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same for one environment."""
    if layout_of(env) is None or not hasattr(env.unwrapped, "expert_view"):
        return obs
    return np.asarray(env.unwrapped.expert_view(), dtype=np.float32)


def failure_flags(info: Mapping[str, Any], task: TaskConfig, num_envs: int) -> NDArray[np.bool_]:
    """``info["failure"]`` of every environment; raises UserError where the environment does not report it."""
    if "failure" not in info:
        raise UserError(
            f'{task.id} does not report info["failure"] at every step, so failures cannot be counted. Add a boolean '
            f'info["failure"] (see docs/design.md, environment contract); `farl check {task.id}` checks an environment.'
        )
    return np.asarray(info["failure"], dtype=bool).reshape(num_envs)


def lost(info: Mapping[str, Any], num_envs: int) -> list[str | None]:
    """Why the episode of an environment that broke on this step is lost, None for the others."""
    reasons: list[str | None] = [reason or None for reason in info.get("lost", ())]
    return reasons or [None] * num_envs


def column(info: Mapping[str, Any], key: str, num_envs: int, default: float) -> NDArray[np.float64]:
    """A numeric info entry of every environment, ``default`` where the environment does not report it."""
    if key not in info:
        return np.full(num_envs, default)
    return np.asarray(info[key], dtype=np.float64).reshape(num_envs)


def _refused(task: TaskConfig, error: Exception) -> UserError:
    """Gymnasium appends the whole creator to an error's text; the first part says what was wrong."""
    reason = str(error).partition(" was raised from the environment creator")[0]
    return UserError(f"cannot make {task.id} with options {dict(task.options)}: {reason}")


def _clock(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """The attributes of Gymnasium's TimeLimit around ``env``: its clock is part of an episode's state."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            return vars(env)
        env = env.env
    return {}


def _spec(task: TaskConfig) -> gym.envs.registration.EnvSpec:
    module, _, name = task.id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        return gym.spec(name)
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import module '{error.name}' named in the task id {task.id}") from error
    except gym.error.Error as error:
        near = difflib.get_close_matches(name, list(gym.registry), n=1, cutoff=0.4)
        hint = f"; perhaps you meant {module + ':' if module else ''}{near[0]}" if near else ""
        raise UserError(f"unknown task '{task.id}'{hint}. `farl list` shows the tasks.") from error


def _check_spaces(task: TaskConfig, envs: VectorEnv[Any, Any, Any]) -> None:
    action, obs = envs.single_action_space, envs.single_observation_space
    if not isinstance(action, gym.spaces.Box) or action.shape is None or len(action.shape) != 1:
        raise UserError(f"{task.id} has action space {action}; a Box(-1, 1, (n,)) is needed")
    if not (np.allclose(action.low, -1) and np.allclose(action.high, 1)):
        raise UserError(
            f"{task.id} has action bounds {action.low} to {action.high}; wrap it with RescaleAction to -1..1"
        )
    if not isinstance(obs, gym.spaces.Box) or obs.shape is None or len(obs.shape) != 1:
        raise UserError(
            f"{task.id} has observation space {obs}; a flat Box is needed (wrap it with FlattenObservation), or a Dict of them "
            "and of clouds of points"
        )
