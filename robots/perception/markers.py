"""Square markers: which there are, where they sit on an object, and where they are in a picture."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.cameras.interface import Intrinsics
from robots.errors import RobotError
from robots.perception.edges import refined
from robots.rigid import Array, Rigid, rotation

Vec3 = tuple[float, float, float]

_UP = {
    "up": np.eye(3),
    "front": np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "back": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "left": np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    "right": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}
"""columns: a marker's x (to its right), y (to its top) and z (towards who looks at it), in the object's frame"""

CORNERS = np.array([[-0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.5, -0.5, 0.0], [-0.5, -0.5, 0.0]])
"""top left, top right, bottom right, bottom left of a marker of side 1, in its own frame: the order of OpenCV"""


@dataclass(frozen=True)
class MarkerConfig:
    """One printed square on an object."""

    id: int
    size_m: float
    """side of the black square, measured on paper"""

    at_m: Vec3
    """its middle in the object's frame: the origin on the table below the object's middle, z up"""

    facing: str = "up"
    """``up``, ``front`` (-x of the object), ``back`` (+x), ``left`` (+y) or ``right`` (-y)"""

    turned_deg: float = 0.0
    """about the direction that it faces, counter-clockwise as seen; 0 has the marker's top up, or towards +y where it faces up"""

    def __post_init__(self) -> None:
        if self.facing not in _UP:
            raise RobotError(f"marker {self.id}: facing is {self.facing!r}; the choices are {', '.join(_UP)}")
        if not 0.005 <= self.size_m <= 0.5:
            raise RobotError(f"marker {self.id}: size_m is {self.size_m!r}; give the side of its black square in metres")
        if not all(map(math.isfinite, (*self.at_m, self.turned_deg))):
            raise RobotError(f"marker {self.id}: at_m {self.at_m!r} or turned_deg {self.turned_deg!r} is no number")

    def placed(self) -> Rigid:
        """``object_from_marker``."""
        return Rigid(_UP[self.facing] @ rotation((0.0, 0.0, math.radians(self.turned_deg))), np.array(self.at_m))

    def corners(self) -> Array:
        """``[4, 3]`` in the object's frame, in OpenCV's order."""
        return self.placed().apply(CORNERS * self.size_m)


@dataclass(frozen=True)
class MarkedConfig:
    """An object that stands on the table and carries markers."""

    name: str
    """``object``, ``obstacle`` or ``hazard``: what it is in the task"""

    markers: tuple[MarkerConfig, ...]

    def __post_init__(self) -> None:
        if not self.markers:
            raise RobotError(f"{self.name} has no markers: give at least one, or see it by its colour")


class Detected(NamedTuple):
    """A marker in a picture."""

    id: int
    corners: Array
    """``[4, 2]`` pixels, in OpenCV's order"""


class Detector:
    """Finds the markers of one dictionary.

    Args:
        dictionary: OpenCV's name without ``DICT_``, such as ``4X4_50`` or ``APRILTAG_36H11``.
    """

    def __init__(self, dictionary: str) -> None:
        self._detector, self._modules = _detector(dictionary), modules(dictionary)

    def detect(self, color: NDArray[np.uint8]) -> list[Detected]:
        """Every marker of the dictionary in an RGB picture ``[h, w, 3]``, by id; one id twice is no marker to rely on."""
        cv2 = import_cv2()
        gray = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)
        corners, ids, _ = self._detector.detectMarkers(gray)
        names = [] if ids is None else [int(id) for id in ids.ravel()]
        squares = (np.asarray(four, np.float64).reshape(4, 2) for four in corners)
        found = [(id, four) for id, four in zip(names, squares, strict=True) if names.count(id) == 1]
        return [Detected(id, refined(gray, four, self._modules)) for id, four in sorted(found, key=lambda pair: pair[0])]


def poses(detected: Detected, size_m: float, intrinsics: Intrinsics) -> list[tuple[Rigid, float]]:
    """The two ways a square may lie to look as it does, ``camera_from_marker``, with their errors in pixels, the better first.

    Infinitesimal plane-based pose estimation (Collins and Bartoli 2014), from OpenCV.
    """
    cv2 = import_cv2()
    count, turns, shifts, errors = cv2.solvePnPGeneric(
        CORNERS * size_m, detected.corners, camera_matrix(intrinsics), None, flags=cv2.SOLVEPNP_IPPE_SQUARE
    )
    found = [(Rigid(rotation(turns[k].ravel()), np.array(shifts[k]).ravel()), float(np.ravel(errors[k])[0])) for k in range(count)]
    return [(pose, error) for pose, error in found if np.isfinite(pose.translation).all() and math.isfinite(error)]


def camera_matrix(intrinsics: Intrinsics) -> Array:
    """``[3, 3]``, as OpenCV wants it."""
    return np.array([[intrinsics.fx, 0.0, intrinsics.cx], [0.0, intrinsics.fy, intrinsics.cy], [0.0, 0.0, 1.0]])


def project(points: Array, intrinsics: Intrinsics) -> Array:
    """Pixels ``[..., 2]`` of points in the camera's frame; NaN for what is behind the camera."""
    ahead = np.where(points[..., 2] > 1e-6, points[..., 2], np.nan)
    across = intrinsics.fx * points[..., 0] / ahead + intrinsics.cx
    down = intrinsics.fy * points[..., 1] / ahead + intrinsics.cy
    pixels: Array = np.stack([across, down], axis=-1)
    return pixels


def picture(dictionary: str, id: int, pixels: int) -> NDArray[np.uint8]:
    """The marker ``[pixels, pixels]``, its black border included, without the white margin that it needs around it."""
    return np.asarray(import_cv2().aruco.generateImageMarker(_dictionary(dictionary), id, pixels), np.uint8)


def modules(dictionary: str) -> int:
    """Little squares along a side, the black border included."""
    return int(_dictionary(dictionary).markerSize) + 2


def require_ids(dictionary: str, ids: list[int]) -> None:
    """Refuse ids that the dictionary does not have, and one id for two markers."""
    count = len(_dictionary(dictionary).bytesList)
    wrong = [id for id in ids if not 0 <= id < count]
    if wrong:
        raise RobotError(f"marker {wrong[0]} is not in dictionary {dictionary}, which has 0 to {count - 1}")
    twice = [id for id in ids if ids.count(id) > 1]
    if twice:
        raise RobotError(f"marker {twice[0]} is given twice: every marker on the table needs an id of its own")


def import_cv2() -> Any:
    """OpenCV; raises RobotError naming what to install."""
    try:
        import cv2
    except ImportError as error:
        raise RobotError(
            f"markers need OpenCV, which cannot be imported ({error}): pip install 'failure-aware-rl[robot]'"
        ) from error
    return cv2


def _dictionary(name: str) -> Any:
    aruco = import_cv2().aruco
    number = getattr(aruco, f"DICT_{name}", None)
    if number is None:
        known = sorted(key.removeprefix("DICT_") for key in dir(aruco) if key.startswith("DICT_"))
        raise RobotError(f"there is no marker dictionary {name!r}; the choices are {', '.join(known)}")
    return aruco.getPredefinedDictionary(number)


@functools.cache
def _detector(dictionary: str) -> Any:
    aruco = import_cv2().aruco
    parameters = aruco.DetectorParameters()
    parameters.cornerRefinementMethod = aruco.CORNER_REFINE_NONE  # ours comes after
    parameters.minMarkerDistanceRate = 0.05  # with OpenCV's 0.125 a marker is lost beside that of the box's next face
    return aruco.ArucoDetector(_dictionary(dictionary), parameters)
