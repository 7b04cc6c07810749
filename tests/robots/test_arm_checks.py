"""Whatever is wrong with the address, the robot or this machine is told in one message, before anything moves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm import host
from robots.arm.config import ArmConfig, RecoveryConfig
from robots.arm.franky_arm import FrankyArm
from robots.arm.supervised import TookTooLongError, supervised
from robots.errors import RobotError
from robots.limits import Limits

pytest.importorskip("franky", reason="the driver is franky-control (extra 'robot')")


def refusal(address: str, **config: object) -> str:
    arm = FrankyArm(ArmConfig(address, **config), FrankaFragilePushWall(), Limits())
    begun = time.monotonic()
    with pytest.raises(RobotError) as caught:
        arm.connect()
    assert time.monotonic() - begun < 5.0
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.9.8.7", "FCI is not activated"), ("robot.invalid", "no host 'robot.invalid'")],
)
def test_an_address_without_a_controller_is_told_within_seconds(address, words):
    assert words in refusal(address)


def test_a_controller_of_another_protocol_version_is_told(start_twin):
    from robots.twin.configuration import ControllerConfig

    old = start_twin(controller=ControllerConfig(server_version=5))
    said = refusal(old.host)
    assert "server version: 5" in said
    assert "library version: 10" in said


def test_another_robot_is_told(start_twin):
    from robots.twin.configuration import ControllerConfig

    other = start_twin(controller=ControllerConfig(robot_type="panda"))
    assert "calls itself 'panda', but robot_type is 'fr3'" in refusal(other.host)


def test_a_missing_real_time_kernel_is_told_with_what_it_means(tmp_path: Path):
    missing = host.warnings(tmp_path / "realtime")
    assert "communication_constraints_violation" in missing[0]
    (tmp_path / "realtime").write_text("1\n")
    assert not any("real-time kernel" in told for told in host.warnings(tmp_path / "realtime"))


@pytest.mark.parametrize(
    ("cores", "load", "words"),
    [({0}, 0.1, "one core only"), ({0, 1}, 1.7, "no free core: 1.7 of 2"), ({0, 1}, 0.9, "")],
)
def test_a_missing_free_core_is_told(monkeypatch, tmp_path, cores, load, words):
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda process: cores)
    monkeypatch.setattr(host.os, "getloadavg", lambda: (load, 0.0, 0.0))
    (tmp_path / "realtime").write_text("1\n")
    told = host.warnings(tmp_path / "realtime")
    assert (words in told[0]) if words else not told


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"host": " "}, "host"), ({"stiffness_npm": 5000.0}, "stiffness_npm"), ({"stiffness_npm": 0.0}, "stiffness_npm")],
)
def test_a_configuration_that_makes_no_sense_is_refused(changed, words):
    with pytest.raises(RobotError, match=words):
        ArmConfig(**{"host": "127.0.0.1", **changed})


@pytest.mark.parametrize(("changed", "words"), [({"raised": 0.5}, "raised"), ({"per_episode": 20}, "per_session")])
def test_a_recovery_that_makes_no_sense_is_refused(changed, words):
    with pytest.raises(RobotError, match=words):
        RecoveryConfig(**changed)


def test_a_call_that_comes_back_too_late_is_abandoned():
    let_go: list[str] = []

    def slow() -> str:
        time.sleep(0.3)
        return "a connection"

    with pytest.raises(TookTooLongError):
        supervised(slow, 0.05, let_go.append)
    time.sleep(0.6)
    assert let_go == ["a connection"]
    assert supervised(slow, 5.0, let_go.append) == "a connection"
    assert let_go == ["a connection"]
    with pytest.raises(ZeroDivisionError):
        supervised(lambda: 1 / 0, 1.0)
