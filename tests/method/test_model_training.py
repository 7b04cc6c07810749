"""What both world models may learn from: real rows, failures by their weight, and states as the gate will show them."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from farl.algorithms.latent_model_training import LatentModelConfig, _td_target, model_losses
from farl.algorithms.state_model_training import StateModelConfig, Units, rollout_loss, train_state_model
from farl.data.batches import WindowSampler, transitions
from farl.data.episode_store import read_episodes
from farl.networks.latent_model import LatentModel
from farl.networks.normalizer import Normalizer
from farl.networks.state_model import StateModel
from farl.progress import Progress

LENGTH = 6


@pytest.fixture(scope="module")
def episodes(demos):
    return read_episodes(demos / "failure.hdf5", "train")


@pytest.fixture(scope="module")
def normalizer(episodes):
    normalizer = Normalizer(6)
    normalizer.fit(transitions(episodes, 0.1).obs)
    return normalizer


LOGIT = 2.0


def units(normalizer: Normalizer) -> Units:
    """Of a world whose every dimension moves by as much as it varies."""
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    return Units(normalizer, torch.zeros_like(x), x)


def test_an_error_of_a_velocity_counts_in_velocities():
    """A frame and the one before it: alike to a hundredth, and the difference is what matters."""
    generator = torch.Generator().manual_seed(0)
    place, speed = torch.randn(4000, generator=generator), 0.05 * torch.randn(4000, generator=generator)
    obs = torch.stack([place, place - speed], dim=1)
    normalizer = Normalizer(2)
    normalizer.fit(obs)
    x, x_next = normalizer(obs), normalizer(obs + torch.stack([speed, speed], dim=1))
    loss = Units(normalizer, x, x_next).loss
    together, apart = torch.tensor([0.05, 0.05]), torch.tensor([0.05, -0.05])   # the place is wrong, the speed is wrong
    assert loss(apart) > 2 * loss(together)
    assert loss(torch.zeros(3, 2)).tolist() == [0.0, 0.0, 0.0]


def surely(model: StateModel | LatentModel) -> None:
    """Let every failure head answer the same logit whatever it sees: then its loss is known."""
    with torch.no_grad():
        model.failure.weights[-1].zero_()
        model.failure.biases[-1].fill_(LOGIT)


@pytest.fixture(params=["state", "latent"])
def losses(request, normalizer):
    """The losses of a batch of windows by name, of either model."""
    torch.manual_seed(0)
    if request.param == "state":
        model = StateModel(normalizer, 2, hidden=(16,))
        surely(model)
        return lambda windows: rollout_loss(model, normalizer, windows, units(normalizer), pos_weight=1.0)
    latent, config = LatentModel(normalizer, 2, latent=16, width=16), LatentModelConfig(horizon=LENGTH)
    surely(latent)
    target = copy.deepcopy(latent.value_heads)
    return lambda windows: model_losses(latent, target, normalizer, windows, config)[0]


@pytest.fixture
def windows(episodes, generator):
    drawn = WindowSampler(episodes, LENGTH, 0.1, onset_fraction=0.5).sample(256, generator)
    assert (~drawn.valid).any()
    assert ((drawn.failure_weight == 0) & drawn.valid).any()
    return drawn


def test_rows_past_an_episodes_end_change_no_loss(losses, windows):
    garbage, past = copy.deepcopy(windows), ~windows.valid
    garbage.obs[1:][past] = 1e3
    garbage.reward[past], garbage.failure[past], garbage.action[past] = 1e3, True, 1.0
    clean, dirty = losses(windows), losses(garbage)
    for name in clean:
        assert clean[name].item() == pytest.approx(dirty[name].item(), rel=1e-5), name


def test_the_failure_loss_weighs_every_step_as_the_sampler_says(losses, windows, request):
    """Cross-entropy of a constant logit: onsets three times, later failing steps and rows past the end not at all."""
    each = torch.where(windows.failure, math.log1p(math.exp(-LOGIT)), math.log1p(math.exp(LOGIT)))
    weight = windows.failure_weight * windows.valid
    if request.node.callspec.params["losses"] == "state":
        expected = (weight * each).sum() / weight.sum()
    else:
        rho = torch.tensor([LatentModelConfig().rho_failure ** t for t in range(LENGTH)])
        expected = (rho * (weight * each).sum(1) / weight.sum(1)).sum() / LENGTH
    assert losses(windows)["failure"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_latent_models_value_counts_a_success_as_held(normalizer, windows):
    model, config = LatentModel(normalizer, 2, latent=16, width=16), LatentModelConfig(horizon=LENGTH)
    assert windows.success.any()
    encoded = torch.rand(*windows.success.shape, 16)
    with torch.no_grad():
        target = _td_target(model, model.value_heads, encoded, windows, config)
    reward = windows.reward
    assert torch.allclose(target[windows.success], reward[windows.success] / (1 - config.gamma), rtol=1e-4)
    fresh = reward[~windows.success]  # a fresh value head answers 0 everywhere
    assert torch.allclose(target[~windows.success], fresh, atol=1e-4)


def test_the_state_models_failure_heads_do_not_steer_its_dynamics(normalizer, windows):
    """Otherwise it would imagine whatever is easiest to call safe."""
    model = StateModel(normalizer, 2, hidden=(16,))
    rollout_loss(model, normalizer, windows, units(normalizer), 1.0)["failure"].backward()
    assert all(p.grad.abs().max() > 0 for p in model.failure.parameters())
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.residual.parameters())


def test_training_lowers_the_state_models_losses(normalizer, episodes, generator):
    torch.manual_seed(0)
    model = StateModel(normalizer, 2, hidden=(32,))
    sampler, data = WindowSampler(episodes, LENGTH, 0.1), transitions(episodes, 0.1)
    counted_in = Units(normalizer, normalizer(data.obs), normalizer(data.next_obs))
    drawn = sampler.sample(512, torch.Generator().manual_seed(9))

    def now() -> dict[str, float]:
        with torch.no_grad():
            return {k: v.item() for k, v in rollout_loss(model, normalizer, drawn, counted_in, 1.0).items()}

    before = now()
    config = StateModelConfig(updates=80, batch=48, lr=3e-3, horizon=LENGTH)
    train_state_model(model, normalizer, sampler, data, config, generator, Progress(None, ""))
    after = now()
    assert after["dynamics"] < 0.1 * before["dynamics"]  # the closed-form linear part alone does that here
    assert after["failure"] < 0.5 * before["failure"]
    assert after["reward"] < 0.5 * before["reward"]
