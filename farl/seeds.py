"""Episode seeds: one disjoint range for every purpose, so that no episode ever serves two."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import IntEnum

from farl.errors import UserError

_RUNS, _EPISODES = 1_000_000, 1_000_000_000


class Purpose(IntEnum):
    """What episodes are played for."""

    TASK_SET = 0
    FAILURE_SET = 1
    RECOVERY_SET = 2
    CALIBRATION_SET = 3
    ACCEPTANCE = 4
    TRAINING = 5
    EVALUATION = 6


def episode_seed(purpose: Purpose, seed: int, index: int) -> int:
    """Seed of the ``index``-th episode of run (or data set) ``seed``; below 2^53, so that JSON keeps it exactly."""
    if not 0 <= seed < _RUNS:
        raise UserError(f"seed {seed} is out of range; give one from 0 to {_RUNS - 1}")
    if not 0 <= index < _EPISODES:
        raise ValueError(f"episode {index} is beyond the {_EPISODES} a run can have")
    return (int(purpose) * _RUNS + seed) * _EPISODES + index


def episode_seeds(purpose: Purpose, seed: int, start: int = 0) -> Iterator[int]:
    """Seeds of one episode after another."""
    return (episode_seed(purpose, seed, index) for index in itertools.count(start))
