"""What a run's policy does at the end (and did at the start): the mean action on fixed seeds, measured once per policy."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from failurebench.evaluate import FIRST_SEED
from farl.compare.records import read_json
from farl.environments import TaskConfig, make_vector
from farl.files import write_json
from farl.offline.evaluation import evaluate
from farl.online.trained import Trained

NUM_ENVS = 50
EPISODES = 100
"""as many, and from the same seeds, as the constants of the normalised score (failurebench/references.json)"""


class Evaluations:
    """Results by what was evaluated, kept in a file of the study: the same policy behind the same gate is played once."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, dict(read_json(path))

    def of(self, trained: Trained, gate: bool, full_length: bool, episodes: int) -> dict[str, float]:
        """Rates and means over ``episodes`` episodes.

        Args:
            trained: whose mean action proposes.
            gate: whether the run's own gate may replace what it proposes.
            full_length: go on after success, up to the time limit, as the published returns are measured.
            episodes: how many, from ``failurebench.evaluate.FIRST_SEED`` on.
        """
        key = fingerprint(trained, gate, full_length, episodes)
        if key not in self.known:
            self.known[key] = measure(trained, gate, full_length, episodes)
            write_json(self.path, self.known)
        return dict(self.known[key])


def measure(trained: Trained, gate: bool, full_length: bool, episodes: int) -> dict[str, float]:
    """The evaluation itself; ``steps_to_success`` is missing where nothing succeeded."""
    task = trained.config.task
    if full_length:
        task = TaskConfig(task.id, {**task.options, "stop_on_success": False})
    envs = make_vector(task, min(NUM_ENVS, episodes))
    try:
        rows = evaluate(envs, task, trained.bundle.policy.act, trained.router(envs, gate), episodes, FIRST_SEED)
    finally:
        envs.close()
    successes = [row["length"] for row in rows if row["outcome"] == "success"]
    result = {
        "return": float(np.mean([row["return"] for row in rows])),
        "success": len(successes) / len(rows),
        "failure": float(np.mean([row["failed"] for row in rows])),
        "gated_share": sum(row["gated_steps"] for row in rows) / sum(row["length"] for row in rows),
    }
    return {**result, "steps_to_success": float(np.mean(successes))} if successes else result


def fingerprint(trained: Trained, gate: bool, full_length: bool, episodes: int) -> str:
    """Equal where the same policy is asked the same: its weights, and of the gate all that may change an action."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trained.bundle.policy.state_dict().items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    question: dict[str, Any] = {"task": asdict(trained.config.task), "full_length": full_length, "episodes": episodes}
    if gate:
        config = trained.config
        question |= {name: asdict(getattr(config, name)) for name in ("gate", "controls", "mppi")}
        question |= {
            "method": config.method,
            "threshold": trained.threshold,
            "bundle": (config.bundle / "manifest.json").read_text(),
        }
    digest.update(json.dumps(question, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:24]
