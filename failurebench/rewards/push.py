"""MetaWorld's dense push reward (v2): reach, cage and squeeze the object, then bring it to the goal; 0 to 10."""

from __future__ import annotations

import math

import numpy as np

from failurebench.rewards.shaping import Reward, both, long_tail
from failurebench.sawyer import Sawyer, Vec3

GOAL_REWARD = 10.0
SUCCESS_RADIUS_M = 0.05

_OBJECT_RADIUS_M = 0.015
_PAD_REACH_M = 0.05
_CAGE_XZ_M = 0.005
_HELD_RADIUS_M = 0.02
_SQUEEZE_ABOVE = 0.97


def push_reward(object_start: Vec3, goal: Vec3, tcp_start: Vec3) -> Reward:
    """The reward of one push episode, scaled by where it began. Positions in metres."""
    goal_distance_start = math.dist(object_start, goal)
    cage_margin = math.hypot(object_start[0] - tcp_start[0], object_start[2] - tcp_start[2]) - _CAGE_XZ_M
    start_y = object_start[1]

    def pad_closeness(pad_y: float, object_y: float) -> float:
        # The margin shrinks as a pad nears the object's *starting* line: nearly a switch before the grasp, as in stock.
        margin = abs(abs(pad_y - start_y) - _PAD_REACH_M)
        return long_tail(abs(pad_y - object_y), _OBJECT_RADIUS_M, _PAD_REACH_M, margin)

    def reward(sawyer: Sawyer, grip: float) -> float:
        x, y, z = sawyer.object
        tcp = sawyer.tcp
        goal_distance = math.dist(sawyer.object, goal)
        if goal_distance < SUCCESS_RADIUS_M:
            return GOAL_REWARD
        caged_y = both(pad_closeness(sawyer.left_pad_y, y), pad_closeness(sawyer.right_pad_y, y))
        caged_xz = long_tail(math.hypot(tcp[0] - x, tcp[2] - z), 0.0, _CAGE_XZ_M, cage_margin)
        caged = both(caged_y, caged_xz)
        # Stock multiplies a float32 action in here and NumPy keeps the rest of its sum in float32: so do we.
        squeezed = np.float32(min(grip, 1.0)) if caged > _SQUEEZE_ABOVE and grip > 0.0 else 0.0
        grasped = both(caged, squeezed) + caged  # twice their mean
        if math.dist(sawyer.object, tcp) < _HELD_RADIUS_M and sawyer.opening > 0.0:
            in_place = long_tail(goal_distance, 0.0, SUCCESS_RADIUS_M, goal_distance_start)
            grasped += 1.0 + grasped + 5.0 * in_place
        return float(grasped)

    return reward
