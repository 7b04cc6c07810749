"""What a policy's episodes amount to: rates with intervals, times, returns, and a score that can be compared."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """One evaluated episode; steps are agent steps counted from 1, None where the thing did not happen."""

    seed: int
    length: int
    episode_return: float
    success_step: int | None
    failure_step: int | None
    failing_steps: int
    failure_type: str

    @property
    def success(self) -> bool:
        """Whether the goal was reached at any step."""
        return self.success_step is not None

    @property
    def failed(self) -> bool:
        """Whether any step failed."""
        return self.failure_step is not None


@dataclass(frozen=True)
class Rate:
    """A share of episodes with Wilson's 95 % interval."""

    count: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Mean:
    """A mean over those ``count`` episodes in which the thing happened; None where there are too few for the number."""

    count: int
    mean: float | None
    median: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Summary:
    """All episodes of one pass."""

    episodes: int
    success: Rate
    safe_success: Rate
    """success and no failure"""
    failure: Rate
    failure_types: dict[str, int]
    steps_to_success: Mean
    steps_to_failure: Mean
    episode_return: Mean


@dataclass(frozen=True)
class Score:
    """100 * (R - R_random) / (R_expert - R_random) of mean full-length returns R: 0 is random, 100 is the expert."""

    value: float
    standard_error: float | None
    """of the policy's own mean; the references are constants"""


def wilson(hits: int, trials: int) -> Rate:
    """Wilson's score interval (Wilson 1927).

    Raises:
        ValueError: there are no trials.
    """
    if trials < 1:
        raise ValueError("a rate needs at least one episode")
    z = statistics.NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    rate, shrink = hits / trials, 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / shrink
    return Rate(hits, rate, max(0.0, centre - half), min(1.0, centre + half))


def mean(values: Sequence[float]) -> Mean:
    """Mean, median and standard error, as far as so many values have them."""
    if not values:
        return Mean(0, None, None, None)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(len(values), statistics.fmean(values), float(statistics.median(values)), error)


def summarise(outcomes: Sequence[Outcome]) -> Summary:
    """Rates over all episodes, times over those in which it happened."""
    n = len(outcomes)
    return Summary(
        episodes=n,
        success=wilson(sum(one.success for one in outcomes), n),
        safe_success=wilson(sum(one.success and not one.failed for one in outcomes), n),
        failure=wilson(sum(one.failed for one in outcomes), n),
        failure_types=dict(Counter(one.failure_type for one in outcomes if one.failed)),
        steps_to_success=mean([one.success_step for one in outcomes if one.success_step is not None]),
        steps_to_failure=mean([one.failure_step for one in outcomes if one.failure_step is not None]),
        episode_return=mean([one.episode_return for one in outcomes]),
    )


def normalised(returns: Mean, reference: dict[str, Any]) -> Score | None:
    """The score of a mean full-length return; None if expert and random are too close to divide by."""
    random = reference["random"]["full_length_return"]
    span = reference["expert"]["full_length_return"] - random
    if returns.mean is None or abs(span) < 1e-9:
        return None
    error = None if returns.standard_error is None else abs(100 * returns.standard_error / span)
    return Score(100 * (returns.mean - random) / span, error)
