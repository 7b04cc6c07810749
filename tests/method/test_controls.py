"""The published method's gate, and the controls: what each is made of and what it bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from farl.algorithms.critics import RandomCritic, trigger_probability
from farl.algorithms.gate import Gate, GateConfig, memoryless
from farl.algorithms.risk import ImaginedRisk, accumulate
from farl.errors import UserError
from farl.methods import METHODS, ControlsConfig, gated_share
from farl.networks.latent_model import LatentModel
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import PAPER_HORIZON, paper_critic
from farl.online.run import Session, run
from method import cliff

# ---------------------------------------------------------------- the published method


def test_farl_paper_is_the_latent_model_a_plain_sum_and_executed_actions(bundle_folder, bundle, tmp_path):
    session = Session(cliff.online(bundle_folder, tmp_path / "run", method="farl-paper"))
    critic, gate = session.actor.router.critic, session.actor.router.gate
    assert isinstance(critic, ImaginedRisk)
    assert isinstance(critic.model, LatentModel)
    assert critic.policy is session.policy  # the look-ahead follows the policy as it learns
    assert session.learner.learner.ppo.credit == "executed"
    assert gate.threshold == bundle.calibrations["paper"].threshold


def test_its_risk_is_the_discounted_sum_over_the_latent_rollout(bundle, generator):
    """Every imagined step written out; over the abyss it is many times that of a place far from it."""
    critic = paper_critic(bundle, bundle.policy)
    obs = torch.tensor([[-0.1, -0.1, 0.0, -0.5, 0.9, 0.0], [-0.8, 0.5, 0.0, 0.0, 1.6, -0.6]])
    action = torch.zeros(2, 2)
    with torch.no_grad():
        z, expected, a = bundle.latent.encode(bundle.normalizer(obs)), torch.zeros(2), action
        for step in range(PAPER_HORIZON + 1):
            z, logits = bundle.latent.step(z, a)
            expected += bundle.risk.gamma**step * logits.sigmoid().mean(0)
            a = bundle.policy(bundle.latent.decode(z)).clamp(-1, 1)
    risk = critic.risk(obs, action)
    assert torch.allclose(risk, expected, atol=1e-5)
    assert risk[0] > 5 * risk[1]
    assert bundle.calibrations["paper"].auroc > 0.85


def test_its_gate_decides_every_step_by_the_risk_alone(generator):
    """Hysteresis, dwell, cap and cooldown of the configuration are not part of the published rule."""
    config = memoryless(GateConfig(leave=0.2, min_dwell=4, max_dwell=6, cooldown=9))
    gate, risk = Gate(config, 0.3, 5), torch.rand(200, 5, generator=generator)
    risk[50:120, 0] = 0.9  # far longer than any cap
    assert all(torch.equal(gate.step(row), row > 0.3) for row in risk)


def test_a_bundle_with_a_state_space_model_alone_says_how_to_get_the_latent_one(bundle, tmp_path):
    lean = replace(bundle, shape=replace(bundle.shape, parts=("q_risk", "cost_value")), latent=None)
    lean.save(tmp_path / "lean")
    with pytest.raises(UserError, match="--paper-model"):
        Session(cliff.online(tmp_path / "lean", tmp_path / "run", method="farl-paper"))


def test_a_bundle_whose_own_model_is_the_latent_one_serves_as_well(bundle):
    swapped = replace(bundle, model=bundle.latent, latent=None)
    assert paper_critic(swapped, bundle.policy).model is bundle.latent


def test_the_second_model_changes_no_other_weight(few, tmp_path):
    from farl.offline.pipeline import train

    tiny = cliff.hurried(few, tmp_path / "plain").latent_model
    tiny = replace(tiny, updates=3, batch=8, latent=16, width=16)
    plain = OfflineBundle.load(train(cliff.hurried(few, tmp_path / "plain")))
    both = OfflineBundle.load(train(cliff.hurried(few, tmp_path / "both", paper_model=True, latent_model=tiny)))
    weights = both.weights()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.weights().items())
    assert any(name.startswith("latent.") for name in weights)


# ---------------------------------------------------------------- random gate


@pytest.mark.parametrize("min_dwell", [1, 3, 8])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_a_random_gate_hands_over_at_the_asked_for_rate_whatever_the_dwell(rate, min_dwell, generator):
    critic = RandomCritic(trigger_probability(rate, min_dwell), generator)
    gate = Gate(GateConfig(min_dwell=min_dwell, max_dwell=10_000), 0.5, 2048)
    nothing = torch.zeros(2048, 1)
    share = np.mean([gate.step(critic.risk(nothing, nothing)).float().mean().item() for _ in range(1000)])
    assert share == pytest.approx(rate, rel=0.05)  # three standard errors of the rarest


def test_it_takes_its_rate_from_the_run_it_is_compared_with(bundle_folder, tmp_path):
    gate = GateConfig(threshold=0.002)
    changes = {"steps": 4096, "num_envs": 16, "rollout_steps": 32, "evaluation_episodes": 0, "gate": gate}
    learned = run(cliff.online(bundle_folder, tmp_path / "farl", method="farl", **changes))
    like = ControlsConfig(random_rate=0.9, random_like=learned)
    random = run(cliff.online(bundle_folder, tmp_path / "random", method="random-gate", controls=like, **changes))
    episodes = cliff.lines(learned, "episodes")
    share = gated_share(learned)
    assert share == sum(e["gated_steps"] for e in episodes) / sum(e["length"] for e in episodes) > 0.01
    assert gated_share(random) == pytest.approx(share, rel=0.25)  # some hundred gated steps


def test_a_run_without_an_episode_has_no_rate(bundle_folder, tmp_path):
    like = ControlsConfig(random_like=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"nowhere has no finished episode"):
        Session(cliff.online(bundle_folder, tmp_path / "run", method="random-gate", controls=like))


@pytest.mark.parametrize(("setting", "value"), [("random_rate", 1.0), ("random_rate", -0.1), ("oracle_rollouts", 0)])
def test_impossible_controls_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        ControlsConfig(**{setting: value})


# ---------------------------------------------------------------- oracle


def test_exploration_in_the_look_ahead_sees_dangers_that_the_mean_does_not(bundle_folder, tmp_path):
    """Over the same states: what the mean rollout foresees the noisy oracle foresees too, and more."""
    mean, noisy = (
        Session(cliff.online(bundle_folder, tmp_path / name, method=name, evaluation_episodes=0))
        for name in ("oracle-gate", "oracle-gate-noisy")
    )
    foreseen = []
    live, router = mean.envs, noisy.actor.router
    router.critic.live = live
    for _ in range(60):
        obs = torch.from_numpy(mean.actor.obs.copy())
        action = mean.policy.sample(mean.policy.act(obs), torch.Generator().manual_seed(1))
        foreseen.append((mean.actor.router.critic.risk(obs, action) > 0, router.critic.risk(obs, action) > 0))
        mean.actor.collect(1)
    by_mean, by_noisy = (torch.stack(flags) for flags in zip(*foreseen, strict=True))
    assert (by_noisy | ~by_mean).all()
    assert by_noisy.sum() > by_mean.sum()


def test_every_method_has_a_description_of_one_line():
    for name, method in METHODS.items():
        assert 10 < len(method.description) < 100, name
        assert "\n" not in method.description


def test_the_plain_sum_counts_a_lasting_accident_once_a_step():
    lasting = torch.ones(5, 1)
    assert accumulate(lasting, 0.9, "sum").item() == pytest.approx(sum(0.9**i for i in range(5)))
