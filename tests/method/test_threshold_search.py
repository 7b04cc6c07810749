"""The threshold tried out in closed loop: what is chosen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from farl.algorithms.calibration import Calibration, Trial
from farl.offline.bundle import OfflineBundle
from farl.offline.threshold_search import ThresholdSearchConfig, best, search_thresholds
from farl.progress import Progress

FREE = Trial(None, failures=0.40, successes=0.60, gated=0.0)


@pytest.mark.parametrize(
    ("weight", "chosen"),
    [
        (1.0, 0.3),  # 0.500 - 1.083, 0.125 - 0.833, 0.000 - 0.167
        (0.0, 0.1),  # failures are all that counts
        (3.0, 0.6),  # 0.500 - 3.250, 0.125 - 2.500, 0.000 - 0.500
    ],
)
def test_failures_are_weighed_against_lost_successes(weight, chosen):
    trials = [FREE, Trial(0.6, 0.20, 0.65, 0.1), Trial(0.3, 0.05, 0.50, 0.3), Trial(0.1, 0.00, 0.10, 0.9)]
    assert best(trials, weight).threshold == chosen


def test_a_policy_that_rarely_succeeds_is_not_stopped_for_the_sake_of_its_few_successes():
    free = Trial(None, failures=0.20, successes=0.20, gated=0.0)
    assert best([free, Trial(0.6, 0.07, 0.17, 0.02), Trial(0.3, 0.02, 0.01, 0.05)], 0.5).threshold == 0.6


def test_a_gate_under_which_more_succeed_is_preferred_to_one_that_saves_hardly_more():
    free = Trial(None, failures=0.29, successes=0.76, gated=0.0)
    assert best([free, Trial(0.46, 0.08, 0.85, 0.2), Trial(0.30, 0.07, 0.72, 0.4)], 1.0).threshold == 0.46


def test_of_equally_good_thresholds_the_gate_that_acts_least_is_chosen():
    assert best([FREE, Trial(0.2, 0.1, 0.6, 0.3), Trial(0.5, 0.1, 0.6, 0.1)], 0.5).threshold == 0.5


@pytest.fixture(scope="module")
def searched(made, tmp_path_factory):
    bundle = OfflineBundle.load(made / "bundle")
    before = bundle.calibration
    config = ThresholdSearchConfig(episodes=48, num_envs=16, quantiles=(0.99, 0.95, 0.8, 0.5, 0.0))
    search_thresholds(bundle, config, Progress(tmp_path_factory.mktemp("search"), "search"))
    return before, bundle


def test_what_is_chosen_fails_least_of_what_was_tried_on_both_sides_of_the_calibrated_one(searched):
    before, bundle = searched
    free, *gated = bundle.calibration.trials
    assert free.threshold is None
    assert free.gated == 0.0
    assert min(t.threshold for t in gated) < before.threshold < max(t.threshold for t in gated)
    assert free.failures > 0.1  # otherwise nothing is compared here
    chosen = next(trial for trial in gated if trial.threshold == bundle.calibration.threshold)
    assert chosen == best(bundle.calibration.trials, ThresholdSearchConfig().success_weight)
    assert chosen.failures < free.failures
    for calibration in (bundle.calibration, *bundle.calibrations.values()):
        kept = [trial.threshold for trial in calibration.trials[1:]]
        assert kept == sorted(kept, reverse=True)
        assert calibration.threshold in kept


def test_a_trial_survives_the_disk(searched, tmp_path):
    _, bundle = searched
    bundle.save(tmp_path / "bundle")
    again = OfflineBundle.load(tmp_path / "bundle")
    assert again.calibration.trials == bundle.calibration.trials
    assert Calibration.from_dict(replace(bundle.calibration, trials=[]).to_dict()).trials == []


def test_nothing_is_searched_where_it_was_not_asked_for(made, tmp_path):
    bundle = OfflineBundle.load(made / "bundle")
    before = bundle.calibration
    search_thresholds(bundle, ThresholdSearchConfig(episodes=0), Progress(tmp_path, "search"))
    assert bundle.calibration is before


@pytest.mark.parametrize(
    "wrong", [{"episodes": -1}, {"num_envs": 0}, {"quantiles": (1.5,)}, {"success_weight": math.nan}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ThresholdSearchConfig(**wrong)
