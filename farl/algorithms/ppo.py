"""Proximal policy optimisation on rollouts in which recovery may have acted (Schulman et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from farl.algorithms.advantage import generalised_advantage, held_success
from farl.algorithms.credit import Credit, CreditMode, assign
from farl.algorithms.objective import Objective, Return, clipped_surrogate, standardised
from farl.algorithms.optimisation import anneal
from farl.algorithms.rollout import Rollout
from farl.networks.backprop import Backprop
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation, the same for every method."""

    lr: float = 1e-4
    """policy learning rate, decayed linearly to 0 (Uni-O4: 2e-5, with clip 0.05)"""
    value_lr: float = 3e-4
    """critic learning rate, decayed linearly to 0"""
    clip: float = 0.1
    """ratio range 1 +- clip"""
    epochs: int = 10
    batch: int = 256
    gamma: float = 0.99
    lam: float = 0.95
    target_kl: float = 0.02
    """an iteration stops early when ungated samples have moved this far"""
    warmup: int = 5
    """first iterations that train the critic only"""
    max_grad_norm: float = 0.5
    std_lr: float = 0.0
    """learning rate of the exploration std; 0 keeps the std every method shares"""

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1 or not 0 <= self.lam <= 1:
            raise ValueError(f"ppo.gamma {self.gamma} must lie in (0, 1) and ppo.lam {self.lam} in [0, 1]")


class PPO:
    """Improves the task policy and its value function; nothing else of a bundle is touched."""

    def __init__(
        self,
        policy: GaussianPolicy,
        value: ValueFunction,
        config: PPOConfig,
        credit: CreditMode,
        generator: torch.Generator,
        objective: Objective | None = None,
    ) -> None:
        self.policy, self.value, self.config, self.credit = policy, value, config, credit
        self.generator, self.objective = generator, objective or Return()
        groups: list[dict[str, Any]] = [{"params": policy.net.parameters()}]
        policy.log_std.requires_grad_(config.std_lr > 0)
        if config.std_lr > 0:
            groups.append({"params": [policy.log_std], "lr": config.std_lr})
        self.policy_optimizer = torch.optim.Adam(groups, config.lr, eps=1e-5, fused=True)
        self.value_optimizer = torch.optim.Adam(value.parameters(), config.value_lr, eps=1e-5, fused=True)
        self.iteration = 0

    def update(self, rollout: Rollout, done: float) -> dict[str, float]:
        """One iteration on a rollout; ``done`` is the share of the run's budget used, for the learning rates."""
        x = self.policy.normalizer(rollout.obs.flatten(0, 1))
        figures = self.objective.prepare(rollout, x, done, learning=self.iteration >= self.config.warmup)
        advantage, returns, explained = self._targets(rollout, x)
        credit = assign(
            self.credit,
            *(
                getattr(rollout, name).flatten(0, 1)
                for name in ("proposed", "executed", "proposed_log_prob", "executed_log_prob", "gated", "handover", "z_max")
            ),
        )
        anneal(self.policy_optimizer, done)
        anneal(self.value_optimizer, done)
        # Both networks read the same features, and the normaliser is frozen: they are computed once.
        features = self.policy.normalizer.features(x)
        gated = rollout.gated.flatten()
        stats = {"gated_grad_share": 0.0}
        if gated.any():
            stats = _diagnostics(self.policy, features, credit, advantage, gated, self.config.clip)
        losses = self._epochs(features, credit, advantage, returns, ~gated)
        self.iteration += 1
        std = float(self.policy.std.detach().mean())
        return {"explained_variance": explained, "std": std, **stats, **losses, **figures}

    @torch.no_grad()
    def _targets(self, rollout: Rollout, x: Tensor) -> tuple[Tensor, Tensor, float]:
        shape = rollout.reward.shape
        value = self.value(x).view(shape)
        next_value = self.value(self.policy.normalizer(rollout.next_obs.flatten(0, 1))).view(shape)
        # What is held after a success is the task's own reward, without a price paid on that one step.
        next_value = held_success(next_value, rollout.reward, rollout.success, self.config.gamma)
        reward, survival = self.objective.rewards(rollout), self.objective.survival(rollout)
        discounts = (self.config.gamma, self.config.lam)
        advantage = generalised_advantage(reward, value, next_value, survival, rollout.truncated, *discounts)
        returns = advantage + value
        explained = 1 - (returns - value).var(correction=0) / returns.var(correction=0).clamp_min(1e-8)
        return advantage.flatten(), returns.flatten(), float(explained)

    def _epochs(
        self, features: Tensor, credit: Credit, advantage: Tensor, returns: Tensor, free: Tensor
    ) -> dict[str, float]:
        cfg, sums, batches = self.config, torch.zeros(3), 0
        policy_on = learns = self.iteration >= self.config.warmup
        value_net = Backprop(self.value.net)
        policy_net = Backprop(self.policy.net, *([self.policy.log_std] if cfg.std_lr > 0 else []))
        for _ in range(cfg.epochs):
            # One permutation an epoch is drawn whether or not the policy still learns: every method sees the same order.
            order = torch.randperm(len(features), generator=self.generator)
            columns = (features, returns, advantage, credit.action, credit.log_prob, credit.weight)
            shuffled = [torch.split(column, cfg.batch) for column in (order, *(column[order] for column in columns))]
            for rows, f, target, adv, action, old, weight in zip(*shuffled, strict=True):
                value_loss = mse_loss(self.value.of_output(value_net(f)), target)
                value_net.descend(value_loss, self.value_optimizer, cfg.max_grad_norm * 10)
                sums[1] += value_loss.detach()
                self.objective.fit(rows)
                batches += 1
                if policy_on:
                    log_prob = self.policy.log_prob(self.policy.of_output(policy_net(f)), action)
                    loss = self.objective.loss(log_prob, old, weight, adv, rows, cfg.clip)
                    policy_net.descend(loss, self.policy_optimizer, cfg.max_grad_norm)
                    clipped = ((log_prob.detach() - old).exp() - 1).abs() > cfg.clip
                    sums += torch.stack([loss.detach(), torch.zeros(()), clipped.float().mean()])
            if policy_on:
                # Of a minibatch's worth, other rows each time, which tells it to a sixth: all would cost a tenth of the update.
                policy_on = self._divergence(features, credit, order[free[order]][: cfg.batch]) <= cfg.target_kl
        kl = self._divergence(features, credit, free.nonzero().flatten()) if learns else 0.0
        names = ("policy_loss", "value_loss", "clip_fraction")
        return dict(zip(names, (sums / batches).tolist(), strict=True)) | {"kl": kl}

    @torch.no_grad()
    def _divergence(self, features: Tensor, credit: Credit, rows: Tensor) -> float:
        """KL(old || new) estimated on ungated rows (Schulman's k3): gated actions were not drawn from the policy."""
        if not len(rows):
            return 0.0
        mean = self.policy.of_features(features[rows])
        log_ratio = self.policy.log_prob(mean, credit.action[rows]) - credit.log_prob[rows]
        return float((log_ratio.exp() - 1 - log_ratio).mean())

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "value": self.value.state_dict(),
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "value_optimizer": self.value_optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "objective": self.objective.state_dict(),
            "iteration": self.iteration,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.value.load_state_dict(state["value"])
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])
        self.generator.set_state(state["generator"])
        self.objective.load_state_dict(state["objective"])
        self.iteration = state["iteration"]


def _diagnostics(
    policy: GaussianPolicy, features: Tensor, credit: Credit, advantage: Tensor, gated: Tensor, clip: float
) -> dict[str, float]:
    """How much of the first gradient gated steps make up: a share near one means that recovery dominates learning."""
    standard = standardised(advantage)
    norms = []
    for rows in (gated, ~gated):
        if not rows.any():
            norms.append(0.0)
            continue
        log_prob = policy.log_prob(policy.of_features(features[rows]), credit.action[rows])
        loss = clipped_surrogate(log_prob, credit.log_prob[rows], standard[rows], clip) * credit.weight[rows]
        gradient = torch.autograd.grad(loss.sum() / len(features), list(policy.net.parameters()))
        norms.append(float(torch.cat([g.flatten() for g in gradient]).norm()))
    return {"gated_grad_share": norms[0] / max(sum(norms), 1e-12)}
