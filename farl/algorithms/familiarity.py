"""The epistemic signal: what follows a step that the world model did not expect is not known to be safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farl.algorithms.gate import Gate
from farl.algorithms.router import CostlyPolicy, Router
from farl.networks.normalizer import Normalizer
from farl.networks.world_model import WorldModel
from farl.types import Decision, Episode, FailureCritic, Policy


@torch.no_grad()
def surprise(
    model: WorldModel,
    normalizer: Normalizer,
    obs: Float[Tensor, "b obs"],
    action: Float[Tensor, "b act"],
    following: Float[Tensor, "b obs"],
) -> Float[Tensor, " b"]:
    """How wrong the model was about a step: root mean square error of the next observation, in standard deviations."""
    z, _ = model.step(model.encode(normalizer(obs)), action.clamp(-1, 1))
    error: Tensor = model.decode(z) - normalizer(following)
    return error.square().mean(-1).sqrt()


@dataclass(frozen=True)
class Familiarity:
    """How surprising the safe steps of the calibration episodes were."""

    quantiles: list[float]
    """``surprise`` at evenly spaced quantiles from 0 to 1"""

    def limit(self, share: float) -> float:
        """The surprise that this share of the calibration steps did not exceed."""
        return float(np.interp(share, np.linspace(0, 1, len(self.quantiles)), self.quantiles))


def familiarise(
    model: WorldModel, normalizer: Normalizer, episodes: Sequence[Episode], max_lead: int
) -> Familiarity | None:
    """Measure the surprise of held-out steps more than ``max_lead`` before a failure; None if there is none."""
    kept = [(e, len(e) if e.onset is None else max(0, e.onset - max_lead)) for e in episodes]
    obs = torch.cat([torch.from_numpy(e.obs[:n]) for e, n in kept])
    action = torch.cat([torch.from_numpy(e.actions[:n]) for e, n in kept])
    following = torch.cat([torch.from_numpy(e.obs[1 : n + 1]) for e, n in kept])
    if not len(obs):
        return None
    found = surprise(model, normalizer, obs, action, following).double().numpy()
    return Familiarity(np.quantile(found, np.linspace(0, 1, 1001)).tolist())


class _Distrusting:
    """A ``FailureCritic`` that calls everything unsafe where it has been told that the world is unfamiliar."""

    def __init__(self, critic: FailureCritic) -> None:
        self.critic = critic
        self.generator = getattr(critic, "generator", None)
        self.unfamiliar: Bool[Tensor, " b"] | None = None

    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        risk = self.critic.risk(obs, action)
        return risk if self.unfamiliar is None else torch.where(self.unfamiliar, torch.inf, risk)


class WaryRouter(Router):
    """A router for which an action is unsafe, too, after a step more surprising than ``limit``.

    The step that is judged is the last one executed, whoever acted; an episode's first action follows none.
    """

    def __init__(
        self,
        recovery: Policy | CostlyPolicy,
        critic: FailureCritic,
        gate: Gate,
        model: WorldModel,
        normalizer: Normalizer,
        limit: float,
    ) -> None:
        self._distrusting = _Distrusting(critic)
        super().__init__(recovery, self._distrusting, gate)
        self.model, self.normalizer, self.limit = model, normalizer, limit
        self._before: tuple[Tensor, Tensor] | None = None
        self._known = torch.zeros(len(gate.dwell), dtype=torch.bool)
        """environments whose last step belongs to the running episode"""

    def decide(self, obs: Float[Tensor, "b obs"], proposed: Float[Tensor, "b act"]) -> Decision:
        if self._before is not None:
            # Written so that a surprise that is no number counts as one.
            expected = surprise(self.model, self.normalizer, *self._before, obs) <= self.limit
            self._distrusting.unfamiliar = ~expected & self._known
        decision = super().decide(obs, proposed)
        self._before = obs, decision.executed
        self._known = torch.ones_like(self._known)
        return decision

    def reset(self, mask: Bool[Tensor, " b"]) -> None:
        super().reset(mask)
        self._known = self._known & ~mask

    def state_dict(self) -> dict[str, Any]:
        before = None if self._before is None else list(self._before)
        return {**super().state_dict(), "before": before, "known": self._known}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._before = None if state["before"] is None else (state["before"][0], state["before"][1])
        self._known = state["known"]
