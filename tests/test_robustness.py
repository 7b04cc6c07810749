"""Disturbances do what their names say, and their tables what was counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import failurebench
from experiments.disturbances import HAZARD, Disturbance, Disturbed, disturbances, nearer
from experiments.robustness import render
from farl.compare.statistics import wilson
from farl.environments import TaskConfig, make

TASK = "FailureBench/BoundedPush-Hard-v0"
COUNT = 3


@pytest.fixture
def envs() -> Any:
    made = failurebench.make_vec(TASK, COUNT, autoreset_mode=AutoresetMode.DISABLED)
    yield made
    made.close()


def executed(envs: Any, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The actions that reach the environments."""
    actions: list[np.ndarray] = []
    step = envs.step
    monkeypatch.setattr(envs, "step", lambda action: (actions.append(action.copy()), step(action))[1])
    return actions


def test_without_a_disturbance_nothing_changes(envs):
    action = np.random.default_rng(0).uniform(-1, 1, (5, COUNT, 4)).astype(np.float32)
    first, _ = envs.reset(seed=3)
    plain = [first, *(envs.step(one)[0] for one in action)]
    disturbed = Disturbed(envs, Disturbance("none"), seed=0)
    first, _ = disturbed.reset(seed=3)
    assert np.array_equal(plain, [first, *(disturbed.step(one)[0] for one in action)])


def test_a_late_action_comes_one_step_later_and_not_in_the_next_episode(envs, monkeypatch):
    disturbed, seen = Disturbed(envs, Disturbance("late", delay=1), seed=0), executed(envs, monkeypatch)
    disturbed.reset(seed=0)
    for value in (0.1, 0.2):
        disturbed.step(np.full((COUNT, 4), value, np.float32))
    disturbed.reset(seed=[5, None, None], options={"reset_mask": np.array([True, False, False])})
    disturbed.step(np.full((COUNT, 4), 0.3, np.float32))
    assert [one[:, 0].tolist() for one in seen] == pytest.approx(np.array([[0, 0, 0], [0.1, 0.1, 0.1], [0, 0.2, 0.2]]))


def test_a_weak_actuator_moves_less_and_grips_as_before(envs, monkeypatch):
    disturbed, seen = Disturbed(envs, Disturbance("weak", gain=0.5), seed=0), executed(envs, monkeypatch)
    disturbed.reset(seed=0)
    disturbed.step(np.full((COUNT, 4), 0.8, np.float32))
    assert seen[0] == pytest.approx(np.tile([0.4, 0.4, 0.4, 0.8], (COUNT, 1)))


def test_action_noise_has_the_given_spread_and_stays_in_bounds(envs, monkeypatch):
    disturbed, seen = Disturbed(envs, Disturbance("noise", action_noise=0.3), seed=0), executed(envs, monkeypatch)
    disturbed.reset(seed=0)
    for _ in range(150):
        disturbed.step(np.zeros((COUNT, 4), np.float32))
    assert np.std(seen) == pytest.approx(0.3, rel=0.1)
    assert np.abs(seen).max() <= 1


@pytest.mark.parametrize("apart", [False, True])
def test_position_noise_reaches_velocities_only_where_the_frames_have_their_own(envs, apart):
    true, _ = envs.reset(seed=1)
    disturbed = Disturbed(envs, Disturbance("noise", position_noise_m=0.002, frames_apart=apart), seed=0)
    error = np.array([disturbed.reset(seed=1)[0] - true for _ in range(60)])
    positions = [0, 1, 2, 4, 5, 6]
    assert error[..., positions].std() == pytest.approx(0.002, rel=0.15)
    velocity = error[..., positions] - error[..., [18 + one for one in positions]]
    assert velocity.std() == pytest.approx(0.002 * np.sqrt(2) if apart else 0.0, rel=0.15, abs=1e-6)
    others = [one for one in range(39) if one % 18 not in positions or one >= 36]
    assert not error[..., others].any()


def test_an_object_seen_beside_stays_beside_for_the_episode(envs):
    true, _ = envs.reset(seed=1)
    disturbed = Disturbed(envs, Disturbance("beside", position_offset_m=0.005), seed=0)
    error = disturbed.reset(seed=1)[0] - true
    assert np.linalg.norm(error[:, 4:7], axis=1) == pytest.approx([0.005] * COUNT, rel=1e-3)
    assert np.allclose(error[:, 4:7], error[:, 22:25], atol=1e-6)
    offset = disturbed.offset.copy()
    disturbed.step(np.zeros((COUNT, 4), np.float32))
    assert np.array_equal(disturbed.offset, offset)
    disturbed.reset(seed=[1] * COUNT, options={"reset_mask": np.array([True, False, False])})
    assert (disturbed.offset != offset).any(axis=1).tolist() == [True, False, False]


@pytest.mark.parametrize("task", ["BoundedPush-Hard", "BoundedSoccer", "FragilePushWall-Hard", "ObstructedPush-Hard"])
def test_a_nearer_hazard_takes_its_distance_off_the_margin(task):
    config = TaskConfig(f"failurebench:FailureBench/{task}-v0")
    usual = make(config)
    _, info = usual.reset(seed=4)
    options = nearer(usual.unwrapped.task, 0.01)
    _, other = make(TaskConfig(config.id, options)).reset(seed=4)
    assert other["margin"] == pytest.approx(info["margin"] - 0.01, abs=1e-6)


def test_a_hazard_that_is_not_shown_is_seen_where_it_was():
    config = TaskConfig(f"failurebench:{TASK}")
    rows = {row.name: row for row in disturbances(config)}
    hidden = rows["hazard 2 cm nearer, not shown"]
    usual, _ = make(config).reset(seed=0)
    envs = failurebench.make_vec(TASK, COUNT, autoreset_mode=AutoresetMode.DISABLED, **hidden.options)
    true, _ = envs.reset(seed=0)
    seen, _ = Disturbed(envs, hidden, seed=0).reset(seed=0)
    assert not np.allclose(true[0, HAZARD], usual[HAZARD])
    assert np.array_equal(seen[0, HAZARD], usual[HAZARD])


def test_the_page_pools_seeds_with_wilsons_interval():
    rows = [
        {"task": "T", "method": "farl", "seed": str(seed), "gate": gate, "disturbance": "none", "agent_steps": "1000",
         "episodes": "100", "successes": str(90 + seed), "failures": failures}
        for seed in (0, 1) for gate, failures in (("off", "8"), ("on", "1"))
    ]  # fmt: skip
    page = render(rows)
    interval = wilson(16, 200)
    assert f"8 % ({100 * interval.low:.0f} to {100 * interval.high:.0f})" in page
    assert "farl's policy without its gate 8 % (" in page
    assert "behind it 1 % (" in page
