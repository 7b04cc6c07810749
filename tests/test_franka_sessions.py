"""Sessions on the Franka twins: what a row and the page are made of. The sessions themselves are the online run's."""

from __future__ import annotations

import math

import pytest

from experiments.franka_session_page import page, paired, reductions
from experiments.franka_sessions import CONFIGS, summary
from farl import configuration
from farl.compare.published import ROBOT_REDUCTION, VIOLATING_STEPS
from farl.compare.study import StudyConfig


def line(**changes):
    whole = {"length": 40, "failing_steps": 0, "failed": False, "return": 10.0, "outcome": "success", "gated_steps": 0}
    return {**whole, "cause": None, **changes}


def row(task, method, seed, steps, episodes):
    numbers = summary([line()] * (50 - episodes) + [line(failed=True, failing_steps=steps / episodes)] * episodes, 150)
    return {"task": task, "method": method, "seed": str(seed), "commit": "x"} | {k: str(v) for k, v in numbers.items()}


def test_a_row_counts_failing_steps_and_episodes_and_says_what_the_gate_had_done():
    lines = [line(), line(failed=True, failing_steps=7, cause="late", gated_steps=8, length=120, outcome="timeout")]
    numbers = summary([*lines, line(**{"return": 40.0})], 150)
    assert (numbers["failing_steps"], numbers["failure_episodes"], numbers["late"]) == (7, 1, 1)
    assert (numbers["ungated"], numbers["during_recovery"]) == (0, 0)
    assert numbers["return"] == 20.0
    assert numbers["held_return"] == pytest.approx(20.0 + 2 * (150 - 40) / 3)
    assert numbers["success"] == pytest.approx(2 / 3)
    assert numbers["gated"] == pytest.approx(8 / 200)


def test_the_reduction_is_of_the_sums_and_unknown_without_failures():
    assert reductions([(10, 0), (30, 10)]) == 0.75
    assert math.isnan(reductions([(0, 0)]))


def test_the_published_figure_is_the_mean_of_the_published_counts_reductions():
    fallen = [reductions([(counts["uni-o4"], counts["farl"])]) for counts in VIOLATING_STEPS.values()]
    assert sum(fallen) / len(fallen) == pytest.approx(ROBOT_REDUCTION, abs=5e-4)


def test_what_is_gained_is_the_mean_over_pairs_with_its_standard_error():
    name = "FrankaDisturbedPush-v0"
    rows = [row(name, method, seed, 10, 1) for seed in (0, 1) for method in ("uni-o4", "farl")]
    for gained, ours in zip((1.0, 3.0), rows[1::2], strict=True):
        ours["return"] = str(float(ours["return"]) + gained)
    assert f"| {name} | 2 | +2.0 ± 1.0 | +0.0 ± 0.0 | +0.0 ± 0.0 points |" in page(rows, "torch 0")


def test_only_sessions_of_the_same_seed_are_compared():
    name = "FrankaFragilePushWall-v0"
    rows = [row(name, "uni-o4", 0, 100, 10), row(name, "farl", 0, 20, 2), row(name, "uni-o4", 1, 900, 10)]
    assert [(base["seed"], ours["seed"]) for base, ours in paired(rows, name)] == [("0", "0")]
    text = page(rows, "torch 0")
    assert "100 -> 20 (-80%)" in text
    assert "10.0 -> 2.0 (-80%)" in text
    assert "186 -> 36 (-81%)" in text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sessions_configuration_explores_as_its_demonstrations_did_with_one_arm(path):
    study = configuration.read(StudyConfig, path)
    assert study.task.name.partition("-")[0] in VIOLATING_STEPS
    assert study.demos.exploration_std == study.offline.exploration_std
    assert study.online.num_envs == 1
    assert study.online.swap == "episode"
