"""The LeRobot export, in the environment that scripts/lerobot_env makes: what LeRobot loads is what we recorded."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farl.data.episode_store import write_episodes
from farl.types import Episode

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".lerobot-venv" / "bin" / "python"
SCRIPT = ROOT / "experiments" / "export_lerobot.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="scripts/lerobot_env makes the environment it needs"),
]


def episode(seed: int, steps: int, success: bool) -> Episode:
    rng = np.random.default_rng(seed)
    failure = np.arange(steps) == 2
    return Episode(
        obs=rng.normal(size=(steps + 1, 5)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        terminated=np.zeros(steps, dtype=bool),
        truncated=np.arange(steps) == steps - 1,
        failure=failure,
        margin=np.where(failure, -0.01, np.nan).astype(np.float32),
        outcome="success" if success else "timeout",
        seed=2**40 + seed,
        task="my_tasks:Shelf-v0",
        behaviour="hand",
        extra={"risk": rng.random(steps).astype(np.float32), "qpos": rng.normal(size=(steps, 3))},
    )


EPISODES = [episode(0, 7, True), episode(1, 4, False), episode(2, 9, True)]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_episodes(tmp_path / "task.hdf5", EPISODES, {"fps": 20})
    return tmp_path / "task.hdf5"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": "/nonexistent"}
    command = [str(PYTHON), str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_number_comes_back_through_lerobot_and_another_number_is_noticed(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "lerobot" / "shelf"
    done = run(dataset, out, "--task", "stop before the edge")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: every number equals {dataset}; left out: qpos\n"
    assert [path.name for path in out.parent.iterdir()] == ["shelf"]
    info = json.loads((out / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 20, 3, 20)
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [5], "names": None}
    assert {"action", "next.failure", "next.success", "next.margin", "risk"} <= set(info["features"])

    changed = EPISODES[1].margin.copy()
    changed[3] = 0.25
    other = tmp_path / "other.hdf5"
    write_episodes(other, [EPISODES[0], replace(EPISODES[1], margin=changed, seed=5), EPISODES[2]], {"fps": 20})
    done = run(other, out, "--check")
    assert done.returncode == 1
    assert "episode 1, step 3, next.margin: [nan], not [0.25]" in done.stderr
    assert "'seed': 1099511627777" in done.stderr
    assert "2 differences" in done.stderr


def test_what_cannot_be_exported_is_one_line(dataset: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.hdf5"
    write_episodes(unknown, EPISODES, {})
    text = tmp_path / "text.hdf5"
    text.write_text("not HDF5")
    for arguments, expected in (
        ((unknown, tmp_path / "a"), "give --fps, for example --fps 40"),
        ((text, tmp_path / "a"), "text.hdf5"),
        ((tmp_path / "missing.hdf5", tmp_path / "a"), "missing.hdf5"),
        ((dataset, tmp_path), f"{tmp_path} exists; choose another folder"),
        ((dataset, tmp_path / "a", "--check"), "a is no LeRobotDataset"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert expected in done.stderr
    assert not (tmp_path / "a").exists()
