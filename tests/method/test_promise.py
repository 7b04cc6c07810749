"""The promised rate of missed failures: chosen, kept on fresh failures, followed online, and refused where it cannot be made."""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from farl.algorithms.adaptive_threshold import AdaptiveThreshold
from farl.algorithms.calibration import (
    MIN_THRESHOLD,
    CalibrationConfig,
    ScoredEpisode,
    calibrate,
    conformal_low,
    failures_needed,
    missed,
)
from farl.algorithms.gate import Gate, GateConfig
from farl.data.episode_store import read_episodes, write_episodes
from farl.environments import make_vector
from farl.errors import UserError
from farl.methods import METHODS
from farl.offline.bundle import OfflineBundle
from farl.offline.pipeline import refuse_shared, train
from farl.online import run as run_module
from farl.online.failure_gate import FailureGate
from farl.online.run import Session, run
from method import cliff
from method.test_runs import equal_runs, run_until


def scored(warned, clean=100) -> list[ScoredEpisode]:
    """Failures at step 25 whose largest early risk is as given, and quiet episodes."""
    failures = []
    for risk in warned:
        risks = np.full(26, 1e-4)
        risks[18] = risk
        failures.append(ScoredEpisode(risks, 25))
    return failures + [ScoredEpisode(np.full(40, 1e-4), None)] * clean


@pytest.mark.parametrize("rate", [0.5, 0.3, 0.2, 0.1, 0.07, 0.05, 1 / 3, 1 / 49, 0.01])
@pytest.mark.parametrize("confidence", [0.0, 0.9])
def test_as_many_failures_are_needed_as_make_the_lowest_score_a_bound(rate, confidence):
    n = failures_needed(rate, confidence)
    assert np.isfinite(conformal_low(np.arange(n, dtype=float), rate, confidence))
    assert not np.isfinite(conformal_low(np.arange(n - 1, dtype=float), rate, confidence))
    if confidence:  # all of n failures lie above the lowest rate-quantile with probability (1 - rate)^n
        assert (1 - rate) ** n <= 1 - confidence < (1 - rate) ** (n - 1)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_with_confidence_nine_calibrations_in_ten_keep_the_promise_where_on_average_only_half_do(rate):
    """Of uniform scores the share below a threshold is the threshold itself."""
    rng = np.random.default_rng(5)
    drawn = rng.random((4000, 100))
    for confidence, kept in ((0.9, 0.9), (0.0, 0.5)):
        share = np.mean([conformal_low(scores, rate, confidence) <= rate for scores in drawn])
        assert kept - 0.01 < share < kept + 0.09


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("ties", [False, True])
def test_a_threshold_chosen_for_a_rate_keeps_its_promise_on_fresh_failures_ties_included(rate, ties):
    """Many calibrations, each tested on failures of its own; a saturated critic gives most of them the same score."""
    rng = np.random.default_rng(3)

    def draw(count):
        risk = rng.beta(2, 2, count)
        return np.float32(np.where(risk > 0.4, 1.0, risk) if ties else risk).astype(float)

    shares = []
    for _ in range(400):
        threshold = calibrate(scored(draw(60), clean=1), CalibrationConfig()).threshold_for(rate)
        gate = Gate(GateConfig(), threshold, 50)
        shares.append(1 - gate.step(torch.tensor(draw(50), dtype=torch.float32)).float().mean().item())
    assert np.mean(shares) < 1.1 * rate
    if not ties:
        assert np.mean(shares) > 0.6 * rate  # and it is no looser promise than it has to be


def test_what_counts_as_missed_is_what_the_gate_lets_pass():
    risk = torch.tensor([0.1, 0.3, 0.30000001, 0.9, float("nan")])
    threshold = risk[1].item()
    gate = Gate(GateConfig(), threshold, 5)
    assert missed(risk.double().numpy(), threshold) == pytest.approx((~gate.step(risk)).float().mean().item())


def test_too_few_failures_say_how_many_more_are_needed():
    calibration = calibrate(scored(np.linspace(0.1, 0.9, 12)), CalibrationConfig(miss_rate=0.2))
    with pytest.raises(UserError, match=r"takes 19 failures .* has 12: 7 more are needed .*ask for a higher rate"):
        calibration.threshold_for(0.05)
    with pytest.raises(UserError, match=r"confidence 0\.9 takes 45 failures .* 33 more are needed"):
        calibration.threshold_for(0.05, 0.9)
    assert calibration.threshold_for(0.077) < 0.1


def test_a_bundle_from_before_the_scores_were_kept_says_so_only_when_asked(bundle, tmp_path):
    old = replace(bundle.calibration, warned=[])
    replace(bundle, calibration=old).save(tmp_path / "bundle")
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", method="farl", steps=128)
    run(config)
    with pytest.raises(UserError, match=r"keeps no warning scores.*farl offline"):
        Session(replace(config, out=tmp_path / "other", gate=GateConfig(miss_rate=0.3)))
    assert not (tmp_path / "other").exists()


def test_the_cost_of_a_threshold_is_the_share_of_safe_steps_above_it(bundle, demos):
    calibration = bundle.calibration
    assert calibration.gated_when_safe(calibration.threshold) == pytest.approx(
        calibration.false_positive_rate, abs=0.01
    )
    assert calibration.gated_when_safe(1.0) == pytest.approx(0)


@pytest.mark.parametrize("method", ["farl", "farl-paper", "simple-critic"])
def test_every_calibrated_critic_takes_its_threshold_from_its_own_scores(bundle_folder, bundle, tmp_path, method):
    scores = METHODS[method].scores
    calibration = bundle.calibration if scores == "model" else bundle.calibrations[scores]
    session = Session(cliff.online(bundle_folder, tmp_path / "run", method=method, gate=GateConfig(miss_rate=0.2)))
    assert session.actor.router.gate.threshold == calibration.threshold_for(0.2, 0.9)
    assert missed(np.array(calibration.warned), session.actor.router.gate.threshold) <= 0.2


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.3, "miss_rate": 0.1},
        {"threshold": 0.3, "adapt": 0.1},
        {"threshold": float("nan")},
        {"miss_rate": 0.0},
        {"miss_rate": 1.0},
        {"adapt": -0.1},
        {"unfamiliar": 1.0},
    ],
)
def test_contradictions_and_values_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"gate\."):
        GateConfig(**settings)


def test_a_threshold_no_risk_can_exceed_is_refused(bundle_folder, tmp_path):
    with pytest.raises(UserError, match=r"gate\.threshold is 3, .*exceeds 1,.*inf"):
        Session(cliff.online(bundle_folder, tmp_path / "run", method="farl", gate=GateConfig(threshold=3.0)))
    Session(cliff.online(bundle_folder, tmp_path / "sum", method="farl-paper", gate=GateConfig(threshold=3.0)))


# ---------------------------------------------------------------- held out by construction


def test_calibration_episodes_that_were_trained_on_are_refused_even_when_cut(few, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for file in few.glob("*"):
        (data / file.name).write_bytes(file.read_bytes())
    own = read_episodes(few / "calibration.hdf5")
    known = next(e for e in read_episodes(few / "failure.hdf5") if len(e) > 4)
    cut = {name: getattr(known, name)[:4] for name in ("actions", "rewards", "terminated", "truncated", "failure")}
    shared = replace(known, obs=known.obs[:5], margin=known.margin[:4], seed=77, **cut)
    write_episodes(data / "calibration.hdf5", [*own, shared], {"task": cliff.TASK.id, "options": {}})
    with pytest.raises(UserError, match=r"episode of seed 77 .*also in failure\.hdf5"):
        train(cliff.hurried(data, tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_what_farl_demos_makes_is_held_out(demos):
    names = ("task", "failure", "recovery", "calibration")
    sets = {name: {"train": read_episodes(demos / f"{name}.hdf5"), "valid": []} for name in names}
    refuse_shared(sets)
    with pytest.raises(UserError, match="promises nothing"):
        refuse_shared({**sets, "recovery": sets["calibration"]})


# ---------------------------------------------------------------- watched


def test_watching_changes_nothing_and_tells_what_would_have_been_caught(bundle_folder, bundle, tmp_path):
    alone = run(cliff.online(bundle_folder, tmp_path / "alone"))
    watched = run(cliff.online(bundle_folder, tmp_path / "watched", method="watched"))
    seen = ("risk_max", "risk_mean", "warning")
    assert cliff.lines(alone, "episodes", seen) == cliff.lines(watched, "episodes", seen)
    assert (alone / "evaluations.jsonl").read_bytes() == (watched / "evaluations.jsonl").read_bytes()
    assert cliff.same_weights(cliff.weights(alone), cliff.weights(watched))
    failures = [line for line in cliff.lines(watched, "episodes") if line["failed"]]
    warned = np.array([line["warning"] for line in failures if line["warning"] is not None])
    assert len(warned) >= 5
    assert missed(warned, bundle.calibration.threshold) < 0.25


# ---------------------------------------------------------------- adaptive


def adaptive(step=0.02, failures=100, clean=100) -> AdaptiveThreshold:
    calibration = calibrate(scored(np.linspace(0.01, 1, failures), clean), CalibrationConfig(miss_rate=0.2))
    return AdaptiveThreshold(Gate(GateConfig(), calibration.threshold_for(0.2), 1), calibration, 0.2, 0.0, step)


UNWARNED, WARNED, CLEAN = ([0.0] * 30, 25), ([0.0] * 18 + [1.0] * 12, 25), ([0.0] * 30, None)


def test_a_missed_failure_lowers_the_threshold_and_quiet_episodes_bring_it_back_no_further():
    adapting = adaptive()
    start = adapting.gate.threshold
    adapting.close(*UNWARNED)
    lowered = adapting.gate.threshold
    assert lowered < start
    for _ in range(300):
        adapting.close(*CLEAN)
    assert adapting.gate.threshold == start


@pytest.mark.parametrize(
    ("risks", "onset", "missed"),
    [
        (*UNWARNED, True),
        (*WARNED, False),
        (*CLEAN, False),
        ([0.0] * 23 + [1.0] * 7, 25, True),  # two steps before it is too late
        ([1.0] * 10 + [0.0] * 20, 25, True),  # and sixteen too early
        ([0.0] * 20 + [float("nan")] + [0.0] * 9, 25, False),  # recovery acts on it
        ([0.0] * 30, 2, False),  # nobody could have told
    ],
)
def test_a_failure_is_missed_if_no_warning_came_in_time(risks, onset, missed):
    assert adaptive().missed(risks, onset) is missed


def test_however_the_policy_changes_the_share_of_missed_failures_is_steered_to_the_target():
    """Failures that look ever less dangerous: a fixed threshold misses ever more of them, one that adapts does not."""
    rng = np.random.default_rng(0)
    adapting, fixed = adaptive(step=0.05), adaptive(step=0.0)
    counts = {"adapting": 0, "fixed": 0}
    for episode in range(4000):
        failing = rng.random() < 0.5
        risk = rng.random() * (0.15 if episode > 1000 else 1.0)
        risks = [0.0] * 18 + [risk] + [0.0] * 11
        for name, one in (("adapting", adapting), ("fixed", fixed)):
            counts[name] += one.missed(risks, 25 if failing else None)
            one.close(risks, 25 if failing else None)
    assert adapting.target == pytest.approx(0.1)
    assert counts["fixed"] / 4000 > 0.3
    assert counts["adapting"] / 4000 == pytest.approx(0.1, abs=0.02)


def test_the_threshold_stays_between_its_floor_and_what_was_calibrated():
    adapting = adaptive(step=1.0)
    highest = adapting.gate.threshold
    for _ in range(5):
        adapting.close(*UNWARNED)
        assert adapting.gate.threshold >= MIN_THRESHOLD
    assert adapting.gate.threshold == MIN_THRESHOLD
    for _ in range(50):
        adapting.close(*WARNED)
        assert adapting.gate.threshold <= highest


def test_an_adapting_run_continues_bit_for_bit_and_records_its_threshold(bundle, tmp_path, monkeypatch):
    """From a calibration that was far too trusting, and with hand-overs that cost nothing, so that failures are missed."""
    trusting = replace(bundle.calibration, warned=np.linspace(0.5, 0.9999, 100).tolist())
    replace(bundle, calibration=trusting).save(tmp_path / "bundle")
    changes = {"method": "farl", "gate": GateConfig(miss_rate=0.9, adapt=0.5), "credit": "proposed", "handover_price": 0.0}
    whole = run(cliff.online(tmp_path / "bundle", tmp_path / "whole", **changes))
    parts = cliff.online(tmp_path / "bundle", tmp_path / "parts", **changes)
    run_until(parts, 600, monkeypatch)
    run(parts)
    thresholds = [line["threshold"] for line in cliff.lines(whole, "metrics")]
    assert min(thresholds) < thresholds[0]
    equal_runs(whole, parts.out)


def test_adapting_without_scores_is_refused(bundle, tmp_path):
    replace(bundle, calibration=replace(bundle.calibration, warned=[])).save(tmp_path / "bundle")
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", method="farl", gate=GateConfig(adapt=0.1))
    with pytest.raises(UserError, match=r"gate\.adapt needs the warning scores.*gate\.adapt at 0"):
        Session(config)
    assert not config.out.exists()


def test_a_bundle_keeps_what_a_promise_is_made_of(bundle, tmp_path):
    bundle.save(tmp_path / "bundle")
    again = OfflineBundle.load(tmp_path / "bundle")
    assert again.calibration.warned == bundle.calibration.warned == sorted(bundle.calibration.warned)
    assert again.calibration.safe_quantiles == bundle.calibration.safe_quantiles
    assert again.familiarity == bundle.familiarity
    json.loads((tmp_path / "bundle" / "manifest.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_a_gate_under_another_librarys_policy_does_not_pretend_to_adapt(bundle):
    with pytest.raises(UserError, match=r"gate\.adapt is 0\.1: .*farl online"):
        FailureGate(gymnasium.make(cliff.TASK.id), bundle, gate=GateConfig(adapt=0.1))
    env = FailureGate(gymnasium.make(cliff.TASK.id), bundle, gate=GateConfig(miss_rate=0.2, unfamiliar=0.99))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.router.gate.threshold == bundle.calibration.threshold_for(0.2, 0.9)
    env.close()


def test_an_environment_with_other_observations_than_the_bundle_is_refused(bundle_folder, tmp_path, monkeypatch):
    """The task's name is right, but a later version of it may show something else."""

    def narrower(task, count, watchdog=None):
        envs = make_vector(task, count, watchdog)
        envs.single_observation_space = gymnasium.spaces.Box(-1, 1, (4,))
        return envs

    monkeypatch.setattr(run_module, "make_vector", narrower)
    config = cliff.online(bundle_folder, tmp_path / "run")
    with pytest.raises(UserError, match=r"observations are a Box of shape \(4,\), the bundle's a Box of shape \(6,\)"):
        run(config)
    assert not config.out.exists()
