"""Collections that are interrupted continue to the same bytes; ``farl datasets`` names what is there and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from method import cliff

from failurebench.point_mass import PointMassCliff
from farl import cli
from farl.data.episode_store import read_episodes
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.offline import partial
from farl.offline.collecting import Snapshot
from farl.offline.demos import SETS, DemosConfig, collect

PARTS = (
    "task-0-task",
    "task-1-pusher",
    "clone",
    "failure-0-failure",
    "failure-1-pusher",
    "failure-2-task",
    "failure-3-clone",
    "failure-4-clone",
    "recovery",
    "recovery-1",
    "calibration",
)


# ---- continuing


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collect(cliff.few(tmp_path_factory.mktemp("whole") / "demos"))


def stopping(monkeypatch: pytest.MonkeyPatch, at: str, worked: list[str]) -> None:
    """Ctrl-C after the work of ``at`` was done but before it was kept: the costliest moment."""

    def spied(name: str, work: Callable[[], Any]) -> Callable[[], Any]:
        def wrapped() -> Any:
            worked.append(name)
            result = work()
            if name == at:
                raise KeyboardInterrupt
            return result

        return wrapped

    part, weights = partial.Partial.part, partial.Partial.weights
    monkeypatch.setattr(partial.Partial, "part", lambda self, name, make: part(self, name, spied(name, make)))
    monkeypatch.setattr(
        partial.Partial, "weights", lambda self, name, module, learn: weights(self, name, module, spied(name, learn))
    )


def test_a_collection_stopped_in_every_part_continues_to_the_same_bytes(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cliff.few(tmp_path / "demos")
    for index, name in enumerate(PARTS):
        worked: list[str] = []
        with monkeypatch.context() as patch:
            stopping(patch, name, worked)
            with pytest.raises(KeyboardInterrupt):
                collect(config)
        assert worked == list(PARTS[max(0, index - 1) : index + 1])  # what was stopped last time is done again
        assert not (config.out / "demos.json").exists()
    collect(config)
    for name in (*(f"{name}.hdf5" for name in SETS), "demos.json"):
        assert (config.out / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert not (config.out / partial.FOLDER).exists()


def test_a_damaged_part_is_made_again(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = cliff.few(tmp_path / "demos")
    with monkeypatch.context() as patch:
        stopping(patch, "calibration", [])
        with pytest.raises(KeyboardInterrupt):
            collect(config)
    for name in ("task-0-task.hdf5", "failure-1-pusher.npz", "clone.pt"):
        file = config.out / partial.FOLDER / name
        file.write_bytes(file.read_bytes()[:-100])
    collect(config)
    for name in SETS:
        assert (config.out / f"{name}.hdf5").read_bytes() == (uninterrupted / f"{name}.hdf5").read_bytes(), name


def test_snapshots_are_kept_exactly_whatever_shape_their_arrays_have(tmp_path: Path) -> None:
    def state(size: int) -> dict[str, Any]:
        return {
            "physics": np.linspace(0, 1, size),
            "flags": np.array([True, False]),
            "steps": size,
            "failed": False,
            "task": "ledge",
            "margin": 0.1 + 0.2,
            "zero": np.array(3.0),
            "none": np.zeros((0, 2), np.float32),
        }

    snapshots = [Snapshot(lead, state(3 + lead % 2), "clone") for lead in range(1, 6)]
    read = partial._unpack(partial._pack(snapshots))
    assert [(s.lead, s.behaviour) for s in read] == [(s.lead, s.behaviour) for s in snapshots]
    for one, two in zip(snapshots, read, strict=True):
        assert one.state.keys() == two.state.keys()
        for key, value in one.state.items():
            assert type(value) is type(two.state[key])
            assert np.array_equal(value, two.state[key])
            assert np.asarray(value).dtype == np.asarray(two.state[key]).dtype


def test_states_of_another_kind_cost_an_interruption_only_time(tmp_path: Path) -> None:
    made = []

    def make() -> partial.Part:
        made.append(1)
        return partial.Part([], [Snapshot(1, {"sim": object()}, "clone")])

    for _ in range(2):
        partial.Partial(tmp_path, {}).part("failure-0", make)
    assert len(made) == 2


# ---- any task


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("failurebench:FailureBench/BoundedPush-v0", "demos/bounded-push"),
        ("failurebench:FailureBench/FragilePushWall-Hard-v0", "demos/fragile-push-wall-hard"),
        ("my_tasks:Shelf-v12", "demos/shelf"),
    ],
)
def test_the_sets_of_a_task_have_a_folder_of_their_own(task: str, folder: str) -> None:
    assert DemosConfig(task=TaskConfig(task)).out == Path(folder)
    assert DemosConfig(task=TaskConfig(task), out=Path("elsewhere")).out == Path("elsewhere")


class Short(PointMassCliff):
    """The point mass with 25 steps, and neither a clumsy demonstrator nor a failure seeker."""

    expert_kinds = ("task", "recovery")

    def __init__(self) -> None:
        super().__init__(max_episode_steps=25)


def test_a_task_with_short_episodes_and_two_experts_gets_all_four_sets(tmp_path: Path) -> None:
    gym.register("Test/Short-v0", entry_point=Short)
    try:
        out = collect(cliff.few(tmp_path / "demos", task=TaskConfig("Test/Short-v0"), clone_steps=1500))
    finally:
        del gym.registry["Test/Short-v0"]
    sets = {name: read_episodes(out / f"{name}.hdf5") for name in SETS}
    assert {e.behaviour for e in sets["task"]} == {"task"}
    assert {e.behaviour for e in sets["failure"]} == {"task", "clone"}
    assert any(e.failed for e in sets["failure"])
    assert max(len(e) for episodes in sets.values() for e in episodes) <= 25


def test_a_task_without_experts_is_one_message(tmp_path: Path) -> None:
    class Bare(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    gym.register("Test/Bare-v0", entry_point=Bare)
    try:
        with pytest.raises(UserError, match=r"Test/Bare-v0 has no scripted expert 'task'; it offers none"):
            collect(cliff.few(tmp_path / "demos", task=TaskConfig("Test/Bare-v0")))
    finally:
        del gym.registry["Test/Bare-v0"]


# ---- listing


def listed(capsys: pytest.CaptureFixture[str], *folders: Path) -> tuple[int, str]:
    status = cli.main(["datasets", *map(str, folders)])
    return status, capsys.readouterr().out


def test_every_dataset_is_listed_with_what_it_holds(uninterrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = listed(capsys, uninterrupted.parent)
    assert status == 0
    assert shown.startswith(f"{uninterrupted}\n")
    rows = {line.split()[0]: line.split() for line in shown.splitlines()[2:] if line}
    counts = json.loads((uninterrupted / "demos.json").read_text())
    assert set(rows) == set(SETS)
    for name, row in rows.items():
        expected = [str(counts[name][key]) for key in ("episodes", "transitions", "failures", "successes")]
        assert row[1:6] == ["PointMassCliff-v0", *expected]
        seeds = [episode.seed for episode in read_episodes(uninterrupted / f"{name}.hdf5")]
        assert row[6:9] == [str(min(seeds)), "to", str(max(seeds))]
        assert float(row[9]) == pytest.approx((uninterrupted / f"{name}.hdf5").stat().st_size / 1e6, abs=0.05)
        assert row[10] == "complete"


def test_an_unfinished_collection_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cliff.few(tmp_path / "demos")
    with monkeypatch.context() as patch:
        stopping(patch, "failure-0-failure", [])
        with pytest.raises(KeyboardInterrupt):
            collect(config)
    status, shown = listed(capsys, tmp_path)
    assert status == 0
    assert [line.split()[0] for line in shown.splitlines() if line.endswith(" unfinished")] == [
        "task-0-task",
        "task-1-pusher",
    ]
    assert f"unfinished: `farl demos {config.out}/config.yaml` continues it" in shown
    assert cli.main(["demos", str(config.out / "config.yaml")]) == 0
    assert "unfinished: " not in listed(capsys, tmp_path)[1]


def test_broken_and_foreign_files_are_named_with_the_cure(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (uninterrupted / "task.hdf5").read_bytes()
    (tmp_path / "fine.hdf5").write_bytes(whole)
    (tmp_path / "half.hdf5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.hdf5").write_text("not HDF5")
    for name, change in CHANGES.items():
        (tmp_path / f"{name}.hdf5").write_bytes(whole)
        with h5py.File(tmp_path / f"{name}.hdf5", "r+") as file:
            change(file)
    status, shown = listed(capsys, tmp_path)
    assert status == 1
    assert shown.count("broken: ") == len(CHANGES) + 2
    for name in ("half", "text", *CHANGES):
        line = next(line for line in shown.splitlines() if line.startswith(f"broken: {tmp_path / name}.hdf5"))
        assert "farl demos" in line, line


def _set(name: str, value: str) -> Callable[[h5py.File], None]:
    return lambda file: file["data"].attrs.__setitem__(name, value)


def _delete(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def _shortened(episode: h5py.Group) -> None:
    kept = episode["rewards"][:-1]
    del episode["rewards"]
    episode["rewards"] = kept


CHANGES: dict[str, Callable[[h5py.File], None]] = {
    "foreign": lambda file: file["data"].attrs.__delitem__("farl"),
    "empty": lambda file: [file["data"].__delitem__(name) for name in list(file["data"])],  # type: ignore[dict-item]
    "no-failure": _delete("data/demo_1/failure"),
    "no-obs": _delete("data/demo_0/obs"),
    "no-env": lambda file: file["data"].attrs.__delitem__("env_args"),
    "no-json": _set("farl", "{"),
    "no-format": _set("farl", "{}"),
    "no-margin": _delete("data/demo_3/margin"),
    "short": lambda file: _shortened(file["data/demo_3"]),
    "no-seed": lambda file: file["data/demo_2"].attrs.__delitem__("seed"),
    "other-names": lambda file: file["data"].move("demo_0", "first"),
}
"""ways in which a file of ours stops being one"""


def test_nothing_and_nowhere_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed(capsys) == (0, "no datasets below demos, studies; `farl demos` makes some\n")
    assert cli.main(["datasets", "nowhere"]) == 2
    assert "there is no folder 'nowhere'" in capsys.readouterr().err
    assert cli.main(["datasets", "--json"]) == 2
    assert "usage: farl datasets [FOLDER ...]" in capsys.readouterr().err
