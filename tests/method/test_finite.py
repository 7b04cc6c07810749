"""A run stops at once when something is no number any more, names it, and keeps its last good checkpoint."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch

from farl.algorithms.gate import GateConfig
from farl.algorithms.ppo import PPO
from farl.errors import UserError
from farl.online import checkpoint
from farl.online.finite import PATIENCE, FiniteGuard
from farl.online.run import run
from farl.types import Decision
from method import cliff


def breaks_after(monkeypatch, iterations, harm):
    """After so many updates an update does harm as well."""
    update = PPO.update

    def harmful(self, rollout, done):
        losses = update(self, rollout, done)
        return harm(self, losses) if self.iteration > iterations else losses

    monkeypatch.setattr(PPO, "update", harmful)


def spoil(network: str, parameter: str, value: float):
    def harm(learner, losses):
        with torch.no_grad():
            dict(getattr(learner, network).named_parameters())[parameter].view(-1)[3] = value
        return losses

    return harm


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (spoil("policy", "net.2.weight", math.nan), r"policy\.net\.2\.weight"),
        (spoil("value", "net.0.bias", math.inf), r"value\.net\.0\.bias"),
        (lambda learner, losses: {**losses, "value_loss": math.nan}, "value_loss"),
    ],
)
def test_a_learner_that_breaks_stops_the_run_before_anything_is_saved(
    bundle_folder, tmp_path, monkeypatch, harm, named
):
    whole = run(cliff.online(bundle_folder, tmp_path / "whole", evaluation_episodes=0))
    config = cliff.online(bundle_folder, tmp_path / "run", evaluation_episodes=0)
    with monkeypatch.context() as patch:
        breaks_after(patch, 5, harm)  # in the sixth iteration, on which a checkpoint is due
        with pytest.raises(UserError, match=rf"^{named} is not finite .*checkpoints.*--ppo\.lr") as caught:
            run(config)
    assert "\n" not in str(caught.value)
    assert json.loads((config.out / "meta.json").read_text())["status"] == "failed"
    kept = checkpoint.load_latest(config.out / "checkpoints")
    assert kept["actor"]["steps"] == 384
    assert all(tensor.isfinite().all() for tensor in cliff.weights(config.out).values())
    run(config)  # and what it is good for: the run goes on from it as if nothing had been
    assert (whole / "episodes.jsonl").read_bytes() == (config.out / "episodes.jsonl").read_bytes()
    assert cliff.same_weights(cliff.weights(whole), cliff.weights(config.out))


@pytest.mark.parametrize(
    ("weight", "method"),
    [
        ("model.failure.weights.0", "farl"),
        ("recovery.net.0.weight", "farl"),
        ("policy.net.2.weight", "uni-o4"),
        ("policy.log_std", "uni-o4"),
    ],
)
def test_a_bundle_with_a_broken_network_stops_at_the_first_step_that_needs_it(bundle, tmp_path, weight, method):
    network, _, name = weight.partition(".")
    with torch.no_grad():
        dict(getattr(bundle, network).named_parameters())[name].fill_(math.nan)
    bundle.save(tmp_path / "bundle")
    gate = GateConfig(threshold=0.0)  # everything is handed over
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", method=method, gate=gate, evaluation_episodes=0)
    with pytest.raises(UserError, match=f"^{re.escape(weight)} is not finite"):
        run(config)
    assert checkpoint.load_latest(config.out / "checkpoints") is None
    assert not (config.out / "episodes.jsonl").exists()


def decision(**changes) -> Decision:
    still = Decision(*(torch.zeros(3, 2) for _ in range(3)), torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    return replace(still, **changes)


@pytest.fixture
def guard(bundle, tmp_path) -> FiniteGuard:
    return FiniteGuard(bundle.networks(), tmp_path)


def at(row: int, value: float) -> torch.Tensor:
    tensor = torch.zeros(3, 2)
    tensor[row, 1] = value
    return tensor


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_where_every_weight_is_sound_the_entry_is_named(guard, value):
    with pytest.raises(UserError, match=r"^obs\[2, 1\] is not finite.*farl check"):
        guard.decided(at(2, value), decision())
    with pytest.raises(UserError, match=r"^proposed\[0, 1\]"):
        guard.decided(torch.zeros(3, 2), decision(proposed=at(0, value), executed=at(0, value)))
    with pytest.raises(UserError, match=r"^recovery\[1, 1\]"):
        guard.decided(torch.zeros(3, 2), decision(executed=at(1, value)))


def test_a_risk_that_nobody_knows_is_the_gates_business_until_nobody_knows_any(guard):
    obs = torch.zeros(3, 2)
    some, all_of_them = torch.tensor([0.1, math.nan, math.inf]), torch.full((3,), math.nan)
    for _ in range(3 * PATIENCE):
        guard.decided(obs, decision(risk=some))
    for _ in range(PATIENCE - 1):
        guard.decided(obs, decision(risk=all_of_them))
    guard.decided(obs, decision(risk=some))
    for _ in range(PATIENCE - 1):
        guard.decided(obs, decision(risk=all_of_them))
    with pytest.raises(UserError, match=r"^risk \(every environment's"):
        guard.decided(obs, decision(risk=all_of_them))


def test_looking_changes_nothing(guard):
    before = {name: network.state_dict() for name, network in guard.networks.items()}
    guard.decided(torch.zeros(3, 2), decision())
    guard.learned({"policy_loss": 0.5, "kl": 0.0})
    for name, weights in before.items():
        assert cliff.same_weights(weights, guard.networks[name].state_dict())
