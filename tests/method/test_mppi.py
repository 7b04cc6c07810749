"""The planner (MPPI) on the point mass with its true equations, where the right action is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from failurebench.point_mass import CLIFF_TOP, CLIFF_X, DT
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.latent_model_training import LatentModelConfig
from farl.algorithms.mppi import MPPI, MPPIConfig
from farl.algorithms.risk import RiskConfig
from farl.algorithms.router import Router
from farl.networks.latent_model import LatentModel
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction
from farl.online.run import run
from method import cliff


class Plane:
    """The point mass's own equations; a certain failure over the cliff, and reward for being near the goal."""

    def __init__(self, normalizer: Normalizer, paid: float = 1.0) -> None:
        self.normalizer, self.paid, self.asked = normalizer, paid, 0

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def _follow(self, z, action):
        obs = self.normalizer.inverse(z)
        velocity = 0.9 * obs[:, 2:4] + 2.0 * DT * action
        position = obs[:, :2] + DT * velocity
        return torch.cat([position, velocity, obs[:, 4:6] - DT * velocity], dim=1)

    def reward(self, z, action):
        return -self.paid * self._follow(z, action)[:, 4:6].norm(dim=1)

    def step(self, z, action):
        self.asked += len(z)
        following = self._follow(z, action)
        x, y = following[:, 0], following[:, 1]
        inside = (x >= CLIFF_X[0]) & (x <= CLIFF_X[1]) & (y <= CLIFF_TOP)
        return self.normalizer(following), torch.where(inside, 20.0, -20.0)[None]


def planner(paid: float = 1.0, **settings) -> MPPI:
    """With a value that knows nothing and a task policy that does nothing: the plan rests on reward and risk alone."""
    torch.manual_seed(0)
    normalizer = Normalizer(6, clip=1e6)
    policy, value = GaussianPolicy(normalizer, 2, 0.2, hidden=(8,)), ValueFunction(normalizer, hidden=(8,))
    with torch.no_grad():
        for head in (policy.net[-1], value.net[-1]):
            head.weight.zero_()
            head.bias.zero_()
    config = MPPIConfig(**{"samples": 128, "elites": 16, "iterations": 5, "from_policy": 4, **settings})
    return MPPI(Plane(normalizer, paid), policy, value, config, RiskConfig(), torch.Generator().manual_seed(0))


def at(x: float, y: float, vx: float = 0.0, vy: float = 0.0, goal: tuple[float, float] = (0.8, -0.1)) -> torch.Tensor:
    return torch.tensor([[x, y, vx, vy, goal[0] - x, goal[1] - y]])


def nearly_all(held: torch.Tensor) -> bool:
    """Plans are found by sampling, and draws amplify a processor's rounding: one of sixteen may miss."""
    return held.float().mean().item() >= 0.9


def test_its_first_action_steers_away_from_the_cliff_although_the_goal_lies_beyond():
    """Above the abyss and sinking; the goal pulls down and to the right."""
    above = at(0.0, 0.12, vy=-0.5).expand(16, 6)  # sixteen plans, each with draws of its own
    assert nearly_all(planner().act(above)[:, 1] > 0.05)
    assert nearly_all(planner(price=0.0).act(above)[:, 1] < -0.05)  # it is the price that does it
    side = at(-0.33, -0.1, vx=0.6).expand(16, 6)
    assert nearly_all(planner().act(side)[:, 0] < -0.05)  # it brakes at the cliff's side
    assert nearly_all(planner(price=0.0).act(side)[:, 0] > 0.5)


def test_executed_over_and_over_it_never_goes_over_the_edge_and_stays_where_it_can_be_saved():
    plan = planner()
    obs = at(0.0, 0.12, vy=-0.5)
    for _ in range(25):
        z, logit = plan.model.step(plan.policy.normalizer(obs), plan.act(obs))
        assert logit.item() < 0
        obs = plan.policy.normalizer.inverse(z)


def test_where_no_failure_can_be_reached_the_price_changes_nothing():
    free = torch.cat([at(0.75, -0.1), at(-0.8, 0.5), at(0.6, 0.6, vx=0.2)])
    assert torch.equal(planner(price=50.0).act(free), planner(price=0.0).act(free))


def test_at_the_goal_with_nothing_to_avoid_it_does_next_to_nothing():
    """At rest in the goal, every push leads away from the reward."""
    actions = planner().act(at(0.8, -0.1).expand(16, 6))
    assert actions.mean(0).abs().max() < 0.1
    assert actions.abs().mean() < 0.2


def test_the_value_at_the_end_of_the_plan_counts():
    """No reward, no risk, but a value that grows to the right."""
    plan = planner(paid=0.0)
    plan.value = lambda x: 5.0 * plan.policy.normalizer.inverse(x)[:, 0]  # type: ignore[assignment]
    assert plan.act(at(-0.8, 0.5))[0, 0] > 0.5


def test_a_score_is_the_discounted_reward_and_value_less_the_price_of_the_risk():
    plan = planner(horizon=4, price=7.0, gamma=0.9)
    plan.value = lambda x: torch.full((len(x),), 3.0)  # type: ignore[assignment]
    z = plan.policy.normalizer(at(0.0, 0.12, vy=-0.5))
    actions = torch.tensor([0.0, -1.0]).expand(4, 1, 2)
    expected, here, fell = 0.0, z, None
    for step in range(4):
        expected += 0.9**step * plan.model.reward(here, actions[step]).item()
        here, logit = plan.model.step(here, actions[step])
        fell = step if fell is None and logit.item() > 0 else fell
    assert fell is not None
    expected += 0.9**4 * 3.0 - 7.0 * RiskConfig().gamma ** fell
    assert plan.score(z, actions).item() == pytest.approx(expected, abs=1e-4)


def test_the_model_is_asked_only_for_the_environments_in_which_recovery_acts():
    plan = planner()

    class Risky:
        def risk(self, obs, action):
            return torch.tensor([0.0, 1.0, 0.0])

    obs = torch.cat([at(-0.8, 0.5), at(0.0, 0.12, vy=-0.5), at(0.6, 0.6)])
    proposed = torch.full((3, 2), 0.7)
    decision = Router(plan, Risky(), Gate(GateConfig(), 0.5, 3)).decide(obs, proposed)
    cfg = plan.config
    assert plan.model.asked == cfg.horizon * (cfg.samples * cfg.iterations + cfg.from_policy)  # one environment's worth
    assert torch.equal(decision.executed[[0, 2]], proposed[[0, 2]])
    assert decision.executed[1, 1] > 0.1
    assert torch.equal(decision.executed[1], decision.recovery[1])


def test_a_model_that_returns_no_number_still_gives_an_action():
    plan = planner()
    plan.model.reward = lambda z, action: torch.full((len(z),), torch.nan)
    assert plan.act(at(0.0, 0.2)).isfinite().all()


def test_it_plans_in_the_latent_model_as_well():
    torch.manual_seed(0)
    plan = planner()
    plan.model = LatentModel(plan.policy.normalizer, 2, latent=16, width=16, heads=LatentModelConfig().heads)
    action = plan.act(at(0.0, 0.2))
    assert action.shape == (1, 2)
    assert action.abs().max() <= 1


def test_a_run_continued_after_an_interruption_equals_one_that_never_stopped(bundle_folder, tmp_path, monkeypatch):
    """The planner's random numbers are part of the checkpoint."""
    from method.test_runs import equal_runs, run_until

    changes = {"method": "mppi", "gate": GateConfig(threshold=0.02), "mppi": MPPIConfig(samples=16, elites=4)}
    whole = run(cliff.online(bundle_folder, tmp_path / "whole", **changes))
    config = cliff.online(bundle_folder, tmp_path / "parts", **changes)
    run_until(config, 600, monkeypatch)
    run(replace(config))
    assert sum(line["gated_steps"] for line in cliff.lines(whole, "episodes")) > 0
    equal_runs(whole, config.out)


@pytest.mark.parametrize(
    ("setting", "value"), [("horizon", 0), ("elites", 65), ("from_policy", 65), ("min_std", 2.0), ("iterations", 0)]
)
def test_impossible_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        MPPIConfig(**{setting: value})
