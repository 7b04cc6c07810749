"""The threshold tried out: the one under which the task policy does best in closed loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.calibration import MIN_THRESHOLD, Calibration, Trial
from farl.algorithms.gate import Gate, GateConfig, memoryless
from farl.algorithms.router import Router, Ungated
from farl.environments import get_states, make_vector
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import further_critics, model_critic
from farl.offline.evaluation import evaluate
from farl.progress import Progress
from farl.seeds import Purpose, episode_seed
from farl.types import FailureCritic

FIRST_EPISODE = 600_000_000
"""apart from the episodes that the bundle is examined on"""
GATES = {"paper": memoryless(GateConfig())}
"""the gate behind which a critic's thresholds are tried, where it is not the default one"""


@dataclass(frozen=True)
class ThresholdSearchConfig:
    """How thresholds beside the calibrated one are tried out in simulation."""

    episodes: int = 96
    """episodes of the exploring task policy for each; 0 keeps the calibrated threshold"""
    num_envs: int = 32
    quantiles: tuple[float, ...] = (0.995, 0.99, 0.97, 0.95, 0.9, 0.85, 0.8, 0.7)
    """quantiles of the risk of safe steps that are tried beside the calibrated threshold"""
    success_weight: float = 1.0
    """what losing every success weighs, where having every failure weighs 1; gained ones count as much"""

    def __post_init__(self) -> None:
        if self.episodes < 0 or self.num_envs < 1:
            raise ValueError(f"search.episodes is {self.episodes}, search.num_envs {self.num_envs}; give 0 and 1, or more")
        if not all(0 <= q <= 1 for q in self.quantiles):
            raise ValueError(f"search.quantiles are {self.quantiles}; each is a share from 0 to 1")
        if not self.success_weight >= 0:
            raise ValueError(f"search.success_weight is {self.success_weight}; give 0 or more")


def search_thresholds(bundle: OfflineBundle, config: ThresholdSearchConfig, progress: Progress) -> None:
    """Move the threshold of every critic of the bundle, in place, to where it pays; nothing happens without a simulator.

    A threshold from held-out episodes knows what a missed failure is, not what recovery makes of a warning: a ball has to be
    stopped long before it is lost, and a gate that always acts stops the task. What is chosen promises no miss rate; a run
    that asks for one (``gate.miss_rate``) has its threshold from the conformal bound instead.
    """
    if not config.episodes or bundle.calibration is None:
        return
    envs = make_vector(bundle.task, config.num_envs)
    envs.reset(seed=0)
    if get_states(envs) is not None:
        own, gate = model_critic(bundle, bundle.policy), GateConfig()
        bundle.calibration = _chosen(bundle, envs, own, gate, bundle.calibration, config, progress)
        for name, critic in further_critics(bundle).items():
            calibration = bundle.calibrations[name]
            bundle.calibrations[name] = _chosen(bundle, envs, critic, GATES.get(name, gate), calibration, config, progress)
    envs.close()


def best(trials: Sequence[Trial], success_weight: float) -> Trial:
    """The gated trial with the fewest failures and the most successes, each as a share of those of the first, without a gate.

    Shares, because a policy that rarely succeeds yet has few successes to lose, and all of its learning. Successes that are
    gained count too: recovery also frees a task policy that is stuck. Of equals the one that acts least.
    """
    free, *gated = trials

    def cost(trial: Trial) -> float:
        failures = trial.failures / free.failures if free.failures else trial.failures
        kept = trial.successes / free.successes if free.successes else 1.0
        return failures - success_weight * kept

    return min(gated, key=lambda trial: (cost(trial), -(trial.threshold or 0.0)))


def _chosen(
    bundle: OfflineBundle,
    envs: VectorEnv[Any, Any, Any],
    critic: FailureCritic,
    gate: GateConfig,
    calibration: Calibration,
    config: ThresholdSearchConfig,
    progress: Progress,
) -> Calibration:
    grid = calibration.safe_quantiles
    tried = {grid[round(q * (len(grid) - 1))] for q in config.quantiles} if grid else set()
    thresholds = [None, *sorted({calibration.threshold, *(t for t in tried if t > MIN_THRESHOLD)}, reverse=True)]
    progress.stage("thresholds in closed loop", len(thresholds))
    trials: list[Trial] = []
    for threshold in thresholds:
        router: Router | Ungated = Ungated()
        if threshold is not None:
            router = Router(bundle.recovery, critic, Gate(gate, threshold, envs.num_envs))
        trials.append(play(bundle, envs, router, config.episodes, FIRST_EPISODE))
        progress.at(len(trials), f"failures {trials[-1].failures:.2f}, success {trials[-1].successes:.2f}")
        if len(trials) > 1 and trials[-1].successes < 0.5 * trials[0].successes:
            break   # a lower threshold would only stop the task more
    threshold = best(trials, config.success_weight).threshold
    assert threshold is not None
    alarms = calibration.gated_when_safe(threshold)
    return dataclasses.replace(calibration, threshold=threshold, trials=trials, false_positive_rate=alarms)


def play(
    bundle: OfflineBundle, envs: VectorEnv[Any, Any, Any], router: Router | Ungated, episodes: int, first: int
) -> Trial:
    """The exploring task policy behind ``router``: the same episodes, from number ``first``, and the same noise for all."""
    noise = torch.Generator().manual_seed(bundle.seed)
    rows = evaluate(
        envs,
        bundle.task,
        lambda obs: bundle.policy.sample(bundle.policy.act(obs), noise),
        router,
        episodes,
        episode_seed(Purpose.ACCEPTANCE, bundle.seed, first),
    )
    return Trial(
        threshold=None if router.gate is None else router.gate.threshold,
        failures=float(np.mean([row["failed"] for row in rows])),
        successes=float(np.mean([row["outcome"] == "success" for row in rows])),
        gated=sum(row["gated_steps"] for row in rows) / sum(row["length"] for row in rows),
    )
