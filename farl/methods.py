"""Methods by name: each a combination of critic, recovery, gate and credit; the loop has no branches."""

from __future__ import annotations

import copy
import difflib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.adaptive_threshold import AdaptiveThreshold
from farl.algorithms.credit import CreditMode
from farl.algorithms.critics import HoldStill, RandomCritic, SimulatorOracle, trigger_probability
from farl.algorithms.failure_cost import ConstraintConfig, FailureCost
from farl.algorithms.familiarity import WaryRouter
from farl.algorithms.gate import Gate, GateConfig, memoryless
from farl.algorithms.lagrangian import Lagrangian, PIDMultiplier
from farl.algorithms.mppi import MPPI, MPPIConfig
from farl.algorithms.objective import ChargedHandover, Objective, PenalisedReturn, Return
from farl.algorithms.p3o import P3O
from farl.algorithms.router import CostlyPolicy, Router, Ungated
from farl.environments import make_vector
from farl.errors import UserError
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import calibration_of, familiarity_of, largest_risk, model_critic, paper_critic, q_risk_critic
from farl.types import FailureCritic, Policy


@dataclass(frozen=True)
class ControlsConfig:
    """Settings of the methods that are controls."""

    random_rate: float = 0.1
    """share of steps on which random-gate hands over"""
    random_like: Path | None = None
    """run whose share of gated steps random-gate takes over, such as the one of the method it is compared with"""
    oracle_rollouts: int = 4
    """simulator rollouts per decision of oracle-gate-noisy: one follows the policy's mean, the others explore"""

    oracle_horizon: int = 10
    """agent steps the oracle gates look ahead after the proposed action"""

    def __post_init__(self) -> None:
        if self.oracle_horizon < 0:
            raise ValueError(f"controls.oracle_horizon is {self.oracle_horizon}; give 0 or more")
        if not 0 <= self.random_rate < 1:
            raise ValueError(f"controls.random_rate is {self.random_rate}; give a share from 0 up to, not including, 1")
        if self.oracle_rollouts < 1:
            raise ValueError(f"controls.oracle_rollouts is {self.oracle_rollouts}; give 1 or more")


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
    handover_price: float = 1.0
    constraint: ConstraintConfig = field(default_factory=ConstraintConfig)
    mppi: MPPIConfig = field(default_factory=MPPIConfig)

    @property
    def threshold(self) -> float:
        """The configured threshold, or the one calibrated for the world model."""
        return self.threshold_of("model")

    def threshold_of(self, critic: str) -> float:
        """The configured threshold, or the one calibrated on the scores of a critic of the bundle."""
        if self.gate.threshold is not None:
            highest = largest_risk(self.bundle, critic)
            if highest < self.gate.threshold < math.inf:
                raise UserError(
                    f"gate.threshold is {self.gate.threshold:g}, but no risk of this bundle's critic exceeds {highest:.4g}, so it "
                    "would never gate; give less, or inf if that is what you want"
                )
            return self.gate.threshold
        calibration = calibration_of(self.bundle, critic)
        if self.gate.miss_rate is None:
            return calibration.threshold
        return calibration.threshold_for(self.gate.miss_rate, self.gate.confidence)


@dataclass(frozen=True)
class Method:
    """A named combination of parts."""

    description: str
    critic: Callable[[Parts], FailureCritic] | None = None
    """None: no gate"""
    recovery: Callable[[Parts], Policy | CostlyPolicy] = lambda parts: parts.bundle.recovery
    threshold: Callable[[Parts], float] = lambda parts: parts.threshold
    scores: str | None = None
    """whose calibrated scores the threshold comes from, ``model``, ``q_risk`` or ``paper``; None where it is fixed"""
    gate: Callable[[GateConfig], GateConfig] = lambda gate: gate
    """the configured gate, or what the method makes of it"""
    credit: CreditMode = "handover"
    objective: Callable[[Parts], Objective] = lambda parts: ChargedHandover(parts.handover_price)
    """what the task policy learns; without a gate nothing is ever handed over, so nothing is charged"""

    def router(self, parts: Parts) -> Router | Ungated:
        """What decides who acts."""
        if self.critic is None:
            return Ungated()
        recovery, critic = self.recovery(parts), self.critic(parts)
        gate = Gate(self.gate(parts.gate), self.threshold(parts), parts.envs.num_envs)
        if not parts.gate.unfamiliar:
            return Router(recovery, critic, gate)
        bundle = parts.bundle
        limit = familiarity_of(bundle).limit(parts.gate.unfamiliar)
        return WaryRouter(recovery, critic, gate, bundle.model, bundle.normalizer, limit)

    def adaptation(self, parts: Parts, gate: Gate | None) -> AdaptiveThreshold | None:
        """What moves the gate's threshold during a run, if anything."""
        if gate is None or self.scores is None or not parts.gate.adapt:
            return None
        calibration = calibration_of(parts.bundle, self.scores)
        rate = calibration.miss_rate if parts.gate.miss_rate is None else parts.gate.miss_rate
        return AdaptiveThreshold(gate, calibration, rate, parts.gate.confidence, parts.gate.adapt)


def imagined(parts: Parts) -> FailureCritic:
    """The bundle's world model, rolled out with the task policy as it is now."""
    return model_critic(parts.bundle, parts.policy, parts.generator)


def head_calibration(parts: Parts) -> tuple[float, float]:
    """Scale and shift of the world model's failure heads."""
    calibration = parts.bundle.calibration
    return (calibration.scale, calibration.shift) if calibration else (1.0, 0.0)


def as_published(parts: Parts) -> FailureCritic:
    """The paper's: latent model, plain sum."""
    return paper_critic(parts.bundle, parts.policy, parts.generator)


def planner(parts: Parts) -> CostlyPolicy:
    """MPPI in the bundle's world model, whichever it is."""
    b, scale_and_shift = parts.bundle, head_calibration(parts)
    return MPPI(b.model, parts.policy, b.value, parts.mppi, b.risk, parts.generator, *scale_and_shift)


def oracle(parts: Parts) -> FailureCritic:
    """The simulator itself, the task policy without exploration."""
    return _look_ahead(parts, rollouts=1)


def noisy_oracle(parts: Parts) -> FailureCritic:
    """The simulator itself, the task policy as it explores."""
    return _look_ahead(parts, parts.controls.oracle_rollouts)


def _look_ahead(parts: Parts, rollouts: int) -> FailureCritic:
    twin = make_vector(parts.bundle.task, parts.envs.num_envs)
    return SimulatorOracle(parts.envs, twin, parts.policy, parts.controls.oracle_horizon, rollouts, parts.generator)


def random(parts: Parts) -> FailureCritic:
    """Chance, at a rate that is given or that of another run."""
    like = parts.controls.random_like
    rate = parts.controls.random_rate if like is None else gated_share(like)
    return RandomCritic(trigger_probability(rate, parts.gate.min_dwell), parts.generator)


def gated_share(run: Path) -> float:
    """Share of a run's training steps on which recovery acted; raises UserError if it has finished no episode."""
    path = run / "episodes.jsonl"
    episodes = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if not episodes:
        raise UserError(
            f"{run} has no finished episode to take the rate of random-gate from; let that run come first, or give "
            "--controls.random-rate"
        )
    return float(sum(e["gated_steps"] for e in episodes) / sum(e["length"] for e in episodes))


def q_risk(parts: Parts) -> FailureCritic:
    """Recovery RL's model-free critic."""
    return q_risk_critic(parts.bundle)


def uncharged(parts: Parts) -> Objective:
    """For learning from executed actions: a price on the hand-over would blame recovery for it."""
    return Return()


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
    "farl": Method("world-model gate with a calibrated threshold, learned recovery", critic=imagined, scores="model"),
    "uni-o4": Method("offline-to-online PPO without a gate (Lei et al. 2024): the baseline"),
    "farl-executed": Method(
        "farl learning from executed actions, as the paper draws it",
        critic=imagined,
        scores="model",
        credit="executed",
        objective=uncharged,
    ),
    "farl-paper": Method(
        "the published method: latent model, plain sum, no dwell, executed actions (arXiv 2601.07821)",
        critic=as_published,
        threshold=lambda parts: parts.threshold_of("paper"),
        scores="paper",
        gate=memoryless,
        credit="executed",
        objective=uncharged,
    ),
    "simple-critic": Method(
        "Recovery RL's Q-risk as the gate, without a model (Thananjeyan et al. 2021)",
        critic=q_risk,
        threshold=lambda parts: parts.threshold_of("q_risk"),
        scores="q_risk",
    ),
    "mppi": Method(
        "farl's gate, but recovery plans in the world model (MPPI)", critic=imagined, recovery=planner, scores="model"
    ),
    "ppo-lag": Method("no gate: PPO with a PID Lagrange multiplier on failures (Stooke et al. 2020)", objective=lagrangian),
    "p3o": Method("no gate: PPO with an exact penalty on failures above a limit (Zhang et al. 2022)", objective=p3o),
    "penalty": Method("no gate: PPO with a fixed price on the first failure of an episode", objective=penalised),
    "oracle-gate": Method(
        "control: the simulator looks ahead instead of a model", critic=oracle, threshold=lambda parts: 0.0
    ),
    "oracle-gate-noisy": Method(
        "control: the simulator looks ahead, exploration included", critic=noisy_oracle, threshold=lambda parts: 0.0
    ),
    "random-gate": Method(
        "control: hands over at random, as often as another gate", critic=random, threshold=lambda parts: 0.5
    ),
    "gate-hold": Method(
        "control: farl's gate, but recovery holds still", critic=imagined, recovery=hold_still, scores="model"
    ),
    "watched": Method(
        "control: uni-o4 with farl's critic looking on: what the gate would have caught",
        critic=imagined,
        threshold=lambda parts: math.inf,
    ),
}


def find(name: str) -> Method:
    """The method called ``name``; raises UserError with the nearest name otherwise."""
    if name in METHODS:
        return METHODS[name]
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"perhaps you meant '{near[0]}'; " if near else ""
    raise UserError(f"unknown method '{name}'; {hint}there are {', '.join(METHODS)}")
