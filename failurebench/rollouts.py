"""Episodes from given seeds, one after another, and what became of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from failurebench.env import FailureEnv
from failurebench.policies import Env, Policy, Refused
from failurebench.scores import Outcome


def play(env: Env, policy: Policy, seeds: Sequence[int], tell: Callable[[int], None]) -> list[Outcome]:
    """One episode for each seed; ``tell`` is called with the number of those done.

    Raises:
        Refused: the environment does not take the policy's action.
    """
    tell(0)
    outcomes = []
    for seed in seeds:
        outcomes.append(_play_one(env, policy, seed))
        tell(len(outcomes))
    return outcomes


def starts_hash(env: FailureEnv, seeds: Sequence[int]) -> str:
    """SHA-256 of where the episodes of ``seeds`` begin: object and goal on the table, hazard.

    These are drawn, not simulated: heights, at which things come to rest, are left out, so every machine finds the same.
    """
    content = hashlib.sha256()
    for seed in seeds:
        env.reset(seed=seed)
        state = env.get_state()
        for drawn in (state["start"][:2], state["goal"][:2], state["hazard"]):
            content.update(np.asarray(drawn, np.float64).tobytes())
    return f"sha256:{content.hexdigest()}"


def _play_one(env: Env, policy: Policy, seed: int) -> Outcome:
    """One episode from ``seed``, which also decides what is random in the policy."""
    obs, _ = env.reset(seed=seed)
    policy.reset(np.random.default_rng(seed))
    success_step = failure_step = None
    total, failing, kind, step, over = 0.0, 0, "", 0, False
    while not over:
        action = policy.act(obs)
        try:
            obs, reward, terminated, truncated, info = env.step(action)
        except ValueError as error:
            raise Refused(f"the policy's action at step {step + 1} of seed {seed} was refused: {error}") from error
        step, total, over = step + 1, total + float(reward), terminated or truncated
        if info["success"] and success_step is None:
            success_step = step
        if info["failure"]:
            failing += 1
            if failure_step is None:
                failure_step, kind = step, info["failure_type"]
    return Outcome(seed, step, total, success_step, failure_step, failing, kind)
