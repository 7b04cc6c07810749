"""The gate's state machine, and the router around it."""

from __future__ import annotations

import itertools

import pytest
import torch

from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.router import Router

NAN = float("nan")


def run(config: GateConfig, risks, threshold=0.3) -> list[bool]:
    gate = Gate(config, threshold, 1)
    return [bool(gate.step(torch.tensor([risk]))) for risk in risks]


@pytest.mark.parametrize(
    ("risk", "recovers"),
    [(0.0, False), (0.3, False), (0.31, True), (1.0, True), (float("inf"), True), (NAN, True)],
)
def test_recovery_acts_unless_the_action_is_known_to_be_safe(risk, recovers):
    assert run(GateConfig(), [risk]) == [recovers]


@pytest.mark.parametrize("leave", [0.0, 0.5, 1.0])
def test_an_infinite_threshold_never_gates_a_number(leave):
    assert run(GateConfig(leave=leave), [0.0, 1.0, 1e30, float("inf"), 0.5], float("inf")) == [False] * 5


def test_hysteresis_holds_until_the_lower_threshold():
    risks = [0.2, 0.4, 0.2, 0.16, 0.15, 0.2, 0.29]
    assert run(GateConfig(leave=0.5), risks) == [False, True, True, True, False, False, False]
    assert run(GateConfig(leave=1.0), risks) == [False, True, False, False, False, False, False]


def test_recovery_keeps_control_for_the_minimum_dwell_however_safe_it_looks():
    assert run(GateConfig(min_dwell=3), [0.9, 0, 0, 0, 0]) == [True, True, True, False, False]


def test_a_stuck_recovery_hands_back_for_the_cooldown_and_every_hand_back_is_counted():
    gate = Gate(GateConfig(max_dwell=4, cooldown=2), 0.3, 1)
    acts = [bool(gate.step(torch.ones(1))) for _ in range(18)]
    assert acts == ([True] * 4 + [False] * 2) * 3
    assert gate.cap_hits.item() == 2 + 1  # the third burst was capped on the 17th step


def test_a_maximum_dwell_without_a_cooldown_still_hands_back():
    """The cap exists so that a recovery that is stuck does not hold the robot for ever."""
    assert not all(run(GateConfig(max_dwell=4, cooldown=0), [1.0] * 40))


def test_a_negative_cooldown_is_refused():
    with pytest.raises(ValueError, match="cooldown"):
        GateConfig(cooldown=-1)


@pytest.mark.parametrize("settings", [{"threshold": -0.1}, {"leave": 1.5}, {"min_dwell": 0}, {"min_dwell": 101}])
def test_settings_that_contradict_themselves_are_refused(settings):
    with pytest.raises(ValueError, match=r"gate\."):
        GateConfig(**settings)


def test_an_unknown_risk_recovers_through_the_cooldown_and_past_the_cap():
    config = GateConfig(max_dwell=2, cooldown=5)
    assert run(config, [1.0, 1.0, 1.0, NAN, NAN, NAN, NAN, 1.0]) == [True, True, False, True, True, True, True, False]


def test_the_cap_is_counted_once_however_long_an_unknown_risk_lasts():
    gate = Gate(GateConfig(max_dwell=2, cooldown=5), 0.3, 1)
    for _ in range(30):
        gate.step(torch.tensor([NAN]))
    assert gate.cap_hits.item() <= 1  # "times the cap ended a burst": this one burst never ended


def test_environments_are_gated_apart_and_forget_on_reset():
    gate = Gate(GateConfig(max_dwell=3, cooldown=4), 0.3, 3)
    for _ in range(4):
        gate.step(torch.tensor([1.0, 0.0, 1.0]))
    assert gate.cap_hits.tolist() == [1, 0, 1]
    gate.reset(torch.tensor([True, False, False]))
    assert gate.step(torch.tensor([1.0, 1.0, 1.0])).tolist() == [True, True, False]  # fresh, fresh, cooling
    assert gate.cap_hits.tolist() == [0, 0, 1]


def test_a_restored_gate_continues_in_the_same_state(generator):
    config = GateConfig(leave=0.5, min_dwell=2, max_dwell=5, cooldown=3)
    risks = torch.rand(60, 8, generator=generator)
    whole = Gate(config, 0.4, 8)
    expected = [whole.step(risk) for risk in risks]
    first = Gate(config, 0.4, 8)
    for risk in risks[:31]:
        first.step(risk)
    second = Gate(config, 0.9, 8)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(second.step(risk), acts) for risk, acts in zip(risks[31:], expected[31:], strict=True))


def switches(acts: list[bool]) -> float:
    return sum(a != b for a, b in itertools.pairwise(acts)) / (len(acts) - 1)


def test_hysteresis_and_dwell_stop_the_chatter_that_a_noisy_risk_causes(generator):
    """A risk around the threshold with noise: the paper's bare comparison switches half the time."""
    noisy = (0.3 + 0.08 * torch.randn(2000, generator=generator)).clamp_min(0).tolist()
    bare = switches(run(GateConfig(max_dwell=2000), noisy))
    steady = switches(run(GateConfig(leave=0.5, min_dwell=3, max_dwell=20, cooldown=5), noisy))
    assert bare > 0.4
    assert steady < 0.2


# ---------------------------------------------------------------- router


class Watching:
    """A critic that remembers the very tensors it was shown."""

    def __init__(self, risk):
        self.answer, self.shown = torch.tensor(risk), []

    def risk(self, obs, action):
        self.shown.append(action)
        return self.answer


class Still:
    def act(self, obs):
        return torch.full((len(obs), 2), -0.7)


def test_the_action_that_was_judged_is_the_action_that_is_executed(generator):
    """The same tensor, not the policy's mean and not a second sample; bit for bit, clipping left to the environment."""
    critic = Watching([0.1, 0.9, NAN, 0.2])
    router = Router(Still(), critic, Gate(GateConfig(), 0.3, 4))
    proposed = 2 * torch.randn(4, 2, generator=generator)
    decision = router.decide(torch.zeros(4, 3), proposed)
    assert critic.shown[0] is proposed
    assert decision.gated.tolist() == [False, True, True, False]
    assert torch.equal(decision.executed[[0, 3]], proposed[[0, 3]])
    assert torch.equal(decision.executed[[1, 2]], Still().act(torch.zeros(2, 3)))
    assert torch.equal(decision.proposed, proposed)
    assert torch.equal(decision.risk.nan_to_num(5), critic.answer.nan_to_num(5))
