"""How sure the numbers are: intervals for rates, means and failure counts that come from a few seeds.

Three kinds of chance are kept apart. A *rate* over episodes has Wilson's interval. A *mean over seeds* has Student's t from three
seeds on; from two, only their range is given, because t with one degree of freedom says nothing. A *reduction of failures* is
paired by seed (both methods start from the same bundle) and takes the wider of two intervals: the counts' own (Poisson) noise,
which remains even if all seeds agree, and the spread of the seeds' ratios. A bootstrap over two or three seeds only redraws the
same few values and comes out far too narrow, so it is kept for what has many samples: episodes within seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A range, and what it is."""

    low: float
    high: float
    kind: Literal["95 %", "range"] = "95 %"
    """``range`` is merely the smallest and largest seed"""


@dataclass(frozen=True)
class Reduction:
    """By which part the failures fell against a baseline on the same seeds: 0.4 is 40 % fewer, negative is more."""

    value: float
    interval: Interval | None
    """None for a single seed: its count noise alone would pass for a statement about the method"""
    per_seed: tuple[float | None, ...]
    """the same, seed by seed; None where the baseline did not fail"""
    baseline_total: int
    total: int

    @property
    def informative(self) -> bool:
        """Whether the interval excludes at least a doubling of failures.

        Two seeds that disagree, or a handful of failures, leave everything open.
        """
        return self.interval is not None and self.interval.low > -1.0


def wilson(hits: int, trials: int, confidence: float = 0.95) -> Interval | None:
    """Wilson's score interval of a rate (Wilson 1927); None without trials."""
    if trials == 0:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    rate, shrink = hits / trials, 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrink
    half = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / shrink
    return Interval(max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Where the mean over seeds lies: Student's t from three values on, the range of two, None for one."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return None
    if len(sample) == 2:
        return Interval(float(sample.min()), float(sample.max()), "range")
    half = float(stats.t.ppf(0.5 + confidence / 2, len(sample) - 1) * stats.sem(sample))
    return Interval(float(sample.mean()) - half, float(sample.mean()) + half)


def count_ratio(total: int, baseline_total: int, confidence: float = 0.95) -> Interval:
    """Exact interval of the ratio of two Poisson rates with equal exposure.

    Given their sum, one count is binomial (Przyborowski & Wilenski 1940); Clopper and Pearson's limits of that share, as odds.
    """
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, total, baseline_total + 1)) if total else 0.0
    high = float(stats.beta.ppf(1 - tail, total + 1, baseline_total)) if baseline_total else 1.0
    return Interval(low / (1 - low), high / (1 - high) if high < 1 else float("inf"))


def seed_ratio(counts: ArrayLike, baseline: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the ratio from how far the seeds' own log ratios lie apart, for at least two seeds.

    Half a failure is added to each count, so that a seed without any has a ratio.
    """
    logs = np.log(np.asarray(counts, dtype=np.float64) + 0.5) - np.log(np.asarray(baseline, dtype=np.float64) + 0.5)
    half = stats.t.ppf(0.5 + confidence / 2, len(logs) - 1) * stats.sem(logs)
    with np.errstate(over="ignore"):
        return Interval(float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half)))


def reduction(counts: Sequence[int], baseline: Sequence[int], confidence: float = 0.95) -> Reduction | None:
    """Failures of a method against the baseline, entry by entry on the same seeds and steps; None if the baseline never failed."""
    if len(counts) != len(baseline):
        raise ValueError(f"paired by seed: {len(counts)} and {len(baseline)} counts")
    total, baseline_total = sum(counts), sum(baseline)
    if baseline_total == 0:
        return None
    interval = None
    if len(counts) > 1:
        noise, seeds = count_ratio(total, baseline_total, confidence), seed_ratio(counts, baseline, confidence)
        interval = Interval(1 - max(noise.high, seeds.high), 1 - min(noise.low, seeds.low))
    per_seed = tuple(1 - count / base if base else None for count, base in zip(counts, baseline, strict=True))
    return Reduction(1 - total / baseline_total, interval, per_seed, baseline_total, total)


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half, insensitive to one lucky or broken run (Agarwal et al. 2021)."""
    return float(stats.trim_mean(np.asarray(values, dtype=np.float64), 0.25))


def stratified_bootstrap(
    strata: Sequence[ArrayLike],
    statistic: Callable[[Array], float],
    generator: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval | None:
    """Percentile interval of a statistic of all values together, redrawn within each stratum (the episodes of one seed)."""
    samples = [np.asarray(stratum, dtype=np.float64) for stratum in strata if np.size(stratum)]
    if sum(len(sample) for sample in samples) < 2:
        return None
    drawn = [
        statistic(np.concatenate([generator.choice(sample, len(sample)) for sample in samples]))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
