"""From runs to the numbers of the tables: one summary per method, at a number of steps that all of them reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from farl.compare.records import Record, Run, inconsistencies
from farl.compare.statistics import Interval, Reduction, iqm, mean_interval, reduction, stratified_bootstrap, wilson

LATE = 0.2
"""the last part of the training steps that "late" figures look at"""
CAUSES = ("ungated", "late", "during_recovery")


@dataclass(frozen=True)
class Estimate:
    """A number, and how sure it is where that can be said."""

    value: float | None
    interval: Interval | None = None
    per_run: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation of a method's runs, with the gate on or off."""

    gate: str
    episodes: int
    success: Estimate
    failure: Estimate
    returns: Estimate
    """interquartile mean over episodes, bootstrapped within seeds"""
    length: Estimate


@dataclass(frozen=True)
class MethodSummary:
    """What the runs of one method came to, up to ``steps`` each."""

    method: str
    runs: tuple[Run, ...]
    steps: int
    episodes: int
    successes: int
    timeouts: int
    ended_by_failure: int
    failures: Estimate
    """failure episodes a run"""
    failure_rate: Estimate
    """failure episodes an episode, all runs together"""
    per_10k: Estimate
    """failure episodes per 10,000 agent steps"""
    success_rate: Estimate
    """of the late episodes, as are the next two"""
    returns: Estimate
    time_to_success: Estimate
    gated: Estimate
    """fraction of agent steps on which recovery acted"""
    evaluations: tuple[Evaluation, ...]
    reduction: Reduction | None
    """against the baseline on the seeds that both have; None for the baseline itself"""

    @property
    def total_failures(self) -> int:
        return sum(run.failures for run in self.runs)

    @property
    def gates(self) -> bool:
        return any(row["gated_steps"] for run in self.runs for row in run.episodes)


@dataclass(frozen=True)
class Comparison:
    """All methods on one task."""

    task: str
    steps: int
    """agent steps that every compared run reached; numbers are taken there"""
    methods: tuple[MethodSummary, ...]
    baseline: str
    all_runs: tuple[Run, ...]
    """also those left out, at their full length"""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def of(self, method: str) -> MethodSummary | None:
        return next((summary for summary in self.methods if summary.method == method), None)

    @property
    def headline(self) -> MethodSummary | None:
        """The method that the page leads with: farl, else the first one that is not the baseline."""
        others = [summary for summary in self.methods if summary.method != self.baseline]
        return self.of("farl") if self.of("farl") in others else next(iter(others), None)


def compare_runs(task: str, runs: list[Run], order: Sequence[str] = ()) -> Comparison:
    """Summaries of ``runs``, all on ``task``.

    ``order`` names methods in the study's order; the baseline is uni-o4, or else the first.
    """
    chosen = _compared(runs)
    methods = _ordered({run.method for run in chosen}, order)
    steps = min((run.steps for run in chosen), default=0)
    cut = {method: [run.until(steps) for run in chosen if run.method == method] for method in methods}
    baseline = "uni-o4" if "uni-o4" in methods else next(iter(methods), "")
    return Comparison(
        task=task,
        steps=steps,
        methods=tuple(_summarise(method, cut[method], cut[baseline], steps) for method in methods),
        baseline=baseline,
        all_runs=tuple(sorted(runs, key=lambda run: (_rank(order, run.method), run.method, run.seed))),
        notes=tuple(_notes(runs, chosen, steps)),
        warnings=tuple(warning for run in runs for warning in inconsistencies(run)),
    )


def _compared(runs: list[Run]) -> list[Run]:
    """Finished runs where every method has one, else whatever has begun: a run just started must not shorten the others."""
    begun = [run for run in runs if run.steps > 0]
    finished = [run for run in begun if run.finished]
    if {run.method for run in finished} == {run.method for run in begun}:
        return finished
    return begun


def _ordered(methods: set[str], order: Sequence[str]) -> list[str]:
    return sorted(methods, key=lambda method: (_rank(order, method), method))


def _rank(order: Sequence[str], method: str) -> int:
    """The study's order first, then baseline and farl, then the others."""
    known = list(dict.fromkeys([*order, "uni-o4", "farl"]))
    return known.index(method) if method in known else len(known)


def _notes(runs: list[Run], chosen: list[Run], steps: int) -> Iterable[str]:
    unfinished = [run for run in runs if not run.finished]
    if unfinished:
        states = ", ".join(f"{run.name} at {run.steps:,} of {run.target:,} steps" for run in unfinished)
        if any(run in chosen for run in unfinished):
            yield f"Unfinished, and compared as far as they got: {states}."
        else:
            yield f"Unfinished, left out of the tables and drawn faintly: {states}."
    longer = [run for run in chosen if run.steps > steps]
    if longer:
        yield (
            f"Runs have different lengths, so all numbers are taken at {steps:,} agent steps, which every run reached; "
            f"longer: {', '.join(f'{run.name} ({run.steps:,})' for run in longer)}."
        )


def _summarise(method: str, runs: list[Run], baseline: list[Run], steps: int) -> MethodSummary:
    episodes = [row for run in runs for row in run.episodes]
    late = [run.since(int(steps * (1 - LATE))) for run in runs]
    outcomes = [row["outcome"] for row in episodes]
    failed = sum(run.failures for run in runs)
    return MethodSummary(
        method=method,
        runs=tuple(runs),
        steps=steps,
        episodes=len(episodes),
        successes=outcomes.count("success"),
        timeouts=outcomes.count("timeout"),
        ended_by_failure=outcomes.count("failure"),
        failures=_over_runs([float(run.failures) for run in runs]),
        failure_rate=Estimate(_ratio(failed, len(episodes)), wilson(failed, len(episodes))),
        per_10k=_over_runs([1e4 * run.failures / steps for run in runs if steps]),
        success_rate=_over_runs(_each(late, lambda row: row["outcome"] == "success")),
        returns=_over_runs(_each(late, lambda row: row["return"])),
        time_to_success=_over_runs(_each(late, _length_if_success)),
        gated=_over_runs([gated_fraction(run.episodes) for run in runs if run.episodes]),
        evaluations=tuple(_evaluations(runs)),
        reduction=None if runs and baseline and runs[0].method == baseline[0].method else _paired(runs, baseline),
    )


def gated_fraction(episodes: list[Record]) -> float:
    """Part of the agent steps of these episodes on which recovery acted."""
    gated, steps = sum(row["gated_steps"] for row in episodes), sum(row["length"] for row in episodes)
    return float(gated / max(1, steps))


def _paired(runs: list[Run], baseline: list[Run]) -> Reduction | None:
    failures = {run.seed: run.failures for run in runs}
    reference = {run.seed: run.failures for run in baseline}
    seeds = sorted(failures.keys() & reference.keys())
    return reduction([failures[seed] for seed in seeds], [reference[seed] for seed in seeds])


def _over_runs(values: list[float]) -> Estimate:
    return Estimate(float(np.mean(values)), mean_interval(values), tuple(values)) if values else Estimate(None)


def _each(runs: list[list[Record]], measure: Callable[[Record], float | bool | None]) -> list[float]:
    """The mean of ``measure`` over the episodes of each run, without the runs that have none."""
    measured = [[float(value) for row in rows if (value := measure(row)) is not None] for rows in runs]
    return [float(np.mean(values)) for values in measured if values]


def _length_if_success(row: Record) -> float | None:
    return float(row["length"]) if row["outcome"] == "success" else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def last_evaluations(run: Run, gate: str) -> list[Record]:
    """The episodes of the run's last evaluation with the gate ``on`` or ``off``."""
    rows = [row for row in run.evaluations if row["gate"] == gate]
    return [row for row in rows if row["step"] == rows[-1]["step"]]


def _evaluations(runs: list[Run]) -> Iterable[Evaluation]:
    for gate in ("on", "off"):
        groups = [group for run in runs if (group := last_evaluations(run, gate))]
        rows = [row for group in groups for row in group]
        if not rows:
            continue
        succeeded, failed = _count(rows, "outcome", "success"), _count(rows, "failed", True)
        generator = np.random.default_rng(0)   # the same page from the same study
        returns = [[row["return"] for row in group] for group in groups]
        yield Evaluation(
            gate=gate,
            episodes=len(rows),
            success=Estimate(succeeded / len(rows), wilson(succeeded, len(rows))),
            failure=Estimate(failed / len(rows), wilson(failed, len(rows))),
            returns=Estimate(iqm(np.concatenate(returns)), stratified_bootstrap(returns, iqm, generator)),
            length=_over_runs(_each(groups, _length_if_success)),
        )


def _count(rows: list[Record], key: str, value: Any) -> int:
    return sum(row[key] == value for row in rows)
