"""Collections that are interrupted continue to the same bytes; ``farl datasets`` names what is there and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from failurebench.point_mass import PointMassCliff
from farl.data.episode_store import read_episodes
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.offline import partial
from farl.offline.collecting import Snapshot
from farl.offline.demos import SETS, DemosConfig, collect
from method import cliff

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
