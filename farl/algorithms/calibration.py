"""Gate calibration on held-out episodes: probabilities, the threshold, and what it promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from farl.errors import UserError
from farl.types import Episode, FailureCritic

MIN_THRESHOLD = 1e-3
"""a predicted failure less likely than one in a thousand is no reason to take control away"""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationConfig:
    """How the gate's threshold is chosen."""

    safe_quantile: float = 0.95
    """threshold at this quantile of the risk of safe steps"""
    miss_rate: float = 0.05
    """the threshold never exceeds the conformal bound for this rate of missed failures (alpha)"""
    min_lead: int = 4
    """agent steps before the failure at which recovery must have begun (L_min)"""
    max_lead: int = 10
    """agent steps before the failure from which a warning counts as one for it (L_max)"""

    def __post_init__(self) -> None:
        if not 0 < self.miss_rate < 1:
            raise ValueError(f"calibration.miss_rate is {self.miss_rate}; give a share between 0 and 1, such as 0.05")
        if not 0 <= self.safe_quantile <= 1:
            raise ValueError(f"calibration.safe_quantile is {self.safe_quantile}; give a quantile from 0 to 1")
        if not 0 <= self.min_lead <= self.max_lead:
            raise ValueError(f"calibration.min_lead {self.min_lead} must lie between 0 and max_lead {self.max_lead}")


@dataclass(frozen=True)
class Trial:
    """What the exploring task policy did behind a gate with one threshold, shares of episodes and of steps."""

    threshold: float | None
    """None: without a gate"""
    failures: float
    successes: float
    gated: float


@dataclass(frozen=True)
class Calibration:
    """Result of a calibration; everything the acceptance table and the report need."""

    threshold: float
    miss_bound: float
    """risk threshold of the class-conditional conformal bound on missed failures"""
    false_alarm_bound: float
    """80 % conformal quantile of the largest risk in clean episodes"""
    scale: float = 1.0
    shift: float = 0.0
    """probability calibration of the failure heads: logit' = scale * logit + shift"""
    onset_recall: float = math.nan
    """share of failures warned of with at least 3 steps of lead at 10 % false positives"""
    auroc: float = math.nan
    """steps that fail within the horizon against safe steps"""
    calibration_error: float = math.nan
    """expected calibration error of the one-step failure probability, on the half not used to fit it"""
    false_positive_rate: float = math.nan
    """share of safe steps at or above the threshold"""
    failing_episodes: int = 0
    clean_episodes: int = 0
    reliability: list[tuple[float, float, int]] = field(default_factory=list)
    """bins of (mean predicted risk, observed frequency of a failure within the horizon, count)"""
    miss_rate: float = math.nan
    """rate of missed failures that ``miss_bound`` was made for (alpha)"""
    min_lead: int = CalibrationConfig.min_lead
    max_lead: int = CalibrationConfig.max_lead
    """agent steps before a failure between which a warning counted"""
    warned: list[float] = field(default_factory=list)
    """``warnings`` of the failing episodes, ascending: with them a threshold for any other rate needs no data"""
    safe_quantiles: list[float] = field(default_factory=list)
    """risk of safe steps at evenly spaced quantiles from 0 to 1: what a threshold costs"""
    trials: list[Trial] = field(default_factory=list)
    """thresholds tried in closed loop, the first without a gate; empty where the calibrated one was kept"""

    def threshold_for(self, miss_rate: float, confidence: float = 0.0) -> float:
        """The largest threshold that promises at most this rate of missed failures; raises UserError where none does."""
        if self.failing_episodes and not self.warned:
            raise UserError(
                "the bundle keeps no warning scores, so its threshold cannot follow gate.miss_rate: it was made before there "
                "were any; make it again with `farl offline`, or give --gate.threshold"
            )
        n = len(self.warned)
        if not allowed_misses(n, miss_rate, confidence):
            needed = failures_needed(miss_rate, confidence)
            raise UserError(
                f"gate.miss_rate {miss_rate:g} with gate.confidence {confidence:g} takes {needed} failures to calibrate on and the "
                f"bundle has {n}: {needed - n} more are needed (`farl demos --calibration-episodes {needed}` or more, then "
                "`farl offline`), or ask for a higher rate"
            )
        return just_below(conformal_low(np.array(self.warned), miss_rate, confidence))

    def gated_when_safe(self, threshold: float) -> float:
        """Share of the safe calibration steps with a higher risk than ``threshold``; NaN where that is not known."""
        if not self.safe_quantiles:
            return math.nan
        levels = np.linspace(0, 1, len(self.safe_quantiles))
        return 1 - float(np.interp(threshold, self.safe_quantiles, levels))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; JSON has no infinity, so figures that are not finite become text."""
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Calibration:
        values: dict[str, Any] = {k: float(v) if isinstance(v, str) else v for k, v in record.items()}
        values["reliability"] = [tuple(row) for row in values["reliability"]]
        values["trials"] = [Trial(**trial) for trial in values.get("trials", [])]
        return cls(**values)


@dataclass(frozen=True)
class ScoredEpisode:
    """Risk of every executed action of an episode, and when it first failed."""

    risk: FloatArray
    onset: int | None


def score(critic: FailureCritic, episodes: Sequence[Episode]) -> list[ScoredEpisode]:
    """Risk along each episode, up to and including its first failing step."""
    scored = []
    for episode in episodes:
        stop = len(episode) if episode.onset is None else episode.onset + 1
        obs, action = torch.from_numpy(episode.obs[:stop]).float(), torch.from_numpy(episode.actions[:stop]).float()
        scored.append(ScoredEpisode(critic.risk(obs, action).double().numpy(), episode.onset))
    return scored


def fit_probabilities(logits: FloatArray, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Platt scaling (scale, shift) by Newton steps on held-out data at its natural failure rate.

    Training saw many more failures than there are; this undoes that shift. Without a failure there is nothing to fit.
    """
    if not labels.any() or labels.all():
        return 1.0, 0.0
    parameters = np.array([1.0, 0.0])
    inputs = np.stack([logits, np.ones_like(logits)])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(parameters @ inputs, -30, 30)))
        gradient = inputs @ (probability - labels) + 1e-3 * (parameters - [1.0, 0.0])
        hessian = (inputs * (probability * (1 - probability))) @ inputs.T + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        parameters = parameters - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    scale, shift = float(parameters[0]), float(parameters[1])
    return (scale, shift) if scale > 0.05 else (1.0, 0.0)


def allowed_misses(n: int, alpha: float, confidence: float = 0.0) -> int:
    """How many of ``n`` calibration failures, the one at the threshold included, may lie below it for a miss rate of ``alpha``.

    With ``confidence`` 0 the rate holds on average over calibration sets (split conformal: ``floor(alpha (n + 1))``). Otherwise it
    holds for that share of the sets: the miss rate of the k-th smallest score is Beta(k, n + 1 - k) distributed, which exceeds
    ``alpha`` with the probability that a Binomial(n, alpha) is less than k (Vovk 2012, training-conditional validity).
    """
    if not confidence:
        return math.floor(alpha * (n + 1))
    below, k = 0.0, 0
    while k < n:
        choices = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(choices + k * math.log(alpha) + (n - k) * math.log1p(-alpha))
        if below > 1 - confidence:
            break
        k += 1
    return k


def conformal_low(scores: FloatArray, alpha: float, confidence: float = 0.0) -> float:
    """The ``allowed_misses``-th smallest score: a new exchangeable score is below it with probability <= alpha."""
    rank = allowed_misses(len(scores), alpha, confidence)
    return float(np.sort(scores)[rank - 1]) if rank >= 1 else -math.inf


def failures_needed(miss_rate: float, confidence: float = 0.0) -> int:
    """The fewest failures that can bound this rate of misses: with fewer not even the lowest warning does."""
    n = max(math.floor(1 / miss_rate) - 2, 1)
    while not allowed_misses(n, miss_rate, confidence):
        n += 1
    return n


def just_below(score: float) -> float:
    """The next smaller number of the precision that risks have.

    The gate acts *above* its threshold, so a threshold at the score itself would miss every failure that ties with it.
    """
    return float(np.nextafter(np.float32(score), np.float32(-np.inf)))


def conformal_high(scores: FloatArray, alpha: float) -> float:
    """The ``ceil((1 - alpha)(n + 1))``-th smallest score: a new one is above it with probability <= alpha."""
    rank = math.ceil((1 - alpha) * (len(scores) + 1))
    return float(np.sort(scores)[rank - 1]) if 1 <= rank <= len(scores) else math.inf


def area_under_curve(positive: FloatArray, negative: FloatArray) -> float:
    """AUROC: probability that a positive scores above a negative, ties counted half."""
    if not len(positive) or not len(negative):
        return math.nan
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def expected_calibration_error(probability: FloatArray, outcome: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean gap between predicted and observed frequency, weighted by the steps in each bin."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gap = 0.0
    for b in range(bins):
        rows = index == b
        if rows.any():
            gap += rows.mean() * abs(probability[rows].mean() - outcome[rows].mean())
    return float(gap)


def safe_risks(scored: Sequence[ScoredEpisode], max_lead: int) -> FloatArray:
    """Risks of steps after which no failure came within ``max_lead`` steps."""
    parts = [s.risk if s.onset is None else s.risk[: max(0, s.onset - max_lead)] for s in scored]
    return np.concatenate(parts) if parts else np.zeros(0)


def warnings(scored: Sequence[ScoredEpisode], min_lead: int, max_lead: int) -> FloatArray:
    """For each failure the largest risk shown early enough: between ``max_lead`` and ``min_lead`` steps before it."""
    best = [
        s.risk[max(0, s.onset - max_lead) : s.onset - min_lead + 1].max()
        for s in scored
        if s.onset is not None and s.onset >= min_lead
    ]
    return np.array(best, dtype=np.float64)


def missed(warned: FloatArray, threshold: float) -> float:
    """Share of failures that a gate with this threshold gives no timely warning of; NaN without any failure."""
    return float((warned <= threshold).mean()) if len(warned) else math.nan


def calibrate(scored: Sequence[ScoredEpisode], config: CalibrationConfig, **fitted: float) -> Calibration:
    """Choose the threshold and measure what it does; ``fitted`` are the probability parameters and their error.

    The threshold is the quantile of safe steps, but never above the conformal bound: where the two disagree the critic,
    not the threshold, is the problem, and the acceptance table says so.
    """
    safe, failures = safe_risks(scored, config.max_lead), warnings(scored, config.min_lead, config.max_lead)
    clean = np.array([s.risk.max() for s in scored if s.onset is None])
    miss_bound = just_below(conformal_low(failures, config.miss_rate)) if len(failures) else math.inf
    quantile = float(np.quantile(safe, config.safe_quantile)) if len(safe) else 0.0
    # Fewer than 1 / alpha - 1 failures bound nothing (-inf); the quantile then stands alone, and acceptance says so.
    threshold = max(min(quantile, miss_bound if math.isfinite(miss_bound) else math.inf), MIN_THRESHOLD)
    cut = float(np.quantile(safe, 0.9)) if len(safe) else math.nan
    early = warnings(scored, 3, config.max_lead)
    soon = np.concatenate(
        [s.risk[max(0, s.onset - config.max_lead) : s.onset + 1] for s in scored if s.onset is not None]
        or [np.zeros(0)]
    )
    return Calibration(
        threshold=threshold,
        miss_bound=miss_bound,
        false_alarm_bound=conformal_high(clean, 0.2) if len(clean) else math.inf,
        onset_recall=float((early > cut).mean()) if len(early) else math.nan,
        auroc=area_under_curve(soon, safe),
        false_positive_rate=float((safe > threshold).mean()) if len(safe) else math.nan,
        failing_episodes=sum(s.onset is not None for s in scored),
        clean_episodes=sum(s.onset is None for s in scored),
        reliability=_reliability(safe, soon),
        miss_rate=config.miss_rate,
        min_lead=config.min_lead,
        max_lead=config.max_lead,
        warned=np.sort(failures).tolist(),
        safe_quantiles=np.quantile(safe, np.linspace(0, 1, 201)).tolist() if len(safe) else [],
        **fitted,  # type: ignore[arg-type]
    )


def _reliability(safe: FloatArray, soon: FloatArray) -> list[tuple[float, float, int]]:
    risk = np.concatenate([safe, soon])
    outcome = np.concatenate([np.zeros(len(safe)), np.ones(len(soon))])
    rows = []
    bins = np.clip((risk * 10).astype(int), 0, 9)
    for index in range(10):
        inside = bins == index
        if inside.any():
            rows.append((float(risk[inside].mean()), float(outcome[inside].mean()), int(inside.sum())))
    return rows
