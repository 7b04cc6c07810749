"""Generalised advantage estimation against sums written out by hand and by brute force."""

from __future__ import annotations

import pytest
import torch

from farl.algorithms.advantage import generalised_advantage, held_success

GAMMA, LAM = 0.9, 0.8
REWARD, VALUE, NEXT_VALUE = [1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 30.0, 40.0]
# one-step errors r + gamma v' - v of the chain, by pencil; without the last bootstrap the last one is 3 - 30
D0, D1, D2, D2_DEAD = 9.0, 9.0, 9.0, -27.0
C = GAMMA * LAM


def column(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)[:, None]


def chain(terminated=(0, 0, 0), truncated=(0, 0, 0), next_value=NEXT_VALUE):
    return generalised_advantage(
        column(REWARD),
        column(VALUE),
        column(next_value),
        ~column(terminated, torch.bool),
        column(truncated, torch.bool),
        GAMMA,
        LAM,
    )[:, 0].tolist()


@pytest.mark.parametrize(
    ("ending", "flags", "expected"),
    [
        ("success, a truncation: bootstraps", {"truncated": (0, 0, 1)}, (D0 + C * (D1 + C * D2), D1 + C * D2, D2)),
        ("time-out, a truncation: bootstraps", {"truncated": (0, 0, 1)}, (D0 + C * (D1 + C * D2), D1 + C * D2, D2)),
        (
            "termination: no bootstrap",
            {"terminated": (0, 0, 1)},
            (D0 + C * (D1 + C * D2_DEAD), D1 + C * D2_DEAD, D2_DEAD),
        ),
        ("failure that ends nothing", {}, (D0 + C * (D1 + C * D2), D1 + C * D2, D2)),
        ("end of the buffer: bootstraps", {}, (D0 + C * (D1 + C * D2), D1 + C * D2, D2)),
        ("an episode that ended before the last row", {"truncated": (0, 1, 0)}, (D0 + C * D1, D1, D2)),
        (
            "a termination before the last row",
            {"terminated": (0, 1, 0)},
            (D0 + C * (2 - 20), 2 - 20, D2),
        ),
    ],
)
def test_each_ending_gives_the_advantages_worked_out_by_hand(ending, flags, expected):
    assert chain(**flags) == pytest.approx(expected, abs=1e-4), ending


def test_the_true_final_observation_is_bootstrapped_not_the_next_episodes_first():
    """The value of the row after a reset must not leak: only ``next_value`` of the ending step itself counts."""
    high = chain(truncated=(0, 1, 0), next_value=[20.0, 130.0, 40.0])
    low = chain(truncated=(0, 1, 0), next_value=[20.0, 30.0, 40.0])
    assert high[1] - low[1] == pytest.approx(GAMMA * 100, abs=1e-3)
    assert high[2] == low[2]


def test_success_as_truncation_is_worth_as_much_as_hovering_and_as_termination_it_is_not():
    """A dense reward of 1 a step for ever is worth 1 / (1 - gamma) beside the goal and in it."""
    worth = 1 / (1 - GAMMA)

    def step_into_the_goal(**flags):
        return generalised_advantage(
            column([1.0]),
            column([worth]),
            column([worth]),
            survival=~column([flags["terminated"]], torch.bool),
            truncated=column([flags["truncated"]], torch.bool),
            gamma=GAMMA,
            lam=LAM,
        ).item()

    hovering = step_into_the_goal(terminated=False, truncated=False)
    assert step_into_the_goal(terminated=False, truncated=True) == pytest.approx(hovering, abs=1e-5)
    assert step_into_the_goal(terminated=True, truncated=False) < hovering - 0.8 * worth


def test_a_share_of_the_future_charged_is_the_same_share_of_all_that_was_to_come():
    """With lambda 1: half of everything after the second step is gone, in its own advantage and in the one before."""
    free, charged = (
        generalised_advantage(
            column(REWARD), column(VALUE), column(NEXT_VALUE), column(survival), column((0, 0, 0), torch.bool), GAMMA, 1.0
        )[:, 0]
        + torch.tensor(VALUE)
        for survival in ((1.0, 1.0, 1.0), (1.0, 0.5, 1.0))
    )
    after = 3 + GAMMA * NEXT_VALUE[2]
    assert charged.tolist() == pytest.approx([1 + GAMMA * (2 + GAMMA * after / 2), 2 + GAMMA * after / 2, after], abs=1e-4)
    assert free[0].item() - charged[0].item() == pytest.approx(GAMMA**2 * after / 2, abs=1e-4)


def test_random_rollouts_agree_with_the_sum_over_future_errors(generator):
    """A(t) = sum over k of (gamma lambda)^k delta(t + k) within the episode, written as the definition."""
    steps, envs = 40, 6
    reward, value, next_value = (torch.randn(steps, envs, generator=generator) for _ in range(3))
    terminated = torch.rand(steps, envs, generator=generator) < 0.1
    truncated = (torch.rand(steps, envs, generator=generator) < 0.1) & ~terminated
    fast = generalised_advantage(reward, value, next_value, ~terminated, truncated, GAMMA, LAM)
    for env in range(envs):
        for t in range(steps):
            total, weight = 0.0, 1.0
            for k in range(t, steps):
                alive = 0.0 if terminated[k, env] else 1.0
                total += weight * float(reward[k, env] + GAMMA * alive * next_value[k, env] - value[k, env])
                if terminated[k, env] or truncated[k, env]:
                    break
                weight *= GAMMA * LAM
            assert fast[t, env].item() == pytest.approx(total, abs=1e-4)


def test_with_lambda_one_the_advantage_is_the_discounted_return_minus_the_value():
    result = generalised_advantage(
        column(REWARD),
        column(VALUE),
        column(NEXT_VALUE),
        column((1, 1, 0), torch.bool),
        column((0, 0, 0), torch.bool),
        GAMMA,
        1.0,
    )
    assert result[0, 0].item() == pytest.approx(1 + 0.9 * 2 + 0.81 * 3 - 10, abs=1e-4)


def test_a_held_success_replaces_the_untrained_value_behind_it_and_nothing_else(generator):
    """r + gamma * held = r / (1 - gamma): the reward of the success, for ever."""
    value, reward = torch.randn(50, generator=generator), torch.rand(50, generator=generator)
    success = torch.rand(50, generator=generator) < 0.3
    held = held_success(value, reward, success, GAMMA)
    assert torch.equal(held[~success], value[~success])
    forever = sum(GAMMA**k * reward[success] for k in range(400))
    assert torch.allclose((reward + GAMMA * held)[success], forever, atol=1e-4)
