"""Trained policies under what they were not trained for, with and without the gate: tables per task and a CSV.

    python -m experiments.robustness studies/paper/*/runs/*/*/seed-*

The mean action on 100 fixed episodes per run, gate and disturbance; a policy trained without a gate is also played behind
farl's, from the same bundle. What was measured before with the same weights is not measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import torch

from experiments.disturbances import Disturbance, Disturbed, disturbances
from experiments.final_evaluation import EPISODES, NUM_ENVS, fingerprint
from experiments.tables import Row, markdown, read_table, write_table
from failurebench.evaluate import FIRST_SEED
from farl.compare.statistics import wilson
from farl.environments import TaskConfig, make_vector
from farl.errors import UserError
from farl.files import write_text
from farl.offline.evaluation import evaluate
from farl.online.trained import Trained, load_trained

RESULTS = Path("results")
COLUMNS = (
    "task", "method", "seed", "gate", "disturbance", "agent_steps", "episodes", "successes", "failures", "gated_share",
    "weights", "commit",
)  # fmt: skip
KEY = ("task", "method", "seed", "gate", "disturbance")
GATES = {"on": "gate on", "off": "gate off"}


def measure(trained: Trained, gate: bool, disturbance: Disturbance, episodes: int) -> Row:
    """Counts over the episodes from ``FIRST_SEED`` on."""
    config, policy = trained.config, trained.bundle.policy
    task = TaskConfig(config.task.id, {**config.task.options, **disturbance.options})
    envs = make_vector(task, min(NUM_ENVS, episodes))
    noise = torch.Generator().manual_seed(config.seed)

    def explore(obs: torch.Tensor) -> torch.Tensor:
        return policy.sample(policy.act(obs), noise)

    try:
        rows = evaluate(
            Disturbed(envs, disturbance, config.seed),
            task,
            explore if disturbance.explore else policy.act,
            trained.router(envs, gate),
            episodes,
            FIRST_SEED,
        )
    finally:
        envs.close()
    return {
        "episodes": len(rows),
        "successes": sum(row["outcome"] == "success" for row in rows),
        "failures": sum(row["failed"] for row in rows),
        "gated_share": sum(row["gated_steps"] for row in rows) / sum(row["length"] for row in rows),
    }


def record(runs: Iterable[Path], results: Path, episodes: int = EPISODES) -> Path:
    """Measure what is missing in ``results``/robustness.csv; returns the path of the page made from it."""
    table = results / "robustness.csv"
    for folder in runs:
        trained = load_trained(folder)
        config = trained.config
        # Behind the gate that its own bundle would have given it: of what use is one to a policy that never knew it?
        behind = trained if trained.gates else replace(trained, config=replace(config, method="farl"))
        for gate, subject in (("on", behind), ("off", trained)):
            weights = fingerprint(subject, gate == "on", False, episodes)
            for disturbance in disturbances(config.task):
                new: Row = {"task": config.task.name, "method": config.method, "seed": config.seed, "gate": gate}
                new |= {"disturbance": disturbance.name, "agent_steps": trained.steps, "weights": weights}
                rows = read_table(table)
                old = next((row for row in rows if _key(row) == _key(new)), None)
                if old is not None and old["weights"] == weights:
                    continue
                new |= measure(subject, gate == "on", disturbance, episodes)
                write_table(table, COLUMNS, sorted([*(row for row in rows if row is not old), new], key=_order))
                print(f"{config.task.name} {config.method} seed {config.seed}, {GATES[gate]}, {disturbance.name}: "
                      f"{new['successes']} succeeded, {new['failures']} failed", flush=True)  # fmt: skip
    page = results / "robustness.md"
    write_text(page, render(read_table(table)))
    return page


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def _order(row: Row) -> tuple[str, ...]:
    return str(row["task"]), str(row["method"]), str(row["gate"]), str(row["seed"]).zfill(6)


def render(rows: Sequence[Row]) -> str:
    """The page, from the rows alone."""
    parts = [
        "# Robustness of what was learned",
        "`python -m experiments.robustness RUN...`; every run in [robustness.csv](robustness.csv).",
        "The mean action of each run's newest checkpoint on fixed episodes, without learning; all seeds of a method together, "
        "with Wilson's 95 % interval. *gate on* for Uni-O4 is farl's gate and recovery, from the same bundle, under a policy that "
        "never trained behind them. *Actuator* scales the hand's displacement; *position noise* is white, on hand and object; "
        "where each of the two frames of an observation has its own, the velocities read from them are off by 0.11 m/s per "
        "millimetre. *Hazard nearer* moves the boundary inwards or widens the clearance; the observation shows it, or shows "
        "what it showed in training.",
    ]
    for task, of_task in groupby(sorted(rows, key=_order), key=lambda row: row["task"]):
        parts += _task_part(task, list(of_task))
    return "\n\n".join(parts) + "\n"


def _task_part(task: str, rows: list[Row]) -> list[str]:
    columns = list(dict.fromkeys((row["method"], row["gate"]) for row in rows))
    names = list(dict.fromkeys(row["disturbance"] for row in rows))
    head = ["", *(f"{method}, {GATES[gate]}: {what}" for method, gate in columns for what in ("success", "failure"))]
    lines = []
    for name in names:
        line = [name]
        for column in columns:
            chosen = [row for row in rows if (row["method"], row["gate"]) == column and row["disturbance"] == name]
            line += [_rate(chosen, "successes"), _rate(chosen, "failures")]
        lines.append(line)
    steps = sorted({int(row["agent_steps"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    episodes = max(int(row["episodes"]) for row in rows)
    spread = " to ".join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1])))
    about = f"After {spread} agent steps; {episodes} episodes of each run; seeds {', '.join(map(str, seeds))}."
    return [f"## {task}", about, markdown(head, lines), _without_the_gate(rows)]


def _rate(rows: Sequence[Row], what: str) -> str:
    hits, trials = sum(int(row[what]) for row in rows), sum(int(row["episodes"]) for row in rows)
    interval = wilson(hits, trials)
    if interval is None:
        return "-"
    return f"{100 * hits / trials:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def _without_the_gate(rows: Sequence[Row]) -> str:
    """Whether a policy trained behind the gate is safe without it."""
    told = []
    for name in ("none", "exploration as in training"):
        rates = []
        for method, gate in (("farl", "off"), ("farl", "on"), ("uni-o4", "off")):
            chosen = [row for row in rows if (row["method"], row["gate"], row["disturbance"]) == (method, gate, name)]
            if chosen:
                label = {"farloff": "farl's policy without its gate", "farlon": "behind it"}.get(
                    method + gate, "Uni-O4's policy"
                )
                rates.append(f"{label} {_rate(chosen, 'failures')}")
        if rates:
            told.append(f"{'mean action' if name == 'none' else 'exploring'}: " + ", ".join(rates))
    return "Is a policy trained behind the gate safe without it? Episodes with a failure, " + "; ".join(told) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of `farl online` or `farl compare`")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of robustness.csv and robustness.md")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    arguments = parser.parse_args()
    try:
        print(record(arguments.runs, arguments.results, arguments.episodes))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
