"""A person's steps among those of policy and recovery: executed as asked, learned from as recovery's are."""

from __future__ import annotations

import pytest
import torch

from farl.algorithms.credit import CreditMode
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.ppo import PPO, PPOConfig
from farl.algorithms.rollout import Rollout
from farl.algorithms.router import Router, Ungated
from farl.algorithms.takeover import Takeover
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction

OBS, ACT, ASKED = 3, 2, (0.25, -0.5)


class Constant:
    """Always the same answer, as a policy and as a critic."""

    def __init__(self, value) -> None:
        self.value = torch.tensor(value)

    def act(self, obs):
        return self.value.expand(len(obs), ACT)

    def risk(self, obs, action):
        return self.value.expand(len(obs))


def router(risk: float) -> Router:
    return Router(Constant(ASKED), Constant(risk), Gate(GateConfig(), 0.3, 1))


def test_while_nobody_asks_the_router_decides() -> None:
    taken = Takeover(router(0.9), [lambda: None])
    decision = taken.decide(torch.zeros(1, OBS), torch.ones(1, ACT))
    assert decision.gated.tolist() == [True]
    assert taken.human.tolist() == [False]


@pytest.mark.parametrize("risk", [0.1, 0.9, float("nan")])
def test_what_a_person_asks_for_is_executed_whatever_the_gate_says(risk: float) -> None:
    taken = Takeover(Router(Constant((1.0, 1.0)), Constant(risk), Gate(GateConfig(), 0.3, 1)), [lambda: ASKED])
    decision = taken.decide(torch.zeros(1, OBS), torch.zeros(1, ACT))
    assert decision.executed.tolist() == [list(ASKED)]
    assert decision.gated.tolist() == taken.human.tolist() == [True]
    assert decision.proposed.tolist() == [[0.0, 0.0]]


def test_each_environment_is_asked_for_itself() -> None:
    taken = Takeover(Ungated(), [lambda: None, lambda: ASKED])
    decision = taken.decide(torch.zeros(2, OBS), torch.zeros(2, ACT))
    assert decision.executed.tolist() == [[0.0, 0.0], list(ASKED)]
    assert decision.gated.tolist() == [False, True]


@pytest.mark.parametrize("mode", ["proposed", "mask", "executed", "zfilter"])
def test_ppo_learns_from_a_persons_steps_what_it_would_from_recoverys(mode: CreditMode) -> None:
    """The same actions by recovery behind a closed gate and by a person behind an open one, learned from in the same way."""
    by_recovery = _learned(mode, [router(0.9 if step % 3 == 0 else 0.1) for step in range(60)])
    by_a_person = _learned(
        mode, [Takeover(Ungated(), [lambda s=step: ASKED if s % 3 == 0 else None]) for step in range(60)]
    )
    untouched = _learned(mode, [Ungated()] * 60)
    for ours, theirs in zip(by_a_person, by_recovery, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert mode == "proposed" or any(not torch.equal(a, b) for a, b in zip(by_a_person, untouched, strict=True))


def _learned(mode: CreditMode, routers) -> list[torch.Tensor]:
    """Weights of a policy after an update on one episode decided by ``routers``, one a step."""
    torch.manual_seed(0)
    generator, normalizer = torch.Generator().manual_seed(1), Normalizer(OBS)
    policy, value = GaussianPolicy(normalizer, ACT, 0.2), ValueFunction(normalizer)
    rollout = Rollout.empty(len(routers), 1, OBS, ACT)
    held = False
    for t, decides in enumerate(routers):
        obs = torch.randn(1, OBS, generator=generator)
        with torch.no_grad():
            mean = policy.act(obs)
            decision = decides.decide(obs, policy.sample(mean, generator))
            rollout.proposed_log_prob[t] = policy.log_prob(mean, decision.proposed)
            rollout.executed_log_prob[t] = policy.log_prob(mean, decision.executed)
        rollout.obs[t], rollout.proposed[t], rollout.executed[t] = obs, decision.proposed, decision.executed
        rollout.gated[t], rollout.handover[t] = decision.gated, decision.gated & ~torch.tensor([held])
        rollout.z_max[t] = ((decision.executed - mean).abs() / policy.std).amax(-1)
        rollout.next_obs[t], rollout.reward[t] = torch.randn(1, OBS, generator=generator), float(t % 2)
        held = bool(decision.gated)
    rollout.truncated[-1] = True
    ppo = PPO(policy, value, PPOConfig(warmup=0, epochs=3, batch=16, lr=1e-2), mode, torch.Generator().manual_seed(2))
    ppo.update(rollout, 0.0)
    return [parameter.detach().clone() for parameter in (*policy.parameters(), *value.parameters())]
