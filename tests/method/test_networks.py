"""Networks against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from farl.algorithms.ppo import clipped_surrogate
from farl.networks.latent_model import LatentModel, SimNorm, TwoHot
from farl.networks.mlp import EnsembleMLP
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.state_model import StateModel
from farl.networks.value import DoubleQ


def test_an_ensemble_is_its_members_evaluated_one_by_one(generator):
    net = EnsembleMLP([5, 7, 6, 2], members=3)
    x = torch.randn(11, 5, generator=generator)
    for member, output in enumerate(net(x)):
        h = x
        for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            h = h @ weight[member] + bias[member]
            h = torch.relu(h) if layer < 2 else h
        assert torch.allclose(output, h, atol=1e-6)


def test_ensemble_members_start_apart():
    weights = EnsembleMLP([5, 7, 2], members=3).weights[0]
    assert (weights[0] - weights[1]).abs().max() > 0.1


def test_the_smaller_of_both_action_values_is_taken(generator):
    q = DoubleQ(Normalizer(3), act_dim=2, hidden=(8,))
    x, action = torch.randn(9, 3, generator=generator), torch.randn(9, 2, generator=generator)
    both = q(x, action)
    assert torch.equal(q.smaller(x, action), torch.minimum(both[0], both[1]))
    assert not torch.allclose(both[0], both[1])


# ---------------------------------------------------------------- normaliser


def correlated(rows: int, generator: torch.Generator) -> torch.Tensor:
    """A position, its almost equal predecessor, something unrelated, and a constant."""
    position = torch.randn(rows, 1, generator=generator)
    velocity, other = torch.randn(rows, 1, generator=generator), torch.randn(rows, 1, generator=generator)
    return torch.cat([position, position - 0.1 * velocity, 5 + 3 * other, torch.full((rows, 1), 0.7)], dim=1)


def test_standardised_data_has_zero_mean_and_unit_deviation(generator):
    data = correlated(5000, generator)
    normalizer = Normalizer(4)
    normalizer.fit(data)
    x = normalizer(data)
    assert x.mean(0).abs().max() < 1e-4
    assert torch.allclose(x.std(0)[:3], torch.ones(3), atol=1e-3)
    assert torch.allclose(normalizer.inverse(x), data, atol=1e-5)


def test_whitened_features_have_unit_covariance_where_the_data_vary(generator):
    data = correlated(5000, generator)
    normalizer = Normalizer(4)
    normalizer.fit(data)
    whitened = normalizer.features(normalizer(data))[:, 4:]
    covariance = torch.cov(whitened.T)
    spread = covariance.diagonal()
    # Three independent directions of the data, the smallest of them a velocity 1/14 of a position's spread; one constant.
    assert torch.allclose(spread.sort().values, torch.tensor([0.0, 1.0, 1.0, 1.0]), atol=2e-2)
    assert (covariance - torch.diag(spread)).abs().max() < 2e-2


def test_what_hardly_varied_is_not_blown_up_later(generator):
    data = correlated(1000, generator)
    data[:, 3] += 1e-3 * torch.rand(1000, generator=generator)
    normalizer = Normalizer(4)
    normalizer.fit(data)
    moved = data[:1].clone()
    moved[0, 3] = data[:, 3].mean() + 0.005
    assert normalizer(moved)[0, 3] == pytest.approx(0.005 / 1e-2, rel=1e-3)  # the floor of the deviation
    assert normalizer.features(normalizer(moved + 1e6)).abs().max() <= 10


# ---------------------------------------------------------------- policy


@pytest.fixture
def policy(generator):
    normalizer = Normalizer(3)
    normalizer.fit(torch.randn(200, 3, generator=generator))
    return GaussianPolicy(normalizer, 2, std=0.25, hidden=(16,))


def test_log_probabilities_are_those_of_an_independent_normal(policy, generator):
    mean = policy(torch.randn(50, 3, generator=generator))
    action = 4 * torch.randn(50, 2, generator=generator)
    expected = Independent(Normal(mean, policy.std.expand_as(mean)), 1).log_prob(action)
    assert torch.allclose(policy.log_prob(mean, action), expected, atol=1e-4, rtol=1e-5)


def test_the_ratio_is_one_at_unchanged_parameters_also_for_saturated_actions(generator):
    policy = GaussianPolicy(Normalizer(3), 2, std=0.6, hidden=(16,))
    with torch.no_grad():
        policy.net[-1].bias.fill_(2.0)  # the mean sits near +1: about half of all samples lie outside -1..1
    x = torch.randn(4000, 3, generator=generator)
    mean = policy(x)
    action = policy.sample(mean, generator)
    assert (action.abs() > 1).float().mean() > 0.3
    stored = policy.log_prob(mean, action)
    assert torch.equal((policy.log_prob(policy(x), action) - stored).exp(), torch.ones(len(x)))


def test_samples_have_the_stated_mean_and_deviation(policy, generator):
    mean = torch.tensor([[0.5, -0.2]]).expand(40_000, 2)
    sample = policy.sample(mean, generator)
    assert torch.allclose(sample.mean(0), mean[0], atol=5e-3)
    assert torch.allclose(sample.std(0), torch.tensor([0.25, 0.25]), atol=5e-3)


def test_acting_on_raw_observations_is_the_mean_of_standardised_ones(policy, generator):
    obs = 3 + torch.randn(20, 3, generator=generator)
    assert torch.equal(policy.act(obs), policy(policy.normalizer(obs)))


@pytest.mark.parametrize("std", [0.01, 0.9])
def test_an_exploration_std_that_the_policy_would_silently_clamp_is_refused(std):
    with pytest.raises(ValueError, match="exploration std"):
        GaussianPolicy(Normalizer(3), 2, std=std)


def test_the_clipped_surrogate_is_the_published_one():
    ratio = torch.tensor([0.5, 0.95, 1.05, 1.5, 0.5, 0.95, 1.05, 1.5])
    advantage = torch.tensor([2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0])
    by_hand = torch.tensor([1.0, 1.9, 2.1, 2.2, -1.8, -1.9, -2.1, -3.0])  # clip 0.1, eq. 7 by pencil
    old = torch.full((8,), -1.3)
    assert torch.allclose(clipped_surrogate(old + ratio.log(), old, advantage, 0.1), -by_hand, atol=1e-5)


# ---------------------------------------------------------------- latent model's pieces


def test_simnorm_makes_groups_of_eight_that_each_sum_to_one(generator):
    z = 5 * torch.randn(6, 24, generator=generator)
    normed = SimNorm()(z)
    assert torch.allclose(normed.view(6, 3, 8).sum(-1), torch.ones(6, 3), atol=1e-6)
    assert torch.allclose(normed[:, 8:16], z[:, 8:16].softmax(-1))


@pytest.mark.parametrize("value", [0.0, 1e-3, -0.37, 1.0, 42.0, -250.0, 5000.0])
def test_a_scalar_survives_two_hot_coding(value):
    code = TwoHot()
    target = code.encode(torch.tensor([value]))
    assert target.sum() == pytest.approx(1, abs=1e-6)
    assert (target > 0).sum() <= 2
    assert code.decode(target.log()).item() == pytest.approx(value, rel=1e-3, abs=1e-5)


def test_two_hot_loss_is_smallest_at_the_target_itself():
    code = TwoHot()
    value = torch.tensor([3.0])
    right = code.encode(value).clamp_min(1e-12).log()
    wrong = code.encode(torch.tensor([4.0])).clamp_min(1e-12).log()
    entropy = -(code.encode(value) * right).sum()
    assert code.loss(right, value).item() == pytest.approx(entropy.item(), abs=1e-5)
    assert code.loss(wrong, value) > code.loss(right, value) + 0.1


def test_values_beyond_the_bins_are_held_at_the_last_one():
    code = TwoHot()
    assert code.decode(code.encode(torch.tensor([1e9])).log()).item() == pytest.approx(math.expm1(10), rel=1e-4)


# ---------------------------------------------------------------- state-space model


@pytest.fixture
def linear_system(generator):
    """x' = A x + B a + c with a stacked previous frame and a constant, far from the clip."""
    matrix = torch.zeros(5, 5)
    matrix[0, 0], matrix[0, 1], matrix[1, 1] = 1.0, 0.1, 0.9
    matrix[2, 0] = 1.0  # the previous frame
    matrix[3, 3] = 0.7
    matrix[3, 1] = 0.2
    control = torch.zeros(5, 2)
    control[1, 0], control[3, 1] = 0.2, 0.3
    offset = torch.tensor([0.0, 0.0, 0.0, 0.05, 0.3])
    x, action = torch.randn(3000, 5, generator=generator), torch.rand(3000, 2, generator=generator) * 2 - 1
    return x, action, lambda x, a: x @ matrix.T + a @ control.T + offset


def test_the_linear_part_recovers_a_linear_system_and_leaves_nothing_to_the_network(linear_system):
    x, action, system = linear_system
    model = StateModel(Normalizer(5), 2, hidden=(16,))
    model.fit_linear(x, action, system(x, action), ridge=0.0)
    following, _ = model.step(model.encode(torch.eye(5)), torch.zeros(5, 2))
    assert torch.allclose(model.decode(following), system(torch.eye(5), torch.zeros(5, 2)), atol=1e-5)
    assert torch.equal(model.scale, torch.zeros(5))


@pytest.mark.parametrize(("ridge", "tolerance"), [(0.0, 1e-5), (1e-4, 1e-2)])  # none, and what training uses
def test_a_linear_system_is_rolled_out_exactly(linear_system, ridge, tolerance):
    x, action, system = linear_system
    model = StateModel(Normalizer(5), 2, hidden=(16,))
    model.fit_linear(x, action, system(x, action), ridge)
    true = x[:200].clamp(-2, 2)
    z = model.encode(true)
    for step in range(20):
        z, _ = model.step(z, action[step : step + 200])
        true = system(true, action[step : step + 200])
    assert (model.decode(z) - true).abs().max() < tolerance


def test_the_residual_is_scaled_by_what_the_linear_part_leaves(linear_system, generator):
    x, action, system = linear_system
    noisy = system(x, action)
    noisy[:, 3] += 0.05 * torch.randn(len(x), generator=generator)
    model = StateModel(Normalizer(5), 2, hidden=(16,))
    model.fit_linear(x, action, noisy)
    assert model.scale[3].item() == pytest.approx(0.05, rel=0.1)
    assert model.scale[[0, 1, 2, 4]].abs().max() == 0


def test_failure_heads_judge_the_state_the_action_leads_to():
    """Two ways into the same state are equally failed; the same start with another action is not."""
    model = StateModel(Normalizer(2), 1, hidden=(8,), heads=2)
    with torch.no_grad():
        model.linear.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))  # x0' = x0 + a
        model.scale.zero_()
    start, action = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.0]]), torch.tensor([[1.0], [0.5], [0.0]])
    _, logits = model.step(model.encode(start), action)
    assert torch.allclose(logits[:, 0], logits[:, 1], atol=1e-7)
    assert (logits[:, 0] - logits[:, 2]).abs().min() > 1e-6


def test_both_world_models_offer_the_same_interface(generator):
    normalizer = Normalizer(3)
    obs, action = torch.randn(7, 3, generator=generator), torch.rand(7, 2, generator=generator)
    for model in (
        StateModel(normalizer, 2, hidden=(8,), heads=4),
        LatentModel(normalizer, 2, latent=16, width=16, heads=4),
    ):
        z = model.encode(normalizer(obs))
        following, logits = model.step(z, action)
        assert z.shape == following.shape
        assert logits.shape == (4, 7)
        assert model.decode(following).shape == (7, 3)
        assert model.reward(z, action).shape == (7,)


def test_what_was_constant_in_the_data_changes_nothing_later():
    """A goal that never moved cannot have been learned from; a broken sensor there is still not a number."""
    obs = torch.randn(500, 4)
    obs[:, 2] = 0.86
    normalizer = Normalizer(4)
    normalizer.fit(obs)
    moved = obs[:3].clone()
    moved[:, 2] += 0.05
    seen = normalizer.features(normalizer(obs[:3]))
    assert torch.equal(normalizer.features(normalizer(moved)), seen)
    assert torch.allclose(normalizer.inverse(normalizer(obs[:3])), obs[:3], atol=1e-5)
    moved[:, 2] = float("nan")
    assert normalizer(moved)[:, 2].isnan().all()


def test_a_normaliser_saved_before_constants_were_left_out_shows_all():
    state = {name: value for name, value in Normalizer(3).state_dict().items() if name != "varies"}
    normalizer = Normalizer(3)
    normalizer.load_state_dict(state)
    assert torch.equal(normalizer(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[1.0, 2.0, 3.0]]))
