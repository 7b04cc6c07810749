"""Environments that raise or do not return: the episode is lost and said to be, every count is right, the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.run_equality import differences
from farl import configuration
from farl.algorithms.gate import GateConfig
from farl.environments import TaskConfig, get_states, make_vector, set_states
from farl.errors import UserError
from farl.files import read_jsonl
from farl.offline.bundle import OfflineBundle
from farl.online.run import OnlineConfig, run
from farl.outputs import Claim
from farl.watchdog import EXIT_STATUS, DidNotReturn, Watchdog, WatchdogConfig
from method import cliff
from method.forked import Forked


def unreliable(bundle: OfflineBundle, folder: Path, kind: str = "Unreliable", **options: Any) -> OnlineConfig:
    task = TaskConfig(f"method.toys:Toys/{kind}-v0", options)
    replace(bundle, task=task).save(folder / "bundle")
    return cliff.online(folder / "bundle", folder / "run", task=task, evaluation_episodes=0, steps=512)


def counted(out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The finished and the lost episodes, which share no seed and leave none out, and totals that agree with both."""
    finished, lost = cliff.lines(out, "episodes"), list(read_jsonl(out / "lost.jsonl"))
    last = cliff.lines(out, "metrics")[-1]
    assert last["episodes"] == len(finished)
    assert last["lost"] == len(lost)
    assert last["failures"] == sum(line["failed"] for line in finished)
    assert [line["episode"] for line in finished] == list(range(len(finished)))
    return finished, lost


def test_an_environment_that_raises_costs_its_episode_and_nothing_else(bundle, tmp_path):
    config = unreliable(bundle, tmp_path)
    run(config)
    finished, lost = counted(config.out)
    assert lost
    assert {line["seed"] % 10 for line in lost} == {4}
    assert {line["length"] for line in lost} == {2}
    assert not {line["seed"] for line in lost} & {line["seed"] for line in finished}
    assert lost[0]["reason"].startswith("raised RuntimeError: the motor stalled (toys.py, line ")
    assert 4 not in {line["seed"] % 10 for line in finished}


def test_the_other_environments_do_not_notice(bundle, tmp_path):
    """Bit for bit what they would have done, over the very steps on which the fifth one breaks and is made anew."""
    watchdog = Watchdog(WatchdogConfig())
    sound = make_vector(cliff.TASK, 8, watchdog)
    broken = make_vector(TaskConfig("method.toys:Toys/Unreliable-v0"), 8, watchdog)
    rng, everyone, others = np.random.default_rng(0), np.ones(8, bool), np.arange(8) != 4
    for envs in (sound, broken):
        envs.reset(seed=list(range(8)), options={"reset_mask": everyone})
    for _ in range(6):
        action = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
        one, other = sound.step(action), broken.step(action)
        for expected, found in zip(one[:4], other[:4], strict=True):
            assert np.array_equal(expected[others], found[others])
        if other[3][4]:
            broken.reset(seed=[9] * 8, options={"reset_mask": ~others})


@pytest.mark.parametrize("task", [cliff.TASK, TaskConfig("failurebench:FailureBench/BoundedPush-v0")])
def test_watched_environments_give_their_states_and_go_on_from_them(task):
    """Also those that step in one call: without states a run that is continued begins its open episodes anew."""
    envs = make_vector(task, 2, Watchdog(WatchdogConfig()))
    envs.reset(seed=[1, 2], options={"reset_mask": np.ones(2, bool)})
    action = np.full(envs.action_space.shape, 0.3, np.float32)
    envs.step(action)
    states = get_states(envs)
    assert states is not None
    first = envs.step(action)[0]
    set_states(envs, states)
    assert np.array_equal(envs.step(action)[0], first)


def test_a_failure_that_came_before_the_break_is_counted(bundle, tmp_path):
    config = unreliable(bundle, tmp_path, break_at=30, slide=True)
    run(config)
    finished, lost = counted(config.out)
    assert lost
    assert all(line["failed"] for line in lost)
    assert {line["seed"] for line in lost} <= {line["seed"] for line in finished if line["failed"]}
    cut = [line for line in finished if line["seed"] in {one["seed"] for one in lost}]
    assert all(line["outcome"] == "timeout" and line["length"] <= 30 for line in cut)


def test_environments_that_step_together_lose_their_episodes_together(bundle, tmp_path):
    config = unreliable(bundle, tmp_path, "Together", break_at=9)
    run(config)
    finished, lost = counted(config.out)
    assert len(lost) % 8 == 0 < len(lost)
    assert finished


def test_an_environment_that_keeps_breaking_stops_the_run_with_its_own_words(bundle, tmp_path):
    config = unreliable(bundle, tmp_path, unlucky=-1)
    with pytest.raises(
        UserError, match=r"environment 0 of .* broke 4 times in a row, .* raised RuntimeError: the motor stalled \(toys"
    ) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert json.loads((config.out / "meta.json").read_text())["status"] == "failed"


def test_an_environment_that_hangs_is_interrupted(bundle, tmp_path):
    config = replace(unreliable(bundle, tmp_path, manner="hang"), watchdog=WatchdogConfig(call_s=0.8), steps=256)
    run(config)
    _, lost = counted(config.out)
    assert {line["seed"] % 10 for line in lost} == {4}
    assert lost[0]["reason"].startswith("did not return within 0.8 s (toys.py, line ")
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_where_no_signal_gets_through_the_process_ends_itself_and_says_where_it_hung(bundle, tmp_path):
    config = replace(unreliable(bundle, tmp_path, manner="deadlock"), watchdog=WatchdogConfig(call_s=0.5))
    (tmp_path / "run.yaml").write_text(configuration.dump(config))
    command = [sys.executable, "-m", "farl", "online", str(tmp_path / "run.yaml")]
    folders = os.pathsep.join(map(str, (Path(__file__).parents[1], os.environ.get("PYTHONPATH", ""))))
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": folders},
        check=False,
    )
    assert ended.returncode == EXIT_STATUS
    assert "did not return within 1 s and cannot be interrupted" in ended.stderr
    assert "in _deadlock" in ended.stderr
    meta = json.loads((config.out / "meta.json").read_text())
    assert meta["status"] == "failed"
    assert "cannot be interrupted" in meta["reason"]
    Claim(config.out).release()


def test_evaluation_plays_a_lost_episode_again(bundle, tmp_path):
    """Its breaks are those of the first environment only, which is replaced by one that is as unlucky: four in a row stop it."""
    options = {"unlucky": 0, "break_at": 1000}
    config = replace(unreliable(bundle, tmp_path, **options), evaluation_episodes=4)
    run(config)
    sound = replace(config, task=cliff.TASK, out=tmp_path / "sound", bundle=tmp_path / "sound-bundle")
    replace(bundle, task=cliff.TASK).save(tmp_path / "sound-bundle")
    run(sound)
    assert cliff.lines(config.out, "evaluations") == cliff.lines(sound.out, "evaluations")


def test_a_process_that_was_suspended_is_not_taken_for_one_that_hangs():
    """The watchdog counts its own looks: while it sleeps, no time passes."""

    def work() -> None:
        watchdog = Watchdog(WatchdogConfig(call_s=1.0))
        watchdog.start()
        os.kill(os.getpid(), signal.SIGSTOP)
        watchdog.call(time.sleep, 0.5)
        os._exit(0)

    process = Forked(work)
    time.sleep(2.0)
    os.kill(process.process.pid, signal.SIGCONT)
    assert process.wait() == 0


def test_what_takes_its_time_within_the_limit_is_left_alone():
    watchdog = Watchdog(WatchdogConfig(call_s=2.0))
    watchdog.start()
    try:
        for _ in range(5):
            watchdog.call(time.sleep, 0.5)  # 2.5 s together
        with pytest.raises(DidNotReturn):
            watchdog.call(time.sleep, 20)
    finally:
        watchdog.close()


@pytest.mark.parametrize(("name", "value"), [("call_s", -1.0), ("call_s", float("nan")), ("retries", -1)])
def test_a_watchdog_that_cannot_be_meant(name, value):
    with pytest.raises(ValueError, match=f"watchdog.{name} is"):
        WatchdogConfig(**{name: value})


def test_a_gated_run_continues_after_losses_as_if_nothing_had_been(bundle, tmp_path, monkeypatch):
    from method.test_runs import run_until

    config = replace(unreliable(bundle, tmp_path), method="farl", gate=GateConfig(threshold=0.02))
    whole = run(replace(config, out=tmp_path / "whole"))
    run_until(config, 450, monkeypatch)
    run(config)
    assert differences(whole, config.out) == []
    assert list(read_jsonl(whole / "lost.jsonl")) == list(read_jsonl(config.out / "lost.jsonl"))
