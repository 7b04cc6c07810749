"""PPO with a Lagrange multiplier on failures, moved by a PID controller (Stooke et al. 2020)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from farl.algorithms.failure_cost import ConstraintConfig, FailureCost
from farl.algorithms.objective import Return, clipped_surrogate, standardised
from farl.algorithms.rollout import Rollout


class PIDMultiplier:
    """The price of a failure: high while failures exceed the limit (Stooke et al. 2020, algorithm 2).

    ``I <- clip(I + ki e, 0, max)``, ``lambda = clip(kp e + I + kd max(0, J - J_before), 0, max)`` with ``e = J - limit``.
    Clipping the integral, not only the multiplier, is what keeps it from winding up: however long the limit was exceeded,
    the price falls as soon as it no longer is.
    """

    def __init__(self, config: ConstraintConfig) -> None:
        self.config = config
        self.value = self.integral = 0.0
        self.before: float | None = None

    def step(self, rate: float) -> float:
        """The multiplier after an iteration with ``rate`` failures per episode."""
        cfg, error = self.config, rate - self.config.limit
        rise = 0.0 if self.before is None else max(0.0, rate - self.before)
        self.integral = min(max(self.integral + cfg.ki * error, 0.0), cfg.max_multiplier)
        self.value = min(max(cfg.kp * error + self.integral + cfg.kd * rise, 0.0), cfg.max_multiplier)
        self.before = rate
        return self.value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "integral": self.integral, "before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.integral, self.before = state["value"], state["integral"], state["before"]


class Lagrangian(Return):
    """``(A_r - lambda A_c) / (1 + lambda)`` in PPO's clipped surrogate, both advantages standardised.

    Divided by (1 + lambda), the step size does not grow with the price. The multiplier stands still in warm-up, while the
    policy cannot answer to it.
    """

    def __init__(self, cost: FailureCost, multiplier: PIDMultiplier) -> None:
        self.cost, self.multiplier = cost, multiplier
        self._advantage = cost.advantage

    def prepare(self, rollout: Rollout, x: Float[Tensor, "n obs"], done: float, learning: bool) -> dict[str, float]:
        figures = self.cost.prepare(rollout, x, done)
        spread = self.cost.advantage[self.cost.counted].std(correction=0) if self.cost.counted.any() else 1.0
        self._advantage = self.cost.advantage / (spread + 1e-8)
        if learning:
            self.multiplier.step(self.cost.rate)
        return {**figures, "multiplier": self.multiplier.value}

    def fit(self, rows: Tensor) -> None:
        self.cost.fit(rows)

    def loss(
        self,
        log_prob: Float[Tensor, " n"],
        old_log_prob: Float[Tensor, " n"],
        weight: Float[Tensor, " n"],
        advantage: Float[Tensor, " n"],
        rows: Tensor,
        clip: float,
    ) -> Float[Tensor, ""]:
        price = self.multiplier.value
        mixed = (standardised(advantage) - price * self._advantage[rows]) / (1 + price)
        return (weight * clipped_surrogate(log_prob, old_log_prob, mixed, clip)).mean()

    def state_dict(self) -> dict[str, Any]:
        return {"cost": self.cost.state_dict(), "multiplier": self.multiplier.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cost.load_state_dict(state["cost"])
        self.multiplier.load_state_dict(state["multiplier"])
