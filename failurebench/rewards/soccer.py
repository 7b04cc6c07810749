"""MetaWorld's dense soccer reward (v2): cage the ball between the pads and bring it to the goal; 0 to 10."""

from __future__ import annotations

import math

from failurebench.rewards.shaping import Reward, both, long_tail
from failurebench.sawyer import Sawyer, Vec3

GOAL_REWARD = 10.0
GOAL_RADIUS_M = 0.07

_OBJECT_RADIUS_M = 0.013  # half the ball's: stock's number
_SIDEWAYS_WEIGHT = 3.0
_PAD_REACH_M = 0.05
_GRIP_REACH_M = _OBJECT_RADIUS_M + 0.01
_CAGE_XZ_M = 0.005
_CAGED_ENOUGH = 0.95
_POST_X_M = 0.10
_GOAL_DEPTH_M = 0.1


def soccer_reward(object_start: Vec3, goal: Vec3, tcp_start: Vec3) -> Reward:
    """The reward of one soccer episode, scaled by where it began. Positions in metres."""
    cage_margin = math.hypot(object_start[0] - tcp_start[0], object_start[2] - tcp_start[2]) - _CAGE_XZ_M
    goal_line = goal[1] - _GOAL_DEPTH_M

    def caging(sawyer: Sawyer) -> float:
        x, y, z = sawyer.object
        left, right = sawyer.left_pad_y - y, y - sawyer.right_pad_y
        # Stock keeps the pads' starting places as views of MuJoCo's memory: its margins follow the pads as they are now.
        left_margin, right_margin = abs(abs(left) - _PAD_REACH_M), abs(abs(right) - _PAD_REACH_M)

        def between_pads(reach: float) -> float:
            degree: float = both(
                long_tail(right, _OBJECT_RADIUS_M, reach, right_margin),
                long_tail(left, _OBJECT_RADIUS_M, reach, left_margin),
            )
            return degree

        caged_xz = long_tail(math.hypot(sawyer.tcp[0] - x, sawyer.tcp[2] - z), 0.0, _CAGE_XZ_M, cage_margin)
        caged: float = both(between_pads(_PAD_REACH_M), caged_xz)
        gripped = between_pads(_GRIP_REACH_M) if caged > _CAGED_ENOUGH else 0.0
        return (caged + gripped) / 2

    def reward(sawyer: Sawyer, grip: float) -> float:
        x, y, _ = sawyer.object
        goal_distance = _weighted(sawyer.object, goal)
        if goal_distance < GOAL_RADIUS_M:
            return GOAL_REWARD
        # Stock scales by the distance from the start *so far*, not by the way from start to goal.
        in_place = long_tail(goal_distance, 0.0, GOAL_RADIUS_M, _weighted(sawyer.object, object_start))
        if y > goal_line and abs(x - goal[0]) > _POST_X_M:
            in_place = max(0.0, in_place - 2.0 * (y - goal_line) / (1.0 - goal_line))
        return 3.0 * caging(sawyer) + 6.5 * in_place

    return reward


def _weighted(a: list[float] | Vec3, b: Vec3) -> float:
    return math.hypot(_SIDEWAYS_WEIGHT * (a[0] - b[0]), a[1] - b[1], a[2] - b[2])
