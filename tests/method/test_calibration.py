"""Calibration of the gate against brute force and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farl.algorithms.calibration import (
    CalibrationConfig,
    ScoredEpisode,
    area_under_curve,
    calibrate,
    conformal_high,
    conformal_low,
    expected_calibration_error,
    fit_probabilities,
    safe_risks,
    warnings,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_auroc_is_the_share_of_pairs_ranked_rightly_with_ties_counted_half(rng):
    positive, negative = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 70).astype(float)
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert area_under_curve(positive, negative) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auroc_of_nothing_is_unknown(rng):
    assert math.isnan(area_under_curve(np.zeros(0), rng.random(5)))


def test_calibration_error_is_the_weighted_gap_of_the_bins_by_hand():
    probability = np.array([0.05, 0.05, 0.95, 1.0, 0.55])
    outcome = np.array([False, True, True, True, False])
    by_hand = 0.4 * abs(0.05 - 0.5) + 0.4 * abs(0.975 - 1.0) + 0.2 * abs(0.55 - 0.0)
    assert expected_calibration_error(probability, outcome) == pytest.approx(by_hand, abs=1e-12)


def test_true_probabilities_have_no_calibration_error_and_inflated_ones_do(rng):
    truth = rng.random(200_000) * 0.2
    outcome = rng.random(200_000) < truth
    assert expected_calibration_error(truth, outcome) < 5e-3
    assert expected_calibration_error(np.minimum(10 * truth, 1), outcome) > 0.5


@pytest.mark.parametrize("n", [5, 18, 19, 20, 60, 99, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_conformal_bounds_are_the_tightest_ranks_that_keep_their_promise(n, alpha, rng):
    """Exchangeability: a new score falls below the k-th smallest of n with probability k / (n + 1), and not more."""
    scores = rng.random(n)
    ordered = np.sort(scores)
    allowed = [k for k in range(1, n + 1) if k / (n + 1) <= alpha + 1e-12]
    assert conformal_low(scores, alpha) == (ordered[max(allowed) - 1] if allowed else -math.inf)
    allowed = [k for k in range(1, n + 1) if 1 - k / (n + 1) <= alpha + 1e-12]
    assert conformal_high(scores, alpha) == (ordered[min(allowed) - 1] if allowed else math.inf)


def test_the_conformal_miss_bound_keeps_its_promise_on_fresh_draws(rng):
    n, alpha = 60, 0.05
    missed = [rng.random() < conformal_low(rng.random(n), alpha) for _ in range(20_000)]
    assert 0.03 < np.mean(missed) < alpha + 0.005


@pytest.mark.parametrize(("scale", "shift"), [(1.0, -2.3), (0.5, 0.7), (2.0, 0.0)])
def test_the_probability_fit_recovers_known_parameters(scale, shift, rng):
    """-2.3 = log 0.1 is what training on ten times too many failures does to a logit."""
    logits = rng.normal(0, 2, 200_000)
    labels = rng.random(200_000) < 1 / (1 + np.exp(-(scale * logits + shift)))
    fitted = fit_probabilities(logits, labels)
    assert fitted == pytest.approx((scale, shift), abs=0.05)


def test_after_the_fit_predicted_failures_add_up_to_observed_ones(rng):
    true = rng.normal(-4, 2, 100_000)
    labels = rng.random(100_000) < 1 / (1 + np.exp(-true))
    inflated = true + math.log(10)
    scale, shift = fit_probabilities(inflated, labels)
    predicted = 1 / (1 + np.exp(-(scale * inflated + shift)))
    assert predicted.sum() == pytest.approx(labels.sum(), rel=0.02)
    assert (1 / (1 + np.exp(-inflated))).sum() > 2 * labels.sum()


@pytest.mark.parametrize("labels", [np.zeros(50, bool), np.ones(50, bool)])
def test_without_both_outcomes_there_is_nothing_to_fit(labels, rng):
    assert fit_probabilities(rng.normal(size=50), labels) == (1.0, 0.0)


def test_a_head_that_knows_nothing_or_the_opposite_is_not_turned_around(rng):
    logits = rng.normal(size=2000)
    assert fit_probabilities(logits, logits < 0) == (1.0, 0.0)


# ---------------------------------------------------------------- threshold


def failing(onset: int, length: int = 30, warned: float = 0.9) -> ScoredEpisode:
    """Quiet at 0.1, ``warned`` from six steps before the onset."""
    risk = np.full(onset + 1, 0.1)
    risk[max(0, onset - 6) :] = warned
    return ScoredEpisode(risk, onset)


def clean(peak: float, length: int = 40) -> ScoredEpisode:
    risk = np.full(length, 0.1)
    risk[length // 2] = peak
    return ScoredEpisode(risk, None)


def test_a_warning_counts_only_between_the_longest_and_the_shortest_lead():
    risk = np.linspace(0, 1, 31)  # rises to the onset at step 30: later is always larger
    scored = [ScoredEpisode(risk, 30)]
    assert warnings(scored, min_lead=4, max_lead=10) == pytest.approx([risk[26]])
    assert warnings(scored, min_lead=8, max_lead=10) == pytest.approx([risk[22]])
    falling = [ScoredEpisode(risk[::-1].copy(), 30)]
    assert warnings(falling, min_lead=4, max_lead=10) == pytest.approx([risk[::-1][20]])


def test_steps_shortly_before_a_failure_are_not_safe_steps():
    assert len(safe_risks([failing(25), clean(0.2)], max_lead=10)) == 15 + 40
    assert len(safe_risks([failing(4)], max_lead=10)) == 0


def test_the_threshold_is_the_quantile_of_safe_steps_but_never_above_the_miss_bound():
    seen = [clean(0.2) for _ in range(30)] + [failing(25, warned=0.9) for _ in range(30)]
    generous = calibrate(seen, CalibrationConfig())
    assert generous.miss_bound == pytest.approx(0.9)
    assert generous.threshold == pytest.approx(np.quantile(safe_risks(seen, 10), 0.95))
    unseen = [clean(0.2) for _ in range(30)] + [failing(25, warned=0.05) for _ in range(30)]
    strict = calibrate(unseen, CalibrationConfig())
    assert strict.threshold == pytest.approx(0.1)  # the largest risk in reach of the warning window
    assert strict.threshold <= strict.miss_bound


def test_a_calibrated_gate_warns_of_the_promised_share_of_failures(rng):
    """Failures and clean steps from one distribution each; fresh failures are missed at most at rate alpha."""

    def draw(count):
        return [failing(25, warned=float(rng.beta(5, 2))) for _ in range(count)]

    missed = []
    for _ in range(300):
        threshold = calibrate(
            [*draw(60), *[clean(float(rng.beta(2, 5))) for _ in range(20)]], CalibrationConfig()
        ).threshold
        missed.append(np.mean(warnings(draw(50), 4, 10) < threshold))
    assert np.mean(missed) < 0.055


def test_a_perfect_critic_is_reported_as_one():
    result = calibrate(
        [clean(0.1) for _ in range(20)] + [failing(25, warned=0.95) for _ in range(20)], CalibrationConfig(max_lead=6)
    )
    assert result.auroc == pytest.approx(1.0)
    assert result.onset_recall == pytest.approx(1.0)
    assert result.false_positive_rate == pytest.approx(0.0)
    assert (result.failing_episodes, result.clean_episodes) == (20, 20)


def test_a_blind_critic_is_reported_as_one(rng):
    scored = [ScoredEpisode(rng.random(40), None) for _ in range(60)] + [
        ScoredEpisode(rng.random(31), 30) for _ in range(60)
    ]
    result = calibrate(scored, CalibrationConfig())
    assert 0.4 < result.auroc < 0.6
    assert result.miss_bound < result.false_alarm_bound  # the acceptance table's conflict


def test_the_reliability_table_counts_every_step_once():
    grid = np.arange(0, 101) / 100  # the bins' edges 0.1, 0.2, ... are among them
    result = calibrate([ScoredEpisode(grid, None), ScoredEpisode(grid[:31], 30)], CalibrationConfig())
    assert sum(count for _, _, count in result.reliability) == 101 + 31


def test_without_any_failure_there_is_a_threshold_and_no_claim_about_misses():
    result = calibrate([clean(0.5) for _ in range(10)], CalibrationConfig())
    assert result.threshold == pytest.approx(np.quantile(safe_risks([clean(0.5)] * 10, 10), 0.95))
    assert math.isnan(result.auroc)
    assert math.isnan(result.onset_recall)


def test_a_few_failing_episodes_do_not_make_the_gate_fire_always():
    """Ten failures cannot support a 5 % bound: that is no reason for a gate that a risk of 0.0001 opens."""
    scored = [clean(0.3) for _ in range(40)] + [failing(25, warned=0.9) for _ in range(10)]
    assert calibrate(scored, CalibrationConfig()).false_positive_rate < 0.2
