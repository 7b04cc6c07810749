"""What the runs of a study left on disk, read for comparison (docs/design.md, files)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from farl.environments import TaskConfig
from farl.errors import UserError
from farl.files import read_jsonl

Record = dict[str, Any]
Array = NDArray[np.float64]
OVER_EPISODES = ("success_rate", "failure_rate", "return_mean", "length_mean")
"""columns of ``metrics.jsonl`` that are means over the last episodes"""


@dataclass(frozen=True)
class Run:
    """One method on one seed, as far as it has got."""

    task: str
    method: str
    seed: int
    folder: Path
    meta: Record = field(default_factory=dict)
    config: Record = field(default_factory=dict)
    episodes: list[Record] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    metrics: list[Record] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return bool(self.meta.get("status") == "finished")

    @property
    def name(self) -> str:
        return f"{self.method} seed {self.seed}"

    @property
    def steps(self) -> int:
        """Agent steps on record, all environments together."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def target(self) -> int:
        """Agent steps that the run was asked for."""
        return int(self.config.get("steps", self.steps))

    @property
    def failures(self) -> int:
        """Episodes with at least one failure."""
        return sum(bool(episode["failed"]) for episode in self.episodes)

    def until(self, steps: int) -> Run:
        """The same run as it stood after ``steps`` agent steps, so that runs of unequal length are compared fairly."""
        return dataclasses.replace(
            self,
            episodes=[row for row in self.episodes if row["end_step"] <= steps],
            evaluations=[row for row in self.evaluations if row["step"] <= steps],
            metrics=[row for row in self.metrics if row["step"] <= steps],
        )

    def since(self, step: int) -> list[Record]:
        """Episodes that ended after ``step``."""
        return [row for row in self.episodes if row["end_step"] > step]

    def curve(self, key: str) -> tuple[Array, Array]:
        """A column of ``metrics.jsonl`` over agent steps, without the rows that lack it."""
        source = self.settled() if key in OVER_EPISODES else self.metrics
        rows = [(row["step"], row[key]) for row in source if row.get(key) is not None]
        table = np.array(rows, dtype=np.float64).reshape(-1, 2)
        table = table[np.isfinite(table[:, 1])]
        return table[:, 0], table[:, 1]

    def settled(self) -> list[Record]:
        """Metrics from the twentieth episode on: the first to end are the quick successes, a rate of them misleads."""
        return [row for row in self.metrics if row.get("episodes", 20) >= 20] or self.metrics

    def task_config(self) -> TaskConfig:
        """The task that the run was made on; raises UserError where its configuration does not say."""
        task = self.config.get("task") or {}
        if "id" not in task:
            raise UserError(f"{self.folder / 'config.yaml'} names no task.id, so its episodes cannot be replayed")
        return TaskConfig(task["id"], dict(task.get("options") or {}))


def find_runs(study: Path) -> list[Run]:
    """Every run of the study that has begun, by task, method and seed; raises UserError where ``study`` is none."""
    if not (study / "runs").is_dir():
        raise UserError(f"{study} is not a study: it has no runs/ folder.{_nearby(study)}")
    folders = [folder for folder in study.glob("runs/*/*/seed-*") if folder.name.removeprefix("seed-").isdigit()]
    runs = [read_run(folder) for folder in folders]
    return sorted(runs, key=lambda run: (run.task, run.method, run.seed))


def without_books(folder: Path) -> Run:
    """What a run directory is of, in a study (``TASK/METHOD/seed-N``) or on its own, without reading what happened in it."""
    config = read_yaml(folder / "config.yaml")
    number = folder.name.removeprefix("seed-")
    return Run(
        task=folder.parent.parent.name,
        method=folder.parent.name,
        seed=int(number if number.isdigit() else config.get("seed", 0)),
        folder=folder,
        meta=read_json(folder / "meta.json"),
        config=config,
    )


def read_run(folder: Path) -> Run:
    """A run directory with all that it has on record."""
    return dataclasses.replace(
        without_books(folder),
        episodes=read_rows(folder / "episodes.jsonl"),
        evaluations=read_rows(folder / "evaluations.jsonl"),
        metrics=read_rows(folder / "metrics.jsonl"),
    )


def read_json(path: Path) -> Any:
    """A JSON file, or an empty mapping where it is missing; raises UserError where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}. Move the folder away and run the study again.") from error


def read_yaml(path: Path) -> Record:
    """A configuration file as plain values, whatever version of farl wrote it."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return value if isinstance(value, dict) else {}


def inconsistencies(run: Run) -> Iterator[str]:
    """Where the run's own books do not balance; the report shows these before any number."""
    outcomes = [row["outcome"] for row in run.episodes]
    counted = sum(outcomes.count(outcome) for outcome in ("success", "timeout", "failure"))
    if counted != len(outcomes):
        unknown = sorted(set(outcomes) - {"success", "timeout", "failure"})
        strange = f"{len(outcomes) - counted} of {len(outcomes)} episodes"
        yield f"{run.name}: {strange} ended neither in success, time-out nor failure ({unknown})"
    numbers = [row["episode"] for row in run.episodes]
    if len(set(numbers)) != len(numbers):
        yield f"{run.name}: {len(numbers) - len(set(numbers))} episodes are recorded twice"
    contradicting = sum(row["outcome"] == "failure" and not row["failed"] for row in run.episodes)
    if contradicting:
        yield f"{run.name}: {contradicting} episodes ended in failure but are not marked as failed"
    yield from _against_metrics(run)


def _against_metrics(run: Run) -> Iterator[str]:
    if not run.metrics:
        return
    last = run.metrics[-1]
    seen = [row for row in run.episodes if row["end_step"] <= last["step"]]
    counts = {
        "episodes": len(seen),
        "successes": sum(row["outcome"] == "success" for row in seen),
        "failures": sum(bool(row["failed"]) for row in seen),
    }
    for key, count in counts.items():
        if last.get(key, count) != count:
            yield f"{run.name}: metrics.jsonl counts {last[key]} {key}, episodes.jsonl {count} at step {last['step']}"


def read_rows(path: Path) -> list[Record]:
    """The lines of a JSONL file, none where it is missing; raises UserError where one is broken."""
    try:
        return list(read_jsonl(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} holds a broken line ({error}). Remove that line, or the run's folder, and run the study again."
        ) from error


def _nearby(study: Path) -> str:
    places = [path.parent for base in (study, study.parent, Path("studies")) for path in base.glob("*/runs")]
    if not places:
        return " `farl compare CONFIG.yaml` makes one and prints its folder."
    return f" Perhaps you meant {', '.join(str(place) for place in dict.fromkeys(places[:3]))}."
