"""What the scripted experts of every task achieve: success and failure under noise, and what recovery saves.

    OMP_NUM_THREADS=1 python -m experiments.experts_table                 # every task, about half an hour on one core
    OMP_NUM_THREADS=1 python -m experiments.experts_table BoundedSoccer-v0

One JSON file per task under ``results/experts`` holds a row per measurement, written as they come; what is there is left
alone (``--fresh`` measures again). The page ``results/experts.md`` and the tables of ``docs/tasks`` are made of all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import failurebench
from experiments.experts_pages import LEADS, write_pages
from experiments.rollouts import Ended, Noise, before_failures, episodes, savable, saved_by, saved_by_holding

Row = dict[str, Any]

FOLDER = Path("results/experts")
EPISODES = {"task": 200, "pusher": 200, "failure": 200, "random": 100}
NOISY_EPISODES = 100
NOISES = (Noise(0.1), Noise(0.2), Noise(0.3), Noise(0.5), Noise(1.0), Noise(0.3, 0.9), Noise(0.5, 0.9))
SOURCES = (("pusher", Noise(0.0), 70), ("pusher", Noise(0.2), 70), ("failure", Noise(0.0), 60))
PUSHERS_NEED = 0.02
"""failure rate below which a pusher's failures would take too long to collect; failure seekers then stand in"""


def rate(ended: list[Ended]) -> Row:
    """Shares, and medians of durations in agent steps."""
    done = [one.steps for one in ended if one.success]
    onsets = [one.onset for one in ended if one.onset is not None]
    return {
        "episodes": len(ended),
        "success": float(np.mean([one.success for one in ended])),
        "failure": float(np.mean([one.failed for one in ended])),
        "safe_success": float(np.mean([one.success and not one.failed for one in ended])),
        "tipped": float(np.mean([one.tipped for one in ended])),
        "return": float(np.mean([one.returned for one in ended])),
        "steps_to_success": median(done) if done else None,
        "steps_to_failure": median(onsets) if onsets else None,
    }


def recovery(task: str, rows: dict[str, Row], lead: int, share: float) -> Row:
    """What recovery and standing still save of 200 states, or a share of them, ``lead`` agent steps before a failure."""
    states = []
    for number, (kind, noise, count) in enumerate(SOURCES):
        fails = rows[f"pusher, noise {noise}"]["failure"] if kind == "pusher" else 1.0
        source = kind if fails >= PUSHERS_NEED else "failure"
        states += before_failures(task, source, noise, round(share * count), lead, seed=100_000 * (number + 1))
    saved = saved_by(task, states, "recovery")
    lost = [state for state, safe in zip(states, saved, strict=True) if not safe]
    possible = int(savable(task, lost).sum()) if lost else 0
    return {
        "states": len(states),
        "saved": int(saved.sum()),
        "saved_by_holding": int(saved_by_holding(task, states).sum()),
        "lost_but_savable": possible,
        "lost_by_physics": len(lost) - possible,
    }


def measurements(task: str, rows: dict[str, Row], share: float) -> Iterator[tuple[str, Any]]:
    """Every measurement of a task: its name and how to make it, from that share of the usual episodes."""
    for kind, usual in EPISODES.items():
        count = round(share * usual)
        yield f"{kind}, noise 0", lambda kind=kind, count=count: rate(episodes(task, kind, Noise(0.0), count))
    for kind in ("task", "pusher"):
        for noise in NOISES:
            yield (
                f"{kind}, noise {noise}",
                lambda k=kind, n=noise: rate(episodes(task, k, n, round(share * NOISY_EPISODES))),
            )
    for lead in LEADS:
        yield f"recovery, lead {lead}", lambda lead=lead: recovery(task, rows, lead, share)


def measure(task: str, fresh: bool, share: float) -> None:
    """Make what is missing of a task's rows."""
    path = FOLDER / f"{task.partition('/')[2]}.json"
    rows: dict[str, Row] = {} if fresh or not path.exists() else json.loads(path.read_text())["rows"]
    models = "robosuite" if task in failurebench.FRANKA else "metaworld"
    versions = {name: version(name) for name in ("mujoco", models, "gymnasium", "numpy")}
    for name, make in measurements(task, rows, share):
        if name not in rows:
            rows[name] = make()
            print(f"{task}: {name}: {rows[name]}", flush=True)
            FOLDER.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"task": task, "versions": versions, "rows": rows}, indent=1) + "\n")
            part.replace(path)


def main() -> int:
    """Measure the tasks named, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="such as BoundedPush-v0 (default: all)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of episodes, for a coarser table")
    arguments = parser.parse_args()
    names = {task.partition("/")[2]: task for task in (*failurebench.TASKS, *failurebench.FRANKA)}
    unknown = [task for task in arguments.tasks if task not in names]
    if unknown:
        print(f"experts_table: unknown task {unknown[0]!r}; the choices are {', '.join(names)}", file=sys.stderr)
        return 2
    for task in arguments.tasks or names:
        measure(names[task], arguments.fresh, arguments.share)
    for path in write_pages(FOLDER):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
