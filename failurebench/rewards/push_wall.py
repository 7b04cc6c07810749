"""MetaWorld's dense push-wall reward (v2): hold the object, pass the wall's free end, bring it to the goal; 0 to 10."""

from __future__ import annotations

import math

from failurebench.rewards.caging import caging_reward, held
from failurebench.rewards.shaping import Reward, long_tail
from failurebench.sawyer import Sawyer, Vec3

GOAL_REWARD = 10.0
GOAL_RADIUS_M = 0.05
"""the reward's own goal region; success is 0.07"""

MIDPOINT_FROM_END_M = (-0.03, 0.02)
"""the point to pass through, x and y from the middle of the wall's free end: (-0.05, 0.77) at the stock wall"""

_X_WEIGHT = 3.0


def push_wall_reward(
    object_start: Vec3, goal: Vec3, tcp_start: Vec3, free_end: tuple[float, float] = (-0.02, 0.75)
) -> Reward:
    """The reward of one episode, scaled by where it began. Positions in metres.

    Args:
        object_start: the object's centre.
        goal: where it should go.
        tcp_start: point between the fingertips.
        free_end: x and y of the middle of the wall's free end. Stock knows one wall only; where the wall stands elsewhere
            or is longer, the midpoint moves with its end.
    """
    mid_x, mid_y = free_end[0] + MIDPOINT_FROM_END_M[0], free_end[1] + MIDPOINT_FROM_END_M[1]
    goal_distance_start = math.dist(object_start, goal)
    caging = caging_reward(object_start, tcp_start)

    def to_midpoint(x: float, y: float) -> float:
        return math.hypot(_X_WEIGHT * (x - mid_x), y - mid_y)

    midpoint_distance_start = to_midpoint(object_start[0], object_start[1])

    def passing(x: float, y: float, z: float) -> float:
        # The midpoint is as high as the object now, so that in stock lifting the object widens the tail.
        margin = math.hypot(midpoint_distance_start, object_start[2] - z)
        return long_tail(to_midpoint(x, y), 0.0, GOAL_RADIUS_M, margin)

    def reward(sawyer: Sawyer, grip: float) -> float:
        x, y, z = sawyer.object
        goal_distance = math.dist(sawyer.object, goal)
        if goal_distance < GOAL_RADIUS_M:
            return GOAL_REWARD
        grasped = caging(sawyer, grip)
        if held(sawyer):
            # Added from left to right as in stock: some of these sums are in float32, see caging.
            if y > free_end[1]:
                in_place = long_tail(goal_distance, 0.0, GOAL_RADIUS_M, goal_distance_start)
                grasped = grasped + 1.0 + 4.0 + 3.0 * in_place
            else:
                grasped = grasped + 1.0 + 4.0 * passing(x, y, z)
        return float(grasped)

    return reward
