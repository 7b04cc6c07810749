"""Methods by name: each a combination of critic, recovery, gate and credit; the loop has no branches."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.credit import CreditMode
from farl.algorithms.critics import HoldStill, RandomCritic, SimulatorOracle
from farl.algorithms.failure_cost import ConstraintConfig, FailureCost
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.lagrangian import Lagrangian, PIDMultiplier
from farl.algorithms.objective import Objective, PenalisedReturn, Return
from farl.algorithms.p3o import P3O
from farl.algorithms.risk import ImaginedRisk
from farl.algorithms.router import Router, Ungated
from farl.environments import make_vector
from farl.errors import UserError
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import calibration_of, q_risk_critic
from farl.types import FailureCritic, Policy


@dataclass(frozen=True)
class ControlsConfig:
    """Settings of the methods that are controls."""

    random_rate: float = 0.1
    """share of steps on which random-gate hands over; set it to the gated share of the method it is compared with"""
    oracle_rollouts: int = 1
    """simulator rollouts per decision of oracle-gate; more than 1 adds exploration noise"""


@dataclass(frozen=True)
class Parts:
    """What a method may be built from."""

    bundle: OfflineBundle
    policy: GaussianPolicy
    """the task policy as it is being trained; the look-ahead follows it"""
    envs: VectorEnv[Any, Any, Any]
    gate: GateConfig
    controls: ControlsConfig
    generator: torch.Generator
    """randomness of the gate, apart from exploration: a gate never changes the actions proposed"""
    constraint: ConstraintConfig = field(default_factory=ConstraintConfig)

    @property
    def threshold(self) -> float:
        """The configured threshold, or the one calibrated for the world model."""
        if self.gate.threshold is not None:
            return self.gate.threshold
        if self.bundle.calibration is None:
            raise UserError("the bundle is not calibrated; give a threshold with --gate.threshold")
        return self.bundle.calibration.threshold

    def threshold_of(self, critic: str) -> float:
        """The configured threshold, or the one calibrated on the scores of another critic of the bundle."""
        if self.gate.threshold is not None:
            return self.gate.threshold
        return calibration_of(self.bundle, critic).threshold


@dataclass(frozen=True)
class Method:
    """A named combination of parts."""

    description: str
    critic: Callable[[Parts], FailureCritic] | None = None
    """None: no gate"""
    recovery: Callable[[Parts], Policy] = lambda parts: parts.bundle.recovery
    threshold: Callable[[Parts], float] = lambda parts: parts.threshold
    credit: CreditMode = "proposed"
    objective: Callable[[Parts], Objective] = lambda parts: Return()
    """what the task policy learns"""

    def router(self, parts: Parts) -> Router | Ungated:
        """What decides who acts."""
        if self.critic is None:
            return Ungated()
        recovery, critic = self.recovery(parts), self.critic(parts)
        return Router(recovery, critic, Gate(parts.gate, self.threshold(parts), parts.envs.num_envs))


def imagined(parts: Parts) -> FailureCritic:
    """The bundle's world model, rolled out with the task policy as it is now."""
    calibration = parts.bundle.calibration
    scale, shift = (calibration.scale, calibration.shift) if calibration else (1.0, 0.0)
    return ImaginedRisk(parts.bundle.model, parts.policy, parts.bundle.risk, scale, shift, parts.generator)


def oracle(parts: Parts) -> FailureCritic:
    """The simulator itself."""
    twin = make_vector(parts.bundle.task, parts.envs.num_envs)
    rollouts, horizon = parts.controls.oracle_rollouts, parts.bundle.risk.horizon
    return SimulatorOracle(parts.envs, twin, parts.policy, horizon, rollouts, parts.generator)


def random(parts: Parts) -> FailureCritic:
    return RandomCritic(parts.controls.random_rate, parts.generator)


def q_risk(parts: Parts) -> FailureCritic:
    """Recovery RL's model-free critic."""
    return q_risk_critic(parts.bundle)


def penalised(parts: Parts) -> Objective:
    return PenalisedReturn(parts.constraint.penalty * parts.bundle.reward_scale)


def lagrangian(parts: Parts) -> Objective:
    return Lagrangian(failure_cost(parts), PIDMultiplier(parts.constraint))


def p3o(parts: Parts) -> Objective:
    return P3O(failure_cost(parts))


def failure_cost(parts: Parts) -> FailureCost:
    """With the cost critic as the bundle's failure data trained it; raises UserError where there is none."""
    bundle = parts.bundle
    if bundle.cost_value is None:
        raise UserError(
            "the bundle has no cost critic: it was made without, or before there was one; make it again with `farl offline`"
        )
    return FailureCost(copy.deepcopy(bundle.cost_value), bundle.normalizer, bundle.q_risk_gamma, parts.constraint)


def hold_still(parts: Parts) -> Policy:
    return HoldStill(parts.bundle.shape.act_dim)


METHODS: dict[str, Method] = {
    "farl": Method("world-model gate with a calibrated threshold, learned recovery", critic=imagined),
    "uni-o4": Method("offline-to-online PPO without a gate (Lei et al. 2024): the baseline"),
    "farl-executed": Method(
        "farl learning from executed actions, as the paper draws it", critic=imagined, credit="executed"
    ),
    "simple-critic": Method(
        "Recovery RL's Q-risk as the gate, without a model (Thananjeyan et al. 2021)",
        critic=q_risk,
        threshold=lambda parts: parts.threshold_of("q_risk"),
    ),
    "ppo-lag": Method("no gate: PPO with a PID Lagrange multiplier on failures (Stooke et al. 2020)", objective=lagrangian),
    "p3o": Method("no gate: PPO with an exact penalty on failures above a limit (Zhang et al. 2022)", objective=p3o),
    "penalty": Method("no gate: PPO with a fixed price on the first failure of an episode", objective=penalised),
    "oracle-gate": Method(
        "control: the simulator looks ahead instead of a model", critic=oracle, threshold=lambda parts: 0.0
    ),
    "random-gate": Method(
        "control: hands over at random, as often as another gate", critic=random, threshold=lambda parts: 0.5
    ),
    "gate-hold": Method("control: farl's gate, but recovery holds still", critic=imagined, recovery=hold_still),
}


def find(name: str) -> Method:
    """The method called ``name``; raises UserError with the nearest name otherwise."""
    if name in METHODS:
        return METHODS[name]
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"perhaps you meant '{near[0]}'; " if near else ""
    raise UserError(f"unknown method '{name}'; {hint}there are {', '.join(METHODS)}")
