"""Demonstrations on disk: a list of episodes in one HDF5 file, in the layout that robomimic reads.

::

    data/             attrs: total, env_args (JSON: env_name, type, env_kwargs), farl (JSON: format, attrs)
      demo_0/         attrs: num_samples, seed, outcome, behaviour, task
        obs/state  next_obs/state  actions  rewards  dones
        terminated  truncated  failure  margin  extra/NAME
        obs/CLOUD  next_obs/CLOUD   [steps, n, 3], one for each cloud of points; the layout is in farl's attrs
    mask/train  mask/valid      names of the episodes of either split
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from farl.errors import UserError
from farl.files import write_bytes
from farl.observations import Layout
from farl.types import Episode

Split = Literal["train", "valid"]
_FORMAT = 1
_GYM_TYPE = 2  # robomimic's EnvType.GYM_TYPE
_ARRAYS = (
    "obs/state", "next_obs/state", "actions", "rewards", "dones", "terminated", "truncated", "failure", "margin"
)  # fmt: skip
_CURE = "make it again with `farl demos`"


@dataclass(frozen=True)
class Summary:
    """What a dataset holds."""

    path: Path
    task: str
    episodes: int
    transitions: int
    successes: int
    """episodes that ended in success"""
    onsets: int
    """episodes with a failing step"""
    failing_steps: int
    seeds: tuple[int, ...]
    behaviours: dict[str, int]
    """episodes by who acted"""
    obs_size: int
    action_size: int
    attrs: dict[str, Any]
    """what the writer added: options of the task, settings of the collection"""


def write_episodes(
    path: Path, episodes: Sequence[Episode], attrs: Mapping[str, Any], train_fraction: float = 0.9, rng_seed: int = 0
) -> None:
    """Write ``episodes`` to ``path``, all or nothing, and divide them into a training and a validation split.

    ``attrs`` is kept as JSON; its ``options`` (the task's keyword arguments) also go where robomimic looks for them.
    Two or more episodes always leave at least one on either side unless ``train_fraction`` is 0 or 1.
    """
    if not episodes or any(len(episode) == 0 for episode in episodes):
        raise ValueError("a dataset needs at least one episode, and every episode at least one step")
    train = _choose_training(len(episodes), train_fraction, np.random.default_rng(rng_seed))

    # Made in memory and written in one go: HDF5 crashes the whole process when a disk fills up under it.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        _write_file(file, episodes, attrs, train)
        file.flush()
        image = file.id.get_file_image()
    write_bytes(path, image)


def read_episodes(
    path: Path,
    split: Split | None = None,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    obs_size: int | None = None,
) -> list[Episode]:
    """The episodes of one split, or all of them, exactly as they were written.

    Raises UserError if the file is missing, damaged, foreign, or of another task or observation size than asked for.
    """
    with _opened(path) as file:
        _check_fits(path, file, task, options, obs_size)
        names = sorted(file["data"], key=_number) if split is None else [name.decode() for name in file["mask"][split]]
        layout = _layout(file)
        return [_read_episode(file["data"][name], layout) for name in names]


def describe(path: Path) -> Summary:
    """Count what a dataset holds; raises UserError like ``read_episodes``."""
    with _opened(path) as file:
        groups = [file["data"][name] for name in sorted(file["data"], key=_number)]
        if not groups:
            raise UserError(f"{path} holds no episodes; {_CURE}")
        for group in groups:
            _check_whole(path, group)
        failure = [group["failure"][()] for group in groups]
        return Summary(
            path=path,
            task=_task(file),
            episodes=len(groups),
            transitions=sum(len(flags) for flags in failure),
            successes=sum(group.attrs["outcome"] == "success" for group in groups),
            onsets=sum(bool(flags.any()) for flags in failure),
            failing_steps=sum(int(flags.sum()) for flags in failure),
            seeds=tuple(int(group.attrs["seed"]) for group in groups),
            behaviours=dict(Counter(str(group.attrs["behaviour"]) for group in groups)),
            obs_size=_obs_size(file, groups[0]),
            action_size=int(groups[0]["actions"].shape[1]),
            attrs=json.loads(file["data"].attrs["farl"])["attrs"],
        )


def _choose_training(count: int, fraction: float, rng: np.random.Generator) -> list[int]:
    if not 0 <= fraction <= 1:
        raise ValueError(f"train_fraction is {fraction}; it must be between 0 and 1")
    number = round(count * fraction)
    if 0 < fraction < 1 and count > 1:
        number = min(max(number, 1), count - 1)
    return sorted(rng.permutation(count)[:number].tolist())


def _write_file(file: h5py.File, episodes: Sequence[Episode], attrs: Mapping[str, Any], train: list[int]) -> None:
    data = file.create_group("data")
    kwargs = attrs.get("options", {})
    data.attrs["env_args"] = json.dumps({"env_name": episodes[0].task, "type": _GYM_TYPE, "env_kwargs": kwargs})
    data.attrs["total"] = sum(len(episode) for episode in episodes)
    layout = episodes[0].layout
    shape = {} if layout is None else {"layout": layout.record()}
    data.attrs["farl"] = json.dumps({"format": _FORMAT, "attrs": dict(attrs), **shape})
    for index, episode in enumerate(episodes):
        _write_episode(data.create_group(f"demo_{index}"), episode)
    chosen = set(train)
    for split, wanted in (("train", True), ("valid", False)):
        names = [f"demo_{index}" for index in range(len(episodes)) if (index in chosen) is wanted]
        file.create_dataset(f"mask/{split}", data=np.array(names, dtype="S"), shape=(len(names),), dtype="S16")


def _write_episode(group: h5py.Group, episode: Episode) -> None:
    plain, clouds = _parts(episode)
    arrays: dict[str, NDArray[Any]] = {
        "obs/state": plain[:-1],
        "next_obs/state": plain[1:],
        "actions": episode.actions,
        "rewards": episode.rewards,
        "dones": (episode.terminated | episode.truncated).astype(np.uint8),
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "failure": episode.failure,
        "margin": episode.margin,
        **{f"extra/{name}": array for name, array in episode.extra.items()},
    }
    for name, array in arrays.items():
        if len(array) != len(episode):
            raise ValueError(f"episode of seed {episode.seed}: {name} has {len(array)} rows for {len(episode)} steps")
        group.create_dataset(name, data=array, compression="gzip" if array.size else None)
    for name, array in clouds.items():
        for key, rows in (("obs", array[:-1]), ("next_obs", array[1:])):
            # Shuffled by bytes, coordinates pack to a third; as they are, hardly.
            group.create_dataset(f"{key}/{name}", data=rows, compression="gzip", shuffle=True)
    group.attrs["num_samples"] = len(episode)
    group.attrs["seed"] = episode.seed
    for name in ("outcome", "behaviour", "task"):
        group.attrs[name] = getattr(episode, name)


def _parts(episode: Episode) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The plain numbers of an episode's observations, and its clouds by name, all with ``T + 1`` rows."""
    layout = episode.layout
    if layout is None:
        return episode.obs, {}
    if any(name == "state" for name, _ in layout.clouds):
        raise ValueError("a cloud of points is called 'state', which is where a dataset keeps the plain numbers: rename it")
    return episode.obs[:, : layout.plain], layout.points(episode.obs)


def _read_episode(group: h5py.Group, layout: Layout | None) -> Episode:
    names = ["state", *([] if layout is None else [name for name, _ in layout.clouds])]
    parts = [np.concatenate([group[f"obs/{name}"][()], group[f"next_obs/{name}"][-1:]]) for name in names]
    return Episode(
        obs=np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1) if layout else parts[0],
        actions=group["actions"][()],
        rewards=group["rewards"][()],
        terminated=group["terminated"][()],
        truncated=group["truncated"][()],
        failure=group["failure"][()],
        margin=group["margin"][()],
        outcome=group.attrs["outcome"],
        seed=int(group.attrs["seed"]),
        task=group.attrs["task"],
        behaviour=group.attrs["behaviour"],
        extra={name: array[()] for name, array in group.get("extra", {}).items()},
        layout=layout,
    )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever turns out to be wrong with it leaves as a UserError that names the file and the cure."""
    if not path.is_file():
        raise UserError(f"there is no dataset {path}; {_CURE}")
    try:
        with h5py.File(path, "r") as file:
            _check_ours(path, file)
            yield file
    except KeyError as error:
        raise UserError(f"{path} is incomplete: {error.args[0] if error.args else error}; {_CURE}") from error
    except (IndexError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold what farl writes ({error}); {_CURE}") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} is damaged or not an HDF5 file ({error}); {_CURE}") from error


def _check_ours(path: Path, file: h5py.File) -> None:
    if "data" not in file or "farl" not in file["data"].attrs:
        raise UserError(
            f"{path} was not written by farl: its episodes carry no failure labels; {_CURE}, or convert it with "
            "farl.data.episode_store.write_episodes"
        )
    found = json.loads(file["data"].attrs["farl"])["format"]
    if found != _FORMAT:
        raise UserError(f"{path} has dataset format {found}, this farl reads format {_FORMAT}; {_CURE}")


def _check_whole(path: Path, group: h5py.Group) -> None:
    """Every array of an episode is there and has a row for every step; only their shapes are looked at."""
    steps = int(group.attrs["num_samples"])
    for name in _ARRAYS:
        if len(group[name]) != steps:
            raise UserError(f"{path}: {name} of {group.name} has {len(group[name])} rows for {steps} steps; {_CURE}")


def _check_fits(
    path: Path, file: h5py.File, task: str | None, options: Mapping[str, Any] | None, obs_size: int | None
) -> None:
    if task is not None and _task(file) != task:
        raise UserError(f"{path} holds episodes of {_task(file)}, not of {task}; {_CURE} for {task}")
    theirs = json.loads(file["data"].attrs["farl"])["attrs"].get("options", {})
    if options is not None and theirs != json.loads(json.dumps(dict(options))):
        raise UserError(f"{path} was made with task options {theirs}, not with {dict(options)}; {_CURE} with these options")
    found = _obs_size(file, file["data/demo_0"])
    if obs_size is not None and found != obs_size:
        raise UserError(f"{path} holds observations of {found} numbers, the task gives {obs_size}; {_CURE} for it")


def _task(file: h5py.File) -> str:
    return str(json.loads(file["data"].attrs["env_args"])["env_name"])


def _layout(file: h5py.File) -> Layout | None:
    record = json.loads(file["data"].attrs["farl"]).get("layout")
    return None if record is None else Layout.from_record(record)


def _obs_size(file: h5py.File, group: h5py.Group) -> int:
    layout = _layout(file)
    return int(group["obs/state"].shape[1]) if layout is None else layout.size


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
