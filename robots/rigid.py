"""Rigid motions: where one frame stands in another. Metres, radians."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

TOLERANCE = 1e-4
"""how far from orthonormal a matrix may be that was written down with a few digits"""


class Rigid(NamedTuple):
    """``a_from_b``: takes points given in frame b to frame a."""

    rotation: Array
    """``[3, 3]``"""
    translation: Array
    """``[3]``, m: b's origin in a"""

    def __matmul__(self, other: Rigid) -> Rigid:
        """``a_from_b @ b_from_c`` is ``a_from_c``."""
        return Rigid(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def inverse(self) -> Rigid:
        """``b_from_a``."""
        return Rigid(self.rotation.T, -self.rotation.T @ self.translation)

    def apply(self, points: ArrayLike) -> Array:
        """Points ``[..., 3]``, given in b, in a."""
        moved: Array = np.asarray(points, np.float64) @ self.rotation.T + self.translation
        return moved


def identity() -> Rigid:
    """Nothing moves."""
    return Rigid(np.eye(3), np.zeros(3))


def from_matrix(matrix: ArrayLike) -> Rigid:
    """From ``[4, 4]``."""
    given = np.asarray(matrix, np.float64)
    return Rigid(given[:3, :3].copy(), given[:3, 3].copy())


def rotation(vector: ArrayLike) -> Array:
    """Turn about ``vector`` by its length, rad (Rodrigues)."""
    given = np.asarray(vector, np.float64)
    angle = float(np.linalg.norm(given))
    if angle < 1e-12:
        return np.eye(3) + _cross(given)
    cross = _cross(given / angle)
    turned: Array = np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * (cross @ cross)
    return turned


def vector(matrix: Array) -> Array:
    """The inverse of ``rotation``, its length between 0 and pi."""
    from scipy.spatial.transform import Rotation

    turned: Array = Rotation.from_matrix(matrix).as_rotvec()
    return turned


def angle_between(one: Array, other: Array) -> float:
    """The smallest turn that takes one rotation to the other, rad."""
    return float(np.linalg.norm(vector(one.T @ other)))


def nearest_rotation(matrix: Array) -> Array:
    """The rotation nearest to ``matrix`` (orthogonal Procrustes)."""
    left, _, right = np.linalg.svd(matrix)
    turned: Array = left @ np.diag([1.0, 1.0, float(np.sign(np.linalg.det(left @ right)))]) @ right
    return turned


def is_rotation(matrix: Any) -> bool:
    """Whether it is a proper rotation, to the digits that files are written with."""
    given = np.asarray(matrix, np.float64)
    if given.shape != (3, 3) or not np.isfinite(given).all():
        return False
    return bool(np.abs(given @ given.T - np.eye(3)).max() < TOLERANCE and np.linalg.det(given) > 0.0)


def about_z(yaw: float) -> Array:
    """Turn about the vertical."""
    return rotation((0.0, 0.0, yaw))


def _cross(given: Array) -> Array:
    x, y, z = given.tolist()
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
