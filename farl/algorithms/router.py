"""Failure-aware action selection: who acts, the task policy or the recovery policy."""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farl.algorithms.gate import Gate
from farl.types import Decision, FailureCritic, Policy


class Ungated:
    """No gate: every proposed action is executed (Uni-O4)."""

    gate = None
    seconds = 0.0

    def decide(self, obs: Float[Tensor, "b obs"], proposed: Float[Tensor, "b act"]) -> Decision:
        count = len(obs)
        nobody = torch.zeros(count, dtype=torch.bool)
        return Decision(proposed, proposed, proposed, torch.zeros(count), nobody)

    def reset(self, mask: Bool[Tensor, " b"]) -> None:
        """Nothing to forget."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


@runtime_checkable
class CostlyPolicy(Protocol):
    """A recovery that is only asked where it acts."""

    def act_where(self, obs: Float[Tensor, "b obs"], rows: Bool[Tensor, " b"]) -> Float[Tensor, "b act"]:
        """Actions where ``rows`` is true, zeros elsewhere."""
        ...


class Router:
    """Execute the task policy's action unless it is predicted to fail."""

    def __init__(self, recovery: Policy | CostlyPolicy, critic: FailureCritic, gate: Gate) -> None:
        self.recovery, self.critic, self.gate = recovery, critic, gate
        self.seconds = 0.0
        """time spent deciding"""

    @torch.no_grad()
    def decide(self, obs: Float[Tensor, "b obs"], proposed: Float[Tensor, "b act"]) -> Decision:
        """Route each row on its own; the risk is that of the very action that would be executed."""
        start = time.perf_counter()
        risk = self.critic.risk(obs, proposed)
        gated = self.gate.step(risk)
        acting = self.recovery
        recovery = acting.act_where(obs, gated) if isinstance(acting, CostlyPolicy) else acting.act(obs)
        executed = torch.where(gated[:, None], recovery, proposed)
        self.seconds += time.perf_counter() - start
        return Decision(executed, proposed, recovery, risk, gated)

    def reset(self, mask: Bool[Tensor, " b"]) -> None:
        """Forget the past of environments that start a new episode."""
        self.gate.reset(mask)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"gate": self.gate.state_dict(), "seconds": self.seconds}
        for name, part in (("generator", self.critic), ("recovery_generator", self.recovery)):
            generator = getattr(part, "generator", None)
            state[name] = None if generator is None else generator.get_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.gate.load_state_dict(state["gate"])
        self.seconds = state["seconds"]
        for name, part in (("generator", self.critic), ("recovery_generator", self.recovery)):
            if state[name] is not None:
                part.generator.set_state(state[name])  # type: ignore[union-attr]
