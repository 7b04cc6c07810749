"""Synthetic study folders: run directories as ``farl online`` leaves them, with numbers that a test can count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TASK = "BoundedPush-v0"
TASK_ID = f"failurebench:FailureBench/{TASK}"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(
    study: Path,
    method: str,
    seed: int,
    steps: int = 20_000,
    finished: bool = True,
    failure_rate: float = 0.1,
    task: str = TASK,
) -> Path:
    """A run of ``steps`` agent steps whose episodes fail less and less, gated unless the method is uni-o4."""
    folder, rng = study / "runs" / task / method / f"seed-{seed}", np.random.default_rng([seed, len(method)])
    episodes = _episodes(steps, method != "uni-o4", failure_rate, rng)
    write_rows(folder / "episodes.jsonl", episodes)
    write_rows(folder / "metrics.jsonl", _metrics(steps, episodes))
    write_rows(folder / "evaluations.jsonl", _evaluations(steps, method != "uni-o4", rng))
    meta = {
        "status": "finished" if finished else "running",
        "versions": {"farl": "0.1.0", "torch": "2.13.0"},
        "git_commit": "abc1234",
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    config = {
        "task": {"id": f"failurebench:FailureBench/{task}", "options": {}},
        "method": method,
        "seed": seed,
        "steps": steps,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config if finished else config | {"steps": 2 * steps}))
    return folder


def make_study(
    study: Path, methods: tuple[str, ...] = ("uni-o4", "farl"), seeds: tuple[int, ...] = (0, 1), **options: Any
) -> Path:
    rates = {"uni-o4": 0.12, "farl": 0.03}
    for method in methods:
        for seed in seeds:
            make_run(study, method, seed, failure_rate=rates.get(method, 0.06), **options)
    (study / "config.yaml").write_text(
        yaml.safe_dump({"task": {"id": TASK_ID}, "methods": list(methods), "seeds": list(seeds)})
    )
    return study


def make_acceptance(study: Path, seed: int) -> None:
    rows = [
        {"name": "gate: onset recall, lead 3", "value": f"{97 + seed} %", "target": ">= 90 %", "met": True, "note": "20 episodes"},
        {"name": "recovery: closed loop", "value": "71 %", "target": ">= 80 %", "met": False, "note": ""},
    ]   # fmt: skip
    path = study / "bundles" / TASK / f"seed-{seed}" / "acceptance.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def _episodes(steps: int, gated: bool, failure_rate: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    step = 0
    while True:
        progress = step / steps
        failed = bool(rng.random() < failure_rate * (1.6 - progress))
        success = bool(rng.random() < 0.55 + 0.42 * progress - 0.2 * failed)
        length = int(rng.integers(22, 60)) if success else 120
        step += length
        if step > steps:
            return rows
        bursts = [int(b) for b in rng.geometric(0.2, rng.integers(0, 3)).clip(1, 20)] if gated else []
        causes = ["ungated", "late", "during_recovery"]
        cause = (str(rng.choice(causes, p=[0.05, 0.25, 0.7])) if gated else "ungated") if failed else None
        first = int(rng.integers(1, length)) if failed else None
        risk = float(rng.beta(5, 2) if failed else rng.beta(1, 6))
        rows.append(
            {"episode": len(rows), "env": 0, "seed": len(rows), "end_step": step, "length": length, "return": 3.0 * length,
             "outcome": "success" if success else "timeout", "failed": failed, "failing_steps": 4 * failed, "first_failure": first,
             "failure_type": "out_of_bounds" if failed else "",
             "failure_detail": ["tipped", "", ""][len(rows) % 3] if failed else None, "cause": cause,
             "lead": {"late": 2, "during_recovery": 7}.get(cause), "warning": risk if failed and gated else None,
             "gated_steps": sum(bursts), "bursts": bursts,
             "cap_hits": bursts.count(20), "risk_max": risk if gated else None, "risk_mean": risk / 3 if gated else None,
             "policy_version": 0}
        )   # fmt: skip


def _metrics(steps: int, episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for iteration, step in enumerate(range(1000, steps + 1, 1000)):
        seen = [row for row in episodes if row["end_step"] <= step]
        recent = seen[-100:]
        successes = sum(row["outcome"] == "success" for row in recent)
        rows.append(
            {"step": step, "iteration": iteration, "wall_s": step / 2500, "episodes": len(seen),
             "successes": sum(row["outcome"] == "success" for row in seen), "failures": sum(row["failed"] for row in seen),
             "success_rate": successes / len(recent), "failure_rate": sum(row["failed"] for row in recent) / len(recent),
             "gated_fraction": sum(row["gated_steps"] for row in recent) / sum(row["length"] for row in recent),
             "return_mean": float(np.mean([row["return"] for row in recent])), "length_mean": 50.0, "z_median": 4.0,
             "gated_grad_share": 0.1, "reliability": [[step / 10, bin, bin, bin * step / 100] for bin in range(10)]}
        )   # fmt: skip
    return rows


def _evaluations(steps: int, gated: bool, rng: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {"step": step, "gate": gate, "seed": seed, "length": 30 + seed, "return": float(300 + rng.normal(0, 20)),
         "outcome": "success" if rng.random() < 0.5 + 0.45 * step / steps else "timeout", "failed": bool(rng.random() < 0.1),
         "gated_steps": 0}
        for step in (steps // 2, steps) for gate in (("on", "off") if gated else ("off",)) for seed in range(16)
    ]   # fmt: skip
