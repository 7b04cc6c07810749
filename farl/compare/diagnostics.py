"""The failures of a study by method and part of the run, as far as they were recorded and examined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from farl.compare.records import Record, Run, read_json
from farl.compare.summary import MethodSummary, gated_fraction
from farl.diagnosis.causes import Part
from farl.diagnosis.facts import has_gate, needed_lead
from farl.diagnosis.record import Avoided, Diagnosis, read_diagnosis

FIFTHS = 5
LAST = -1


@dataclass(frozen=True)
class DiagnosedRun:
    """A run with what is known of its failures."""

    run: Run
    diagnosis: Diagnosis

    @cached_property
    def failing(self) -> list[Record]:
        return [row for row in self.run.episodes if row["failed"]]

    @cached_property
    def gated(self) -> bool:
        return has_gate(self.run.meta, self.run.episodes)

    @cached_property
    def needed(self) -> int:
        return needed_lead(self.run.config)

    @cached_property
    def parts(self) -> list[Part]:
        """What each failing episode is put down to."""
        return [self.diagnosis.part(row, self.needed, self.gated) for row in self.failing]

    @cached_property
    def judged(self) -> int:
        """Failures that the simulator has judged."""
        judged = {one.episode for one in self.diagnosis.examined.values() if one.saved_by}
        return sum(row["episode"] in judged for row in self.failing)

    @cached_property
    def threshold(self) -> float | None:
        """Risk above which recovery acts, or would act where a critic only watched; None without a critic."""
        if self.run.meta.get("threshold") is not None:
            return float(self.run.meta["threshold"])
        watched = any((row.get("risk_max") or 0) > 0 for row in self.run.episodes)
        calibrated = (self.bundle.get("calibration") or {}).get("threshold")
        return float(calibrated) if watched and calibrated is not None else None

    @cached_property
    def bundle(self) -> Record:
        """The manifest of the run's bundle, empty where it has gone."""
        found = read_json(Path(str(self.run.config.get("bundle", ""))) / "manifest.json")
        return found if isinstance(found, dict) else {}

    @cached_property
    def promised(self) -> float | None:
        """The miss rate that the run's gate was set for, or that its bundle's threshold keeps; None where none was promised."""
        gate, calibration = self.run.config.get("gate") or {}, self.bundle.get("calibration") or {}
        if gate.get("miss_rate") is not None or gate.get("threshold") is not None:
            return gate.get("miss_rate")
        kept = calibration.get("threshold", math.inf) <= calibration.get("miss_bound", -math.inf)
        return float(calibration["miss_rate"]) if kept else None

    def missed(self, rows: Iterable[Record]) -> tuple[int, int]:
        """Of these failures, those whose risk never rose above the threshold in time, and those that could have been told."""
        if self.threshold is None:
            return 0, 0
        told = [row for row in rows if row.get("warning") is not None]
        return sum(row["warning"] <= self._threshold_at(row["end_step"]) for row in told), len(told)

    def _threshold_at(self, step: int) -> float:
        """The threshold as last recorded before ``step``: an adaptive one is in every line of metrics."""
        past = [row["threshold"] for row in self.run.metrics if row.get("threshold") is not None and row["step"] < step]
        return float(past[LAST]) if past else float(self.threshold or 0.0)

    def fifth(self, row: Record, steps: int) -> int:
        """Which fifth of the compared steps an episode ended in, from 0."""
        return min(FIFTHS - 1, int(FIFTHS * max(0, row["end_step"] - 1) / max(1, steps)))


@dataclass(frozen=True)
class DiagnosedMethod:
    """The runs of one method."""

    method: str
    runs: tuple[DiagnosedRun, ...]
    steps: int

    @property
    def gated(self) -> bool:
        return any(run.gated for run in self.runs)

    @property
    def failing(self) -> list[Record]:
        return [row for run in self.runs for row in run.failing]

    @property
    def parts(self) -> list[Part]:
        return [part for run in self.runs for part in run.parts]

    @property
    def leads(self) -> list[int]:
        """Of the failures before which recovery had acted."""
        return [row["lead"] for row in self.failing if row.get("lead") is not None]

    def by_fifth(self) -> list[list[tuple[Record, Part]]]:
        """The failures of each fifth of the steps with what they are put down to."""
        fifths: list[list[tuple[Record, Part]]] = [[] for _ in range(FIFTHS)]
        for run in self.runs:
            for row, part in zip(run.failing, run.parts, strict=True):
                fifths[run.fifth(row, self.steps)].append((row, part))
        return fifths

    def drift(self, measure: str) -> list[float]:
        """A rate in every fifth of the steps, nan where it cannot be told.

        ``failures`` and ``caps`` (hits, both per 10,000 steps), ``gated``, ``missed``, and evaluated failures with the gate ``on``
        or ``off``.
        """
        return [self._rate(measure, fifth) for fifth in range(FIFTHS)]

    def _rate(self, measure: str, fifth: int) -> float:
        if measure in ("on", "off"):
            low, high = self.steps * fifth / FIFTHS, self.steps * (fifth + 1) / FIFTHS
            rows = [row for run in self.runs for row in run.run.evaluations if row["gate"] == measure]
            rows = [row for row in rows if low < row["step"] <= high or (fifth == 0 and row["step"] == 0)]
            return float(np.mean([row["failed"] for row in rows])) if rows else float("nan")
        inside = [[row for row in run.run.episodes if run.fifth(row, self.steps) == fifth] for run in self.runs]
        each = [row for rows in inside for row in rows]
        per_10k = 1e4 / max(1.0, len(self.runs) * self.steps / FIFTHS)
        if measure == "gated":
            return gated_fraction(each) if self.gated else float("nan")
        if measure == "caps":
            return per_10k * sum(row.get("cap_hits") or 0 for row in each) if self.gated else float("nan")
        failing = [[row for row in rows if row["failed"]] for rows in inside]
        if measure == "failures":
            return per_10k * sum(map(len, failing))
        missed, told = self._missed(failing)
        return missed / told if told else float("nan")

    def _missed(self, failing: Sequence[Sequence[Record]]) -> tuple[int, int]:
        pairs = [run.missed(rows) for run, rows in zip(self.runs, failing, strict=True)]
        return sum(missed for missed, _ in pairs), sum(told for _, told in pairs)

    def missed(self) -> tuple[int, int]:
        return self._missed([run.failing for run in self.runs])

    def reliability(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
        """Steps, failures, takeovers and summed risk by bin of risk, all runs together; None where none was recorded."""
        counts = [run.run.metrics[LAST].get("reliability") for run in self.runs if run.run.metrics]
        known = [np.asarray(count, dtype=np.float64) for count in counts if count]
        total = sum(known[1:], known[0]) if known else None
        return total if total is not None and total[:, 3].sum() > 0 else None

    def mean_of(self, key: str) -> float | None:
        """A column of ``metrics.jsonl`` over the iterations in which recovery acted."""
        rows = [row for run in self.runs for row in run.run.metrics if row.get("gated_fraction")]
        values = [row[key] for row in rows if row.get(key) is not None]
        return float(np.mean(values)) if values else None

    def avoided(self) -> list[Avoided]:
        """What would have avoided the failures, all runs together."""
        every = [one for run in self.runs for one in run.diagnosis.examined.values()]
        settings = next((run.diagnosis.settings for run in self.runs if run.diagnosis.settings), {})
        numbered = dict(enumerate(every))   # runs number their episodes alike
        return Diagnosis(settings=settings, examined=numbered).avoided()


def diagnosed_method(summary: MethodSummary) -> DiagnosedMethod:
    """The method's runs with what `farl diagnose` has found out about them."""
    runs = tuple(DiagnosedRun(run, read_diagnosis(run.folder)) for run in summary.runs)
    return DiagnosedMethod(summary.method, runs, summary.steps)
