"""The report's table of where failures come from, and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from farl.compare.diagnostics import DiagnosedMethod, diagnosed_method
from farl.compare.statistics import wilson
from farl.compare.summary import Comparison
from farl.diagnosis.causes import WORDS, Part

MEANINGS: dict[Part, str] = {
    "no_gate": "recovery could not act at all",
    "critic_miss": "recovery had not acted in the ten steps before",
    "late_gate": "recovery took over with fewer steps left than it needs, or where nothing helps any more but earlier would have",
    "handed_back": "recovery had taken over in time, and let go again",
    "recovery_failing": "recovery had taken over in time and was acting",
    "unavoidable": "nothing that was tried in the simulator avoids it",
}


@dataclass(frozen=True)
class Measure:
    """A row of the table: a cell a method, each a number with a second line."""

    label: str
    hint: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Diagnostics:
    """What the page says besides its figures."""

    methods: tuple[DiagnosedMethod, ...]
    table: tuple[Measure, ...]
    notes: tuple[str, ...]


def diagnose_study(comparison: Comparison) -> Diagnostics:
    """The failures of all compared runs, as far as they were recorded and examined."""
    methods = tuple(diagnosed_method(summary) for summary in comparison.methods)
    return Diagnostics(methods, tuple(_table(methods)), tuple(_lacking(methods)))


def _table(methods: Sequence[DiagnosedMethod]) -> Iterator[Measure]:
    seen = [part for method in methods for part in method.parts]
    yield Measure("Failure episodes", "all runs", tuple((f"{len(m.failing):,}", "") for m in methods))
    for part, words in WORDS.items():
        if part in seen:
            yield Measure(words.capitalize(), MEANINGS[part], tuple(_share(m.parts.count(part), len(m.parts)) for m in methods))
    details = {row["failure_detail"] for m in methods for row in m.failing if row.get("failure_detail")}
    for detail in sorted(details):
        cells = tuple(_detail(m, detail) for m in methods)
        yield Measure(f"Detail: {detail}", "what the environment says of the first failing step", cells)
    if any(m.gated for m in methods):
        yield from _gate_rows(methods)


def _gate_rows(methods: Sequence[DiagnosedMethod]) -> Iterator[Measure]:
    leads = "agent steps from recovery's last takeover to the failure, median, and what recovery needs"
    yield Measure("Lead time", leads, tuple(_lead(m) for m in methods))
    missed = "failures whose risk stayed below the threshold 4 to 10 steps before; those that the gate prevented are not among them"
    yield Measure("Realised miss rate", missed, tuple(_missed(m) for m in methods))
    caps = "times that recovery had to hand back although it was still wanted, per 10,000 agent steps"
    yield Measure("Cap hits per 10,000 steps", caps, tuple(_caps(m) for m in methods))
    z = "distance of recovery's action from the task policy's mean, in its standard deviations; mean over the iterations"
    yield Measure("z-score of gated steps", z, tuple(_plain(m.mean_of("z_median") if m.gated else None) for m in methods))
    share = "of the policy gradient's size; mean over the iterations in which recovery acted"
    yield Measure(
        "Gradient share of gated steps", share, tuple(_percent(m.mean_of("gated_grad_share") if m.gated else None) for m in methods)
    )


def _share(count: int, total: int) -> tuple[str, str]:
    return (f"{count:,}", _percent(count / total)[0]) if total else ("\u2013", "")


def _detail(method: DiagnosedMethod, detail: str) -> tuple[str, str]:
    told = [row["failure_detail"] for row in method.failing if row.get("failure_detail") is not None]
    return _share(told.count(detail), len(told))


def _lead(method: DiagnosedMethod) -> tuple[str, str]:
    needed = min((run.needed for run in method.runs), default=0)
    return (f"{np.median(method.leads):g}", f"needs {needed}") if method.leads else ("\u2013", "")


def _missed(method: DiagnosedMethod) -> tuple[str, str]:
    missed, told = method.missed()
    if not told:
        return "\u2013", ""
    interval, promised = wilson(missed, told), method.runs[0].promised
    below = f"{missed} of {told}"
    if interval is not None:
        below += f", {_percent(interval.low)[0]}\u2009\u2013\u2009{_percent(interval.high)[0]}"
    return _percent(missed / told)[0], below + (f"; promised {_percent(promised)[0]}" if promised is not None else "")


def _caps(method: DiagnosedMethod) -> tuple[str, str]:
    if not method.gated:
        return "\u2013", ""
    hits = sum(row.get("cap_hits") or 0 for run in method.runs for row in run.run.episodes)
    return f"{1e4 * hits / max(1, len(method.runs) * method.steps):.2g}", f"{hits:,} in all"


def _plain(value: float | None) -> tuple[str, str]:
    return ("\u2013", "") if value is None else (f"{value:.2g}", "")


def _percent(value: float | None) -> tuple[str, str]:
    if value is None:
        return "\u2013", ""
    return f"{100 * value:.{1 if 0 < abs(value) < 0.0995 else 0}f}\u00a0%", ""


def _lacking(methods: Sequence[DiagnosedMethod]) -> Iterator[str]:
    """What the figures cannot say, and why."""
    runs = [run for method in methods for run in method.runs if run.failing]
    if older := [run.run.name for run in runs if any("lead" not in row for row in run.failing)]:
        yield (
            f"Recorded before lead times, warnings and failure details were: {_listed(older)}. Whether recovery had come too late "
            "cannot be told there of most failures, and they are counted as recovery failing."
        )
    if unjudged := [run.run.name for run in runs if not run.diagnosis.settings]:
        yield (
            f"Not examined in the simulator: {_listed(unjudged)}. Nothing is known there to be unavoidable; run "
            "`farl diagnose STUDY` and write the report again."
        )
    for why in dict.fromkeys(run.diagnosis.oracle for run in runs if run.diagnosis.oracle):
        names = [run.run.name for run in runs if run.diagnosis.oracle == why]
        yield f"Could not be examined in the simulator: {_listed(names)} ({why})."
    examined = [run for run in runs if run.diagnosis.settings and not run.diagnosis.oracle]
    if partly := [f"{r.run.name} ({r.judged} of {len(r.failing)})" for r in examined if r.judged < len(r.failing)]:
        yield f"Examined in the simulator only in part, the other failures judged by their record alone: {_listed(partly)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
