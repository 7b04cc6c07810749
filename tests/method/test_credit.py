"""Credit for gated steps."""

from __future__ import annotations

import pytest
import torch

from farl.algorithms.credit import assign

PROPOSED, EXECUTED = torch.tensor([[0.1], [0.2], [0.3]]), torch.tensor([[0.1], [0.9], [0.4]])
LP_PROPOSED, LP_EXECUTED = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.0, -50.0, -4.0])
GATED, HANDOVER = torch.tensor([False, True, True]), torch.tensor([False, True, False])
Z = torch.tensor([9.0, 5.0, 2.0])


@pytest.mark.parametrize(
    ("mode", "action", "log_prob", "weight"),
    [
        ("handover", PROPOSED, LP_PROPOSED, [1, 1, 0]),  # the proposal that called recovery counts, the next does not
        ("proposed", PROPOSED, LP_PROPOSED, [1, 1, 1]),
        ("mask", PROPOSED, LP_PROPOSED, [1, 0, 0]),
        ("executed", EXECUTED, LP_EXECUTED, [1, 1, 1]),
        ("zfilter", EXECUTED, LP_EXECUTED, [1, 0, 1]),  # far and gated; far but the policy's own stays
    ],
)
def test_each_mode_takes_its_action_its_log_probability_and_its_weight(mode, action, log_prob, weight):
    credit = assign(mode, PROPOSED, EXECUTED, LP_PROPOSED, LP_EXECUTED, GATED, HANDOVER, Z)
    assert torch.equal(credit.action, action)
    assert torch.equal(credit.log_prob, log_prob)
    assert credit.weight.tolist() == weight


@pytest.mark.parametrize("mode", ["handover", "proposed", "mask", "executed", "zfilter"])
def test_without_gated_steps_all_modes_are_plain_ppo(mode):
    nobody = torch.zeros(3, dtype=torch.bool)
    credit = assign(mode, PROPOSED, PROPOSED, LP_PROPOSED, LP_PROPOSED, nobody, nobody, Z)
    assert torch.equal(credit.action, PROPOSED)
    assert torch.equal(credit.log_prob, LP_PROPOSED)
    assert credit.weight.tolist() == [1, 1, 1]
