"""Sessions on the Franka twins: 50 online episodes of Uni-O4 and of FARL from the same bundle, failures counted as published.

    OMP_NUM_THREADS=1 python -m experiments.franka_sessions                 # configs/franka, one bundle a task, five sessions
    OMP_NUM_THREADS=1 python -m experiments.franka_sessions configs/franka/disturbed_push.yaml --seeds 0 --out /tmp/franka

Demonstrations and bundle of a task are made where they are missing. ``results/franka_sessions.csv`` gains a row with every
finished session; a session that has a row is not played again, an interrupted one continues. The page beside it is made of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.franka_session_page import COLUMNS, page
from experiments.tables import Row, read_table, write_table
from farl import configuration
from farl.compare.published import ROBOT_EPISODES
from farl.compare.study import StudyConfig
from farl.environments import TaskConfig, make
from farl.files import write_text
from farl.offline.demos import collect
from farl.offline.pipeline import train
from farl.online.config import OnlineConfig
from farl.online.provenance import git_commit
from farl.online.run import Session

CONFIGS = Path("configs/franka")
TABLE = Path("results/franka_sessions.csv")


def prepare(study: StudyConfig, folder: Path) -> Path:
    """The task's bundle, made of demonstrations of its own where it is missing."""
    bundle = folder / "bundle"
    if not (bundle / "manifest.json").exists():
        data = collect(dataclasses.replace(study.demos, task=study.task, out=folder / "data"))
        train(dataclasses.replace(study.offline, task=study.task, data=data, out=bundle))
    return bundle


def play(config: OnlineConfig, episodes: int) -> list[Row]:
    """Online until that many episodes have ended: their lines."""
    with Session(config) as session:
        while session.actor.ledger.episodes < episodes:
            session.hand_over(session.collect())
            session.take_updates()
            session.save_if_due()
        session.take_updates(drain=True)
    lines = (config.out / "episodes.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:episodes]]


def summary(lines: list[Row], longest: int) -> Row:
    """A session's totals, and means over its episodes, which last ``longest`` steps at most.

    The held return is that of episodes that go on at the goal, where a step is worth 1, until they are as long.
    """
    causes = [line["cause"] for line in lines]
    steps = sum(line["length"] for line in lines)
    held = [line["return"] + (longest - line["length"]) * (line["outcome"] == "success") for line in lines]
    return {
        "episodes": len(lines),
        "agent_steps": steps,
        "failing_steps": sum(line["failing_steps"] for line in lines),
        "failure_episodes": sum(line["failed"] for line in lines),
        "return": float(np.mean([line["return"] for line in lines])),
        "held_return": float(np.mean(held)),
        "success": float(np.mean([line["outcome"] == "success" for line in lines])),
        "gated": sum(line["gated_steps"] for line in lines) / steps,
        **{cause: causes.count(cause) for cause in ("ungated", "late", "during_recovery")},
    }


def sessions(study: StudyConfig, folder: Path, seeds: list[int], episodes: int, table: Path) -> None:
    """Play what has no row yet."""
    bundle, longest = prepare(study, folder), _longest(study.task)
    for seed in seeds:
        for method in study.methods:
            rows = read_table(table)
            key = (study.task.name, method, str(seed))
            if any((row["task"], row["method"], row["seed"]) == key for row in rows):
                continue
            out = folder / "sessions" / method / f"seed-{seed}"
            config = dataclasses.replace(
                study.online, task=study.task, bundle=bundle, out=out, method=method, seed=seed, evaluation_episodes=0
            )
            row: dict[str, Any] = dict(zip(("task", "method", "seed"), key, strict=True))
            row |= summary(play(config, episodes), longest) | {"commit": git_commit()}
            write_table(table, COLUMNS, [*rows, row])
            print("  ".join(f"{name} {row[name]}" for name in COLUMNS), flush=True)


def _longest(task: TaskConfig) -> int:
    """Agent steps of an episode at most."""
    env = make(task)
    env.close()
    if env.spec is None or env.spec.max_episode_steps is None:
        raise SystemExit(f"{task.id} has no time limit: give one with task.options.max_episode_steps")
    return env.spec.max_episode_steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path, help="studies; default: all of configs/franka")
    parser.add_argument("--out", type=Path, default=Path("studies/franka"), help="a folder per task is made in it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--episodes", type=int, default=ROBOT_EPISODES)
    parser.add_argument("--table", type=Path, default=TABLE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for path in given.configs or sorted(CONFIGS.glob("*.yaml")):
        study = configuration.read(StudyConfig, path)
        sessions(study, given.out / study.task.name.partition("-")[0], given.seeds, given.episodes, given.table)
        versions = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "robosuite", "torch", "numpy"))
        write_text(given.table.with_suffix(".md"), page(read_table(given.table), versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
