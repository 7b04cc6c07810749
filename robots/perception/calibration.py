"""A camera's place over one robot's table, in a file that belongs to both."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from robots.errors import RobotError
from robots.perception.hand_eye import Residuals
from robots.rigid import Rigid, is_rotation

FORMAT = 1

_CURE = "calibrate again with `farl robot calibrate`"


@dataclass(frozen=True)
class Quality:
    """What a calibration must reach; a poor one is refused."""

    corners_px: float = 1.0
    translation_mm: float = 3.0
    rotation_deg: float = 2.0
    table_tilt_deg: float = 1.5
    """of the measured top against the arm's own idea of level"""
    table_height_mm: float = 5.0
    """of the measured top over where the arm's configuration has it"""
    table_error_mm: float = 4.0


@dataclass(frozen=True)
class TableFit:
    """How the measured table top lies in the frame that the arm's configuration gives it."""

    height_mm: float
    tilt_deg: float
    error_mm: float


@dataclass(frozen=True)
class Calibration:
    """Where the camera is, and how well that is known."""

    robot: str
    """the arm's address and type, such as ``fr3 at 172.16.0.2``"""
    camera: str
    """serial number"""
    made: str
    """date and time"""
    table_from_camera: Rigid
    """z = 0 is the measured top"""
    flange_from_marker: Rigid
    residuals: Residuals
    table: TableFit

    def faults(self, quality: Quality) -> list[str]:
        """What is too poor to be used, each with its cure."""
        found, seen, table = [], self.residuals, self.table
        limits = (
            (seen.corners_px, quality.corners_px, "px between corners and fit", "stand still at each pose, light the marker"),
            (seen.translation_mm, quality.translation_mm, "mm in poses left out", "take more poses, spread over the table"),
            (seen.rotation_deg, quality.rotation_deg, "degrees of the marker", "fix the marker flat and firmly, measure its side"),
            (abs(table.height_mm), quality.table_height_mm, "mm from the table's top", _base_height(table.height_mm)),
            (table.tilt_deg, quality.table_tilt_deg, "degrees of tilt of the table", "level the table or the arm's mount"),
            (table.error_mm, quality.table_error_mm, "mm of noise of the table's depth", "clear the table, avoid glare"),
        )
        for value, most, what, cure in limits:
            if not value <= most:
                found.append(f"{value:.2f} {what}, {most:g} is allowed: {cure}")
        return found


def _base_height(height_mm: float) -> str:
    return f"add {-height_mm / 1000.0:+.4f} m to the arm's base_height_m if the arm stands so"


def save(calibration: Calibration, path: Path, overwrite: bool) -> None:
    """Write it whole or not at all.

    Raises:
        RobotError: the file exists and may not be overwritten, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise RobotError(f"{path} exists: give another name, or --overwrite to replace that calibration")
    content = {
        "format": FORMAT,
        "robot": calibration.robot,
        "camera": calibration.camera,
        "made": calibration.made,
        "table_from_camera": _plain(calibration.table_from_camera),
        "flange_from_marker": _plain(calibration.flange_from_marker),
        "residuals": dataclasses.asdict(calibration.residuals),
        "table": dataclasses.asdict(calibration.table),
    }
    write_whole(path, yaml.safe_dump(content, sort_keys=False).encode(), overwrite)


def load(path: Path, robot: str, camera: str | None) -> Calibration:
    """Read the calibration of that robot and that camera; None where the camera will be known once it is open.

    Raises:
        RobotError: there is none, it belongs to another robot or camera, or it is damaged.
    """
    content = _content(path)
    try:
        read = Calibration(
            str(content["robot"]),
            str(content["camera"]),
            str(content["made"]),
            _rigid(path, "table_from_camera", content["table_from_camera"]),
            _rigid(path, "flange_from_marker", content["flange_from_marker"]),
            Residuals(**content["residuals"]),
            TableFit(**content["table"]),
        )
    except (KeyError, TypeError) as error:
        raise RobotError(f"{path} is not a whole calibration ({type(error).__name__}: {error}): {_CURE}") from error
    require_same(path, "robot", read.robot, robot)
    if camera is not None:
        require_same(path, "camera", read.camera, camera)
    return read


def require_same(path: Path, kind: str, calibrated: str, present: str) -> None:
    """Refuse another robot or camera than the one that was calibrated."""
    if calibrated != present:
        raise RobotError(
            f"{path} is the calibration of {kind} {calibrated!r}, but this is {present!r}: {_CURE}, or name its own file"
        )


def now() -> str:
    """For ``made``."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def write_whole(path: Path, content: bytes, overwrite: bool) -> None:
    """Through a temporary neighbour; without ``overwrite`` nothing that appears in the meantime is replaced either."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            if overwrite:
                Path(name).replace(path)
            else:
                os.link(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise RobotError(f"cannot write {path}: {error.strerror or error}. Nothing was changed; choose another folder.") from error


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RobotError(f"there is no calibration {path}: make it with `farl robot calibrate`") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RobotError(f"{path} cannot be read as a calibration ({error}): {_CURE}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RobotError(f"{path} is no calibration of format {FORMAT}: {_CURE}")
    return content


def _plain(pose: Rigid) -> dict[str, Any]:
    return {"rotation": pose.rotation.tolist(), "translation_m": pose.translation.tolist()}


def _rigid(path: Path, name: str, given: Any) -> Rigid:
    turn, shift = np.asarray(given["rotation"], object), np.asarray(given["translation_m"], object)
    try:
        turn, shift = turn.astype(float), shift.astype(float)
    except (TypeError, ValueError) as error:
        raise RobotError(f"{path}: {name} holds something that is no number ({error}): {_CURE}") from error
    if not is_rotation(turn):
        raise RobotError(f"{path}: the rotation of {name} is no rotation, the file was damaged or edited: {_CURE}")
    if shift.shape != (3,) or not all(map(math.isfinite, shift.tolist())):
        raise RobotError(f"{path}: the translation of {name} is {shift.tolist()}, not three numbers: {_CURE}")
    return Rigid(turn, shift)
