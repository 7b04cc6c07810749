"""The epistemic signal: quiet in the world the model knows, loud in another one, and never the only reason to act for ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from farl.algorithms.familiarity import Familiarity, WaryRouter, familiarise, surprise
from farl.algorithms.gate import Gate, GateConfig
from farl.data.episode_store import read_episodes
from farl.environments import make_vector, reset_where
from farl.errors import UserError
from farl.online.run import Session, run
from method import cliff
from method.test_runs import equal_runs, run_until


class Line:
    """A world model of a point that moves by its action."""

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def step(self, z, action):
        return z + action, torch.zeros(1, len(z))


def unchanged(obs):
    return obs


def test_surprise_is_the_root_mean_square_error_of_the_executed_action():
    obs, action = torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.5, -0.5]])
    following = torch.tensor([[1.0, 0.4], [0.5, -0.5]])
    found = surprise(Line(), unchanged, obs, action, following)  # the environment clips the 3 to 1
    assert found.tolist() == pytest.approx([0.4 / 2**0.5, 0.0])


def surprises(bundle, strength=1.0, noise=0.0, mass=1.0) -> np.ndarray:
    """Of the policy exploring where motors have another strength, or observations noise."""
    envs, generator = make_vector(cliff.TASK, 16), torch.Generator().manual_seed(1)
    rng, found = np.random.default_rng(0), []
    obs, _ = reset_where(envs, np.ones(16, bool), list(range(16)))
    for _ in range(40):
        before = torch.tensor(obs)
        action = bundle.policy.sample(bundle.policy.act(before), generator).clamp(-1, 1)
        obs, _, terminated, truncated, _ = envs.step(strength / mass * action.numpy())
        obs = (obs + noise * rng.standard_normal(obs.shape)).astype(np.float32)
        running = torch.from_numpy(~(terminated | truncated))
        found.append(surprise(bundle.model, bundle.normalizer, before, action, torch.tensor(obs))[running])
        if not running.all():
            fresh, _ = reset_where(envs, ~running.numpy(), list(range(16)))
            obs[~running.numpy()] = fresh[~running.numpy()]
    envs.close()
    return torch.cat(found).numpy()


@pytest.mark.parametrize("share", [0.95, 0.99])
def test_in_the_world_it_was_calibrated_in_the_signal_fires_as_often_as_promised(bundle, share):
    fired = (surprises(bundle) > bundle.familiarity.limit(share)).mean()
    assert fired < 3 * (1 - share)


@pytest.mark.parametrize("change", [{"mass": 2.0}, {"strength": 1.8}, {"noise": 0.05}])
def test_a_heavier_body_a_stronger_motor_and_a_noisy_sensor_are_unfamiliar(bundle, change):
    limit = bundle.familiarity.limit(0.99)
    usual, changed = (surprises(bundle) > limit).mean(), (surprises(bundle, **change) > limit).mean()
    assert changed > max(0.1, 5 * usual)


def test_the_steps_that_lead_to_a_failure_are_not_what_is_usual(bundle, demos):
    episodes = read_episodes(demos / "calibration.hdf5")
    found = familiarise(bundle.model, bundle.normalizer, episodes, max_lead=10)
    spoiled = [replace(e, obs=e.obs.copy()) for e in episodes]
    for episode in spoiled:
        if episode.onset is not None:
            episode.obs[max(0, episode.onset - 10) + 1 :] += 100
    assert familiarise(bundle.model, bundle.normalizer, spoiled, max_lead=10) == found
    assert familiarise(bundle.model, bundle.normalizer, spoiled, max_lead=0) != found


class Safe:
    def risk(self, obs, action):
        return torch.zeros(len(obs))


class Still:
    def act(self, obs):
        return torch.zeros(len(obs), 2)


def wary(config: GateConfig, envs=2, limit=0.1) -> WaryRouter:
    return WaryRouter(Still(), Safe(), Gate(config, 0.5, envs), Line(), unchanged, limit)


def test_recovery_acts_after_a_step_that_went_elsewhere_in_that_environment_alone():
    router, push = wary(GateConfig()), torch.full((2, 2), 0.5)
    assert router.decide(torch.zeros(2, 2), push).gated.tolist() == [False, False]
    there = torch.tensor([[0.5, 0.5], [0.5, 0.0]])
    decision = router.decide(there, push)
    assert decision.gated.tolist() == [False, True]
    assert decision.risk.tolist() == [0.0, torch.inf]
    # It held still, and that is what is compared with what came of it.
    assert router.decide(torch.tensor([[1.0, 1.0], [0.5, 0.0]]), push).gated.tolist() == [False, False]


def test_the_first_step_of_an_episode_follows_none():
    router, push = wary(GateConfig()), torch.full((2, 2), 0.5)
    router.decide(torch.zeros(2, 2), push)
    router.reset(torch.tensor([True, False]))
    assert router.decide(torch.full((2, 2), 7.0), push).gated.tolist() == [False, True]


def test_a_world_that_stays_unfamiliar_does_not_take_control_away_for_ever():
    router = wary(GateConfig(max_dwell=3, cooldown=2), envs=1)
    acts = [router.decide(torch.full((1, 2), float(5 * t)), torch.zeros(1, 2)).gated.item() for t in range(11)]
    assert acts == [False] + ([True] * 3 + [False] * 2) * 2


def test_an_infinite_threshold_hands_over_nothing_unfamiliar_either():
    router = WaryRouter(Still(), Safe(), Gate(GateConfig(), torch.inf, 1), Line(), unchanged, 0.1)
    acts = [router.decide(torch.full((1, 2), float(t)), torch.zeros(1, 2)).gated.item() for t in range(4)]
    assert acts == [False] * 4


def test_a_wary_run_continues_bit_for_bit(bundle_folder, tmp_path, monkeypatch):
    changes = {"method": "farl", "gate": GateConfig(unfamiliar=0.9)}
    whole = run(cliff.online(bundle_folder, tmp_path / "whole", **changes))
    config = cliff.online(bundle_folder, tmp_path / "parts", **changes)
    run_until(config, 600, monkeypatch)
    run(config)
    assert sum(line["unknown_risks"] for line in cliff.lines(whole, "metrics")) > 0
    equal_runs(whole, config.out)


def test_a_bundle_that_does_not_know_what_is_usual_is_refused_when_asked(bundle, tmp_path):
    replace(bundle, familiarity=None).save(tmp_path / "bundle")
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", method="farl", gate=GateConfig(unfamiliar=0.99))
    with pytest.raises(UserError, match=r"gate\.unfamiliar needs the model's surprise.*gate\.unfamiliar at 0"):
        Session(config)
    assert not config.out.exists()


def test_limits_lie_between_the_quantiles_that_are_kept():
    familiarity = Familiarity([0.0, 1.0, 3.0])
    assert [familiarity.limit(share) for share in (0.0, 0.25, 0.5, 0.75)] == [0.0, 0.5, 1.0, 2.0]
