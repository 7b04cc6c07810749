"""What PPO improves: the return, or the return and something about failures; an object, so that the learner has no branches."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from farl.algorithms.rollout import Rollout


class Objective(Protocol):
    """Turns a rollout into rewards to learn from and a policy loss; may learn something of its own beside them."""

    def prepare(self, rollout: Rollout, x: Float[Tensor, "n obs"], done: float, learning: bool) -> dict[str, float]:
        """Take in a new rollout; returns figures for the metrics.

        ``x`` are its standardised observations, ``done`` the share of the budget used, ``learning`` is false in warm-up.
        """
        ...

    def rewards(self, rollout: Rollout) -> Float[Tensor, "t b"]:
        """The rewards whose return the value function learns."""
        ...

    def survival(self, rollout: Rollout) -> Float[Tensor, "t b"]:
        """Share of the future that each step leaves to be valued: 0 where it terminated, 1 if nothing else is charged."""
        ...

    def fit(self, rows: Tensor) -> None:
        """One step of whatever else learns, on these rows of the rollout."""
        ...

    def loss(
        self,
        log_prob: Float[Tensor, " n"],
        old_log_prob: Float[Tensor, " n"],
        weight: Float[Tensor, " n"],
        advantage: Float[Tensor, " n"],
        rows: Tensor,
        clip: float,
    ) -> Float[Tensor, ""]:
        """The policy's loss on ``rows`` of the rollout; ``weight`` is their credit."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def clipped_surrogate(
    log_prob: Float[Tensor, " n"], old_log_prob: Float[Tensor, " n"], advantage: Float[Tensor, " n"], clip: float
) -> Float[Tensor, " n"]:
    """PPO's pessimistic surrogate per sample (Schulman et al. 2017, eq. 7), as a loss."""
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def standardised(advantage: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Mean 0 and standard deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)


class Return:
    """The return alone, as the baseline and the methods that learn from executed actions learn it."""

    def prepare(self, rollout: Rollout, x: Float[Tensor, "n obs"], done: float, learning: bool) -> dict[str, float]:
        return {}

    def rewards(self, rollout: Rollout) -> Float[Tensor, "t b"]:
        return rollout.reward

    def survival(self, rollout: Rollout) -> Float[Tensor, "t b"]:
        return (~rollout.terminated).float()

    def fit(self, rows: Tensor) -> None:
        """Nothing else learns."""

    def loss(
        self,
        log_prob: Float[Tensor, " n"],
        old_log_prob: Float[Tensor, " n"],
        weight: Float[Tensor, " n"],
        advantage: Float[Tensor, " n"],
        rows: Tensor,
        clip: float,
    ) -> Float[Tensor, ""]:
        return (weight * clipped_surrogate(log_prob, old_log_prob, standardised(advantage), clip)).mean()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class PenalisedReturn(Return):
    """The return with a fixed price on failing, paid once an episode, when it first fails."""

    def __init__(self, price: float) -> None:
        self.price = price
        """in units of scaled reward"""

    def rewards(self, rollout: Rollout) -> Float[Tensor, "t b"]:
        return rollout.reward - self.price * onset(rollout)


class ChargedHandover(Return):
    """The return, where being taken over by recovery costs a share of all that was still to come.

    What recovery saves looks harmless to the policy it saves: the longer a gate works, the less careful the policy behind
    it becomes (docs/method.md has the measurement). A price in units of reward would have to fit the task; a share of the
    future does not. It is paid on the step recovery takes over, by the action that the policy proposed there.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def survival(self, rollout: Rollout) -> Float[Tensor, "t b"]:
        return super().survival(rollout) * (1 - self.share * rollout.handover.float())


def onset(rollout: Rollout) -> Float[Tensor, "t b"]:
    """1 on the step that first fails in its episode, 0 on all others: the cost of every method that has one.

    Failures persist and do not end an episode; charged on every failing step, one accident would count up to 250 times.
    """
    return (rollout.failure & ~rollout.failed).float()
