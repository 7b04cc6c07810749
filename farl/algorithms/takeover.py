"""A person between router and arm: what they ask for is executed in place of what was decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farl.algorithms.gate import Gate
from farl.algorithms.router import Router, Ungated
from farl.types import Decision

Ask = Callable[[], "tuple[float, ...] | None"]
"""what a person asks for in one environment, None while it is not theirs"""


class Takeover:
    """Asks a person for every environment, after the router has decided.

    For learning, a step of theirs is one of recovery: another than the task policy acted, so it is ``gated`` and its credit is
    (``farl.algorithms.credit``). ``human`` tells the two apart.
    """

    def __init__(self, router: Router | Ungated, asks: list[Ask]) -> None:
        self.router, self.asks = router, asks
        self.human: Bool[Tensor, " b"] = torch.zeros(len(asks), dtype=torch.bool)
        """who of the last decision's environments is in a person's hands"""

    @property
    def gate(self) -> Gate | None:
        """The router's."""
        return self.router.gate

    @property
    def seconds(self) -> float:
        """That the router spent deciding."""
        return self.router.seconds

    def decide(self, obs: Float[Tensor, "b obs"], proposed: Float[Tensor, "b act"]) -> Decision:
        """The router's decision; where a person has taken over, their action in its place."""
        decision = self.router.decide(obs, proposed)
        asked = [ask() for ask in self.asks]
        self.human = torch.tensor([action is not None for action in asked])
        if not self.human.any():
            return decision
        executed = decision.executed.clone()
        for row, action in enumerate(asked):
            if action is not None:
                executed[row] = torch.tensor(action)
        return replace(decision, executed=executed, gated=decision.gated | self.human)

    def reset(self, mask: Bool[Tensor, " b"]) -> None:
        """Of the router."""
        self.router.reset(mask)

    def state_dict(self) -> dict[str, Any]:
        """The router's: a person's state is their own."""
        return self.router.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.router.load_state_dict(state)
