"""Where an object stands that stands on the table: three numbers, fitted to all the corners that are seen of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robots.cameras.interface import Intrinsics
from robots.perception.markers import Detected, MarkerConfig, poses, project
from robots.rigid import Array, Rigid, about_z

ROUNDS = 12
STEP = 1e-6
"""of the numerical derivatives, m and rad"""


class Planar(NamedTuple):
    """A pose on the table."""

    x: float
    y: float
    yaw: float

    def placed(self) -> Rigid:
        """``table_from_object``."""
        return Rigid(about_z(self.yaw), np.array([self.x, self.y, 0.0]))


class Fit(NamedTuple):
    """What the corners say together."""

    pose: Planar
    error_px: float
    """root mean square distance of a corner to where the pose puts it"""
    markers: tuple[int, ...]
    """that agree with it"""


def stand(
    seen: Sequence[tuple[MarkerConfig, Detected]], table_from_camera: Rigid, intrinsics: Intrinsics, worst_px: float
) -> Fit | None:
    """Where the object stands; None without a marker, or where no marker agrees with an object that stands on the table.

    That it stands there spares the distance of a small marker, which is poorly seen. A marker that the others contradict
    (misread, or slipped) is left out; where no majority agrees, nothing is known.

    Args:
        seen: the object's markers that were detected.
        table_from_camera: from the calibration.
        intrinsics: of the picture.
        worst_px: an error beyond this is no agreement.
    """
    camera_from_table = table_from_camera.inverse()
    left = list(seen)
    while 2 * len(left) > len(seen):
        fits = []
        for marker, detected in left:
            for start in _starts(marker, detected, table_from_camera, intrinsics):
                pose, errors = _fitted(start, left, camera_from_table, intrinsics)
                error = float(np.sqrt(np.square(errors).sum(axis=1).mean()))
                if error <= worst_px:
                    return Fit(pose, error, tuple(one.id for one, _ in left))
                fits.append((error, np.square(errors).reshape(len(left), -1).sum(axis=1)))
        if not fits:
            return None
        each = min(fits, key=lambda fit: fit[0])[1]
        del left[int(np.argmax(each))]
    return None


def _starts(marker: MarkerConfig, detected: Detected, table_from_camera: Rigid, intrinsics: Intrinsics) -> list[Planar]:
    """Where a single marker puts the object, in the way of the two in which the object is more upright."""
    placed = []
    for camera_from_marker, _ in poses(detected, marker.size_m, intrinsics):
        pose = table_from_camera @ camera_from_marker @ marker.placed().inverse()
        placed.append((float(pose.rotation[2, 2]), pose))
    if not placed:
        return []
    _, pose = max(placed, key=lambda candidate: candidate[0])
    turn, (x, y, _) = pose.rotation, pose.translation.tolist()
    return [Planar(x, y, math.atan2(turn[1, 0], turn[0, 0]))]


def _fitted(
    start: Planar, seen: Sequence[tuple[MarkerConfig, Detected]], camera_from_table: Rigid, intrinsics: Intrinsics
) -> tuple[Planar, Array]:
    """Gauss-Newton on the corners' distances, and what remains of them ``[corners, 2]``."""
    corners = np.concatenate([marker.corners() for marker, _ in seen])
    pixels = np.concatenate([detected.corners for _, detected in seen])

    def errors(numbers: Array) -> Array:
        placed = Planar(*numbers.tolist()).placed()
        missed: Array = project(camera_from_table.apply(placed.apply(corners)), intrinsics) - pixels
        return np.nan_to_num(missed, nan=1e3)

    best, remaining = np.array(start), errors(np.array(start))
    for _ in range(ROUNDS):
        slopes = np.stack([(errors(best + STEP * unit) - remaining).ravel() / STEP for unit in np.eye(3)], axis=1)
        move = np.linalg.lstsq(slopes, -remaining.ravel(), rcond=None)[0]
        after = errors(best + move)
        if not np.square(after).sum() < np.square(remaining).sum():
            break
        best, remaining = best + move, after
        if np.abs(move).max() < 1e-7:
            break
    return Planar(*best.tolist()), remaining
