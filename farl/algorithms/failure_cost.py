"""Failing as the cost of a constrained problem: what it is, how often it comes, and whose fault it was."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from farl.algorithms.advantage import generalised_advantage
from farl.algorithms.objective import onset
from farl.algorithms.optimisation import anneal, descend
from farl.algorithms.rollout import Rollout
from farl.networks.normalizer import Normalizer
from farl.networks.value import ValueFunction


@dataclass(frozen=True)
class ConstraintConfig:
    """Baselines that learn not to fail instead of being kept from it: ppo-lag, p3o and penalty."""

    limit: float = 0.05
    """failures per episode allowed (the d of constrained problems; never OmniSafe's 25, which no episode could reach)"""
    value_lr: float = 3e-4
    """of the cost critic, decayed linearly to 0"""
    lam: float = 0.95
    """of the cost's generalised advantages; their discount is the one the cost critic was trained with"""
    kp: float = 1.0
    """ppo-lag: multiplier per failure above the limit"""
    ki: float = 0.1
    """ppo-lag: multiplier gained per failure above the limit and iteration"""
    kd: float = 1.0
    """ppo-lag: multiplier per failure that the last iteration added; a falling rate takes nothing off"""
    max_multiplier: float = 10.0
    """ppo-lag: bound on the multiplier and its integral"""
    kappa: float = 20.0
    """p3o: price of the predicted excess"""
    penalty: float = 20.0
    """penalty: taken off the raw reward of the step on which an episode first fails"""

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise ValueError(f"constraint.limit is {self.limit} failures per episode; an episode counts at most one: give 0 to 1")
        for name in ("kp", "ki", "kd", "max_multiplier", "kappa", "penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"constraint.{name} is {getattr(self, name)}; give 0 or more")


class FailureCost:
    """Cost 1 when an episode first fails; after that the episode is outside the constrained problem.

    Its return is the discounted chance of failing, so the undiscounted one, an episode's failures, is comparable with a limit.
    Steps after the failure have no cost advantage and train no cost critic: the observation does not tell whether
    the failure has been charged. A success ends the episode with no cost to come.
    """

    WINDOW = 100
    """finished episodes that the failure rate is taken over"""

    def __init__(self, critic: ValueFunction, normalizer: Normalizer, gamma: float, config: ConstraintConfig) -> None:
        self.critic, self.normalizer, self.gamma, self.config = critic, normalizer, gamma, config
        self.optimizer = torch.optim.Adam(critic.parameters(), config.value_lr, eps=1e-5)
        self.recent: deque[bool] = deque(maxlen=self.WINDOW)
        self.advantage = self.returns = torch.zeros(0)
        """of the current rollout, flat; the advantage is centred, and 0 on steps that do not count"""
        self.counted = torch.zeros(0, dtype=torch.bool)
        self._x = torch.zeros(0, 0)

    @property
    def rate(self) -> float:
        """Failures per episode over the last ones; the limit while none has ended, so that nothing is concluded from nothing."""
        return sum(self.recent) / len(self.recent) if self.recent else self.config.limit

    def prepare(self, rollout: Rollout, x: Float[Tensor, "n obs"], done: float) -> dict[str, float]:
        """Count the rollout's finished episodes and estimate its cost advantages."""
        anneal(self.optimizer, done)
        ended, failed = rollout.terminated | rollout.truncated, rollout.failure | rollout.failed
        self.recent.extend(failed[ended].tolist())
        self._x, self.counted = x, ~rollout.failed.flatten()
        with torch.no_grad():
            value = self.critic(x).view(ended.shape)
            following = self.critic(self.normalizer(rollout.next_obs.flatten(0, 1))).view(ended.shape)
        cost = onset(rollout)
        advantage = generalised_advantage(
            cost,
            value,
            torch.where(rollout.success, 0.0, following),
            ~(rollout.terminated | (cost > 0)),
            rollout.truncated,
            self.gamma,
            self.config.lam,
        )
        self.returns, flat = (advantage + value).flatten(), advantage.flatten()
        mean = flat[self.counted].mean() if self.counted.any() else flat.new_zeros(())
        self.advantage = torch.where(self.counted, flat - mean, 0.0)
        return {"cost_rate": self.rate, "cost_value": float(value.mean())}

    def fit(self, rows: Tensor) -> None:
        """One step of the cost critic on those of ``rows`` that count."""
        rows = rows[self.counted[rows]]
        if len(rows):
            loss = mse_loss(self.critic(self._x[rows]), self.returns[rows])
            descend(loss, self.optimizer, self.critic.parameters(), max_norm=5.0)

    def state_dict(self) -> dict[str, Any]:
        return {
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "recent": list(self.recent),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.recent = deque(state["recent"], maxlen=self.WINDOW)
