"""`farl robot session`: what it refuses before anything moves, and whole sessions on the wire twin."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farl import configuration
from farl.cli import main
from farl.robot.config import RobotSessionConfig
from farl.robot.launching import manifest, played
from robots.session.journal import Journal, read_events, read_steps
from tests.robots.sessions import config, untaught


@pytest.fixture
def settings(tmp_path):
    """A session's configuration as a file, and its folder."""
    path = tmp_path / "session.yaml"
    path.write_text(configuration.dump(config(tmp_path)))
    return [str(path), "--robot.operator.kind", "nobody"]


def refusal(capsys, arguments):
    """What `farl robot session` says, in one message."""
    assert main(["robot", "session", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    return said[0]


def test_a_bundle_of_another_task_is_refused(settings, tmp_path, capsys):
    said = refusal(capsys, [*settings, "--task.id", "failurebench:FailureBench/FrankaDisturbedPush-v0"])
    assert "was made for failurebench:FailureBench/FrankaFragilePushWall-v0" in said
    assert not (tmp_path / "run").exists()


def test_a_task_without_a_definition_is_refused(settings, capsys):
    said = refusal(capsys, [*settings, "--task.id", "failurebench:FailureBench/BoundedPush-v0"])
    assert "is not played on an arm" in said


def test_a_folder_of_another_session_is_refused_and_says_what_differs(settings, tmp_path, capsys):
    plain = configuration.load(RobotSessionConfig, settings, "")
    _, robot = played(plain)
    Journal(tmp_path / "run/session", manifest(dataclasses.replace(plain, robot=robot))).close()
    (tmp_path / "run/config.yaml").write_text(configuration.dump(plain.online()))
    said = refusal(capsys, [*settings, "--robot.limits.soft-force-n", "10"])
    assert "robot.limits.soft_force_n: 12.0 there, 10.0 now" in said


def test_another_bundle_is_another_session(settings, tmp_path, capsys):
    import torch

    plain = configuration.load(RobotSessionConfig, settings, "")
    Journal(tmp_path / "run/session", manifest(dataclasses.replace(plain, robot=played(plain)[1]))).close()
    (tmp_path / "run/config.yaml").write_text(configuration.dump(plain.online()))
    from farl.offline.bundle import OfflineBundle

    bundle = OfflineBundle.load(tmp_path / "bundle")
    with torch.no_grad():
        next(bundle.policy.parameters()).add_(0.1)
    bundle.save(tmp_path / "bundle")
    assert "another bundle" in refusal(capsys, settings)


REAL = ["--robot.arm.host", "192.0.2.1"]


def test_a_real_arm_needs_a_person_with_a_device(settings, capsys):
    assert "a real arm needs a person" in refusal(capsys, [*settings, *REAL])
    pytest.importorskip("sdl2")
    assert "no gamepad" in refusal(capsys, [settings[0], *REAL])


def test_a_real_arm_needs_its_address_twice(settings, capsys, monkeypatch):
    monkeypatch.setattr("farl.robot.launching._operator", lambda robot: robot.operator)
    assert "give --confirm 192.0.2.1" in refusal(capsys, [*settings, *REAL])
    assert "which robot is it to be" in refusal(capsys, [*settings, *REAL, "--confirm", "192.0.2.2"])


def test_limits_that_contradict_the_task_are_refused(settings, capsys):
    said = refusal(capsys, [*settings, "--robot.limits.x-m", "0.5", "0.7"])
    assert "starts with the finger at" in said


def test_a_lead_that_makes_every_decision_too_old_is_refused(settings, capsys):
    said = refusal(capsys, [*settings, "--robot.env.lead-s", "0.06"])
    assert "a quick decision would be too old" in said


def test_wrong_keys_and_values_are_answered_with_the_right_ones(settings, capsys):
    assert "perhaps you meant '--robot.operator.kind'" in refusal(
        capsys, [settings[0], "--robot.operator.knd", "nobody"]
    )
    assert "perhaps you meant gamepad" in refusal(capsys, [settings[0], "--robot.operator.kind", "gampad"])
    assert "two things are on one button" in refusal(capsys, [settings[0], "--robot.operator.gamepad.success", "b"])


def test_the_shipped_configurations_are_read_and_name_tasks_that_exist():
    files = sorted(Path("configs/robot").glob("*.yaml"))
    assert files
    for file in files:
        task, robot = played(configuration.read(RobotSessionConfig, file))
        robot.bounds.check(task)
        assert not robot.on_twin


def session(folder, *flags):
    """A command line of a short session on the wire twin."""
    fixed = [
        "--twin",
        "--robot.operator.kind",
        "nobody",
        "--bundle",
        str(folder / "bundle"),
        "--out",
        str(folder / "run"),
    ]
    rules = ["--robot.env.rules.max-episode-steps", "25", "--rollout-steps", "25", "--first-speed", "0"]
    learning = ["--ppo.warmup", "0", "--ppo.epochs", "2", "--gate.threshold", "0.99", "--method", "random-gate"]
    return [sys.executable, "-m", "farl", "robot", "session", *fixed, *rules, *learning, *flags]


@pytest.mark.realtime
def test_two_episodes_on_the_wire_twin_with_a_learner_beside_them_survive_kill_9(tmp_path):
    pytest.importorskip("franky_sim")
    pytest.importorskip("franky")
    untaught(tmp_path / "bundle")
    command = session(tmp_path, "--episodes", "2", "--no-preflight")
    steps = tmp_path / "run/session"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
        until = time.monotonic() + 120
        while len(read_steps(steps).records) < 35 and first.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    before = read_steps(steps).records
    assert len(before) >= 35
    said = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    assert "(as the journal has it)" in said
    after = read_steps(steps).records
    assert after[: len(before)] == before
    lines = [json.loads(line) for line in (tmp_path / "run/episodes.jsonl").read_text().splitlines()]
    lost = [json.loads(line) for line in (tmp_path / "run/lost.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    reasons = [one["reason"] for one in lost]
    assert reasons.count("interrupted") == 1
    assert sum(one["length"] for one in lines + lost) + 25 > len(after) - 25
    metrics = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert len(metrics) >= 2
    resumed = [json.loads(event.detail) for event in read_events(steps).records if event.word == "resumed"]
    if len(reasons) == 1:  # a busy machine may have lost another, to a reflex
        assert resumed[-1]["steps"] == 25


@pytest.mark.realtime
def test_the_rehearsal_passes_on_the_twin():
    pytest.importorskip("franky_sim")
    pytest.importorskip("franky")
    from failurebench.franka.push_wall import FrankaFragilePushWall
    from robots.config import RobotConfig
    from robots.session.rehearsal import rehearse

    assert len(rehearse(RobotConfig(), FrankaFragilePushWall())) == 8
