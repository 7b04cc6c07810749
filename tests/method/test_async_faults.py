"""Faults of a run in two processes: either may be killed at any moment, and what was finished is counted once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from farl import configuration
from farl.errors import UserError
from farl.online.actor import Actor
from farl.online.distributed.other_process import LinkConfig, OtherProcess
from farl.online.run import OnlineConfig, run
from method import cliff
from method.test_async import GATED, gone, learner_pid
from method.test_runs import equal_runs


def until(condition, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def killed(config: OnlineConfig, at_step: int) -> bytes:
    """Run in a process that kills itself on the way; ``episodes.jsonl`` as it was left."""

    def act():
        execute = Actor._execute

        def stop(self, *arguments):
            if self.steps >= at_step:
                os.kill(os.getpid(), signal.SIGKILL)
            execute(self, *arguments)

        Actor._execute = stop
        run(config)

    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    return (config.out / "episodes.jsonl").read_bytes()


def counted_once(out: Path) -> None:
    """Every line of the run's files is one episode, and the totals are those of the lines."""
    episodes, last = cliff.lines(out, "episodes"), cliff.lines(out, "metrics")[-1]
    assert [line["episode"] for line in episodes] == list(range(len(episodes)))
    assert len({line["seed"] for line in episodes}) == len(episodes)
    before = [line for line in episodes if line["end_step"] <= last["step"]]
    assert last["episodes"] == len(before)
    assert last["failures"] == sum(line["failed"] for line in before)
    iterations = [line["iteration"] for line in cliff.lines(out, "metrics")]
    assert iterations == list(range(1, len(iterations) + 1))


def test_a_learner_waits_for_an_actor_that_was_killed_and_nothing_that_was_finished_is_lost(bundle_folder, tmp_path):
    """First the actor is killed, then both; what the files held then is how the files of the finished run begin."""
    config = cliff.online(bundle_folder, tmp_path / "run", **{**GATED, "steps": 1536})
    first = killed(config, at_step=500)
    pid = learner_pid(config.out)
    until(lambda: "is gone" in (config.out / "learner.log").read_text())
    assert "waiting 600 s" in (config.out / "learner.log").read_text()
    second = killed(config, at_step=1000)
    assert learner_pid(config.out) == pid  # the one that waited
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    run(config)
    assert learner_pid(config.out) != pid
    final = (config.out / "episodes.jsonl").read_bytes()
    assert 0 < len(first) < len(second) < len(final)
    assert second.startswith(first)
    assert final.startswith(second)
    counted_once(config.out)
    assert cliff.lines(config.out, "metrics")[-1]["step"] == 1536


def test_a_run_that_took_turns_may_be_continued_in_one_process_bit_for_bit(bundle_folder, tmp_path):
    alone = run(cliff.online(bundle_folder, tmp_path / "alone", **{**GATED, "mode": "single"}))
    config = cliff.online(bundle_folder, tmp_path / "run", link=LinkConfig(ahead=0), **GATED)
    killed(config, at_step=700)
    os.kill(learner_pid(config.out), signal.SIGKILL)
    run(replace(config, mode="single"))
    equal_runs(alone, config.out)


def test_a_robot_keeps_every_episode_it_finished_and_learns_between_them(bundle, tmp_path):
    """One environment that cannot be put back: rollouts are whole episodes, and what was done is not done again."""
    task = replace(cliff.TASK, id="method.toys:Toys/Stateless-v0")
    replace(bundle, task=task).save(tmp_path / "bundle")
    changes = {**GATED, "task": task, "num_envs": 1, "rollout_steps": 100, "steps": 900, "evaluation_episodes": 0}
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", **changes)
    before = killed(config, at_step=430)
    run(config)
    final = (config.out / "episodes.jsonl").read_bytes()
    assert before.count(b"\n") >= 430 // 60
    assert final.startswith(before)
    counted_once(config.out)
    episodes, ends = cliff.lines(config.out, "episodes"), [0]
    for line in episodes:
        ends.append(ends[-1] + line["length"])
        assert line["end_step"] == ends[-1]  # the steps of the episode that was cut short are in no total
    assert {line["step"] for line in cliff.lines(config.out, "metrics")} <= set(ends)
    versions = [line["policy_version"] for line in episodes]
    assert versions == sorted(versions)
    assert versions[-1] > versions[0] == 0


def test_an_actor_without_a_learner_goes_on_for_a_bounded_number_of_rollouts_then_waits(
    bundle_folder, tmp_path, monkeypatch
):
    """And gives up after its patience: nothing is lost, and the run can be continued."""
    submit = OtherProcess.submit

    def kill_after(self, handover):
        submit(self, handover)
        if handover.number == 2:
            until(lambda: all(number >= 2 for number in list(self._courier._unlearned)))  # there was an update
            monkeypatch.setattr(self._route, "_start", lambda: None)  # it cannot be started again
            os.kill(learner_pid(config.out), signal.SIGKILL)
            until(lambda: not self._courier.connected)

    monkeypatch.setattr(OtherProcess, "submit", kill_after)
    link = LinkConfig(spool=3, patience_s=1.0)
    config = cliff.online(bundle_folder, tmp_path / "run", link=link, **{**GATED, "evaluation_episodes": 0})
    with pytest.raises(UserError, match="no learner came back within 1 s"):
        run(config)
    done = len(cliff.lines(config.out, "metrics"))
    monkeypatch.setattr(OtherProcess, "submit", submit)
    run(replace(config, link=LinkConfig(), mode="single"))  # where the learner is may change
    assert [line["iteration"] for line in cliff.lines(config.out, "metrics")] == list(range(1, 9))
    steps = [line["step"] for line in cliff.lines(config.out, "metrics")]
    lags = [line["lag"] for line in cliff.lines(config.out, "metrics")]
    assert steps == [128 * number for number in range(1, 9)]
    assert (
        max(lags) == 3 + 1
    )  # three waited and one was being collected; that one more came is what its checkpoint held
    assert 0 < done <= 2
    counted_once(config.out)


def test_a_learner_that_can_never_start_stops_the_run_with_its_last_words(bundle_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("farl.online.distributed.courier.PAUSES_S", (0.0,))
    monkeypatch.setattr("farl.online.distributed.routes.ATTEMPTS", 2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    config = cliff.online(bundle_folder, tmp_path / "run", **{**GATED, "evaluation_episodes": 0})
    with pytest.raises(UserError, match="ended 2 times in a row without an update"):
        run(config)
    assert json.loads((config.out / "meta.json").read_text())["status"] == "failed"


def test_weights_that_are_no_number_stop_the_run_before_anything_acts_on_them(bundle_folder, tmp_path):
    ppo = cliff.online(bundle_folder, tmp_path).ppo
    changes = {**GATED, "evaluation_episodes": 0, "ppo": replace(ppo, value_lr=1e30)}
    config = cliff.online(bundle_folder, tmp_path / "run", **changes)
    with pytest.raises(UserError, match="is not finite"):
        run(config)
    assert json.loads((config.out / "meta.json").read_text())["status"] == "failed"
    assert gone(learner_pid(config.out))


def test_ctrl_c_stops_both_processes_and_the_run_continues(bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", **{**GATED, "steps": 200_000})
    file = tmp_path / "run.yaml"
    file.write_text(configuration.dump(config))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "farl", "online", str(file)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, process_group=0)
    try:
        metrics = config.out / "metrics.jsonl"
        until(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 5)  # some episodes have ended
        pid = learner_pid(config.out)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to both
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"continues" in said
    assert gone(pid)
    assert json.loads((config.out / "meta.json").read_text())["status"] == "interrupted"
    before = (config.out / "episodes.jsonl").read_bytes()
    steps = json.loads((config.out / "meta.json").read_text())["steps"]
    run(replace(config, steps=steps + 256))
    assert (config.out / "episodes.jsonl").read_bytes().startswith(before)
    counted_once(config.out)
