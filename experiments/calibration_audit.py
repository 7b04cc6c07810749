"""Promised against realised rates of missed failures, over runs that were only watched.

    farl online ... --method watched --out RUN
    python -m experiments.calibration_audit RUN... --out results/calibration.csv [--data DEMONSTRATIONS]

A run behind a gate hides which of its failures would have been missed; one that is watched shows it. ``--data`` calibrates the
runs' bundle again, as it must be for one that does not keep its warning scores.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from farl import configuration
from farl.algorithms.adaptive_threshold import AdaptiveThreshold
from farl.algorithms.calibration import Calibration, CalibrationConfig
from farl.algorithms.gate import Gate, GateConfig
from farl.data.episode_store import read_episodes
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.offline.pipeline import calibrate_bundle
from farl.online.run import OnlineConfig

PROMISES = (0.05, 0.1, 0.2)
CONFIDENCES = (0.0, 0.9)
ADAPTATIONS = (0.0, 0.05)
THIRDS = {"all": (0, 1), "first third": (0, 1 / 3), "second third": (1 / 3, 2 / 3), "last third": (2 / 3, 1)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of the method `watched`")
    parser.add_argument("--out", type=Path, required=True, help="CSV file that rows are added to")
    parser.add_argument("--data", type=Path, help="demonstrations to calibrate the bundle on again")
    given = parser.parse_args(arguments)
    rows = [row for run in given.runs for row in audit(run, given.data)]
    fresh = not given.out.exists()
    with given.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()))


def audit(run: Path, data: Path | None) -> Iterator[dict[str, Any]]:
    """A row per promise, confidence, adaptation and part of the run."""
    config = configuration.read(OnlineConfig, run / "config.yaml")
    calibration = calibrated(OfflineBundle.load(config.bundle, config.task), data)
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    if any(line["gated_steps"] for line in lines):
        raise UserError(
            f"{run} has gated steps: what its failures would have been is not known; give a run of `watched`"
        )
    steps = max(line["end_step"] for line in lines)
    for promise, confidence, adapt in itertools.product(PROMISES, CONFIDENCES, ADAPTATIONS):
        threshold = calibration.threshold_for(promise, confidence)
        gate = AdaptiveThreshold(Gate(GateConfig(), threshold, 1), calibration, promise, confidence, adapt)
        found = list(replay(lines, gate))
        for part, (start, end) in THIRDS.items():
            missed = [miss for at, miss in found if start * steps < at <= end * steps]
            yield {
                "task": config.task.name,
                "lr": config.ppo.lr,
                "seed": config.seed,
                "agent_steps": steps,
                "part": part,
                "promise": promise,
                "confidence": confidence,
                "adapt": adapt,
                "threshold": f"{threshold:.3g}",
                "safe_calibration_steps_gated": f"{calibration.gated_when_safe(threshold):.3f}",
                "failures": len(missed),
                "missed": sum(missed),
                "realised": f"{sum(missed) / len(missed):.3f}" if missed else "",
            }


def replay(lines: list[dict[str, Any]], gate: AdaptiveThreshold) -> Iterator[tuple[int, bool]]:
    """When each failure came that left time for a warning, and whether the gate as it then was would have missed it."""
    lead = gate.calibration.min_lead
    for line in lines:
        onset = line["first_failure"]
        risks = np.zeros(line["length"])
        if onset is not None and onset >= lead:
            # The largest early risk stands for all of them; None is a risk that is no number, on which recovery acts.
            risks[onset - lead] = math.nan if line["warning"] is None else line["warning"]
            yield line["end_step"], gate.missed(risks.tolist(), onset)
        gate.close(risks.tolist(), onset)


def calibrated(bundle: OfflineBundle, data: Path | None) -> Calibration:
    """The bundle's calibration, made again on ``data`` if that is given."""
    if data is not None:
        held_out = [e for split in ("train", "valid") for e in read_episodes(data / "calibration.hdf5", split)]
        calibrate_bundle(bundle, held_out, CalibrationConfig())
    if bundle.calibration is None:
        raise UserError("the runs' bundle is not calibrated; give --data")
    return bundle.calibration


if __name__ == "__main__":
    main()
