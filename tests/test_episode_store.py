"""Datasets: what is written reads back exactly, and a file that cannot be used says why and how to mend it."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from farl.data.episode_store import describe, read_episodes, write_episodes
from farl.errors import UserError
from farl.types import Episode

TASK = "failurebench:FailureBench/BoundedPush-v0"


def episode(steps: int, seed: int, failing: tuple[int, ...] = (), success: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    failure = np.isin(np.arange(steps), failing)
    truncated = np.arange(steps) == steps - 1
    return Episode(
        obs=rng.normal(size=(steps + 1, 5)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        terminated=np.zeros(steps, dtype=bool),
        truncated=truncated,
        failure=failure,
        margin=np.where(failure, -0.01, np.nan).astype(np.float32),
        outcome="success" if success else "timeout",
        seed=seed,
        task=TASK,
        behaviour="scripted",
        extra={"tipped": rng.random(steps) > 0.5, "qpos": rng.normal(size=(steps, 3)), "none": np.zeros((steps, 0))},
    )


EPISODES = [episode(7, 3), episode(1, 4, success=True), episode(12, 2**40, failing=(4, 5, 9))]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "demos" / "task.hdf5"
    write_episodes(path, EPISODES, {"options": {"max_episode_steps": 100}}, train_fraction=0.7, rng_seed=1)
    return path


def assert_same(left: Episode, right: Episode) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        if name == "extra":
            assert value.keys() == other.keys()
            pairs = [(value[key], other[key]) for key in value]
        else:
            pairs = [(value, other)]
        for one, two in pairs:
            if isinstance(one, np.ndarray):
                assert one.dtype == two.dtype
                assert np.array_equal(one, two, equal_nan=one.dtype.kind == "f"), name
            else:
                assert one == two
                assert type(one) is type(two)


def test_episodes_read_back_exactly(dataset: Path) -> None:
    read = read_episodes(dataset, None, task=TASK, obs_size=5)
    assert len(read) == len(EPISODES)
    for written, found in zip(EPISODES, read, strict=True):
        assert_same(written, found)


def test_the_splits_divide_the_episodes_and_follow_the_seed_alone(tmp_path: Path) -> None:
    episodes = [episode(2, seed) for seed in range(20)]
    splits = []
    for name, rng_seed in (("a", 0), ("b", 0), ("c", 1)):
        write_episodes(tmp_path / name, episodes, {}, train_fraction=0.8, rng_seed=rng_seed)
        splits.append([[e.seed for e in read_episodes(tmp_path / name, split)] for split in ("train", "valid")])
    assert [len(split) for split in splits[0]] == [16, 4]
    assert sorted(splits[0][0] + splits[0][1]) == list(range(20))
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(("fraction", "sizes"), [(0.99, (2, 1)), (0.01, (1, 2)), (1.0, (3, 0)), (0.0, (0, 3))])
def test_either_split_has_an_episode_unless_none_is_wanted(
    tmp_path: Path, fraction: float, sizes: tuple[int, int]
) -> None:
    write_episodes(tmp_path / "a", EPISODES, {}, train_fraction=fraction)
    assert (len(read_episodes(tmp_path / "a", "train")), len(read_episodes(tmp_path / "a", "valid"))) == sizes


def test_a_summary_counts_what_is_there(dataset: Path) -> None:
    found = describe(dataset)
    assert (found.episodes, found.transitions, found.successes, found.onsets, found.failing_steps) == (3, 20, 1, 1, 3)
    assert (found.task, found.seeds, found.behaviours) == (TASK, (3, 4, 2**40), {"scripted": 3})
    assert (found.obs_size, found.action_size, found.attrs) == (5, 2, {"options": {"max_episode_steps": 100}})


def test_the_layout_is_the_one_robomimic_reads(dataset: Path) -> None:
    with h5py.File(dataset) as file:
        env = json.loads(file["data"].attrs["env_args"])
        assert env == {"env_name": TASK, "type": 2, "env_kwargs": {"max_episode_steps": 100}}
        assert file["data"].attrs["total"] == 20
        demo = file["data/demo_2"]
        assert demo.attrs["num_samples"] == 12
        assert np.array_equal(demo["next_obs/state"][:-1], demo["obs/state"][1:])
        assert demo["dones"][()].tolist() == [0] * 11 + [1]
        names = [name.decode() for split in ("train", "valid") for name in file[f"mask/{split}"]]
        assert sorted(names) == ["demo_0", "demo_1", "demo_2"]


def test_a_missing_dataset_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dataset .*task\.hdf5; make it again with `farl demos`"):
        read_episodes(tmp_path / "task.hdf5")


@pytest.mark.parametrize("kept", [0, 100, 3000, -50])
def test_a_truncated_dataset_says_that_it_is_damaged(dataset: Path, kept: int) -> None:
    dataset.write_bytes(dataset.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"task\.hdf5 is damaged or not an HDF5 file .*`farl demos`"):
        describe(dataset)


def test_a_foreign_dataset_says_that_it_has_no_failure_labels(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file.create_group("data/demo_0")
    with pytest.raises(UserError, match=r"other\.hdf5 was not written by farl"):
        read_episodes(tmp_path / "other.hdf5")


def test_a_dataset_without_one_of_its_arrays_says_which(dataset: Path) -> None:
    with h5py.File(dataset, "r+") as file:
        del file["data/demo_1/failure"]
    with pytest.raises(UserError, match=r"task\.hdf5 is incomplete: .*failure"):
        read_episodes(dataset)


def test_a_dataset_of_another_task_or_size_is_refused(dataset: Path) -> None:
    with pytest.raises(UserError, match=r"holds episodes of failurebench:FailureBench/BoundedPush-v0, not of other"):
        read_episodes(dataset, task="other")
    with pytest.raises(UserError, match=r"observations of 5 numbers, the task gives 39"):
        read_episodes(dataset, obs_size=39)


def test_a_full_disk_leaves_the_old_dataset_and_says_so(dataset: Path) -> None:
    before = dataset.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    on_limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))   # a real write error, below HDF5
    try:
        with pytest.raises(UserError, match=r"cannot write .*task\.hdf5: .*Nothing was changed; free space"):
            write_episodes(dataset, EPISODES[:1], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, on_limit)
    assert dataset.read_bytes() == before
    assert list(dataset.parent.iterdir()) == [dataset]


def test_arrays_of_the_wrong_length_are_a_programming_error(tmp_path: Path) -> None:
    broken = episode(4, 0)
    broken.margin = broken.margin[:-1]
    with pytest.raises(ValueError, match="margin has 3 rows for 4 steps"):
        write_episodes(tmp_path / "a", [broken], {})
    with pytest.raises(ValueError, match="at least one episode"):
        write_episodes(tmp_path / "a", [], {})
