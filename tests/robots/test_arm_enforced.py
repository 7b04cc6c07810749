"""The arm's driver against a controller that enforces a real one's limits on motion and communication (scripts/franka_sim_env)."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.errors import RobotError
from robots.limits import Limits
from tests.robots.arm_under_test import decided, waited_for

pytest.importorskip("franky", reason="the driver is franky-control (extra 'robot')")

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".franka-sim-venv"
TASK = FrankaFragilePushWall()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (VENV / "installed").exists(), reason="there is no .franka-sim-venv; scripts/franka_sim_env makes it"
    ),
]


@contextmanager
def controller(**environment: str) -> Iterator[str]:
    """Serves at the address that it gives, until the end."""
    address = f"127.{50 + os.getpid() % 200}.8.1"
    server = subprocess.Popen(
        [VENV / "bin/python", ROOT / "experiments/franka_sim_server.py", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        assert waited_for(lambda: listens(address), 30.0) is not None
        yield address
    finally:
        server.kill()
        server.wait()
        assert server.stdin is not None
        server.stdin.close()


def listens(address: str) -> bool:
    try:
        socket.create_connection((address, 1337), 0.5).close()
    except OSError:
        return False
    return True


def answer(arm: FrankyArm) -> str:
    """What connecting came to; the server listens some time before it answers."""
    said = ""
    for _ in range(10):
        try:
            arm.connect()
            return ""
        except RobotError as error:
            said = str(error)
            if "cannot be used" not in said and "does not answer" not in said:
                break
    return said


def test_a_minute_at_full_speed_breaks_no_limit_of_motion_or_communication():
    with controller() as address:
        arm = FrankyArm(ArmConfig(address, base_height_m=0.0), TASK, Limits())
        assert answer(arm) == ""
        try:
            assert arm.move_to((0.40, 0.0), 0.15, height_m=0.2)  # from above and outside of the box
            assert arm.move_to((0.36, 0.0), 0.15)
            errors, faults, way, due = [], [], 1.0, time.monotonic()
            for _ in range(600):
                state = arm.state()
                errors.append(math.dist(state.tip[:2], state.reference))
                if abs(state.reference[1]) > 0.2:
                    way = -math.copysign(1.0, state.reference[1])
                faults.append(arm.command(decided(0.3 * math.sin(2.0 * due), way)).fault)
                due += 0.1
                time.sleep(max(due - time.monotonic(), 0.0))
            assert set(faults) == {""}, [change for change in arm.changes if change.reason]
            assert np.percentile(errors, 90) < 0.02  # its joints have more friction than the twin's
        finally:
            arm.close()


def test_a_controller_that_places_the_finger_elsewhere_than_its_joints_do_is_refused(tmp_path):
    told = (VENV / "fr3.xml").read_text()
    stock = tmp_path / "fr3.xml"
    stock.write_text(told.replace('"fr3_link7"', '"fr3_flange"').replace('"fr3_wrist"', '"fr3_link7"'))
    with controller(FR3_MJCF=str(stock)) as address:
        arm = FrankyArm(ArmConfig(address, base_height_m=0.0), TASK, Limits())
        assert "finger's tip 107 mm from where its joints do" in answer(arm)
        arm.close()
