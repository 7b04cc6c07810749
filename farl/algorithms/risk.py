"""Risk of an action: roll the task policy out in the world model and accumulate failure probabilities (the paper's C_H)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from farl.networks.policy import GaussianPolicy
from farl.networks.value import DoubleQ
from farl.networks.world_model import ObservedModel, WorldModel

Accumulation = Literal["first_hit", "sum", "max"]


@dataclass(frozen=True)
class RiskConfig:
    """How failure probabilities along an imagined rollout become one number."""

    horizon: int = 5
    """agent steps imagined after the proposed action (paper: H); H + 1 terms"""
    gamma: float = 0.95
    """discount per step ahead (paper: gamma_risk)"""
    accumulate: Accumulation = "first_hit"
    """first_hit: discounted probability that the first failure comes then, at most 1; sum: the paper's plain sum; max"""
    particles: int = 1
    """rollouts per state; with 1 the later actions are the policy's mean, with more they are sampled"""
    pessimism: float = 1.0
    """standard deviations between failure heads added to their mean (paper of LAMBDA: upper bound on cost)"""
    tail: bool = True
    """Q-risk of the last imagined step stands for all that comes after it, as one term more"""


def accumulate(probabilities: Float[Tensor, "h b"], gamma: float, how: Accumulation) -> Float[Tensor, " b"]:
    """One risk from the failure probabilities of ``h`` steps ahead."""
    steps = torch.arange(len(probabilities), device=probabilities.device)
    discounted = probabilities * (gamma ** steps.float())[:, None]
    if how == "sum":
        return discounted.sum(0)
    if how == "max":
        return discounted.amax(0)
    survived = torch.cumprod(1 - probabilities, dim=0)
    reached = torch.cat([torch.ones_like(survived[:1]), survived[:-1]])
    return (discounted * reached).sum(0)


class ImaginedRisk:
    """A ``FailureCritic`` that imagines: the proposed action first, then the task policy, H steps in the world model.

    ``later``, a Q-risk as logits, values what follows the last of them: its chance of failing is one more step's. ``scale``
    and ``shift`` are the heads' probability calibration on held-out data (logit' = scale * logit + shift). The generator of
    the particles is the critic's own, so that a gate never changes the exploration noise.
    """

    def __init__(
        self,
        model: WorldModel,
        policy: GaussianPolicy,
        config: RiskConfig,
        scale: float = 1.0,
        shift: float = 0.0,
        generator: torch.Generator | None = None,
        later: DoubleQ | None = None,
    ) -> None:
        self.model, self.policy, self.config = model, policy, config
        self.scale, self.shift, self.later = scale, shift, later
        self.generator = generator or torch.Generator().manual_seed(0)

    @torch.no_grad()
    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        particles = self.config.particles
        obs, action = obs.repeat_interleave(particles, 0), action.repeat_interleave(particles, 0)
        probabilities = self.step_probabilities(obs, action)
        risk = accumulate(probabilities, self.config.gamma, self.config.accumulate)
        return risk.view(-1, particles).mean(1)

    @torch.no_grad()
    def step_probabilities(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, "h b"]:
        """Pessimistic, calibrated failure probability of each imagined step; with a tail, of what follows as the last."""
        z, action = self.model.encode(self.policy.normalizer(obs)), action.clamp(-1, 1)
        logits, last = self._imagined(z, action)
        probabilities = pessimistic(logits * self.scale + self.shift, self.config.pessimism)
        return probabilities if self.later is None else torch.cat([probabilities, self._tail(self.later, last)[None]])

    def _tail(self, later: DoubleQ, z: Tensor) -> Float[Tensor, " b"]:
        observed = isinstance(self.model, ObservedModel)   # then the state is what networks read
        features = z if observed else self.policy.normalizer.features(self.model.decode(z))
        action = self._explored(self.policy.of_features(features))
        return later.of_features(features, action).sigmoid().amax(0)

    def _imagined(self, z: Tensor, action: Tensor) -> tuple[Float[Tensor, "h k b"], Tensor]:
        """Every head's logit of every step, and the state the last one leads to."""
        if isinstance(self.model, ObservedModel):
            return self._observed(self.model, z, action)
        logits = []
        for step in range(self.config.horizon + 1):
            z, logit = self.model.step(z, action)
            logits.append(logit)
            if step < self.config.horizon:
                action = self._explored(self.policy(self.model.decode(z)))
        return torch.stack(logits), z

    def _observed(self, model: ObservedModel, z: Tensor, action: Tensor) -> tuple[Float[Tensor, "h k b"], Tensor]:
        """The same for such a model: the policy reads its state, and the heads come last, for all steps together."""
        states = [model.follow(z, action)]
        for _ in range(self.config.horizon):
            action = self._explored(self.policy.of_features(states[-1]))
            states.append(model.follow(states[-1], action))
        logits = model.failure_logits(model.decode(torch.cat(states)))
        return logits.view(-1, len(states), len(z)).transpose(0, 1), states[-1]

    def _explored(self, mean: Tensor) -> Tensor:
        return (mean if self.config.particles == 1 else self.policy.sample(mean, self.generator)).clamp(-1, 1)


def pessimistic(logits: Float[Tensor, "h k b"], pessimism: float) -> Float[Tensor, "h b"]:
    """Mean over heads plus ``pessimism`` standard deviations, as a probability."""
    probabilities = logits.sigmoid()
    if probabilities.shape[1] == 1:
        return probabilities[:, 0]
    mean = probabilities.mean(1)
    spread = (probabilities - mean[:, None]).square().mean(1).sqrt()  # five times as fast as ``std`` over so few
    return (mean + pessimism * spread).clamp(0, 1)
