"""PPO on rollouts in which recovery may have acted."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from farl.algorithms.objective import ChargedHandover, PenalisedReturn, Return
from farl.algorithms.ppo import PPO, PPOConfig, Rollout
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction

OBS, ACT = 3, 2


def learner(credit="proposed", std=0.3, **settings):
    torch.manual_seed(0)
    normalizer = Normalizer(OBS)
    policy = GaussianPolicy(normalizer, ACT, std, hidden=(32,))
    value = ValueFunction(normalizer, hidden=(32,))
    config = PPOConfig(**{"warmup": 0, "epochs": 4, "batch": 64, **settings})
    return PPO(policy, value, config, credit, torch.Generator().manual_seed(1))


def rollout_of(ppo, generator, steps=32, envs=4, gated=0.0, reward=None):
    """What the actor would store: log-probabilities of the raw actions under the policy that acts now."""
    r = Rollout.empty(steps, envs, OBS, ACT)
    r.obs, r.next_obs = (torch.randn(steps, envs, OBS, generator=generator) for _ in range(2))
    with torch.no_grad():
        mean = ppo.policy(ppo.policy.normalizer(r.obs.flatten(0, 1)))
        proposed = ppo.policy.sample(mean, generator)
        r.gated = torch.rand(steps, envs, generator=generator) < gated
        executed = torch.where(r.gated.flatten()[:, None], torch.full_like(proposed, 0.9), proposed)
        r.proposed, r.executed = (a.view(steps, envs, ACT) for a in (proposed, executed))
        r.proposed_log_prob = ppo.policy.log_prob(mean, proposed).view(steps, envs)
        r.executed_log_prob = ppo.policy.log_prob(mean, executed).view(steps, envs)
        r.z_max = ((executed - mean).abs() / ppo.policy.std).amax(-1).view(steps, envs)
    r.reward = torch.randn(steps, envs, generator=generator) if reward is None else reward(r)
    r.truncated[-1] = True
    return r


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(module, before):
    return max(float((tensor - before[name]).abs().max()) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("credit", ["proposed", "mask", "executed", "zfilter"])
def test_the_first_ratio_is_one_whatever_the_credit_mode(credit, generator):
    """One minibatch, one epoch: the only update is made at theta_old, so nothing can be clipped."""
    ppo = learner(credit, epochs=1, batch=128)
    stats = ppo.update(rollout_of(ppo, generator, gated=0.3), done=0.0)
    assert stats["clip_fraction"] == 0.0


def test_the_critic_fits_a_constant_of_a_thousand_within_twenty_iterations(generator):
    """With the run's own settings; a value clip in raw units would let it move by 0.05 an iteration and freeze it."""
    ppo = learner()
    ppo.config = PPOConfig(warmup=20)
    ppo.value = ValueFunction(ppo.policy.normalizer)
    ppo.value_optimizer = torch.optim.Adam(ppo.value.parameters(), ppo.config.value_lr, eps=1e-5)
    for _ in range(20):
        rollout = rollout_of(ppo, generator, steps=128, envs=16, reward=lambda r: torch.full_like(r.reward, 1000.0))
        rollout.terminated[:] = True  # every return is exactly 1000
        ppo.update(rollout, done=0.0)
    fitted = ppo.value(torch.randn(500, OBS, generator=generator))
    assert fitted.mean().item() == pytest.approx(1000, rel=0.02)
    assert fitted.std() < 100


def test_during_warm_up_only_the_critic_learns(generator):
    ppo = learner(warmup=2)
    policy, value = weights(ppo.policy), weights(ppo.value)
    for _ in range(2):
        ppo.update(rollout_of(ppo, generator), done=0.0)
    assert moved(ppo.policy, policy) == 0.0
    assert moved(ppo.value, value) > 0.0
    ppo.update(rollout_of(ppo, generator), done=0.0)
    assert moved(ppo.policy, policy) > 0.0


def test_masked_steps_move_the_critic_but_not_the_policy(generator):
    ppo = learner("mask")
    policy, value = weights(ppo.policy), weights(ppo.value)
    ppo.update(rollout_of(ppo, generator, gated=1.1), done=0.0)
    assert moved(ppo.policy, policy) == 0.0
    assert moved(ppo.value, value) > 0.0


def test_executed_credit_ignores_what_was_proposed_and_proposed_credit_what_was_executed(generator):
    for credit, blind_to in (("executed", "proposed"), ("proposed", "executed")):
        outcomes = []
        for shift in (0.0, 5.0):
            ppo = learner(credit)
            rollout = rollout_of(ppo, torch.Generator().manual_seed(3), gated=0.5)
            setattr(rollout, blind_to, getattr(rollout, blind_to) + shift)
            ppo.update(rollout, done=0.0)
            outcomes.append(weights(ppo.policy))
        assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_divergence_is_measured_on_ungated_samples_alone(generator):
    """Gated actions are far from the policy: counted in, they would stop every iteration after one epoch."""
    ppo = learner("executed", lr=1e-3)
    rollout = rollout_of(ppo, generator, gated=0.3)
    free = ~rollout.gated.flatten()
    kl = ppo.update(rollout, done=0.0)["kl"]
    x = ppo.policy.normalizer(rollout.obs.flatten(0, 1))
    with torch.no_grad():
        new = ppo.policy.log_prob(ppo.policy(x), rollout.executed.flatten(0, 1))
    ratio = (new - rollout.executed_log_prob.flatten())[free]
    assert kl == pytest.approx(float((ratio.exp() - 1 - ratio).mean()), rel=1e-4)


def test_gated_samples_do_not_stop_an_iteration(generator):
    """They seem to have moved by 140 here, the others by next to nothing; masked, they do not weigh in the loss either."""
    outcomes = []
    for target_kl in (1.0, float("inf")):
        ppo = learner("mask", target_kl=target_kl)
        rollout = rollout_of(ppo, torch.Generator().manual_seed(3), gated=0.5)
        rollout.proposed_log_prob[rollout.gated] -= 5.0
        ppo.update(rollout, done=0.0)
        outcomes.append(weights(ppo.policy))
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_an_iteration_stops_when_the_policy_has_moved_far_enough():
    eager, bounded = learner(lr=1e-3, target_kl=1e9, epochs=10), learner(lr=1e-3, target_kl=1e-9, epochs=10)
    start = weights(eager.policy)
    for ppo in (eager, bounded):
        ppo.update(rollout_of(ppo, torch.Generator().manual_seed(2)), done=0.0)
    assert 0 < moved(bounded.policy, start) < 0.3 * moved(eager.policy, start)  # one epoch against ten


@pytest.mark.parametrize("rows", [64, 65, 129])
def test_any_number_of_steps_leaves_finite_weights(rows, generator):
    """65 = 64 + 1: the last minibatch has a single row, whose standard deviation does not exist."""
    ppo = learner(epochs=1)
    stats = ppo.update(rollout_of(ppo, generator, steps=rows, envs=1), done=0.0)
    assert all(torch.isfinite(tensor).all() for tensor in ppo.policy.state_dict().values())
    assert all(value == value for value in stats.values())


def test_learning_rates_decay_to_zero_with_the_budget(generator):
    ppo = learner()
    policy, value = weights(ppo.policy), weights(ppo.value)
    ppo.update(rollout_of(ppo, generator), done=1.0)
    assert moved(ppo.policy, policy) == 0.0
    assert moved(ppo.value, value) == 0.0


def test_the_exploration_std_stays_unless_it_has_a_learning_rate(generator):
    fixed, learned = learner(), learner(std_lr=1e-2)
    for ppo in (fixed, learned):
        ppo.update(rollout_of(ppo, generator), done=0.0)
    assert torch.allclose(fixed.policy.std, torch.full((ACT,), 0.3))
    # Adam moves a parameter by about its learning rate a step, and there were eight steps.
    assert (learned.policy.log_std - fixed.policy.log_std).abs().max() > 1e-2


def test_a_continued_learner_takes_the_same_steps_as_one_that_never_stopped(generator):
    whole, halves = learner(), learner()
    batches = [rollout_of(whole, torch.Generator().manual_seed(n), gated=0.2) for n in range(4)]
    for batch in batches:
        whole.update(batch, done=0.3)
    for batch in batches[:2]:
        halves.update(batch, done=0.3)
    resumed = learner()
    resumed.load_state_dict(halves.state_dict())
    for batch in batches[2:]:
        resumed.update(batch, done=0.3)
    assert moved(resumed.policy, weights(whole.policy)) == 0.0
    assert moved(resumed.value, weights(whole.value)) == 0.0


def test_ppo_finds_the_better_action(generator):
    """One step, reward -|a - 0.4|^2: the mean must move there."""
    ppo = learner(lr=3e-3, epochs=8)
    for _ in range(60):
        rollout = rollout_of(ppo, generator, reward=lambda r: -(r.proposed - 0.4).square().sum(-1))
        rollout.terminated[:] = True
        ppo.update(rollout, done=0.0)
    mean = ppo.policy(torch.randn(200, OBS, generator=generator))
    assert (mean - 0.4).abs().mean() < 0.1


def test_under_a_shield_proposed_credit_learns_the_best_action_the_shield_permits(generator):
    """Reward grows with the action, but above 0.5 a shield executes -1 instead: the known optimum lies below 0.5."""
    ppo = learner("proposed", std=0.1, lr=3e-3, epochs=8)
    for _ in range(80):
        rollout = rollout_of(ppo, generator)
        rollout.gated = rollout.proposed[..., 0] > 0.5
        rollout.executed = torch.where(rollout.gated[..., None], -torch.ones(ACT), rollout.proposed)
        rollout.reward, rollout.terminated[:] = rollout.executed[..., 0], True
        ppo.update(rollout, done=0.0)
    first = ppo.policy(torch.randn(500, OBS, generator=generator))[:, 0]
    grid = torch.linspace(-1, 1, 2001)  # E[reward] = E[a; a < .5] - P(a > .5) for a ~ N(m, 0.1)
    normal = torch.distributions.Normal(0.0, 1.0)
    z = (0.5 - grid) / 0.1
    expected = grid * normal.cdf(z) - 0.1 * normal.log_prob(z).exp() - (1 - normal.cdf(z))
    optimum = grid[expected.argmax()]
    assert (first - optimum).abs().mean() < 0.12


def test_each_ending_gives_the_critic_the_return_it_stands_for(generator):
    """Episodes of one step: a success is held for ever, a time-out goes on, a termination is over."""
    ppo = learner(gamma=0.8, lam=1.0)
    rollout = rollout_of(ppo, generator, steps=3, envs=5)
    rollout.success[0], rollout.truncated[:2], rollout.terminated[2] = True, True, True
    rollout.truncated[2] = False
    _, returns, _ = ppo._targets(rollout, ppo.policy.normalizer(rollout.obs.flatten(0, 1)))
    with torch.no_grad():
        following = ppo.value(ppo.policy.normalizer(rollout.next_obs[1]))
    by_hand = [rollout.reward[0] / (1 - 0.8), rollout.reward[1] + 0.8 * following, rollout.reward[2]]
    assert torch.allclose(returns.view(3, 5), torch.stack(by_hand), atol=1e-5)


class Cautious(Return):
    """An objective of somebody else's: nothing but autograd knows its gradient."""

    def loss(self, log_prob, old_log_prob, weight, advantage, rows, clip):
        move = log_prob - old_log_prob
        return (weight * (move.square() - 0.1 * torch.tanh(advantage) * move)).mean()


def wide(credit, objective, **settings):
    """Networks large enough for every short cut."""
    torch.manual_seed(0)
    policy = GaussianPolicy(Normalizer(OBS), ACT, 0.3, hidden=(128, 128, 128))
    value = ValueFunction(policy.normalizer, hidden=(128, 128))
    config = PPOConfig(**{"warmup": 0, "epochs": 3, "batch": 100, **settings})
    return PPO(policy, value, config, credit, torch.Generator().manual_seed(1), objective)


def plainly(ppo, r):
    """``update`` at done = 0 in PyTorch's own words; ``ppo`` lends its settings and networks of the same weights."""
    cfg, policy, value = ppo.config, ppo.policy, ppo.value
    groups = [{"params": list(policy.net.parameters())}]
    if cfg.std_lr:
        groups.append({"params": [policy.log_std], "lr": cfg.std_lr})
    moving = [parameter for group in groups for parameter in group["params"]]
    policy_adam = torch.optim.Adam(groups, cfg.lr, eps=1e-5)
    value_adam = torch.optim.Adam(value.net.parameters(), cfg.value_lr, eps=1e-5)
    read = [nn.Sequential(*net) for net in (policy.net, value.net)]  # without our own product

    with torch.no_grad():
        v, following = (read[1](features_of(policy, o)).squeeze(-1) for o in (r.obs, r.next_obs))
        reward, survival = ppo.objective.rewards(r), ppo.objective.survival(r)
        advantage, carried = torch.zeros_like(v), torch.zeros(v.shape[1])
        for t in reversed(range(len(v))):
            delta = reward[t] + cfg.gamma * survival[t] * following[t] - v[t]
            carried = torch.where(r.truncated[t], 0.0, carried)
            advantage[t] = carried = delta + cfg.gamma * cfg.lam * survival[t] * carried
    learns = {
        "proposed": torch.ones_like(r.gated),
        "mask": ~r.gated,
        "executed": torch.ones_like(r.gated),
        "zfilter": ~r.gated | (r.z_max <= 4),
    }[ppo.credit]
    kind = "proposed" if ppo.credit in ("proposed", "mask") else "executed"
    action, old = getattr(r, kind), getattr(r, f"{kind}_log_prob")
    table = [features_of(policy, r.obs), action, old, learns.float(), advantage, advantage + v]
    flat = [column.flatten(0, 1) for column in table]
    for _ in range(cfg.epochs):
        for rows in torch.randperm(len(flat[0]), generator=ppo.generator).split(cfg.batch):
            f, a, before, weight, adv, returns = (column[rows] for column in flat)
            value_adam.zero_grad()
            (read[1](f).squeeze(-1) - returns).square().mean().backward()
            nn.utils.clip_grad_norm_(value.net.parameters(), 10 * cfg.max_grad_norm)
            value_adam.step()
            policy_adam.zero_grad()
            log_prob = Normal(read[0](f).tanh(), policy.log_std.exp()).log_prob(a).sum(-1)
            ppo.objective.loss(log_prob, before, weight, adv, rows, cfg.clip).backward()
            nn.utils.clip_grad_norm_(moving, cfg.max_grad_norm)
            policy_adam.step()


def features_of(policy, obs):
    return policy.normalizer.features(policy.normalizer(obs))


@pytest.mark.parametrize("std_lr", [0.0, 1e-3])
@pytest.mark.parametrize("objective", [Return(), PenalisedReturn(2.0), ChargedHandover(0.5), Cautious()])
@pytest.mark.parametrize("credit", ["proposed", "mask", "executed", "zfilter"])
def test_an_update_is_the_one_that_plain_pytorch_makes(credit, objective, std_lr, generator):
    ours, theirs = (wide(credit, objective, std_lr=std_lr, target_kl=float("inf"), lr=1e-3) for _ in range(2))
    rollout = rollout_of(ours, generator, steps=64, gated=0.3)
    rollout.failure = torch.rand(64, 4, generator=generator) < 0.1
    rollout.handover = rollout.gated & (torch.rand(64, 4, generator=generator) < 0.5)
    rollout.terminated = torch.rand(64, 4, generator=generator) < 0.05
    before = weights(ours.policy), weights(ours.value)
    ours.update(rollout, done=0.0)
    plainly(theirs, rollout)
    for mine, other, start in zip((ours.policy, ours.value), (theirs.policy, theirs.value), before, strict=True):
        assert moved(mine, start) > 2e-3
        assert moved(mine, weights(other)) < 2e-5
    assert bool((ours.policy.log_std != before[0]["log_std"]).any()) == (std_lr > 0)
