"""Where the arm's flange is, from its joints: what a camera's place is measured by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robots.errors import RobotError
from robots.rigid import Rigid, identity, rotation

_QUARTER = math.pi / 2

LINKS = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -_QUARTER),
    (0.0, 0.316, _QUARTER),
    (0.0825, 0.0, _QUARTER),
    (-0.0825, 0.384, -_QUARTER),
    (0.0, 0.0, _QUARTER),
    (0.088, 0.0, _QUARTER),
)
"""a, d, alpha of each joint after Denavit and Hartenberg in Craig's convention, as the maker documents Panda and FR3"""

FLANGE_M = 0.107
"""from the last joint along its axis"""


def flange(joints: Sequence[float], base_height_m: float) -> Rigid:
    """``table_from_flange``.

    Args:
        joints: seven angles, rad.
        base_height_m: of the arm's base over the table's top, as the arm's configuration has it.
    """
    if len(joints) != len(LINKS) or not all(map(math.isfinite, joints)):
        raise RobotError(f"the arm's joints are {tuple(joints)!r}; seven angles are needed to know where its hand is")
    pose = identity()
    for (a, d, alpha), angle in zip(LINKS, joints, strict=True):
        tilted = Rigid(rotation((alpha, 0.0, 0.0)), np.array([a, 0.0, 0.0]))
        turned = Rigid(rotation((0.0, 0.0, angle)), np.array([0.0, 0.0, d]))
        pose = pose @ tilted @ turned
    end = pose @ Rigid(np.eye(3), np.array([0.0, 0.0, FLANGE_M]))
    return Rigid(end.rotation, end.translation + np.array([0.0, 0.0, base_height_m]))
