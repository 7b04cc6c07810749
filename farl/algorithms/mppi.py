"""Model-predictive path integral control: a recovery that plans in the world model instead of having been learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farl.algorithms.risk import RiskConfig, accumulate, pessimistic
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction
from farl.networks.world_model import WorldModel


@dataclass(frozen=True)
class MPPIConfig:
    """The planner that recovers in the method mppi (TD-MPC2's, with a price on failing)."""

    horizon: int = 5
    """agent steps planned"""
    samples: int = 64
    """action sequences an iteration (TD-MPC2: 512)"""
    from_policy: int = 4
    """of them, sequences the task policy would take, exploration included (TD-MPC2: 24)"""
    elites: int = 16
    """best sequences the next iteration is drawn around (TD-MPC2: 64)"""
    iterations: int = 3
    """TD-MPC2: 6"""
    temperature: float = 0.5
    """weight of an elite is exp(-temperature * how much worse than the best it scores)"""
    min_std: float = 0.05
    max_std: float = 1.0
    """std of the first iteration's actions; actions are in -1..1"""
    gamma: float = 0.99
    """discount of rewards and of the value at the end of the plan"""
    price: float = 50.0
    """scaled reward that a certain and immediate failure costs"""

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.iterations < 1:
            raise ValueError(f"mppi.horizon is {self.horizon} and mppi.iterations {self.iterations}; give 1 or more")
        if not 1 <= self.elites <= self.samples:
            raise ValueError(f"mppi.elites is {self.elites}; give 1 to mppi.samples, {self.samples}")
        if not 0 <= self.from_policy <= self.samples:
            raise ValueError(f"mppi.from_policy is {self.from_policy}; give 0 to mppi.samples, {self.samples}")
        if not 0 < self.min_std <= self.max_std:
            raise ValueError(f"mppi.min_std {self.min_std} must be above 0 and not above mppi.max_std {self.max_std}")


class MPPI:
    """A ``Policy`` that plans anew at every step, for the rows it is asked for.

    A sequence scores ``sum gamma^t r_t + gamma^H V(o_H) - price * risk``, all imagined; the risk is accumulated as the gate's, over
    the planned actions instead of the task policy's and the plan's own ``horizon``. ``scale`` and ``shift`` calibrate the
    failure heads (``ImaginedRisk``).
    """

    def __init__(
        self,
        model: WorldModel,
        policy: GaussianPolicy,
        value: ValueFunction,
        config: MPPIConfig,
        risk: RiskConfig,
        generator: torch.Generator,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        self.model, self.policy, self.value = model, policy, value
        self.config, self.risk, self.generator = config, risk, generator
        self.scale, self.shift = scale, shift

    def act_where(self, obs: Float[Tensor, "b obs"], rows: Bool[Tensor, " b"]) -> Float[Tensor, "b act"]:
        """The plan's first action where ``rows`` is true, zeros elsewhere: planning costs too much to do in vain."""
        action = torch.zeros(len(obs), len(self.policy.std))
        if rows.any():
            action[rows] = self.act(obs[rows])
        return action

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "b obs"]) -> Float[Tensor, "b act"]:
        """The first action of each row's plan."""
        cfg, count = self.config, len(obs)
        z = self.model.encode(self.policy.normalizer(obs)).repeat_interleave(cfg.samples, 0)
        followed = self._follow_policy(z.view(count, cfg.samples, -1)[:, : cfg.from_policy].flatten(0, 1), count)
        mean = torch.zeros(cfg.horizon, count, 1, followed.shape[-1])
        std = torch.full_like(mean, cfg.max_std)
        for _ in range(cfg.iterations):
            drawn = torch.randn(
                cfg.horizon, count, cfg.samples - cfg.from_policy, mean.shape[-1], generator=self.generator
            )
            plans = torch.cat([followed, (mean + std * drawn).clamp(-1, 1)], dim=2)
            mean, std = self._refit(plans, self.score(z, plans.flatten(1, 2)).view(count, cfg.samples))
        return mean[0, :, 0]

    def score(self, z: Float[Tensor, "n z"], actions: Float[Tensor, "h n act"]) -> Float[Tensor, " n"]:
        """What each sequence of actions is worth from its state ``z``."""
        cfg, total, logits = self.config, torch.zeros(len(z)), []
        for step, action in enumerate(actions):
            total += cfg.gamma**step * self.model.reward(z, action)
            z, logit = self.model.step(z, action)
            logits.append(logit)
        total += cfg.gamma ** len(actions) * self.value(self.model.decode(z))
        chances = pessimistic(torch.stack(logits) * self.scale + self.shift, self.risk.pessimism)
        risk = accumulate(chances, self.risk.gamma, self.risk.accumulate)
        # A model that breaks down somewhere must not be led there: no number is the worst score.
        return (total - cfg.price * risk).nan_to_num(nan=-1e9, posinf=-1e9, neginf=-1e9)

    def _follow_policy(self, z: Float[Tensor, "n z"], count: int) -> Float[Tensor, "h b s act"]:
        """Sequences the task policy would take."""
        actions = []
        for _ in range(self.config.horizon):
            action = self.policy.sample(self.policy(self.model.decode(z)), self.generator).clamp(-1, 1)
            actions.append(action.view(count, self.config.from_policy, -1))
            z, _ = self.model.step(z, action)
        return torch.stack(actions)

    def _refit(self, plans: Float[Tensor, "h b s act"], score: Float[Tensor, "b s"]) -> tuple[Tensor, Tensor]:
        """Mean and std of the elites, the better ones weighing more."""
        best, index = score.topk(self.config.elites, dim=1)
        elites = plans.gather(2, index[None, :, :, None].expand(len(plans), -1, -1, plans.shape[-1]))
        weight = (self.config.temperature * (best - best[:, :1])).softmax(1)[None, :, :, None]
        mean = (weight * elites).sum(2, keepdim=True)
        spread = (weight * (elites - mean).square()).sum(2, keepdim=True).sqrt()
        return mean, spread.clamp(self.config.min_std, self.config.max_std)
