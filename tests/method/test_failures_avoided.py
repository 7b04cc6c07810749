"""What the method is for, on the point mass: the gate halves failures at equal success, and prediction is the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from failurebench.point_mass import GOAL_RADIUS
from farl.algorithms.ppo import PPOConfig
from farl.online.run import run
from method import cliff

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Result:
    """A method's training episodes, all seeds together."""

    failures: int
    success_rate: float
    held_return: float
    """mean return of an episode if a success were held until the clock runs out: otherwise the quick would score worst"""
    gated: float


def held_return(episode: dict[str, Any]) -> float:
    """The reward in the goal is at least 1 - its radius, and an episode has 60 steps."""
    left = 60 - episode["length"] if episode["outcome"] == "success" else 0
    return float(episode["return"] + (1 - GOAL_RADIUS) * left)


@pytest.fixture(scope="module")
def results(bundle_folder, tmp_path_factory) -> dict[str, Result]:
    root, found = tmp_path_factory.mktemp("compared"), {}
    for method in ("uni-o4", "farl", "oracle-gate", "random-gate"):
        episodes = []
        for seed in SEEDS:
            config = cliff.online(
                bundle_folder,
                root / f"{method}-{seed}",
                method=method,
                seed=seed,
                steps=8192,
                num_envs=16,
                rollout_steps=32,
                evaluation_episodes=0,
                ppo=PPOConfig(warmup=2, epochs=4, gamma=0.95),
            )
            episodes += cliff.lines(run(config), "episodes")
        found[method] = Result(
            failures=sum(e["failed"] for e in episodes),
            success_rate=float(np.mean([e["outcome"] == "success" for e in episodes])),
            held_return=float(np.mean([held_return(e) for e in episodes])),
            gated=sum(e["gated_steps"] for e in episodes) / sum(e["length"] for e in episodes),
        )
    print(found)
    return found


@pytest.mark.slow
def test_the_oracle_gate_halves_failures_at_equal_success_and_return(results):
    plain, gated = results["uni-o4"], results["oracle-gate"]
    assert plain.failures >= 20 * len(SEEDS)  # otherwise there is nothing to avoid
    assert gated.failures <= 0.5 * plain.failures
    assert gated.success_rate >= plain.success_rate - 0.1
    assert gated.held_return >= 0.9 * plain.held_return


@pytest.mark.slow
def test_the_learned_gate_reaches_four_fifths_of_the_oracles_reduction(results):
    plain, oracle, learned = results["uni-o4"], results["oracle-gate"], results["farl"]
    assert plain.failures - learned.failures >= 0.8 * (plain.failures - oracle.failures)
    assert learned.success_rate >= plain.success_rate - 0.1
    assert learned.held_return >= 0.9 * plain.held_return


@pytest.mark.slow
def test_it_is_prediction_that_helps_and_not_handing_over_now_and_then(results):
    """A gate that fires at random far more often than the learned one avoids far fewer failures."""
    learned, random = results["farl"], results["random-gate"]
    assert random.gated > learned.gated
    assert learned.failures <= 0.5 * random.failures
