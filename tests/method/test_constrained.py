"""Methods that learn not to fail (ppo-lag, p3o, penalty): their arithmetic, and what it does on the point mass."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

from farl.algorithms.failure_cost import ConstraintConfig, FailureCost
from farl.algorithms.lagrangian import Lagrangian, PIDMultiplier
from farl.algorithms.objective import PenalisedReturn, Return, onset
from farl.algorithms.p3o import P3O
from farl.algorithms.ppo import PPO, PPOConfig
from farl.algorithms.rollout import Rollout
from farl.errors import UserError
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction
from farl.online.run import Session, run
from method import cliff

OBS, ACT, GAMMA = 3, 2, 0.9


def cost(critic_says: float = 0.0, **settings) -> FailureCost:
    """A failure cost whose critic says the same of every state."""
    torch.manual_seed(0)
    normalizer = Normalizer(OBS)
    critic = ValueFunction(normalizer, hidden=(16,))
    with torch.no_grad():
        critic.net[-1].weight.zero_()
        critic.net[-1].bias.fill_(critic_says)
    return FailureCost(critic, normalizer, GAMMA, ConstraintConfig(**settings))


def rollout_of(failure: list[bool], ends: list[int], failed_before: int = 0, success: int | None = None) -> Rollout:
    """One environment; ``ends`` are the last steps of episodes, ``failed_before`` steps belong to a failure of long ago."""
    r = Rollout.empty(len(failure), 1, OBS, ACT)
    r.failure[:, 0] = torch.tensor(failure)
    already = failed_before > 0
    for t in range(len(failure)):
        r.failed[t, 0] = already
        already = (already or failure[t]) and t not in ends
        r.truncated[t, 0] = t in ends
    if success is not None:
        r.success[success, 0] = True
    r.reward[:] = 1.0
    return r


def take_in(thing: FailureCost, rollout: Rollout) -> dict[str, float]:
    return thing.prepare(rollout, torch.zeros(rollout.reward.numel(), OBS), 0.0)


# ---------------------------------------------------------------- the cost


def test_a_failure_is_charged_once_an_episode_and_not_again_by_the_next_rollout():
    rollout = rollout_of([True, True, False, True, False, True, True], ends=[4], failed_before=1)
    assert onset(rollout).flatten().tolist() == [0, 0, 0, 0, 0, 1, 0]


def test_the_actor_says_of_each_step_whether_its_episode_had_failed_before(bundle_folder, tmp_path):
    session = Session(cliff.online(bundle_folder, tmp_path / "run", evaluation_episodes=0))
    with torch.no_grad():
        session.policy.net[-1].bias[1] -= 0.5  # lean towards the cliff
    with session:
        rollouts = [session.actor.collect(40) for _ in range(4)]
    failure, failed, ended = (
        torch.cat([getattr(r, name) for r in rollouts]) for name in ("failure", "failed", "truncated")
    )
    charged = torch.cat([onset(r) for r in rollouts]).bool()
    for env in range(failure.shape[1]):
        so_far = False
        for t in range(len(failure)):
            assert failed[t, env] == so_far
            assert charged[t, env] == (failure[t, env] and not so_far)
            so_far = (so_far or bool(failure[t, env])) and not ended[t, env]
    assert charged.sum() >= 5
    assert failure.sum() > charged.sum()  # failures persist: otherwise this shows nothing


def test_the_failure_rate_counts_finished_episodes_of_the_last_hundred():
    thing = cost()
    assert thing.rate == thing.config.limit  # nothing has ended: nothing is concluded
    take_in(thing, rollout_of([False, True, False, False, False, False], ends=[2, 4]))
    assert thing.rate == 0.5
    for _ in range(120):
        take_in(thing, rollout_of([False], ends=[0]))
    assert thing.rate == 0.0


def test_cost_advantages_are_the_discounted_chances_of_the_first_failure():
    """A critic that knows nothing and lambda 1: the returns are gamma ** (steps before the failure), 0 without one."""
    thing = cost(lam=1.0)
    take_in(thing, rollout_of([False, False, True, True, False, False, False], ends=[3, 6], success=6))
    expected = [GAMMA**2, GAMMA, 1.0, None, 0.0, 0.0, 0.0]
    counted = [value is not None for value in expected]
    assert thing.counted.tolist() == counted
    kept = torch.tensor([value for value in expected if value is not None])
    assert torch.allclose(thing.returns[thing.counted], kept, atol=1e-6)
    assert torch.allclose(thing.advantage[thing.counted], kept - kept.mean(), atol=1e-6)
    assert thing.advantage[3] == 0.0


def test_a_time_out_bootstraps_and_a_success_does_not():
    for success, expected in ((None, GAMMA * 0.5), (0, 0.0)):
        thing = cost(critic_says=0.5, lam=1.0)
        take_in(thing, rollout_of([False], ends=[0], success=success))
        assert thing.returns.item() == pytest.approx(expected, abs=1e-6)


def test_the_cost_critic_learns_the_chance_of_failing_and_nothing_from_steps_after_a_failure():
    """Every episode fails on its third step and lies there for three more."""
    thing = cost(value_lr=1e-2, lam=1.0)
    rollout = rollout_of([False, False, True, True, True, True] * 8, ends=list(range(5, 48, 6)))
    rollout.obs[:, 0, 0] = torch.tensor([0.0, 1.0, 2.0, 9.0, 9.0, 9.0] * 8)
    rollout.next_obs = rollout.obs.roll(-1, 0)
    x = rollout.obs.flatten(0, 1)
    before = thing.critic(torch.tensor([[9.0, 0.0, 0.0]])).item()
    for _ in range(150):
        thing.prepare(rollout, x, 0.0)
        for rows in torch.split(torch.arange(48), 16):
            thing.fit(rows)
    learned = thing.critic(torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]))
    assert torch.allclose(learned, torch.tensor([GAMMA**2, GAMMA, 1.0]), atol=0.05)
    weights = copy.deepcopy(thing.critic.state_dict())
    thing.fit(torch.tensor([3, 4, 5]))  # nothing but steps after the failure
    assert all(torch.equal(tensor, weights[name]) for name, tensor in thing.critic.state_dict().items())
    assert before == pytest.approx(0.0)


# ---------------------------------------------------------------- the multiplier


def test_the_multiplier_rises_while_failures_exceed_the_limit_and_decays_below_it():
    pid = PIDMultiplier(ConstraintConfig(limit=0.1))
    above = [pid.step(0.4) for _ in range(20)]
    assert all(later > earlier for earlier, later in itertools.pairwise(above))
    below = [pid.step(0.0) for _ in range(200)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(below))
    assert below[-1] == 0.0


def test_the_multiplier_is_the_controllers_equation():
    cfg = ConstraintConfig(limit=0.1, kp=2.0, ki=0.5, kd=3.0)
    pid, rates = PIDMultiplier(cfg), [0.2, 0.5, 0.3]
    values = [pid.step(rate) for rate in rates]
    by_hand = [
        2 * 0.1 + 0.5 * 0.1,
        2 * 0.4 + 0.5 * (0.1 + 0.4) + 3 * 0.3,
        2 * 0.2 + 0.5 * (0.1 + 0.4 + 0.2),  # a falling rate takes nothing off
    ]
    assert values == pytest.approx(by_hand)


@pytest.mark.parametrize("exceeded", [50, 5000])
def test_it_does_not_wind_up_however_long_the_limit_was_exceeded(exceeded):
    """The time to let go of the price is the same after fifty and after five thousand iterations above the limit."""
    cfg = ConstraintConfig(limit=0.1, kp=1.0, ki=1.0, max_multiplier=5.0)
    pid = PIDMultiplier(cfg)
    for _ in range(exceeded):
        assert pid.step(0.6) <= cfg.max_multiplier
    fall = next(n for n in range(10_000) if pid.step(0.0) == 0.0)
    assert fall < cfg.max_multiplier / (cfg.ki * cfg.limit)
    climb = next(n for n in range(10_000) if pid.step(0.6) > 0.0)
    assert climb == 0  # nor does it wind up below


def test_the_multiplier_stands_still_while_the_policy_cannot_answer():
    lagrangian = Lagrangian(cost(), PIDMultiplier(ConstraintConfig()))
    rollout = rollout_of([True, False], ends=[1])
    for learning, moves in ((False, False), (True, True)):
        figures = lagrangian.prepare(rollout, torch.zeros(2, OBS), 0.0, learning)
        assert (figures["multiplier"] > 0) == moves


# ---------------------------------------------------------------- the losses


@pytest.fixture
def samples(generator):
    """Log-probabilities before and after a step, reward and cost advantages: 32 of each, in float64 for the closed forms."""
    old, new = (torch.randn(32, generator=generator) for _ in range(2))
    return old + 0.2 * new, old, torch.randn(32, generator=generator), 0.1 * torch.randn(32, generator=generator)


def with_costs(thing: FailureCost, advantage: torch.Tensor, failing: int, of: int = 100) -> FailureCost:
    thing.advantage, thing.counted = advantage, torch.ones(len(advantage), dtype=torch.bool)
    thing.recent.extend([True] * failing + [False] * (of - failing))
    return thing


def closed_form_surrogate(new, old, advantage, clip) -> float:
    ratio = np.exp((new - old).double().numpy())
    a = advantage.double().numpy()
    return float(np.minimum(ratio * a, np.clip(ratio, 1 - clip, 1 + clip) * a).mean())


@pytest.mark.parametrize("failing", [0, 3, 60])
def test_p3os_loss_is_its_closed_form(samples, failing):
    new, old, reward, costs = samples
    thing = with_costs(cost(limit=0.05, kappa=7.0), costs, failing)
    loss = P3O(thing).loss(new, old, torch.ones(32), reward, torch.arange(32), clip=0.1)
    standard = (reward - reward.mean()) / reward.std(correction=0)
    ratio = np.exp((new - old).double().numpy())
    a = costs.double().numpy()
    predicted = np.maximum(ratio * a, np.clip(ratio, 0.9, 1.1) * a).mean()
    excess = predicted + (1 - GAMMA) * (failing / 100 - 0.05)
    expected = -closed_form_surrogate(new, old, standard, 0.1) + 7.0 * max(0.0, excess)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_within_the_limit_p3o_is_ppo_and_beyond_it_is_not(samples):
    new, old, reward, costs = samples
    plain = Return().loss(new, old, torch.ones(32), reward, torch.arange(32), 0.1).item()
    for failing, same in ((0, True), (100, False)):
        thing = with_costs(cost(limit=0.9), 1e-3 * costs, failing)
        loss = P3O(thing).loss(new, old, torch.ones(32), reward, torch.arange(32), 0.1).item()
        assert (loss == plain) == same


@pytest.mark.parametrize("price", [0.0, 0.5, 4.0])
def test_the_lagrangians_loss_is_its_closed_form(samples, price):
    new, old, reward, costs = samples
    lagrangian = Lagrangian(cost(), PIDMultiplier(ConstraintConfig()))
    lagrangian.multiplier.value, lagrangian._advantage = price, costs
    loss = lagrangian.loss(new, old, torch.ones(32), reward, torch.arange(32), 0.1)
    mixed = ((reward - reward.mean()) / reward.std(correction=0) - price * costs) / (1 + price)
    assert loss.item() == pytest.approx(-closed_form_surrogate(new, old, mixed, 0.1), abs=1e-5)


def test_a_penalty_enters_once_on_the_step_that_first_fails():
    rollout = rollout_of([False, True, True, False, True], ends=[3])
    assert PenalisedReturn(0.4).rewards(rollout).flatten().tolist() == pytest.approx([1, 0.6, 1, 1, 0.6])
    assert rollout.reward.unique().tolist() == [1.0]  # what the environment paid stays as it was


def test_the_price_of_a_failure_that_ends_in_success_is_not_held_for_ever(generator):
    """r / (1 - gamma) of a success step that also fails: the task's reward is held, the price is paid once."""
    torch.manual_seed(0)
    normalizer = Normalizer(OBS)
    policy, value = GaussianPolicy(normalizer, ACT, 0.3, hidden=(8,)), ValueFunction(normalizer, hidden=(8,))
    config = PPOConfig(gamma=0.8, lam=1.0)
    ppo = PPO(policy, value, config, "proposed", generator, PenalisedReturn(2.0))
    rollout = rollout_of([True], ends=[0], success=0)
    _, returns, _ = ppo._targets(rollout, normalizer(rollout.obs.flatten(0, 1)))
    assert returns.item() == pytest.approx(1.0 / (1 - 0.8) - 2.0, abs=1e-5)


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("kind", ["ppo-lag", "p3o", "penalty", "return"])
def test_a_dangerous_shortcut_is_taken_for_the_return_and_left_alone_where_failing_has_a_price(kind, generator):
    """Episodes of one step: reward is the action, and above 0.3 it fails the more often the larger it is, up to 70 %."""
    torch.manual_seed(0)
    normalizer = Normalizer(OBS)
    policy = GaussianPolicy(normalizer, 1, 0.1, hidden=(32,))
    value = ValueFunction(normalizer, hidden=(32,))
    thing = FailureCost(
        ValueFunction(normalizer, hidden=(32,)), normalizer, 0.0, ConstraintConfig(limit=0.05, kp=4.0, ki=0.5)
    )  # nothing comes after the one step: discount 0
    objective = {
        "ppo-lag": Lagrangian(thing, PIDMultiplier(thing.config)),
        "p3o": P3O(thing),
        "penalty": PenalisedReturn(5.0),
        "return": Return(),
    }[kind]
    config = PPOConfig(warmup=2, epochs=6, batch=128, lr=3e-3, clip=0.2)
    ppo = PPO(policy, value, config, "proposed", generator, objective)
    risks, means = [], []
    for _ in range(100):
        r = Rollout.empty(32, 8, OBS, 1)
        r.obs[:] = torch.randn(32, 8, OBS, generator=generator)
        with torch.no_grad():
            mean = policy(normalizer(r.obs.flatten(0, 1)))
            action = policy.sample(mean, generator)
            r.proposed[:] = r.executed[:] = action.view(32, 8, 1)
            r.proposed_log_prob[:] = r.executed_log_prob[:] = policy.log_prob(mean, action).view(32, 8)
        r.reward[:] = r.proposed[..., 0].clamp(-1, 1)
        chance = (r.proposed[..., 0] - 0.3).clamp(0, 1)
        r.failure[:] = torch.rand(32, 8, generator=generator) < chance
        r.terminated[:] = True
        ppo.update(r, done=0.0)
        risks.append(float(chance.mean()))
        means.append(float(mean.mean()))
    risky, typical = np.mean(risks[-20:]), np.mean(means[-20:])  # multipliers swing
    if kind == "return":
        assert risky > 0.6
    else:
        assert risky < 0.1
        assert typical > 0.0  # safe, but not by giving up what is free


@pytest.mark.parametrize("method", ["ppo-lag", "p3o"])
def test_a_run_starts_with_the_offline_cost_critic_and_continues_with_its_own(
    method, bundle_folder, bundle, tmp_path, monkeypatch
):
    from method.test_runs import equal_runs, run_until

    session = Session(cliff.online(bundle_folder, tmp_path / "first", method=method))
    critic = session.learner.learner.ppo.objective.cost.critic
    expected = bundle.cost_value.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in critic.state_dict().items())
    whole = run(cliff.online(bundle_folder, tmp_path / "whole", method=method))
    config = cliff.online(bundle_folder, tmp_path / "parts", method=method)
    run_until(config, 600, monkeypatch)
    run(config)
    equal_runs(whole, config.out)
    assert {"cost_rate", "cost_value"} <= set(cliff.lines(whole, "metrics")[-1])


def test_a_bundle_without_a_cost_critic_is_refused_in_words(few, tmp_path):
    from farl.algorithms.q_risk import QRiskConfig
    from farl.algorithms.risk import RiskConfig
    from farl.offline.pipeline import train

    without = {"q_risk": QRiskConfig(updates=0), "risk": RiskConfig(horizon=3, tail=False)}
    lean = train(cliff.hurried(few, tmp_path / "lean", **without))
    with pytest.raises(UserError, match=r"no cost critic.*farl offline"):
        Session(cliff.online(lean, tmp_path / "run", method="p3o"))


@pytest.mark.parametrize(("setting", "value"), [("limit", 25.0), ("limit", -0.1), ("kappa", -1.0), ("kp", -1.0)])
def test_impossible_constraints_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        ConstraintConfig(**{setting: value})
