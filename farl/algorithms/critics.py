"""Failure critics that are controls: what prediction is worth is read off beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor

from farl.environments import get_states, reset_where, set_states
from farl.errors import UserError
from farl.networks.policy import GaussianPolicy


class RandomCritic:
    """Risk 1 with a fixed probability, else 0: a gate that fires as often as another but knows nothing."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        self.rate, self.generator = rate, generator

    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        return (torch.rand(len(obs), generator=self.generator) < self.rate).float()


def trigger_probability(rate: float, min_dwell: int) -> float:
    """The chance per step with which a random gate must fire to hand over a share ``rate`` of all steps.

    A burst lasts ``min_dwell`` steps and goes on as long as the gate fires again, on average ``B = min_dwell - 1 + 1 / (1 - p)``;
    between bursts lie ``1 / p`` steps: ``rate = B / (B + 1 / p)``, solved by bisection. The cap on bursts is left out.
    """
    if min_dwell == 1:
        return rate
    low, high = 0.0, rate
    for _ in range(60):
        p = (low + high) / 2
        burst = min_dwell - 1 + 1 / (1 - p)
        low, high = (p, high) if burst * p < rate * (burst * p + 1) else (low, p)
    return (low + high) / 2


class SimulatorOracle:
    """Looks ahead in a copy of the simulator: risk is the share of rollouts that fail within the horizon.

    With ``rollouts`` = 1 the task policy's later actions are its means; with more they carry exploration noise, and the
    first one still is the mean rollout. Privileged and slow: a diagnostic, not a method.
    """

    def __init__(
        self,
        live: VectorEnv[Any, Any, Any],
        copy: VectorEnv[Any, Any, Any],
        policy: GaussianPolicy,
        horizon: int,
        rollouts: int,
        generator: torch.Generator,
    ) -> None:
        copy.reset(seed=0)
        if get_states(copy) is None:
            raise UserError("the oracle gate needs get_state()/set_state() from the environment; this task offers none")
        self.live, self.copy, self.policy = live, copy, policy
        self.horizon, self.rollouts, self.generator = horizon, rollouts, generator

    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        states = get_states(self.live)
        assert states is not None
        failures = torch.zeros(len(obs))
        for rollout in range(self.rollouts):
            set_states(self.copy, states)
            failures += self._fails(action, noisy=rollout > 0)
        return failures / self.rollouts

    def _fails(self, action: Tensor, noisy: bool) -> Tensor:
        failed = np.zeros(len(action), dtype=bool)
        over = np.zeros(len(action), dtype=bool)
        for _ in range(self.horizon + 1):
            following, _, terminated, truncated, info = self.copy.step(action.clamp(-1, 1).numpy())
            failed |= np.asarray(info["failure"], dtype=bool) & ~over
            ended = terminated | truncated
            over |= ended
            if ended.any():
                reset_where(self.copy, ended, [0] * len(ended))
            x = self.policy.normalizer(torch.from_numpy(np.asarray(following, dtype=np.float32)))
            with torch.no_grad():
                mean: Tensor = self.policy(x)
            action = self.policy.sample(mean, self.generator) if noisy else mean
        return torch.from_numpy(failed).float()


class HoldStill:
    """A recovery that does nothing: is recovery useful, or is stopping enough?"""

    def __init__(self, act_dim: int) -> None:
        self.act_dim = act_dim

    def act(self, obs: Float[Tensor, "b obs"]) -> Float[Tensor, "b act"]:
        return torch.zeros(len(obs), self.act_dim)
