"""How well the fingers hold the object, as MetaWorld's dense rewards see it (v2, "high density")."""

from __future__ import annotations

import math

import numpy as np

from failurebench.rewards.shaping import Reward, both, long_tail
from failurebench.sawyer import Sawyer, Vec3

_OBJECT_RADIUS_M = 0.015
_PAD_REACH_M = 0.05
_CAGE_XZ_M = 0.005
_HELD_RADIUS_M = 0.02
_SQUEEZE_ABOVE = 0.97


def caging_reward(object_start: Vec3, tcp_start: Vec3) -> Reward:
    """Fingers round the object, then squeezing it: 0 to 2, scaled by where the episode began (metres)."""
    cage_margin = math.hypot(object_start[0] - tcp_start[0], object_start[2] - tcp_start[2]) - _CAGE_XZ_M
    start_y = object_start[1]

    def pad_closeness(pad_y: float, object_y: float) -> float:
        # The margin shrinks as a pad nears the object's *starting* line: nearly a switch before the grasp, as in stock.
        margin = abs(abs(pad_y - start_y) - _PAD_REACH_M)
        return long_tail(abs(pad_y - object_y), _OBJECT_RADIUS_M, _PAD_REACH_M, margin)

    def reward(sawyer: Sawyer, grip: float) -> float:
        x, y, z = sawyer.object
        tcp = sawyer.tcp
        caged_y = both(pad_closeness(sawyer.left_pad_y, y), pad_closeness(sawyer.right_pad_y, y))
        caged_xz = long_tail(math.hypot(tcp[0] - x, tcp[2] - z), 0.0, _CAGE_XZ_M, cage_margin)
        caged = both(caged_y, caged_xz)
        # Stock multiplies a float32 action in here and NumPy keeps the rest of its sum in float32: so do we.
        squeezed = np.float32(min(grip, 1.0)) if caged > _SQUEEZE_ABOVE and grip > 0.0 else 0.0
        degree: float = both(caged, squeezed) + caged  # twice their mean
        return degree

    return reward


def held(sawyer: Sawyer) -> bool:
    """Whether the object is between fingers that something keeps apart."""
    return math.dist(sawyer.object, sawyer.tcp) < _HELD_RADIUS_M and sawyer.opening > 0.0
