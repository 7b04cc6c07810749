"""MetaWorld's dense push reward (v2): reach, cage and squeeze the object, then bring it to the goal; 0 to 10."""

from __future__ import annotations

import math

from failurebench.rewards.caging import caging_reward, held
from failurebench.rewards.shaping import Reward, long_tail
from failurebench.sawyer import Sawyer, Vec3

GOAL_REWARD = 10.0
SUCCESS_RADIUS_M = 0.05


def push_reward(object_start: Vec3, goal: Vec3, tcp_start: Vec3) -> Reward:
    """The reward of one push episode, scaled by where it began. Positions in metres."""
    goal_distance_start = math.dist(object_start, goal)
    caging = caging_reward(object_start, tcp_start)

    def reward(sawyer: Sawyer, grip: float) -> float:
        goal_distance = math.dist(sawyer.object, goal)
        if goal_distance < SUCCESS_RADIUS_M:
            return GOAL_REWARD
        grasped = caging(sawyer, grip)
        if held(sawyer):
            in_place = long_tail(goal_distance, 0.0, SUCCESS_RADIUS_M, goal_distance_start)
            grasped += 1.0 + grasped + 5.0 * in_place
        return float(grasped)

    return reward
