"""The latent world model: losses fall, every part learns, and failure is learnt as far ahead as the gate looks."""

from __future__ import annotations

import copy

import pytest
import torch

from farl.algorithms.latent_model_training import LatentModelConfig, model_losses, prior_loss, train_latent_model
from farl.data.batches import WindowSampler, transitions
from farl.data.episode_store import read_episodes
from farl.networks.latent_model import LatentModel
from farl.networks.normalizer import Normalizer
from farl.progress import Progress

PARTS = ("encoder", "decoder", "dynamics", "reward_head", "value_heads", "prior", "failure")
CONFIG = LatentModelConfig(updates=120, batch=48, lr=1e-3, encoder_lr_scale=1.0, horizon=5, latent=32, width=48)


@pytest.fixture(scope="module")
def lesson(demos):
    """Normaliser and windows of the point mass's demonstrations."""
    episodes = [e for name in ("task", "failure") for e in read_episodes(demos / f"{name}.hdf5", "train")]
    normalizer = Normalizer(6)
    normalizer.fit(transitions(episodes, 0.1).obs)
    return normalizer, WindowSampler(episodes, CONFIG.horizon, 0.1)


def fresh(normalizer: Normalizer) -> LatentModel:
    torch.manual_seed(0)
    return LatentModel(normalizer, 2, latent=CONFIG.latent, width=CONFIG.width)


def losses(model, normalizer, sampler) -> dict[str, float]:
    windows = sampler.sample(256, torch.Generator().manual_seed(99))
    with torch.no_grad():
        parts, latents = model_losses(model, copy.deepcopy(model.value_heads), normalizer, windows, CONFIG)
        return {name: float(value) for name, value in parts.items()} | {
            "prior": float(prior_loss(model, latents, windows))
        }


def test_training_lowers_every_loss_and_moves_all_seven_parts(lesson, generator):
    normalizer, sampler = lesson
    model = fresh(normalizer)
    before, start = losses(model, normalizer, sampler), copy.deepcopy(model)
    train_latent_model(model, normalizer, sampler, CONFIG, generator, Progress(None, ""))
    after = losses(model, normalizer, sampler)
    for name in ("decoder", "reward", "failure", "prior"):
        assert after[name] < 0.7 * before[name], name
    assert after["value"] < before["value"]
    assert after["consistency"] < 0.1  # starts small, because a fresh encoder says nothing; it must not grow
    for part in PARTS:
        then, now = dict(getattr(start, part).named_parameters()), dict(getattr(model, part).named_parameters())
        assert all((now[name] - then[name]).abs().max() > 1e-5 for name in now), part


def test_every_part_receives_a_gradient_from_the_losses_that_are_meant_for_it(lesson):
    normalizer, sampler = lesson
    model = fresh(normalizer)
    for head in (*model.value_heads, model.reward_head, model.prior):  # output layers start at zero and would block
        torch.nn.init.normal_(head[-1].weight, std=0.1)
    windows = sampler.sample(64, torch.Generator().manual_seed(0))
    parts, latents = model_losses(model, copy.deepcopy(model.value_heads), normalizer, windows, CONFIG)
    reach = {
        "consistency": {"encoder", "dynamics"},
        "decoder": {"encoder", "decoder", "dynamics"},
        "reward": {"encoder", "dynamics", "reward_head"},
        "value": {"encoder", "dynamics", "value_heads"},
        "failure": {"encoder", "dynamics", "failure"},
    }
    for name, loss in parts.items():
        model.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        touched = {
            part
            for part in PARTS
            if any(p.grad is not None and p.grad.abs().max() > 0 for p in getattr(model, part).parameters())
        }
        assert touched == reach[name], name
    model.zero_grad(set_to_none=True)
    prior_loss(model, latents.detach(), windows).backward()
    assert all(p.grad.abs().max() > 0 for p in model.prior.parameters())
    assert all(p.grad is None for p in model.encoder.parameters())  # the prior must not bend the representation


def test_failures_far_ahead_are_trained_almost_as_much_as_near_ones(lesson):
    """TD-MPC2's 0.5 a step would leave the last imagined step of ten with a weight of 0.002."""
    config = LatentModelConfig()
    assert config.rho_failure ** (config.horizon - 1) > 0.5
