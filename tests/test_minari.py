"""Minari: what a DataCollector recorded becomes one of our datasets number for number, and goes back unchanged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from farl import cli
from farl.data.episode_store import describe, read_episodes, write_episodes
from farl.types import Episode

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

minari = pytest.importorskip("minari")
pytest.importorskip("jax", reason="Minari's DataCollector needs it: pip install 'minari[create]'")

CLIFF = "FailureBench/PointMassCliff-v0"
PUSH = "FailureBench/BoundedPush-v0"
Step = tuple[Any, Any, float, bool, bool, dict[str, Any]]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)


def record(
    name: str, env_id: str, infos: bool = True, change: Callable[[Any], Any] = lambda e: e, **options: Any
) -> Any:
    """Collect four episodes with Minari's own collector; returns everything that the environment said."""
    import failurebench  # noqa: F401 (registers the ids)

    env = minari.DataCollector(change(gym.make(env_id, **options)), record_infos=infos)
    said: list[list[Step]] = []
    for seed, kind in enumerate(("task", "failure", "task", "failure")):
        expert = env.unwrapped.expert(kind)
        expert.reset(np.random.default_rng(seed))
        obs, info = env.reset(seed=seed)
        steps: list[Step] = [(obs, None, 0.0, False, False, info)]
        while not (steps[-1][3] or steps[-1][4]):
            action = expert.act(env.unwrapped.observation() if isinstance(steps[-1][0], dict) else steps[-1][0])
            obs, reward, terminated, truncated, info = env.step(action)
            steps.append((obs, action, float(reward), terminated, truncated, info))
        said.append(steps)
    env.create_dataset(name, description="a test")
    env.close()
    return said


@pytest.mark.parametrize(
    ("env_id", "options"), [(CLIFF, {"max_episode_steps": 30}), (PUSH, {"max_episode_steps": 40, "action_repeat": 3})]
)
def test_every_number_that_a_collector_recorded_is_in_our_file(env_id: str, options: dict[str, Any]) -> None:
    said = record("test/mixed-v0", env_id, **options)
    command = [sys.executable, "-m", "farl", "datasets", "import", "minari:test/mixed-v0", "demos/mine/task.hdf5"]
    subprocess.run(command, check=True)  # where nothing has registered the id yet
    episodes = read_episodes(Path("demos/mine/task.hdf5"), task=f"failurebench:{env_id}", options=options)
    assert len(episodes) == 4
    assert any(episode.failed for episode in episodes)
    assert any(episode.outcome == "success" for episode in episodes)
    for seed, (episode, steps) in enumerate(zip(episodes, said, strict=True)):
        assert episode.seed == seed
        assert np.array_equal(episode.obs, np.stack([step[0] for step in steps]))
        assert np.array_equal(episode.actions, np.stack([step[1] for step in steps[1:]]))
        rewards = np.array([step[2] for step in steps[1:]])
        assert np.array_equal(episode.rewards, rewards.astype(np.float32))
        assert np.array_equal(episode.extra.get("reward64", episode.rewards), rewards)
        assert episode.terminated.tolist() == [step[3] for step in steps[1:]]
        assert episode.truncated.tolist() == [step[4] for step in steps[1:]]
        for key, array in episode.extra.items():
            if key != "reward64":
                told = [step[5][key] for step in steps[1:]]
                assert (
                    array.tolist() == [text.encode() for text in told]
                    if key == "failure_type"
                    else told == array.tolist()
                )
        assert set(steps[0][5]) <= set(episode.extra)
        assert np.array_equal(episode.failure, episode.extra["failure"])
        assert np.array_equal(episode.margin, episode.extra["margin"].astype(np.float32))
        assert episode.outcome == ("success" if steps[-1][5]["success"] else "timeout")


def test_our_file_becomes_a_minari_dataset_and_comes_back_unchanged() -> None:
    record("test/first-v0", CLIFF, max_episode_steps=30)
    assert cli.main(["datasets", "import", "minari:test/first-v0", "one.hdf5", "--behaviour", "script"]) == 0
    assert cli.main(["datasets", "export", "one.hdf5", "minari:test/second-v0"]) == 0
    assert cli.main(["datasets", "import", "minari:test/second-v0", "two.hdf5", "--behaviour", "script"]) == 0
    one, two = (read_episodes(Path(name), options={"max_episode_steps": 30}) for name in ("one.hdf5", "two.hdf5"))
    for first, second in zip(one, two, strict=True):
        for name in ("obs", "actions", "rewards", "terminated", "truncated", "failure", "margin"):
            assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name == "margin"), name
        assert (first.seed, first.task, first.outcome) == (second.seed, second.task, second.outcome)
        assert first.extra.keys() == second.extra.keys()
        for key, array in first.extra.items():
            assert np.array_equal(array, second.extra[key]), key


def test_a_dataset_of_ours_without_infos_exports_its_labels() -> None:
    nothing = np.zeros(3, dtype=bool)
    failure, margin = np.array([False, True, True]), np.array([0.1, -0.1, np.nan], np.float32)
    obs, actions = np.arange(8, dtype=np.float32).reshape(4, 2), np.ones((3, 1), np.float32)
    last = np.array([False, False, True])
    episode = Episode(obs, actions, margin * 2, nothing, last, failure, margin, "success", 2**40, "a:B-v0", "hand")
    write_episodes(Path("own.hdf5"), [episode, episode], {})
    assert cli.main(["datasets", "export", "own.hdf5", "minari:hand-v0"]) == 0
    read = next(minari.load_dataset("hand-v0").iterate_episodes())
    assert np.array_equal(read.rewards, episode.rewards, equal_nan=True)
    assert read.infos["failure"].tolist() == [False, False, True, True]
    assert read.infos["success"].tolist() == [False, False, False, True]
    assert np.array_equal(read.infos["margin"][1:], margin, equal_nan=True)


def said_instead(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["datasets", "import", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_dataset_without_failures_names_the_key_and_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    record("plain-v0", CLIFF, infos=False)
    said = said_instead(capsys, "minari:plain-v0", "a.hdf5")
    assert 'plain-v0 has no info "failure"' in said
    assert "record_infos=True" in said
    assert not Path("a.hdf5").exists()
    record("full-v0", CLIFF)
    said = said_instead(capsys, "minari:full-v0", "a.hdf5", "--keys.failure", "accident")
    assert 'no info "accident"' in said
    assert "failure_onset" in said  # those that are there
    assert (
        cli.main(["datasets", "import", "minari:full-v0", "a.hdf5", "--keys.failure", "cost", "--keys.success", "won"])
        == 0
    )
    assert "not recorded in minari:full-v0: won" in capsys.readouterr().out
    assert {episode.outcome for episode in read_episodes(Path("a.hdf5"))} == {"timeout"}
    assert describe(Path("a.hdf5")).onsets > 0


def test_what_cannot_be_imported_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no Minari dataset 'nothing-v0' here (none)" in said_instead(capsys, "minari:nothing-v0", "a.hdf5")
    assert "source is 'nothing-v0'; give minari:NAME" in said_instead(capsys, "nothing-v0", "a.hdf5")
    assert "usage: farl datasets import minari:NAME OUT.hdf5" in said_instead(capsys, "minari:nothing-v0")
    Path("a.hdf5").write_text("mine")
    assert "a.hdf5 exists; choose another file" in said_instead(capsys, "minari:nothing-v0", "a.hdf5")


def test_an_environment_that_minari_does_not_remember_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    record("own-v0", CLIFF, change=lambda e: gym.wrappers.TransformAction(e, lambda a: a, e.action_space))
    said = said_instead(capsys, "minari:own-v0", "a.hdf5")
    assert "own-v0 does not say which environment it is from; give --task" in said
    assert cli.main(["datasets", "import", "minari:own-v0", "a.hdf5", "--task", PUSH]) == 0
    assert describe(Path("a.hdf5")).task == f"failurebench:{PUSH}"


def test_observations_that_are_no_flat_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    space = gym.spaces.Dict({"state": gym.spaces.Box(-10, 10, (6,), np.float32)})
    record("nested-v0", CLIFF, change=lambda e: gym.wrappers.TransformObservation(e, lambda o: {"state": o}, space))
    assert "nested-v0 has observations Dict(" in said_instead(capsys, "minari:nested-v0", "a.hdf5")


def test_observations_that_32_bits_do_not_hold_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    wide = gym.spaces.Box(-10, 10, (6,), np.float64)
    record(
        "wide-v0", CLIFF, change=lambda e: gym.wrappers.TransformObservation(e, lambda o: o.astype(float) + 1e-12, wide)
    )
    assert "observations of dtype float64 that 32 bits do not hold" in said_instead(
        capsys, "minari:wide-v0", "a.hdf5", "--task", CLIFF
    )
