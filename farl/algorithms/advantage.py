"""Generalised advantage estimation with true final observations (Schulman et al. 2016)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def held_success(
    next_value: Float[Tensor, "*n"], reward: Float[Tensor, "*n"], success: Bool[Tensor, "*n"], gamma: float
) -> Float[Tensor, "*n"]:
    """Value after each step, where a success is worth its own reward for ever: r / (1 - gamma).

    An episode that ends on success is never seen to go on, so V of its last observation is never trained, and with a dense
    reward hovering beside the goal soon looks better than reaching it (measured: success fell from 75 % to 0 while the
    return rose fortyfold, docs/method.md). The closed form is what V would be if success were held.
    """
    return torch.where(success, reward / (1 - gamma), next_value)


def generalised_advantage(
    reward: Float[Tensor, "t b"],
    value: Float[Tensor, "t b"],
    next_value: Float[Tensor, "t b"],
    survival: Float[Tensor, "t b"] | Bool[Tensor, "t b"],
    truncated: Bool[Tensor, "t b"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "t b"]:
    """Advantages; ``next_value[t]`` is the value of the observation the step really led to, before any reset.

    ``survival`` is the share of the future that is left after a step: 0 where it terminated, 1 otherwise, and between the
    two where a price is paid as a chance of termination (Chane-Sane et al. 2024, eq. 4). Termination alone stops the
    bootstrap. Any end of an episode, truncation by success or time-out included, stops the accumulation: the next row
    belongs to another episode.
    """
    delta = reward + gamma * next_value * survival - value
    carry = gamma * lam * survival * ~truncated
    advantage = torch.zeros_like(delta)
    running = torch.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + carry[t] * running
        advantage[t] = running
    return advantage
