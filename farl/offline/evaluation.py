"""Evaluation: a fixed list of episodes with a router in the loop, apart from training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.router import Router, Ungated
from farl.environments import TaskConfig, column, failure_flags, lost, reset_where
from farl.offline.collecting import outcome_of

Propose = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def evaluate(
    envs: VectorEnv[Any, Any, Any],
    task: TaskConfig,
    propose: Propose,
    router: Router | Ungated,
    episodes: int,
    first_seed: int,
) -> list[dict[str, Any]]:
    """One row per episode, in the order of their seeds; ``propose`` is a policy's mean action or a noisy one."""
    count = envs.num_envs
    rows: list[dict[str, Any]] = []
    for start in range(0, episodes, count):
        seeds = [first_seed + start + i for i in range(count)]
        rows += _round(envs, task, propose, router, seeds)[: episodes - start]
    return rows


def _round(
    envs: VectorEnv[Any, Any, Any], task: TaskConfig, propose: Propose, router: Router | Ungated, seeds: list[int]
) -> list[dict[str, Any]]:
    count = len(seeds)
    everyone = np.ones(count, dtype=bool)
    obs, _ = reset_where(envs, everyone, seeds)
    obs = np.array(obs, dtype=np.float32)
    router.reset(torch.from_numpy(everyone))
    rows: list[dict[str, Any] | None] = [None] * count
    totals = np.zeros((count, 3))
    failed = np.zeros(count, dtype=bool)
    while any(row is None for row in rows):
        tensor = torch.from_numpy(obs.copy())
        decision = router.decide(tensor, propose(tensor))
        following, reward, terminated, truncated, info = envs.step(decision.executed.clamp(-1, 1).numpy())
        failure, success = failure_flags(info, task, count), column(info, "success", count, 0.0)
        totals += np.stack([np.asarray(reward, dtype=float), np.ones(count), decision.gated.numpy()], axis=1)
        failed |= failure
        obs = np.array(following, dtype=np.float32)
        ended = terminated | truncated
        again = np.array([reason is not None for reason in lost(info, count)])   # from the same seed, as if it had not begun
        totals[again], failed[again] = 0, False
        router.reset(torch.from_numpy(again))
        for i in np.flatnonzero(ended & ~again):
            outcome = outcome_of(bool(terminated[i]), bool(failure[i]), bool(success[i]))
            row = {
                "seed": seeds[i],
                "length": int(totals[i, 1]),
                "return": float(totals[i, 0]),
                "outcome": outcome,
                "failed": bool(failed[i]),
                "gated_steps": int(totals[i, 2]),
            }
            rows[i] = rows[i] or row
        if ended.any():  # those that are done run on until all are; their rows are already closed
            fresh, _ = reset_where(envs, ended, seeds)
            obs[ended] = fresh[ended]
    return [row for row in rows if row is not None]
