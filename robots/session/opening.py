"""From a configuration to a station: the arm or its twin, eyes, operator. Nothing is opened yet, apart from the twin's process."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from failurebench.franka.definition import FrankaTask, Range
from robots.arm.franky_arm import FrankyArm
from robots.config import RobotConfig
from robots.errors import RobotError
from robots.eyes import open_eyes, rendered_eyes, robot_name
from robots.operator.choice import open_operator
from robots.perception.interface import Estimator
from robots.session.station import Station

CAMERA = "front"
"""what the journal calls the camera that is looked through"""


def station_of(config: RobotConfig, task: FrankaTask) -> Station:
    """What ``config`` describes, for ``task``; starts the process of the twin where the robot is one.

    Raises:
        RobotError: limits that contradict each other or the task, no eyes for a real table, no simulator for a twin.
    """
    config.bounds.check(task)
    if config.on_twin:
        return _twin(config, task)
    if not config.eyes:
        raise RobotError(
            "robot.eyes is not given: on a real table something has to see the object; give a file that names its camera and "
            "calibration, which `farl robot calibrate` makes"
        )
    sight = open_eyes(Path(config.eyes), task, robot_name(config.arm))
    arm = FrankyArm(config.arm, task, config.bounds, ages_of(sight.estimator))
    return Station(arm, sight.estimator, open_operator(config.operator), {CAMERA: sight.camera}, box=_box(config))


def _twin(config: RobotConfig, task: FrankaTask) -> Station:
    from robots.twin.camera import TwinCamera
    from robots.twin.estimator import TwinEstimator
    from robots.twin.process import TwinProcess

    twin = TwinProcess(task, base_height_m=config.arm.base_height_m)
    try:
        cameras, estimator = {}, None
        if config.twin_eyes == "camera":
            feed = TwinCamera(twin.host)
            sight = rendered_eyes(feed, feed.table_from_camera, task)
            cameras, estimator = {CAMERA: sight.camera}, sight.estimator
        eyes: Estimator = estimator or TwinEstimator(twin.host)
        arm = FrankyArm(dataclasses.replace(config.arm, host=twin.host), task, config.bounds, ages_of(eyes))
        return Station(arm, eyes, open_operator(config.operator), cameras, twin, _box(config), (twin,))
    except BaseException:
        twin.close()
        raise


def _box(config: RobotConfig) -> tuple[Range, Range]:
    return config.bounds.x_m, config.bounds.y_m


def ages_of(estimator: Estimator) -> dict[str, Callable[[], float]]:
    """For the arm's watchdog: how old what is seen is."""

    def age() -> float:
        estimate = estimator.newest()
        return float("nan") if estimate is None or estimator.fault() else time.monotonic() - estimate.seen

    return {"object": age}
