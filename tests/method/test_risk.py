"""Risk of an action (the paper's C_H): accumulation against closed forms, and what is rolled out."""

from __future__ import annotations

import itertools
import json
import shutil

import gymnasium
import numpy as np
import pytest
import torch

import failurebench  # noqa: F401  (registers the ids)
from failurebench.point_mass import CLIFF_TOP, CLIFF_X, DT
from farl.algorithms.latent_model_training import LatentModelConfig
from farl.algorithms.risk import ImaginedRisk, RiskConfig, accumulate, pessimistic
from farl.algorithms.state_model_training import StateModelConfig
from farl.environments import get_states, make_vector, set_states
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.offline.pipeline import OfflineConfig
from method import cliff


@pytest.fixture
def chances(generator):
    return torch.rand(6, 40, generator=generator)


def test_first_hit_is_the_discounted_chance_of_the_first_failure_over_all_outcomes(chances):
    """Sum over all 2^6 sequences of failing and not failing of probability x gamma^(first failing step)."""
    gamma = 0.9
    total = torch.zeros(40)
    for pattern in itertools.product((0, 1), repeat=6):
        fails = torch.tensor(pattern, dtype=torch.bool)[:, None]
        probability = torch.where(fails, chances, 1 - chances).prod(0)
        if any(pattern):
            total += probability * gamma ** pattern.index(1)
    assert torch.allclose(accumulate(chances, gamma, "first_hit"), total, atol=1e-5)


def test_sum_and_max_are_the_plain_ones(chances):
    discount = torch.tensor([0.8**i for i in range(6)])[:, None]
    assert torch.allclose(accumulate(chances, 0.8, "sum"), (discount * chances).sum(0), atol=1e-5)
    assert torch.allclose(accumulate(chances, 0.8, "max"), (discount * chances).max(0).values)


def test_max_is_below_first_hit_and_first_hit_below_sum_and_one(chances):
    highest, first, total = (accumulate(chances, 1.0, how) for how in ("max", "first_hit", "sum"))
    assert (highest <= first + 1e-6).all()
    assert (first <= total + 1e-6).all()
    assert (first <= 1 + 1e-6).all()


def test_a_certain_failure_k_steps_ahead_scores_gamma_to_the_k():
    chances = torch.zeros(5, 1)
    chances[3] = 1.0
    for how in ("first_hit", "sum", "max"):
        assert accumulate(chances, 0.95, how).item() == pytest.approx(0.95**3, abs=1e-6)


def test_pessimism_adds_standard_deviations_between_heads(generator):
    logits = torch.randn(3, 4, 9, generator=generator)
    p = logits.sigmoid().double().numpy()
    expected = np.clip(p.mean(1) + 0.7 * p.std(1), 0, 1)
    assert np.allclose(pessimistic(logits, 0.7).numpy(), expected, atol=1e-5)
    assert torch.allclose(pessimistic(logits[:, :1], 0.7), logits[:, 0].sigmoid())


# ---------------------------------------------------------------- imagination


class Cliff:
    """The point mass's own equations as a world model: what a perfect model would be."""

    def __init__(self, normalizer: Normalizer) -> None:
        self.normalizer, self.calls, self.seen = normalizer, 0, []

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def reward(self, z, action):
        return torch.zeros(len(z))

    def step(self, z, action):
        self.calls += 1
        self.seen.append(action.clone())
        obs = self.normalizer.inverse(z)
        velocity = 0.9 * obs[:, 2:4] + 2.0 * DT * action
        position = obs[:, :2] + DT * velocity
        inside = (position[:, 0] >= CLIFF_X[0]) & (position[:, 0] <= CLIFF_X[1]) & (position[:, 1] <= CLIFF_TOP)
        following = torch.cat([position, velocity, obs[:, 4:6] - (position - obs[:, :2])], dim=1)
        return self.normalizer(following), torch.where(inside, 20.0, -20.0)[None]


@pytest.fixture
def pair():
    """A policy that always pushes to the right and downhill, and the true equations."""
    normalizer = Normalizer(6, clip=1e6)
    torch.manual_seed(0)
    policy = GaussianPolicy(normalizer, 2, std=0.2, hidden=(8,))
    with torch.no_grad():
        policy.net[-1].weight.zero_()
        policy.net[-1].bias.copy_(torch.tensor([0.8, -0.3]))
    return Cliff(normalizer), policy


def test_the_failure_of_an_action_is_judged_on_the_state_it_leads_to(pair, generator):
    """Horizon 0 and the true equations: the risk is 1 exactly where stepping the environment violates."""
    model, policy = pair
    critic = ImaginedRisk(model, policy, RiskConfig(horizon=0))
    env = gymnasium.make("FailureBench/PointMassCliff-v0").unwrapped
    env.reset(seed=0)
    count = 600
    position = torch.rand(count, 2, generator=generator) * torch.tensor([0.8, 0.4]) - torch.tensor([0.4, 0.2])
    velocity = torch.randn(count, 2, generator=generator)
    action = torch.rand(count, 2, generator=generator) * 2 - 1
    truth, was_over, obs = [], [], []
    for row in range(count):
        state = {"position": position[row].numpy(), "velocity": velocity[row].numpy(), "steps": 0, "failed": False}
        env.set_state(state)
        obs.append(env.observation())
        was_over.append(env._margin() <= 0)
        truth.append(env.step(action[row].numpy())[-1]["failure"])
    risk = critic.risk(torch.from_numpy(np.stack(obs)), action)
    assert torch.equal(risk > 0.5, torch.tensor(truth))
    assert (torch.tensor(was_over) != torch.tensor(truth)).float().mean() > 0.05  # a label one step early would differ


def test_the_imagined_onset_is_the_true_onset(pair):
    """Roll the environment with the policy's mean; the first certain imagined step is the first violating step."""
    model, policy = pair
    critic = ImaginedRisk(model, policy, RiskConfig(horizon=30))
    envs = make_vector(cliff.TASK, 4)
    obs, _ = envs.reset(seed=[1, 2, 3, 4])
    first = policy.act(torch.from_numpy(obs))
    imagined = critic.step_probabilities(torch.from_numpy(obs), first)
    action, true = first, []
    for _ in range(31):
        obs, _, _, _, info = envs.step(action.clamp(-1, 1).numpy())
        true.append(info["failure"])
        action = policy.act(torch.from_numpy(obs))
    truth = torch.from_numpy(np.stack(true))
    assert truth.any(0).all()
    assert torch.equal((imagined > 0.5).int().argmax(0), truth.int().argmax(0))


def test_the_proposed_action_comes_first_then_the_policys_mean(pair):
    model, policy = pair
    proposed = torch.tensor([[-0.5, 3.0]])
    ImaginedRisk(model, policy, RiskConfig(horizon=2)).risk(torch.zeros(1, 6), proposed)
    assert torch.equal(model.seen[0], torch.tensor([[-0.5, 1.0]]))  # as the environment would clip it
    mean = torch.tanh(torch.tensor([[0.8, -0.3]]))
    assert torch.allclose(model.seen[1], mean)
    assert torch.allclose(model.seen[2], mean)


@pytest.mark.parametrize("rows", [1, 64])
def test_the_model_is_asked_once_a_step_whatever_the_number_of_environments(pair, rows):
    """Batched over environments: H + 1 calls, without a Python loop over rows or heads."""
    model, policy = pair
    ImaginedRisk(model, policy, RiskConfig(horizon=10)).risk(torch.zeros(rows, 6), torch.zeros(rows, 2))
    assert model.calls == 11


def test_rows_do_not_influence_each_other(bundle: OfflineBundle, generator):
    obs, action = torch.randn(20, 6, generator=generator) * 0.4, torch.rand(20, 2, generator=generator)
    critic = ImaginedRisk(bundle.model, bundle.policy, bundle.risk)
    together = critic.risk(obs, action)
    alone = torch.cat([critic.risk(obs[i : i + 1], action[i : i + 1]) for i in range(20)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not together.requires_grad


def test_particles_draw_from_the_critics_own_generator_alone(pair, generator):
    model, policy = pair
    own = torch.Generator().manual_seed(3)
    critic = ImaginedRisk(model, policy, RiskConfig(horizon=3, particles=4), generator=own)
    before, drawn = torch.get_rng_state(), own.get_state()
    risk = critic.risk(torch.zeros(5, 6), torch.zeros(5, 2))
    assert risk.shape == (5,)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(own.get_state(), drawn)


@pytest.mark.parametrize("how", ["first_hit", "sum", "max"])
def test_a_broken_observation_or_model_is_not_known_to_be_safe(bundle: OfflineBundle, how):
    critic = ImaginedRisk(bundle.model, bundle.policy, RiskConfig(accumulate=how))
    broken = torch.zeros(2, 6)
    broken[0, 3] = float("nan")
    risk = critic.risk(broken, torch.zeros(2, 2))
    assert risk[0].isnan()
    assert risk[1].isfinite()
    with torch.no_grad():
        bundle.model.failure.weights[0].fill_(float("nan"))
    assert critic.risk(torch.zeros(2, 6), torch.zeros(2, 2)).isnan().all()


@pytest.mark.parametrize("training", [StateModelConfig(), LatentModelConfig()])
def test_models_are_unrolled_in_training_as_far_as_the_gate_looks(training):
    assert training.horizon >= RiskConfig().horizon


def test_a_gate_that_looks_further_than_the_model_was_unrolled_is_refused():
    """Beyond its training horizon a model answers just as surely, and nothing has told it what is right."""
    with pytest.raises(ValueError, match="horizon"):
        OfflineConfig(risk=RiskConfig(horizon=20), state_model=StateModelConfig(horizon=10))
    OfflineConfig(risk=RiskConfig(horizon=5), state_model=StateModelConfig(horizon=10))


def test_the_simulators_state_comes_back_exactly_through_a_vector_of_environments():
    """set_state, then the same fifty actions: the same observations, rewards and flags bit for bit, clock included."""
    task = cliff.TASK
    envs = make_vector(task, 3)
    envs.reset(seed=[5, 6, 7])
    rng = np.random.default_rng(0)
    for _ in range(8):
        envs.step(rng.uniform(-1, 1, (3, 2)).astype(np.float32))
    states = get_states(envs)
    actions = rng.uniform(-0.6, 0.6, (50, 3, 2)).astype(np.float32)
    twin = make_vector(task, 3)
    twin.reset(seed=[0, 0, 0])
    set_states(twin, states)
    for action in actions:
        one, other = envs.step(action), twin.step(action)
        for left, right in zip(one[:4], other[:4], strict=True):
            assert np.array_equal(left, right)
        assert np.array_equal(one[4]["failure"], other[4]["failure"])
        assert np.array_equal(one[4]["margin"], other[4]["margin"])


@pytest.mark.parametrize("kind", ["state", "latent"])
def test_a_tail_adds_the_chance_of_failing_after_the_last_imagined_step(bundle, kind):
    """Recomputed step by step: gamma^(H+1) times the chance of getting there times Q-risk of the policy's action there."""
    model = bundle.model if kind == "state" else bundle.latent
    config, gamma = RiskConfig(horizon=2), 0.95
    obs, action = bundle.normalizer.inverse(torch.randn(5, 6)), torch.rand(5, 2) * 2 - 1
    without = ImaginedRisk(model, bundle.policy, config).risk(obs, action)
    risk = ImaginedRisk(model, bundle.policy, config, later=bundle.q_risk).risk(obs, action)
    with torch.no_grad():
        z, a, alive = model.encode(bundle.normalizer(obs)), action, torch.ones(5)
        for _ in range(3):
            z, logits = model.step(z, a)
            p = logits.sigmoid()
            alive = alive * (1 - (p.mean(0) + p.std(0, correction=0)).clamp(0, 1))
            a = bundle.policy(model.decode(z)).clamp(-1, 1)
        tail = bundle.q_risk(model.decode(z), a).sigmoid().amax(0)
    torch.testing.assert_close(risk, without + gamma**3 * alive * tail, atol=1e-5, rtol=1e-4)
    assert (risk > without).all()


def test_a_bundle_from_before_there_was_a_tail_is_used_as_it_was_calibrated(made, tmp_path):
    shutil.copytree(made / "bundle", tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    del manifest["risk"]["tail"]
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    assert OfflineBundle.load(tmp_path / "old").later is None
    assert OfflineBundle.load(made / "bundle").later is not None
