"""Windows for the world models: what they may and may not contain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from farl.data.batches import WindowSampler
from farl.types import Episode, Outcome


def episode(number: int, length: int, failing: tuple[int, ...] = (), outcome: Outcome = "timeout") -> Episode:
    """Observation (episode, step); action step / 100; reward 10 * episode + step."""
    steps = np.arange(length + 1, dtype=np.float32)
    failure = np.zeros(length, bool)
    failure[list(failing)] = True
    return Episode(
        obs=np.stack([np.full(length + 1, number, np.float32), steps], axis=1),
        actions=steps[:-1, None] / 100,
        rewards=10 * number + steps[:-1],
        terminated=np.zeros(length, bool),
        truncated=np.arange(length) == length - 1,
        failure=failure,
        margin=np.full(length, np.nan, np.float32),
        outcome=outcome,
        seed=number,
    )


def test_windows_never_cross_an_episode_and_hold_what_happened(generator):
    lengths = {1: 3, 2: 12, 3: 1, 4: 7}
    sampler = WindowSampler([episode(n, t) for n, t in lengths.items()], length=5, reward_scale=0.1)
    windows = sampler.sample(2000, generator)
    number, step = windows.obs[0].unbind(-1)
    for t in range(5):
        real = windows.valid[t]
        expected = step + t < torch.tensor([lengths[int(n)] for n in number])
        assert torch.equal(real, expected)  # valid exactly up to the episode's end
        assert torch.equal(windows.obs[t][real], torch.stack([number, step + t], dim=1)[real])
        assert torch.equal(windows.obs[t + 1][real], torch.stack([number, step + t + 1], dim=1)[real])
        assert torch.allclose(windows.action[t, real, 0], (step + t)[real] / 100)
        assert torch.allclose(windows.reward[t, real], 0.1 * (10 * number + step + t)[real])
    assert set(number.tolist()) == {1, 2, 3, 4}
    assert windows.valid[0].all()


def test_every_step_is_drawn_as_the_start_of_a_window(generator):
    sampler = WindowSampler([episode(1, 4), episode(2, 3)], length=5, reward_scale=1.0)
    starts = {tuple(row) for row in sampler.sample(1000, generator).obs[0].tolist()}
    assert starts == {(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2)}


def test_the_promised_share_of_windows_contains_the_onset_at_every_position(generator):
    quiet = [episode(n, 200) for n in range(5)]
    failing = episode(9, 200, failing=tuple(range(100, 200)))
    sampler = WindowSampler([*quiet, failing], length=6, reward_scale=1.0, onset_fraction=0.3)
    windows = sampler.sample(1000, generator)
    is_onset = (windows.obs[:-1, :, 0] == 9) & (windows.obs[:-1, :, 1] == 100)
    holds = is_onset.any(0)
    assert holds[:300].all()
    assert holds[300:].float().mean() < 0.05
    assert set(is_onset[:, :300].int().argmax(0).tolist()) == set(range(6))


def test_an_onset_early_in_an_episode_does_not_pull_the_window_into_the_one_before(generator):
    sampler = WindowSampler(
        [episode(1, 20), episode(2, 20, failing=(1, 2))], length=6, reward_scale=1.0, onset_fraction=1.0
    )
    windows = sampler.sample(300, generator)
    assert (windows.obs[0, :, 0] == 2).all()
    assert set(windows.obs[0, :, 1].tolist()) == {0.0, 1.0}


def test_a_lasting_failure_teaches_its_onset_and_not_already_failed(generator):
    """Onset x 3, four more violating steps x 1, later ones not at all, and what is clean again x 1."""
    failing = episode(1, 30, failing=(*range(10, 20), 25))
    sampler = WindowSampler([failing], length=30, reward_scale=1.0, onset_fraction=0.0)
    windows = sampler.sample(500, generator)
    column = int((windows.obs[0, :, 1] == 0).int().argmax())
    weight = windows.failure_weight[:, column].tolist()
    assert weight[:10] == [1.0] * 10
    assert weight[10:15] == [3.0, 1.0, 1.0, 1.0, 1.0]
    assert weight[15:20] == [0.0] * 5
    assert weight[20:25] == [1.0] * 5
    assert weight[25] == 0.0
    assert windows.failure[:, column].nonzero().flatten().tolist() == [*range(10, 20), 25]


def test_success_is_marked_at_the_last_step_of_a_successful_episode_alone(generator):
    episodes = [episode(1, 9, outcome="success"), episode(2, 9)]
    windows = WindowSampler(episodes, length=4, reward_scale=1.0).sample(500, generator)
    last = (windows.obs[:-1, :, 0] == 1) & (windows.obs[:-1, :, 1] == 8) & windows.valid
    assert last.any()
    assert torch.equal(windows.success & windows.valid, last)


@pytest.mark.parametrize("failing", [(), (5,)])
def test_sampling_is_decided_by_the_generator(failing):
    sampler = WindowSampler([episode(1, 9, failing), episode(2, 14)], length=4, reward_scale=1.0)
    one, other = (sampler.sample(64, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.obs, other.obs)
    assert torch.equal(one.valid, other.valid)
