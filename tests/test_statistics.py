"""Intervals: against closed forms, scipy and repeated sampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from farl.compare.statistics import (
    count_ratio,
    iqm,
    mean_interval,
    reduction,
    seed_ratio,
    stratified_bootstrap,
    wilson,
)


@pytest.mark.parametrize(("hits", "trials"), [(0, 12), (3, 40), (37, 37), (950, 1000)])
def test_wilson_equals_scipy(hits, trials):
    theirs = stats.binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    ours = wilson(hits, trials)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_rate_without_trials_has_no_interval():
    assert wilson(0, 0) is None


def test_the_mean_of_three_seeds_has_students_interval():
    values = [3.0, 5.0, 10.0]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = mean_interval(values)
    assert ours.kind == "95 %"
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_two_seeds_have_a_range_and_one_has_nothing():
    assert (mean_interval([4.0, 2.0]).low, mean_interval([4.0, 2.0]).high, mean_interval([4.0, 2.0]).kind) == (
        2.0,
        4.0,
        "range",
    )
    assert mean_interval([4.0]) is None


@pytest.mark.parametrize(("total", "base"), [(12, 40), (0, 9), (30, 30)])
def test_a_count_ratio_is_the_odds_of_the_exact_binomial_share(total, base):
    share = stats.binomtest(total, total + base).proportion_ci(0.95, method="exact")
    ours = count_ratio(total, base)
    assert ours.low == pytest.approx(share.low / (1 - share.low))
    assert ours.high == pytest.approx(share.high / (1 - share.high))


def test_against_no_failures_at_all_a_ratio_has_no_upper_end():
    assert count_ratio(5, 0).high == float("inf")


def test_the_spread_of_seeds_is_a_t_interval_of_log_ratios():
    counts, base = [20, 30, 26], [100, 120, 90]
    logs = np.log(np.add(counts, 0.5) / np.add(base, 0.5))
    theirs = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert (seed_ratio(counts, base).low, seed_ratio(counts, base).high) == pytest.approx(
        (np.exp(theirs.low), np.exp(theirs.high))
    )


def test_a_reduction_is_of_totals_and_takes_the_wider_interval():
    agreeing = reduction([10, 10, 10], [40, 40, 40])
    noise = count_ratio(30, 120)
    assert agreeing.value == 0.75
    assert (agreeing.interval.low, agreeing.interval.high) == pytest.approx((1 - noise.high, 1 - noise.low))
    spread = reduction([3, 10, 17], [40, 40, 40])
    assert spread.value == 0.75
    assert spread.interval.low < agreeing.interval.low


def test_a_single_seed_gets_no_interval_and_a_faultless_baseline_no_reduction():
    assert reduction([3], [30]).interval is None
    assert reduction([3, 1], [0, 0]) is None


def test_two_seeds_that_disagree_are_called_uninformative():
    assert not reduction([32, 63], [120, 129]).informative
    assert reduction([44, 40], [144, 147]).informative


def test_pairing_insists_on_equal_numbers_of_seeds():
    with pytest.raises(ValueError, match="paired"):
        reduction([1, 2], [3])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_reduction_interval_covers_the_truth(seeds):
    """Counts with Poisson noise, seeds that differ in difficulty for both methods, and in the gate's quality."""
    rng = np.random.default_rng(seeds)
    hits = 0
    for _ in range(400):
        hard = rng.gamma(10, 0.1, seeds)
        base = rng.poisson(120 * hard)
        ours = rng.poisson(36 * hard * rng.lognormal(0, 0.25, seeds))
        interval = reduction(ours.tolist(), base.tolist()).interval
        hits += interval.low <= 0.7 <= interval.high
    assert hits / 400 > 0.92


def test_the_interquartile_mean_ignores_one_broken_run():
    assert iqm([1.0, 1.0, 1.0, 1000.0]) == 1.0
    assert iqm(np.arange(8)) == stats.trim_mean(np.arange(8), 0.25)


def test_the_bootstrap_is_reproducible_and_stays_within_strata():
    strata = [[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]]
    interval = stratified_bootstrap(strata, lambda values: float(values.mean()), np.random.default_rng(0))
    assert (interval.low, interval.high) == (5.0, 5.0), "strata do not differ within, so nothing can vary"
    sample = [np.random.default_rng(1).normal(size=200)]
    first, second = (
        stratified_bootstrap(sample, lambda x: float(x.mean()), np.random.default_rng(7)) for _ in range(2)
    )
    assert first == second
    assert first.high - first.low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.2)
