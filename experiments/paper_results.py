"""A row per run of finished or running studies in results/paper, one table per task; running it again replaces rows.

    python -m experiments.paper_results studies/paper/bounded-push studies/ablations/*
    python -m experiments.paper_results studies/paper/bounded-push --evaluate none    # counts only, while runs go on

Counts are of training, exploration included. `success`, `return` and `normalised` columns are of the newest checkpoint's
mean action on 100 fixed episodes, `start_` ones of the policy that the run began with. docs/results.md names the columns.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.final_evaluation import EPISODES, Evaluations
from experiments.tables import Row, cell, read_table, write_table
from experiments.variants import variant_of
from failurebench.references import load_references
from failurebench.scores import mean, normalised
from farl.compare.records import Run, find_runs, inconsistencies
from farl.compare.summary import CAUSES, LATE, gated_fraction
from farl.errors import UserError
from farl.online.trained import Trained, load_trained

RESULTS = Path("results/paper")

KEY = ("task", "method", "variant", "target_steps", "seed")
COUNTS = (
    "status", "agent_steps", "episodes", "failure_episodes", "success_rate", "late_success_rate", "late_steps_to_success",
    *CAUSES, "gated_share", "wall_s", "env_s", "gate_s", "policy_s", "update_s",
)  # fmt: skip
MEASURES = ("success", "failure", "steps_to_success", "return_until_success", "return", "normalised")
EVALUATED = tuple(
    f"{prefix}{name}_gate_{gate}" for prefix in ("", "start_") for gate in ("on", "off") for name in MEASURES
)
COLUMNS = (*KEY, *COUNTS, "evaluated_at", "evaluation_episodes", *EVALUATED, "commit", "versions", "run")
CURVE_POINTS = 100
CURVES = (*KEY, "agent_steps", "failure_episodes", "run")
"""``failure_episodes``: so many until 1 %, 2 %, ... 100 % of ``agent_steps``, separated by blanks"""


def record(studies: Iterable[Path], results: Path, which: str = "all", episodes: int = EPISODES) -> list[Path]:
    """Bring the tables up to date with the runs of ``studies``; returns the files written.

    Args:
        studies: folders of `farl compare` or of experiments.ablations.
        results: where the tables are.
        which: ``all`` runs with a checkpoint are evaluated, ``finished`` ones only, or ``none``; without an evaluation the
            row keeps what an earlier one of the same agent steps said.
        episodes: of an evaluation.
    """
    written: dict[Path, None] = {}
    for study in studies:
        if study.is_dir() and not (study / "runs").is_dir():
            print(f"{study} has no runs yet", file=sys.stderr)
            continue
        evaluations = Evaluations(study / "final_evaluations.json")
        for run in find_runs(study):
            if not run.steps:
                continue
            run = run.until(run.steps)  # a run that was stopped may have told of episodes beyond its last update
            for warning in inconsistencies(run):
                print(f"warning: {warning}", file=sys.stderr)
            row = counts(run)
            if which == "all" or (which == "finished" and run.finished):
                row |= evaluated(run, evaluations, episodes)
            else:
                row |= _kept(results / f"{run.task}.csv", row)
            for path, columns, new in (
                (results / f"{run.task}.csv", COLUMNS, row),
                (results / "curves.csv", CURVES, {**row, "failure_episodes": curve(run)}),
            ):
                write_table(path, columns, replaced(read_table(path), new))
                written[path] = None
            print(
                f"{run.task} {run.name} {row['variant']}: {row['failure_episodes']} of {row['episodes']} failed",
                flush=True,
            )
    return list(written)


def counts(run: Run) -> Row:
    """What the run's own books say, without playing anything."""
    last, late = run.metrics[-1], run.since(int(run.steps * (1 - LATE)))
    causes = Counter(row["cause"] or "ungated" for row in run.episodes if row["failed"])
    done = [row["length"] for row in late if row["outcome"] == "success"]
    return {
        "task": run.task, "method": run.method, "variant": variant_of(run), "target_steps": run.target, "seed": run.seed,
        "status": "finished" if run.finished else "unfinished", "agent_steps": run.steps, "episodes": len(run.episodes),
        "failure_episodes": run.failures,
        "success_rate": _share(sum(row["outcome"] == "success" for row in run.episodes), len(run.episodes)),
        "late_success_rate": _share(len(done), len(late)), "late_steps_to_success": float(np.mean(done)) if done else "",
        **{cause: causes[cause] for cause in CAUSES}, "gated_share": gated_fraction(run.episodes),
        **{name: last.get(name, "") for name in ("wall_s", "env_s", "gate_s", "policy_s", "update_s")},
        "commit": run.meta.get("git_commit", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in run.meta.get("versions", {}).items()),
        "run": str(run.folder),
    }  # fmt: skip


def _share(part: int, whole: int) -> float | str:
    return part / whole if whole else ""


def evaluated(run: Run, evaluations: Evaluations, episodes: int) -> Row:
    """The columns of the evaluations at the start and at the newest checkpoint; without that, none."""
    try:
        policies = {"": load_trained(run.folder), "start_": load_trained(run.folder, start=True)}
    except UserError as error:
        print(f"not evaluated: {error}", file=sys.stderr)
        return {}
    row: Row = {"evaluated_at": policies[""].steps, "evaluation_episodes": episodes}
    for prefix, trained in policies.items():
        for gate in ("on", "off") if trained.gates else ("off",):
            for name, value in _measures(trained, gate == "on", evaluations, episodes).items():
                row[f"{prefix}{name}_gate_{gate}"] = value
    return row


def _measures(trained: Trained, gate: bool, evaluations: Evaluations, episodes: int) -> dict[str, float | str]:
    until, full = (evaluations.of(trained, gate, full_length, episodes) for full_length in (False, True))
    task = trained.config.task
    return {
        "success": until["success"],
        "failure": until["failure"],
        "steps_to_success": until.get("steps_to_success", ""),
        "return_until_success": until["return"],
        "return": full["return"],
        "normalised": "" if task.options else score(task.id, full["return"]),
    }


def score(task_id: str, full_length_return: float) -> float | str:
    """100 for the scripted expert, 0 for random actions (constants of ``failurebench.evaluate --make-references``)."""
    reference = load_references().get(task_id.removeprefix("failurebench:"))
    value = None if reference is None else normalised(mean([full_length_return]), reference)
    return "" if value is None else value.value


def curve(run: Run) -> str:
    """Failure episodes so far, at ``CURVE_POINTS`` equal parts of the run's agent steps."""
    ends = np.sort([row["end_step"] for row in run.episodes if row["failed"]])
    at = run.steps * np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS
    return " ".join(str(count) for count in np.searchsorted(ends, at, side="right"))


# ---------------------------------------------------------------- tables


def replaced(rows: list[Row], new: Row) -> list[Row]:
    """``rows`` with ``new`` in the place of the row of the same key, and without what the same run said before."""
    stale = [row for row in rows if _key(row) == _key(new) or (new["run"] and row.get("run") == new["run"])]
    return sorted([*(row for row in rows if row not in stale), new], key=_order)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def _order(row: Row) -> tuple[Any, ...]:
    task, method, variant, steps, seed = _key(row)
    return task, -int(steps), variant != "", variant, method, int(seed)


def _kept(path: Path, row: Row) -> Row:
    """The evaluation that the table holds of this very run, if it has not trained on since."""
    for old in read_table(path):
        if _key(old) == _key(row) and all(old[name] == cell(row[name]) for name in ("agent_steps", "wall_s", "commit")):
            return {name: old[name] for name in ("evaluated_at", "evaluation_episodes", *EVALUATED)}
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--evaluate", choices=("all", "finished", "none"), default="all")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of each evaluation")
    arguments = parser.parse_args()
    try:
        for path in record(arguments.studies, arguments.results, arguments.evaluate, arguments.episodes):
            print(path)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
