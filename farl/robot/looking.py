"""`farl robot check` and `farl robot calibrate`: the table of a configuration, looked at before anything is played on it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from failurebench.franka.definition import FrankaTask
from farl.errors import UserError
from farl.robot.config import RobotSessionConfig
from farl.robot.launching import confirm, played
from robots import calibrate, check
from robots.arm.franky_arm import FrankyArm
from robots.cameras.open import CameraConfig, open_camera
from robots.config import RobotConfig
from robots.eyes import EyesConfig, Sight, open_eyes, rendered_eyes, robot_name
from robots.files import read
from robots.perception.sheet import SheetConfig
from robots.perception.sheet import main as print_markers
from robots.perception.tasks import usual


@dataclass(frozen=True)
class RobotCheckConfig(RobotSessionConfig):
    """A session's configuration, and how its table is looked at."""

    check: check.CheckConfig = field(default_factory=check.CheckConfig)
    arm: bool = True
    """read the arm too; it is connected to and never commanded"""


@dataclass(frozen=True)
class RobotCalibrateConfig(RobotSessionConfig):
    """A session's configuration, and how its camera is calibrated."""

    output: str = ""
    """the file to write, such as calibrations/lab.yaml"""
    camera: CameraConfig = field(default_factory=CameraConfig)
    by: Literal["arm", "hand"] = "arm"
    """whether the arm brings the marker to its places, slowly and inside its limits, or a person who guides it"""
    marker: calibrate.HandMarkerConfig = field(default_factory=calibrate.HandMarkerConfig)
    poses: int = 15
    overwrite: bool = False
    """replace a calibration of that name"""


@dataclass(frozen=True)
class RobotMarkersConfig(RobotSessionConfig):
    """A session's configuration, and how its markers are printed."""

    sheet: SheetConfig = field(default_factory=SheetConfig)


class Table(NamedTuple):
    """What is looked at."""

    task: FrankaTask
    robot: RobotConfig
    sight: Sight
    arm: FrankyArm


def run_check(config: RobotCheckConfig) -> int:
    """Print what is fit for a session and what is not; 0 when everything is."""
    with _table(config) as table:
        if config.arm:
            table.arm.connect()
        return check.main(config.check, table.task, table.robot.bounds, table.sight, table.arm if config.arm else None)


def run_calibrate(config: RobotCalibrateConfig) -> Path:
    """Find out where the camera stands; the file that says so."""
    if not config.output:
        raise UserError("--output is not given: the file to write, such as calibrations/lab.yaml")
    config = dataclasses.replace(config, robot=config.placed.robot)
    task, robot = played(config)
    if robot.on_twin:
        raise UserError("the twin's camera stands where it was put: there is nothing to calibrate; give robot.arm.host")
    if config.by == "arm":
        confirm(config)
    settings = calibrate.CalibrateConfig(
        robot_name(robot.arm),
        config.output,
        robot.arm.base_height_m,
        config.marker,
        config.poses,
        overwrite=config.overwrite,
    )
    camera, arm = open_camera(config.camera), FrankyArm(robot.arm, task, robot.bounds)
    try:
        camera.start()
        arm.connect()
        by_arm = config.by == "arm"
        places = calibrate.moved_by_arm(arm, robot.bounds, settings) if by_arm else calibrate.guided_by_hand(input, settings)
        calibrate.calibrate(settings, camera, arm.state, places, (robot.limits.x_m, robot.limits.y_m))
    finally:
        arm.close()
        camera.close()
    return Path(config.output)


def run_markers(config: RobotMarkersConfig) -> list[Path]:
    """Pages with every marker of the table, to be printed; where they are."""
    task, robot = played(config)
    eyes = read(EyesConfig, Path(robot.eyes)) if robot.eyes else EyesConfig()
    return print_markers(config.sheet, eyes.perception or usual(task), calibrate.HandMarkerConfig())


@contextlib.contextmanager
def _table(config: RobotSessionConfig) -> Iterator[Table]:
    """The configured one, or a twin's with its camera."""
    config = config.placed
    task, robot = played(config)
    if not robot.on_twin:
        if not robot.eyes:
            raise UserError("robot.eyes is not given: the file that names camera and calibration")
        sight = open_eyes(Path(robot.eyes), task, robot_name(robot.arm))
        arm = FrankyArm(robot.arm, task, robot.bounds)
        with contextlib.closing(arm):
            yield Table(task, robot, sight, arm)
        return
    from robots.twin.camera import TwinCamera
    from robots.twin.process import TwinProcess

    with TwinProcess(task, base_height_m=robot.arm.base_height_m) as twin:
        feed = TwinCamera(twin.host)
        arm = FrankyArm(dataclasses.replace(robot.arm, host=twin.host), task, robot.bounds)
        with contextlib.closing(arm):
            yield Table(task, robot, rendered_eyes(feed, feed.table_from_camera, task), arm)
