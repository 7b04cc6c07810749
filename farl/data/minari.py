"""Minari datasets to episodes and back, number for number. Needs the extra ``minari``.

Minari's own fields become an ``Episode``'s; ``infos`` of the three keys named in ``Keys`` become its labels, and every info is kept
under its name in ``extra``, as are rewards that 32 bits do not hold. Infos have a row for the reset, too: it is dropped.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from farl.environments import TaskConfig, make
from farl.errors import UserError
from farl.types import Episode, Outcome

_REWARD = "reward64"
"""the name in ``extra`` of rewards as Minari holds them"""


@dataclass(frozen=True)
class Keys:
    """Which infos say what."""

    failure: str = "failure"
    """a person would have to step in; required"""
    success: str = "success"
    """the goal is reached; without it every episode is a timeout"""
    margin: str = "margin"
    """metres to failure; without it nan"""


@dataclass(frozen=True)
class Imported:
    """Episodes, and the environment they were recorded in."""

    episodes: list[Episode]
    task: TaskConfig
    without: tuple[str, ...]
    """keys that were not recorded and are not required"""


def read_minari(
    name: str, keys: Keys, task: str = "", behaviour: str = "minari", full_id: Callable[[str], str] = str
) -> Imported:
    """The episodes of the local Minari dataset ``name``; ``task`` names its environment where Minari does not.

    Minari remembers an id without the module that registers it: ``full_id`` puts it in front.

    Raises UserError if Minari or the dataset is not there, observations or actions are not flat numbers, or no info says
    where failures are.
    """
    dataset = _loaded(name)
    _check_spaces(name, dataset)
    recorded = _recorded_in(dataset.env_spec, full_id)
    config = TaskConfig(full_id(task) if task else recorded.id, recorded.options)
    if not config.id:
        raise UserError(f"{name} does not say which environment it is from; give --task module:Namespace/Name-v0")
    metadata = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    episodes = [
        _episode(name, data, keys, config.id, behaviour, int(about.get("seed", data.id)))
        for data, about in zip(dataset.iterate_episodes(), metadata, strict=True)
    ]
    first = episodes[0].extra if episodes else {}
    without = tuple(key for key in (keys.success, keys.margin) if key not in first)
    return Imported(episodes, config, without)


def write_minari(name: str, episodes: Sequence[Episode], task: TaskConfig, description: str = "") -> None:
    """Create the local Minari dataset ``name`` from ``episodes``; infos hold failure, success, margin and ``extra``.

    The row of the reset, which an ``Episode`` does not have, says: no failure, no success, an unknown margin.
    """
    if any(episode.layout is not None for episode in episodes):
        raise UserError(
            f"cannot create minari:{name}: these observations have clouds of points, and a Minari dataset of flat vectors would "
            "forget which numbers they are; share the HDF5 file, which is in robomimic's layout"
        )
    minari = _minari()
    _check_name(name)
    from minari.data_collector import EpisodeBuffer

    buffers = [
        EpisodeBuffer(
            seed=episode.seed,
            observations=episode.obs,
            actions=episode.actions,
            rewards=list(episode.extra.get(_REWARD, episode.rewards)),
            terminations=list(episode.terminated),
            truncations=list(episode.truncated),
            infos=_infos(episode),
        )
        for episode in episodes
    ]
    env, first = _environment(task), episodes[0]
    spaces = (env.observation_space, env.action_space) if env else (_everything(first.obs), _everything(first.actions))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")   # Minari warns of optional fields that were not given
            minari.create_dataset_from_buffers(
                name,
                buffers,
                env=env,
                observation_space=spaces[0],
                action_space=spaces[1],
                description=description or f"episodes of {task.id}",
                algorithm_name=first.behaviour,
                requirements=["failure-aware-rl"],
            )
    except (ValueError, FileExistsError) as error:
        raise UserError(f"cannot create minari:{name}: {error}") from error
    finally:
        if env:
            env.close()


def _environment(task: TaskConfig) -> gym.Env[Any, Any] | None:
    """The environment that Minari is to remember; a dataset may be of one that is not installed here."""
    try:
        return make(task)
    except UserError:
        return None


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        cure = "install the extra: pip install -c constraints.txt -e '.[minari]'"
        raise UserError(f"Minari datasets need the package minari, which is not here ({error}); {cure}") from error
    return minari


def _loaded(name: str) -> Any:
    minari = _minari()
    try:
        return minari.load_dataset(name)
    except (FileNotFoundError, ValueError) as error:
        here = ", ".join(minari.list_local_datasets()) or "none"
        cure = "`minari list local` shows those that are here, `minari download` fetches one"
        raise UserError(f"there is no Minari dataset '{name}' here ({here}); {cure}") from error


def _check_name(name: str) -> None:
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)
    except ValueError as error:
        raise UserError(f"'{name}' is no name of a Minari dataset; it looks like push/task-v0") from error


def _check_spaces(name: str, dataset: Any) -> None:
    for what, space in (("observations", dataset.observation_space), ("actions", dataset.action_space)):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            cure = "collect it again from the environment wrapped with gymnasium.wrappers.FlattenObservation"
            raise UserError(f"{name} has {what} {space}; a flat Box is needed: {cure}")


def _recorded_in(spec: Any, full_id: Callable[[str], str]) -> TaskConfig:
    """The environment's id, and the keyword arguments that are not those it is registered with; no id if Minari has none."""
    if spec is None:
        return TaskConfig("")
    task_id = full_id(spec.id)
    with suppress(ImportError):   # an environment that is not installed here has no usual arguments
        importlib.import_module(task_id.rpartition(":")[0] or "gymnasium")
    usual = gym.registry.get(spec.id)
    options = {key: value for key, value in spec.kwargs.items() if usual is None or usual.kwargs.get(key, ...) != value}
    if usual is not None and spec.max_episode_steps != usual.max_episode_steps:
        options["max_episode_steps"] = spec.max_episode_steps
    return TaskConfig(task_id, options)


def _episode(name: str, data: Any, keys: Keys, task: str, behaviour: str, seed: int) -> Episode:
    infos = dict(_flat(data.infos or {}))
    if keys.failure not in infos:
        listed = ", ".join(sorted(infos)) or "none: it was recorded without record_infos=True"
        raise UserError(
            f'{name} has no info "{keys.failure}", which says where failures are (its infos: {listed}); '
            "name another with --keys.failure, or collect it with DataCollector(env, record_infos=True)"
        )
    extra = {key: _led_to(values, len(data)) for key, values in infos.items()}
    rewards = np.asarray(data.rewards)
    if not np.array_equal(rewards.astype(np.float32), rewards):
        extra[_REWARD] = rewards
    nothing = np.zeros(len(data), dtype=bool)
    failure = np.asarray(extra[keys.failure]).astype(bool)
    success = np.asarray(extra.get(keys.success, nothing)).astype(bool)
    terminated = np.asarray(data.terminations, dtype=bool)
    return Episode(
        obs=_numbers(name, "observations", data.observations),
        actions=_numbers(name, "actions", data.actions),
        rewards=rewards.astype(np.float32),
        terminated=terminated,
        truncated=np.asarray(data.truncations, dtype=bool),
        failure=failure,
        margin=np.asarray(extra.get(keys.margin, np.full(len(data), np.nan))).astype(np.float32),
        outcome=_outcome(bool(terminated[-1]), bool(failure[-1]), bool(success[-1])),
        seed=seed,
        task=task,
        behaviour=behaviour,
        extra=extra,
    )


def _numbers(name: str, what: str, values: Any) -> NDArray[np.float32]:
    array = np.asarray(values)
    single = array.astype(np.float32)
    if not np.array_equal(single, array, equal_nan=True):
        raise UserError(f"{name} has {what} of dtype {array.dtype} that 32 bits do not hold; collect it from an environment that "
                        "gives float32, as farl's networks read it")
    return single


def _outcome(terminated: bool, failure: bool, success: bool) -> Outcome:
    if terminated and failure:
        return "failure"
    return "success" if success else "timeout"


def _flat(infos: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in infos.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _led_to(values: Any, steps: int) -> NDArray[Any]:
    """The rows of the steps, without the reset's; text as bytes, which HDF5 keeps."""
    array = np.asarray(values)[-steps:]
    return array.astype("S") if array.dtype.kind in "OU" else array


def _infos(episode: Episode) -> dict[str, Any]:
    success = np.zeros(len(episode), dtype=bool)
    success[-1] = episode.outcome == "success"
    own = {"failure": episode.failure, "success": success, "margin": episode.margin}
    kept = {key: array for key, array in episode.extra.items() if key != _REWARD and array.size}
    return {key: np.concatenate([_unknown(array), array]) for key, array in {**own, **kept}.items()}


def _unknown(array: NDArray[Any]) -> NDArray[Any]:
    """What a row before the first step says: nan, False, 0 or no text."""
    return np.full_like(array[:1], np.nan if array.dtype.kind == "f" else array.dtype.type())


def _everything(array: NDArray[np.float32]) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, array.shape[1:], np.float32)
