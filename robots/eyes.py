"""A robot's eyes, as a file describes them: the camera, where it stands, what there is to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from failurebench.franka.definition import FrankaTask
from robots.arm.config import ArmConfig
from robots.cameras.interface import FrameSource
from robots.cameras.open import CameraConfig, open_camera, rendered_camera
from robots.cameras.software import Feed
from robots.errors import RobotError
from robots.files import read
from robots.perception.calibration import Calibration, load, require_same
from robots.perception.estimator import CameraEstimator, PerceptionConfig
from robots.perception.tasks import hazard_of, usual
from robots.rigid import Rigid


@dataclass(frozen=True)
class EyesConfig:
    """What ``robot.eyes`` names: a YAML file with these keys."""

    calibration: str = ""
    """the file that `farl robot calibrate` has written; relative to this file's folder"""

    camera: CameraConfig = field(default_factory=CameraConfig)

    perception: PerceptionConfig | None = None
    """what is on the table; by default the task's usual markers and colours, which `farl robot markers` prints"""


class Sight(NamedTuple):
    """Eyes that are not open yet."""

    camera: FrameSource
    """``estimator.start`` opens it too; to start and close it twice does no harm"""
    estimator: CameraEstimator
    perception: PerceptionConfig
    table_from_camera: Rigid
    calibration: Calibration | None
    """None where the camera's place is known without one: a rendered camera's"""


def robot_name(arm: ArmConfig) -> str:
    """What a calibration calls the arm."""
    return f"{arm.robot_type} at {arm.host}"


def open_eyes(path: Path, task: FrankaTask, robot: str) -> Sight:
    """The eyes of ``robot`` for ``task``.

    Raises:
        RobotError: the file or its calibration is missing, damaged, or of another robot or camera.
    """
    config = read(EyesConfig, path)
    if not config.calibration:
        raise RobotError(f"{path}: calibration is missing: `farl robot calibrate` makes that file")
    perception = config.perception or usual(task)
    camera = open_camera(config.camera)
    file = path.parent / config.calibration
    calibration = load(file, robot, config.camera.serial or None)
    placed, require = calibration.table_from_camera, belongs_to(calibration, file)
    estimator = CameraEstimator(camera, perception, placed, hazard_of(task), require)
    return Sight(camera, estimator, perception, calibration.table_from_camera, calibration)


def rendered_eyes(feed: Feed, table_from_camera: Rigid, task: FrankaTask, fps: int = 30) -> Sight:
    """Eyes that look at a renderer's pictures, whose camera stands where it was put."""
    camera, perception = rendered_camera(feed, CameraConfig(fps=fps)), usual(task)
    estimator = CameraEstimator(camera, perception, table_from_camera, hazard_of(task))
    return Sight(camera, estimator, perception, table_from_camera, None)


def belongs_to(calibration: Calibration, path: Path) -> Callable[[str], None]:
    """Refuse a camera, by its serial number, that is not the calibrated one; asked as soon as the camera is open."""

    def require(serial: str) -> None:
        require_same(path, "camera", calibration.camera, serial)

    return require
