"""Killed at any moment, and started again: what was finished is there once, and nothing half made is taken for finished."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import kill_test
from experiments.kill_test import Kill
from farl.data.episode_store import read_episodes
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.offline.demos import SETS, collect
from farl.offline.pipeline import train
from method import cliff
from method.forked import Forked


def begin(config: Path, page: Path, *tear: str) -> Forked:
    return Forked(kill_test.main, ["victim", str(config), str(page), *tear])


def test_a_run_killed_again_and_again_is_the_run_that_was_left_alone(bundle_folder, tmp_path):
    """The fifty of results/kill_test.md are made by the same function."""
    kills = [
        Kill("append", 500, 0.5),
        Kill("checkpoint", 1500, 0.3),
        Kill("update", 2500, 0.5),
        Kill("append", 3000, 0.9, "metrics"),
        Kill("moment", 3600, 0.1),
    ]
    deaths, differing = kill_test.trial(bundle_folder, tmp_path, kills, 4096, begin)
    assert differing == []
    assert "bytes of a line of episodes" in deaths[0].left
    assert "bytes of a line of metrics" in deaths[3].left
    episodes = cliff.lines(tmp_path / "killed", "episodes")
    assert [line["episode"] for line in episodes] == list(range(len(episodes)))
    assert not list((tmp_path / "killed").rglob(".*.part"))


def killed_at_write(work: Callable[[Any], Any], config: Any, number: int) -> bool:
    """Do it in a process that is killed at its ``number``-th flush, just before or after a file gets its name.

    False if it ended before.
    """

    def dying() -> None:
        flush, left = os.fsync, [number]

        def last(handle: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(handle)

        os.fsync = last
        work(config)

    return Forked(dying).wait() == -signal.SIGKILL


def test_demonstrations_killed_at_their_writes_are_never_taken_for_finished(few, tmp_path):
    config = cliff.few(tmp_path / "demos")
    kills = 0
    for number in (1, 2, 5, 10, 4, 3, 8, 6):
        kills += killed_at_write(collect, config, number)
        for name in SETS:
            if (path := config.out / f"{name}.hdf5").exists():
                read_episodes(path)
        if not (config.out / "demos.json").exists():
            with pytest.raises(UserError, match=r"hdf5"):
                train(cliff.hurried(config.out, tmp_path / "too-early"))
    assert kills >= 6
    collect(config)
    assert not list(config.out.rglob(".*.part"))
    for name in SETS:
        assert (config.out / f"{name}.hdf5").read_bytes() == (few / f"{name}.hdf5").read_bytes()


def test_an_offline_stage_killed_at_its_writes_is_never_taken_for_finished(few, tmp_path):
    whole = OfflineBundle.load(train(cliff.hurried(few, tmp_path / "whole")))
    config = cliff.hurried(few, tmp_path / "bundle")
    kills = 0
    for number in (0, 3, 4, 5, 6, 7, 2):
        kills += killed_at_write(train, config, number)
        if not (config.out / "manifest.json").exists():
            with pytest.raises(UserError, match=r"no bundle in"):
                OfflineBundle.load(config.out)
    assert kills >= 5
    train(config)
    assert cliff.same_weights(whole.weights(), OfflineBundle.load(config.out).weights())
    assert sorted(path.name for path in config.out.iterdir() if path.name not in ("progress.json", ".lock")) == [
        "acceptance.json",
        "config.yaml",
        "manifest.json",
        "weights.safetensors",
    ]
