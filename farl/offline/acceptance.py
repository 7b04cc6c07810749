"""Acceptance checks of a bundle: each met, or plainly reported as not met, with the figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from farl.algorithms.calibration import Calibration, missed, score, warnings
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.offline_ppo import OfflinePPOResult
from farl.algorithms.router import Router, Ungated
from farl.data.batches import WindowSampler
from farl.environments import get_states, make, make_vector
from farl.offline.bundle import OfflineBundle
from farl.offline.collecting import Collector, ExploringPolicy, collect_until, rescue
from farl.offline.critics import model_critic
from farl.offline.evaluation import evaluate
from farl.progress import Progress
from farl.seeds import Purpose, episode_seed, episode_seeds
from farl.types import Episode


@dataclass(frozen=True)
class AcceptanceConfig:
    """How the bundle is examined in simulation; skipped where the task has no simulator."""

    rescues: int = 100
    """near-failure states recovery is tried from"""
    lead: int = 3
    """agent steps before the failure in those states"""
    rescue_steps: int = 30
    episodes: int = 64
    """closed-loop episodes with and without the gate, on the same seeds"""
    num_envs: int = 16
    limit: int = 60000
    """agent steps spent at most on looking for failures to rescue from"""


@dataclass(frozen=True)
class Check:
    """One line of the acceptance table."""

    name: str
    value: str
    target: str
    met: bool | None
    """None where the check could not be made"""
    note: str = ""


def examine(
    bundle: OfflineBundle,
    held_out: Sequence[Episode],
    ppo: OfflinePPOResult | None,
    config: AcceptanceConfig,
    progress: Progress,
) -> list[Check]:
    """Every acceptance check of the offline stage; ``ppo`` is None where the policy was taken over."""
    checks = [*_gate_checks(bundle), *_model_checks(bundle, held_out)]
    if ppo is not None:
        checks.append(
            Check(
                "offline PPO",
                f"{ppo.accepted} of {max(len(ppo.scores) - 1, 0)} accepted",
                "imagined return not lower",
                True,
                f"imagined return {ppo.scores[0]:.0f} before, {max(ppo.scores):.0f} best",
            )
        )
    envs = make_vector(bundle.task, config.num_envs)
    envs.reset(seed=0)
    if get_states(envs) is None:
        checks.append(
            Check("recovery rate", "not measured", ">= 90 %", None, "the task has no get_state()/set_state()")
        )
    else:
        checks += _recovery_checks(bundle, envs, config, progress)
    checks += _closed_loop(bundle, envs, config, progress)
    envs.close()
    return checks


def table(checks: Sequence[Check]) -> str:
    """The checks as aligned text."""
    mark = {True: "met", False: "NOT MET", None: "-"}
    rows = [("check", "measured", "target", "", "note")] + [
        (c.name, c.value, c.target, mark[c.met], c.note) for c in checks
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows
    )


def _gate_checks(bundle: OfflineBundle) -> list[Check]:
    c = bundle.calibration
    assert c is not None
    few = "; too few failures for the bound" if not math.isfinite(c.miss_bound) else ""
    failures = f"{c.failing_episodes} failing and {c.clean_episodes} clean held-out episodes{few}"
    bound = f"threshold {c.threshold:.3f}; miss bound {c.miss_bound:.3f}, false-alarm bound {c.false_alarm_bound:.3f}"
    return [
        Check(
            "onset recall, lead >= 3, 10 % FPR", _percent(c.onset_recall), ">= 90 %", c.onset_recall >= 0.9, failures
        ),
        Check(
            "AUROC of C_H",
            f"{c.auroc:.3f}",
            ">= 0.95",
            c.auroc >= 0.95,
            f"{100 * c.false_positive_rate:.1f} % of safe steps gated",
        ),
        Check(
            "calibration error (ECE)",
            f"{c.calibration_error:.3f}",
            "< 0.05",
            c.calibration_error < 0.05,
            "one-step failure probability",
        ),
        Check(
            "threshold agrees with both bounds",
            f"{c.threshold:.3f}",
            "miss >= alarm",
            c.miss_bound >= c.false_alarm_bound,
            bound,
        ),
        *_threshold_trials(c),
    ]


def _threshold_trials(c: Calibration) -> list[Check]:
    if not c.trials:
        return []
    free, *gated = c.trials
    chosen = next(trial for trial in gated if trial.threshold == c.threshold)
    tried = "; ".join(f"{t.threshold:.3f}: {100 * t.failures:.0f} % fail, {100 * t.successes:.0f} % succeed" for t in gated)
    kept = chosen.failures < free.failures and chosen.successes >= 0.8 * free.successes
    return [
        Check(
            "threshold tried in closed loop",
            f"{100 * chosen.failures:.0f} % fail",
            f"< {100 * free.failures:.0f} %, success kept",
            kept if free.failures else None,
            f"without a gate {100 * free.failures:.0f} % fail, {100 * free.successes:.0f} % succeed; {tried}",
        )
    ]


def _percent(share: float) -> str:
    return "not measured" if math.isnan(share) else f"{100 * share:.0f} %"


@torch.no_grad()
def open_loop_error(bundle: OfflineBundle, episodes: Sequence[Episode], horizon: int, count: int = 512) -> NDArray[Any]:
    """|predicted - true| of every number of the encoded observation after ``horizon`` executed actions, raw units ``[n, obs]``."""
    long_enough = [e for e in episodes if len(e) >= horizon]
    sampler = WindowSampler(long_enough, horizon, bundle.reward_scale, onset_fraction=0.0)
    windows = sampler.sample(count, torch.Generator().manual_seed(0))
    complete = windows.valid[-1]
    z = bundle.model.encode(bundle.normalizer(windows.obs[0]))
    for action in windows.action:
        z, _ = bundle.model.step(z, action)
    predicted = bundle.normalizer.restore(bundle.model.decode(z))
    error: NDArray[Any] = (predicted - bundle.normalizer.encode(windows.obs[-1])).abs()[complete].numpy()
    return error


def _model_checks(bundle: OfflineBundle, held_out: Sequence[Episode]) -> list[Check]:
    env = make(bundle.task)
    tracked: dict[str, tuple[int, ...]] = getattr(env.unwrapped, "tracked_positions", {})
    env.close()
    errors = {steps: open_loop_error(bundle, held_out, steps) for steps in (1, 5, 10)}
    if not tracked:
        scaled = float(np.sqrt(((errors[10] / bundle.normalizer.std.numpy()) ** 2).mean()))
        return [
            Check(
                "open-loop error, 10 steps",
                f"{scaled:.3f}",
                "< 0.5",
                scaled < 0.5,
                "root mean square, in standard deviations",
            )
        ]
    checks = []
    for name, dims in tracked.items():
        cm = {steps: 100 * float(np.linalg.norm(error[:, dims], axis=1).mean()) for steps, error in errors.items()}
        note = ", ".join(f"{value:.2f} cm at {steps}" for steps, value in cm.items())
        checks.append(Check(f"open-loop error, {name}, 10 steps", f"{cm[10]:.2f} cm", "< 1.5 cm", cm[10] < 1.5, note))
    return checks


def _recovery_checks(
    bundle: OfflineBundle, envs: VectorEnv[Any, Any, Any], config: AcceptanceConfig, progress: Progress
) -> list[Check]:
    """Let the task policy explore until it has failed often enough, then replay its last steps with recovery."""
    progress.stage("recovery from held-out states", config.rescues)
    collector = Collector(envs, bundle.task, tail=1, remember=True)
    explorer = ExploringPolicy(bundle.policy, float(bundle.policy.std.detach().mean()), seed=bundle.seed + 77)
    spent = 0

    def enough(episode: Episode) -> bool:
        nonlocal spent
        spent += len(episode)
        found = sum(snapshot.lead == config.lead for snapshot in collector.snapshots)
        progress.at(min(found, config.rescues))
        return found >= config.rescues or spent >= config.limit

    seeds = episode_seeds(Purpose.ACCEPTANCE, bundle.seed)
    fresh = collect_until(collector.episodes(explorer, seeds, "clone"), enough)
    checks = [_promise_check(bundle, fresh)]
    for lead in (config.lead, 2 * config.lead):
        states = [snapshot.state for snapshot in collector.snapshots if snapshot.lead == lead][: config.rescues]
        if not states:
            checks.append(Check(f"recovery rate, lead {lead}", "not measured", ">= 90 %", None, "no failure was seen"))
            continue
        results = rescue(envs, bundle.task, _Fixed(bundle.recovery), states, config.rescue_steps, seed=0)
        rate = 1 - sum(r.failed for r in results) / len(results)
        checks.append(
            Check(
                f"recovery rate, lead {lead}",
                _percent(rate),
                ">= 90 %",
                rate >= 0.9,
                f"{len(results)} states of the task policy",
            )
        )
    return checks


def _promise_check(bundle: OfflineBundle, fresh: Sequence[Episode]) -> Check:
    """Promised against realised misses, on failures that had no part in the calibration, of the policy that will explore.

    Judged at the miss bound where the threshold in use is higher: that one was tried in closed loop and promises nothing.
    """
    c = bundle.calibration
    assert c is not None
    critic = model_critic(bundle, bundle.policy)
    warned = warnings(score(critic, [episode for episode in fresh if episode.failed]), c.min_lead, c.max_lead)
    target = f"<= {100 * c.miss_rate:.0f} %"
    if not len(warned):
        return Check("missed failures, fresh", "not measured", target, None, "no failure was seen")
    realised = missed(warned, min(c.threshold, c.miss_bound))
    detail = f"{len(warned)} failures; {_percent(missed(warned, c.threshold))} at the threshold in use"
    return Check("missed failures, fresh", _percent(realised), target, realised <= c.miss_rate, detail)


@dataclass
class _Fixed:
    """A policy's mean action as an agent."""

    policy: Any

    def begin(self, env: int, seed: int) -> None:
        """Nothing to draw."""

    def act(self, obs: NDArray[Any]) -> NDArray[Any]:
        action: NDArray[Any] = self.policy.act(torch.from_numpy(obs)).numpy()
        return action


def _closed_loop(
    bundle: OfflineBundle, envs: VectorEnv[Any, Any, Any], config: AcceptanceConfig, progress: Progress
) -> list[Check]:
    """The same episodes with and without the gate: the only test of recovery that counts."""
    assert bundle.calibration is not None
    progress.stage("closed loop", 2)
    c = bundle.calibration
    critic = model_critic(bundle, bundle.policy)
    gate = Gate(GateConfig(), c.threshold, config.num_envs)
    generator = torch.Generator()
    failed, succeeded = {}, {}
    for name, router in (("off", Ungated()), ("on", Router(bundle.recovery, critic, gate))):
        generator.manual_seed(bundle.seed)
        rows = evaluate(
            envs,
            bundle.task,
            lambda obs: bundle.policy.sample(bundle.policy.act(obs), generator),
            router,
            config.episodes,
            episode_seed(Purpose.ACCEPTANCE, bundle.seed, 500_000_000),
        )
        failed[name] = sum(row["failed"] for row in rows)
        succeeded[name] = sum(row["outcome"] == "success" for row in rows)
        progress.at(len(failed))
    reduction = 1 - failed["on"] / failed["off"] if failed["off"] else math.nan
    note = (
        f"{failed['off']} of {config.episodes} episodes fail without the gate, {failed['on']} with it; "
        f"success {succeeded['off']} and {succeeded['on']}"
    )
    # A gate that stops everything avoids every failure; it must also let the task succeed.
    met = None if math.isnan(reduction) else reduction >= 0.6 and succeeded["on"] >= 0.8 * succeeded["off"]
    return [Check("closed loop: fewer failures", _percent(reduction), ">= 60 %, success kept", met, note)]
