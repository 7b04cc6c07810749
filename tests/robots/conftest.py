"""Twins and clients for the tests of everything that talks to a robot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from failurebench.franka.definition import FINGER_HEIGHT_M, FrankaTask
from failurebench.franka.push_wall import FrankaFragilePushWall

DOWN = [1.0, 0.0, 0.0, 0.0]
"""the finger's orientation, as a quaternion x, y, z, w"""


@pytest.fixture(scope="module")
def start_twin() -> Iterator[Callable[..., Any]]:
    """Starts wire twins; the arguments are those of ``TwinProcess``. All of them end with the module."""
    pytest.importorskip("franky_sim", reason="the wire twin needs franky-sim (extra 'robot-twin')")
    from robots.twin.process import TwinProcess

    started: list[TwinProcess] = []

    def start(task: FrankaTask | None = None, **options: Any) -> TwinProcess:
        started.append(TwinProcess(task or FrankaFragilePushWall(), **options))
        return started[-1]

    yield start
    for one in started:
        if not one.process.running():
            print(f"the twin at {one.host} ended by itself, or was ended: {one.process.last_words()}")
        one.close()


@pytest.fixture(scope="module")
def twin(start_twin: Callable[..., Any]) -> Any:
    """One Fragile Push Wall for the module."""
    return start_twin(seed=3)


@pytest.fixture(scope="module")
def connection(twin: Any) -> Any:
    """The module's one client of ``twin``: a second would wait for the first to let go, and a failed test does not."""
    franky = pytest.importorskip("franky", reason="the client is franky-control (extra 'robot')")
    robot = franky.Robot(twin.host, realtime_config=franky.RealtimeConfig.Ignore)
    robot.relative_dynamics_factor = 0.5
    return robot


@pytest.fixture
def client(twin: Any, connection: Any) -> Any:
    """A real franky client of ``twin``: at rest, without faults, its finger over the start."""
    franky = pytest.importorskip("franky", reason="the client is franky-control (extra 'robot')")
    twin.user_stop(False)
    with contextlib.suppress(franky.ControlException):  # what ended the last test's motion
        connection.stop()
        connection.join_motion()
    if connection.has_errors:
        connection.recover_from_errors()
    connection.set_collision_behavior(60.0, 60.0)
    start = franky.Affine([*twin.task.hand_start, FINGER_HEIGHT_M - twin.config.base_height_m], DOWN)
    if np.abs(connection.state.O_T_EE.matrix - start.matrix).max() > 2e-2:
        _at_rest(connection)
        connection.move(franky.CartesianMotion(start))
        _at_rest(connection)
    return connection


def _at_rest(robot: Any) -> None:
    """The joints' springs follow the end of a motion with a time constant of 0.1 s."""
    until = time.monotonic() + 3.0
    while np.abs(robot.state.dq).max() > 0.01 and time.monotonic() < until:
        time.sleep(0.02)
