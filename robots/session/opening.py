"""From a configuration to a station: the arm or its twin, eyes, operator. Nothing is opened yet, apart from the twin's process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from failurebench.franka.definition import FrankaTask
from robots.arm.franky_arm import FrankyArm
from robots.config import RobotConfig
from robots.errors import RobotError
from robots.operator.choice import open_operator
from robots.perception.interface import Estimator
from robots.session.station import Station


def station_of(config: RobotConfig, task: FrankaTask) -> Station:
    """What ``config`` describes, for ``task``; starts the process of the twin where the robot is one.

    Raises:
        RobotError: limits that contradict each other or the task, no eyes for a real table, no simulator for a twin.
    """
    config.bounds.check(task)
    return _twin(config, task) if config.on_twin else _real(config, task)


def _twin(config: RobotConfig, task: FrankaTask) -> Station:
    from robots.twin.estimator import TwinEstimator
    from robots.twin.process import TwinProcess

    twin = TwinProcess(task, base_height_m=config.arm.base_height_m)
    try:
        estimator = TwinEstimator(twin.host)
        arm = FrankyArm(dataclasses.replace(config.arm, host=twin.host), task, config.bounds, _ages(estimator))
        return Station(arm, estimator, open_operator(config.operator), stage=twin, others=(twin,), facts=_facts(config, twin.host))
    except BaseException:
        twin.close()
        raise


def _real(config: RobotConfig, task: FrankaTask) -> Station:
    if not config.eyes:
        raise RobotError(
            "robot.eyes is not given: a real table needs cameras, their calibration and what stands on it; `farl robot calibrate` "
            "makes the file (docs/robots/cameras.md)"
        )
    raise RobotError("no eyes")


def _ages(estimator: Estimator) -> dict[str, Callable[[], float]]:
    """For the arm's watchdog: how old what is seen is."""
    import time

    def age() -> float:
        estimate = estimator.newest()
        return float("nan") if estimate is None or estimator.fault() else time.monotonic() - estimate.seen

    return {"object": age}


def _facts(config: RobotConfig, host: str) -> dict[str, Any]:
    limits = config.bounds
    return {"host": host, "robot_type": config.arm.robot_type, "thresholds": dataclasses.asdict(limits)}
