"""What the tables in results/paper say about each task: methods at equal steps, paired by seed with Uni-O4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.tables import Row, read_table
from farl.compare.statistics import Reduction, reduction

BASELINE = "uni-o4"
METHODS = (BASELINE, "farl-paper", "farl")
"""of the published figures, in the order they are shown"""
TASKS = tuple(
    f"{name}-{kind}"
    for name in ("BoundedPush", "BoundedSoccer", "FragilePushWall", "ObstructedPush")
    for kind in ("v0", "Hard-v0")
)


@dataclass(frozen=True)
class RunRow:
    """A row of the tables with its curve."""

    row: Row
    curve: NDArray[np.float64]
    """failure episodes at equal parts of its agent steps, the last at their end"""

    @property
    def method(self) -> str:
        return str(self.row["method"])

    @property
    def seed(self) -> int:
        return int(self.row["seed"])

    @property
    def steps(self) -> int:
        return int(self.row["agent_steps"])

    def number(self, column: str) -> float | None:
        """The value of a column, None where the table has none."""
        return float(self.row[column]) if self.row.get(column) else None

    def deployed(self, measure: str, start: bool = False) -> float | None:
        """A measure of the evaluation as the method acts: behind its gate where it has one."""
        prefix = "start_" if start else ""
        on = self.number(f"{prefix}{measure}_gate_on")
        return self.number(f"{prefix}{measure}_gate_off") if on is None else on

    def failures_at(self, steps: int) -> int:
        """Failure episodes after ``steps`` agent steps: the count itself at the run's end, interpolated before it."""
        if steps >= self.steps:
            return int(self.row["failure_episodes"])
        at = self.steps * np.arange(len(self.curve) + 1) / len(self.curve)
        return round(float(np.interp(steps, at, np.r_[0.0, self.curve])))


@dataclass(frozen=True)
class Group:
    """The runs of one method in one variant on one task."""

    method: str
    variant: str
    runs: tuple[RunRow, ...]

    def failures(self, steps: int) -> list[int]:
        return [run.failures_at(steps) for run in self.runs]

    def values(self, column: str) -> list[float]:
        """A column of every run that has it."""
        return [value for run in self.runs if (value := run.number(column)) is not None]

    def deployed(self, measure: str, start: bool = False) -> list[float]:
        return [value for run in self.runs if (value := run.deployed(measure, start)) is not None]


@dataclass(frozen=True)
class TaskRows:
    """All that is known of one task with one budget."""

    task: str
    target_steps: int
    groups: tuple[Group, ...]

    def of(self, method: str, variant: str = "") -> Group | None:
        return next((group for group in self.groups if (group.method, group.variant) == (method, variant)), None)

    def shown(self) -> list[Group]:
        """The methods of the published figures, as published in every setting."""
        return [group for method in METHODS if (group := self.of(method)) is not None]

    def common_steps(self, groups: Sequence[Group]) -> int:
        """Agent steps that every run of ``groups`` has reached."""
        return min(run.steps for group in groups for run in group.runs)

    def baseline_of(self, group: Group) -> Group | None:
        """Uni-O4 under the same changes where they concern it too, else as it is."""
        return self.of(BASELINE, group.variant) or self.of(BASELINE)

    def reduction(self, group: Group, steps: int) -> Reduction | None:
        """Against the baseline on the seeds both have; None where there is nothing to compare."""
        baseline = self.baseline_of(group)
        if baseline is None or group.method == BASELINE:
            return None
        theirs = {run.seed: run.failures_at(steps) for run in baseline.runs}
        pairs = [(run.failures_at(steps), theirs[run.seed]) for run in group.runs if run.seed in theirs]
        return reduction([ours for ours, _ in pairs], [base for _, base in pairs]) if pairs else None


def read_tasks(results: Path) -> list[TaskRows]:
    """Every task and budget that the tables have rows of, in the order of ``TASKS``, larger budgets first."""
    curves = {tuple(row[name] for name in _KEY): row["failure_episodes"] for row in read_table(results / "curves.csv")}
    found: dict[tuple[str, int], dict[tuple[str, str], list[RunRow]]] = {}
    for path in sorted(results.glob("*.csv")):
        if path.name == "curves.csv":
            continue
        for row in read_table(path):
            text = curves.get(tuple(row[name] for name in _KEY), row["failure_episodes"])
            run = RunRow(row, np.array(str(text).split(), dtype=np.float64))
            groups = found.setdefault((row["task"], int(row["target_steps"])), {})
            groups.setdefault((row["method"], row["variant"]), []).append(run)
    tasks = [
        TaskRows(task, steps, tuple(Group(*name, tuple(sorted(runs, key=_seed))) for name, runs in groups.items()))
        for (task, steps), groups in found.items()
    ]
    return sorted(
        tasks, key=lambda one: (TASKS.index(one.task) if one.task in TASKS else len(TASKS), -one.target_steps)
    )


_KEY = ("task", "method", "variant", "target_steps", "seed")


def _seed(run: RunRow) -> int:
    return run.seed


def main_rows(tasks: Sequence[TaskRows]) -> list[TaskRows]:
    """For each task its largest budget that has the baseline and another method."""
    chosen: dict[str, TaskRows] = {}
    for one in tasks:
        if one.of(BASELINE) and len(one.shown()) > 1:
            chosen.setdefault(one.task, one)
    return list(chosen.values())


def ablated(tasks: Sequence[TaskRows]) -> list[TaskRows]:
    """The budgets of tasks that have variants or methods beyond the published ones beside the baseline."""
    return [
        one
        for one in tasks
        if one.of(BASELINE) and any(group.variant or group.method not in METHODS for group in one.groups)
    ]
