"""Q-risk (Recovery RL): against closed forms on chains, and on the point mass beside the cliff."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from failurebench.point_mass import CLIFF_TOP, CLIFF_X
from farl.algorithms.calibration import CalibrationConfig, calibrate, score
from farl.algorithms.q_risk import QRisk, QRiskConfig, distil_cost_value, onsets, risk_target, train_q_risk
from farl.algorithms.risk import RiskConfig
from farl.data.episode_store import read_episodes
from farl.errors import UserError
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import DoubleQ, ValueFunction
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import q_risk_critic
from farl.online.run import Session, run
from farl.progress import Progress
from farl.types import Episode, FailureCritic
from method import cliff

GAMMA = 0.8
STEPS = 6


def chain(fails: bool, outcome: str = "timeout", persists: int = 2) -> Episode:
    """Walks a line of ``STEPS`` places and either falls at its end, staying down, or stands there; the side says which."""
    length = STEPS + persists
    place = np.minimum(np.arange(length + 1), STEPS).astype(np.float32) / STEPS
    obs = np.stack([place, np.full(length + 1, 1.0 if fails else -1.0, np.float32)], axis=1)
    failure = (np.arange(length) >= STEPS - 1) & fails
    last = np.arange(length) == length - 1
    nothing = np.zeros(length, dtype=bool)
    zeros = np.zeros((length, 1), np.float32)
    return Episode(obs, zeros, zeros[:, 0], nothing, last, failure, zeros[:, 0], outcome, seed=0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned() -> tuple[DoubleQ, GaussianPolicy, list[Episode]]:
    """Trained on chains; the action plays no role on them, so Q-risk is gamma ** (steps before the fall)."""
    torch.manual_seed(0)
    normalizer = Normalizer(2)
    normalizer.fit(torch.cat([torch.from_numpy(chain(fails).obs) for fails in (True, False)]))
    policy, q = GaussianPolicy(normalizer, 1, 0.2, hidden=(8,)), DoubleQ(normalizer, 1, hidden=(64, 64))
    with torch.no_grad():
        policy.net[-1].weight.zero_()  # acts 0, give or take its exploration
    episodes = [chain(fails) for fails in (True, False)] * 8
    for index, episode in enumerate(episodes):
        episode.actions[:] = np.random.default_rng(index).normal(0, 0.2, episode.actions.shape)
    config = QRiskConfig(updates=1200, batch=64, lr=3e-3, gamma=GAMMA, tau=0.05)
    train_q_risk(q, policy, episodes, config, torch.Generator().manual_seed(0), Progress(None, ""))
    return q, policy, episodes


def test_q_risk_is_the_discounted_time_to_failure_and_zero_on_the_safe_side(learned):
    q, policy, _ = learned
    places = torch.arange(STEPS) / STEPS
    action = torch.zeros(STEPS, 1)
    critic: FailureCritic = QRisk(q, policy.normalizer)
    falling = critic.risk(torch.stack([places, torch.ones(STEPS)], dim=1), action)
    expected = torch.tensor([GAMMA ** (STEPS - 1 - step) for step in range(STEPS)])
    assert torch.allclose(falling, expected, atol=0.06)
    safe = critic.risk(torch.stack([places, -torch.ones(STEPS)], dim=1), action)
    assert safe.max() < 0.06


def test_the_cost_critic_is_the_mean_of_q_risk_over_the_policys_actions(learned):
    q, policy, episodes = learned
    value = ValueFunction(policy.normalizer, hidden=(64,))
    config = QRiskConfig(value_updates=600, batch=64, lr=3e-3, gamma=GAMMA)
    distil_cost_value(value, q, policy, episodes, config, torch.Generator().manual_seed(0), Progress(None, ""))
    x = policy.normalizer(torch.stack([torch.arange(STEPS) / STEPS, torch.ones(STEPS)], dim=1))
    expected = torch.tensor([GAMMA ** (STEPS - 1 - step) for step in range(STEPS)])
    assert torch.allclose(value(x), expected, atol=0.08)


def test_a_failure_counts_once_and_nothing_fails_after_the_end():
    """c + (1 - c) gamma Q': without (1 - c) a failure that persists would be worth 1 + gamma + gamma^2 + ..."""
    failure = torch.tensor([True, True, False, False])
    over = torch.tensor([False, True, False, True])
    target = risk_target(failure, over, torch.full((4,), 0.5), gamma=0.9)
    assert target.tolist() == pytest.approx([1.0, 1.0, 0.45, 0.0])


def test_the_rows_drawn_more_often_are_those_that_begin_a_failure():
    episodes = [chain(True), chain(False), chain(True, persists=5)]
    rows = onsets(episodes)
    assert rows.tolist() == [STEPS - 1, 2 * (STEPS + 2) + STEPS - 1]
    assert onsets([chain(False)]).tolist() == []


def test_without_a_single_failure_in_the_data_nothing_is_risky(generator):
    torch.manual_seed(0)
    normalizer, safe = Normalizer(2), chain(False)
    policy, q = GaussianPolicy(normalizer, 1, 0.2, hidden=(8,)), DoubleQ(normalizer, 1, hidden=(32,))
    config = QRiskConfig(updates=600, batch=64, lr=3e-3, gamma=GAMMA, tau=0.05)
    train_q_risk(q, policy, [safe] * 4, config, generator, Progress(None, ""))
    risk = QRisk(q, normalizer).risk(torch.from_numpy(safe.obs[:-1]), torch.from_numpy(safe.actions))
    assert risk.max() < 0.05


# ---------------------------------------------------------------- on the point mass


def test_it_ranks_states_at_the_edge_above_safe_ones(bundle):
    """Every place over land, heading for the abyss at 1 m/s: risk must fall with the distance from the edge."""
    critic = q_risk_critic(bundle)

    def at(height: float, speed: float) -> float:
        x = torch.linspace(CLIFF_X[0], CLIFF_X[1], 9)
        goal = torch.stack([0.8 - x, torch.full_like(x, -0.1 - height)], dim=1)
        place = torch.stack([x, torch.full_like(x, CLIFF_TOP + height)], dim=1)
        velocity = torch.tensor([[0.6, speed]]).expand(9, 2)
        return float(critic.risk(torch.cat([place, velocity, goal], dim=1), torch.zeros(9, 2)).mean())

    risks = [at(0.03, -1.0), at(0.3, 0.0), at(0.6, 0.5)]
    assert risks[0] > 0.6
    assert risks == sorted(risks, reverse=True)
    assert risks[2] < 0.3


def test_its_threshold_is_calibrated_on_its_own_scores(bundle, demos):
    episodes = read_episodes(demos / "calibration.hdf5", "train") + read_episodes(demos / "calibration.hdf5", "valid")
    again = calibrate(score(q_risk_critic(bundle), episodes), CalibrationConfig())
    kept = bundle.calibrations["q_risk"]
    assert kept.threshold == pytest.approx(again.threshold, rel=1e-5)
    assert kept.threshold != bundle.calibration.threshold  # a discounted chance is not the model's probability
    assert kept.auroc > 0.93
    assert kept.onset_recall >= 0.9


def test_simple_critic_gates_with_q_risk_and_its_own_threshold(bundle_folder, bundle, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", method="simple-critic", steps=4096, evaluation_episodes=0)
    router = Session(replace(config, out=tmp_path / "looked-at")).actor.router
    assert isinstance(router.critic, QRisk)
    assert router.gate.threshold == bundle.calibrations["q_risk"].threshold
    gated = np.mean([line["gated_fraction"] for line in cliff.lines(run(config), "metrics")])
    assert 0.005 < gated < 0.5
    assert not any("q_risk" in name for name in cliff.weights(config.out))  # frozen: it is no part of what learns


def test_it_avoids_failures_that_the_baseline_has(bundle_folder, tmp_path):
    failures = {}
    for method in ("uni-o4", "simple-critic"):
        changes = {"steps": 8192, "num_envs": 16, "rollout_steps": 32, "evaluation_episodes": 0}
        out = run(cliff.online(bundle_folder, tmp_path / method, method=method, **changes))
        failures[method] = cliff.lines(out, "metrics")[-1]["failures"]
    assert failures["uni-o4"] >= 20
    assert failures["simple-critic"] <= 0.5 * failures["uni-o4"]


# ---------------------------------------------------------------- the bundle


def test_a_bundle_from_before_there_was_q_risk_still_reads_and_says_what_it_lacks(bundle, tmp_path):
    old = replace(bundle, shape=replace(bundle.shape, parts=()), q_risk=None, cost_value=None, calibrations={})
    old.save(tmp_path / "old")
    path = tmp_path / "old" / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("q_risk_gamma", "calibrations"):
        del manifest[name]
    for name in ("parts", "latent_options"):
        del manifest["shape"][name]
    path.write_text(json.dumps(manifest))
    read = OfflineBundle.load(tmp_path / "old", cliff.TASK)
    assert cliff.same_weights(read.weights(), old.weights())
    with pytest.raises(UserError, match=r"no Q-risk.*farl offline"):
        Session(cliff.online(tmp_path / "old", tmp_path / "run", method="simple-critic"))
    assert not (tmp_path / "run").exists()  # a refused run leaves nothing behind


def test_leaving_q_risk_out_changes_no_other_weight(few, tmp_path):
    from farl.offline.pipeline import train

    plain, none = RiskConfig(tail=False), QRiskConfig(updates=0)
    full = OfflineBundle.load(train(cliff.hurried(few, tmp_path / "full", risk=plain)))
    lean = OfflineBundle.load(train(cliff.hurried(few, tmp_path / "lean", risk=plain, q_risk=none)))
    assert lean.q_risk is None
    weights = full.weights()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in lean.weights().items())
    assert any(name.startswith("q_risk.") for name in weights)


def test_a_tail_without_q_risk_is_refused_with_the_flag_that_leaves_it_out(few, tmp_path):
    from farl import configuration
    from farl.offline.pipeline import OfflineConfig

    with pytest.raises(ValueError, match=r"--risk\.no-tail"):
        cliff.hurried(few, tmp_path, q_risk=QRiskConfig(updates=0))
    lean = configuration.load(OfflineConfig, ["--q-risk.updates", "0", "--risk.no-tail"], "farl offline")
    assert not lean.risk.tail


@pytest.mark.parametrize(("setting", "value"), [("gamma", 1.0), ("gamma", 0.0), ("onset_fraction", 1.0)])
def test_impossible_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        QRiskConfig(**{setting: value})
