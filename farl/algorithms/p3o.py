"""P3O: PPO with an exact penalty on the predicted excess of failures (Zhang et al. 2022)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from farl.algorithms.failure_cost import FailureCost
from farl.algorithms.objective import Return, clipped_surrogate, standardised
from farl.algorithms.rollout import Rollout


class P3O(Return):
    """``L_r + kappa max(0, mean max(rho A_c, clip(rho) A_c) + (1 - gamma) (J_c - d))`` (Zhang et al. 2022).

    Well within the limit the penalty is zero and this is PPO; the maximum is taken per minibatch, so near it noise in the
    cost advantages switches the penalty on now and then. Those are centred but not scaled: the excess is counted in
    failures. OmniSafe leaves out the clip and the (1 - gamma), after which J_c - d alone decides.
    """

    def __init__(self, cost: FailureCost) -> None:
        self.cost = cost

    def prepare(self, rollout: Rollout, x: Float[Tensor, "n obs"], done: float, learning: bool) -> dict[str, float]:
        return self.cost.prepare(rollout, x, done)

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
        reward_loss = (weight * clipped_surrogate(log_prob, old_log_prob, standardised(advantage), clip)).mean()
        # PPO's surrogate is the pessimistic one of a gain; of a cost it is that of the negative gain.
        cost = (weight * clipped_surrogate(log_prob, old_log_prob, -self.cost.advantage[rows], clip)).mean()
        config = self.cost.config
        excess = cost + (1 - self.cost.gamma) * (self.cost.rate - config.limit)
        return reward_loss + config.kappa * excess.clamp_min(0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"cost": self.cost.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cost.load_state_dict(state["cost"])
