"""What whole sessions on an arm, or on its twin, came to: counts, what the gate did, how well the loop kept its time.

    farl robot session configs/robot/fragile_push_wall.yaml --twin --bundle BUNDLE --out runs/robot/wall
    python -m experiments.robot_sessions runs/robot/wall ... --out results/robot_sessions.md

It reads the journals that are there, also of a session that still runs.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import markdown
from farl.compare.records import read_rows
from farl.files import write_text
from robots.session.journal import read_manifest, read_steps
from robots.session.record import StepRecord

COUNTS = (
    "session",
    "episodes",
    "lost",
    "success, first / second half",
    "failure episodes",
    "failing steps",
    "recoveries (steps)",
)
TIMES = ("session", "steps", "policy versions", "period, ms", "decision, ms", "finger behind its reference, mm", "held")


def counts(folder: Path) -> list[str]:
    """A row of the first table."""
    lines, lost = read_rows(folder / "episodes.jsonl"), read_rows(folder / "lost.jsonl")
    reasons = Counter(str(line.get("reason", "?")) for line in lost)
    half = len(lines) // 2
    shares = (share([line["outcome"] == "success" for line in part]) for part in (lines[:half], lines[half:]))
    return [
        folder.name,
        str(len(lines)),
        ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "0",
        " / ".join(shares),
        str(sum(line["failed"] for line in lines)),
        str(sum(line["failing_steps"] for line in lines)),
        f"{sum(line['recoveries'] for line in lines)} ({sum(line['recovery_steps'] for line in lines)})",
    ]


def share(true: Sequence[bool]) -> str:
    """In per cent."""
    return f"{100 * sum(true) / len(true):.0f} %" if true else "-"


def times(folder: Path) -> list[str]:
    """A row of the second table."""
    steps = read_steps(folder / "session").records
    behind = [1e3 * math.dist(step.tip[:2], step.reference[:2]) for step in steps]
    return [
        folder.name,
        str(len(steps)),
        str(max((step.policy_version for step in steps), default=0) + 1),
        spread([1e3 * step.period for step in steps if step.step > 0]),
        spread([1e3 * step.decision for step in steps]),
        spread(behind),
        held(steps),
    ]


def held(steps: Sequence[StepRecord]) -> str:
    """How many steps held the arm, and why."""
    reasons = Counter(", ".join(step.clipped) for step in steps if "held" in step.clipped)
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.items()) or "0"


def spread(values: Sequence[float]) -> str:
    """Median, 99th percentile, largest."""
    if not values:
        return "-"
    middle, most = np.percentile(values, [50, 99])
    return f"{middle:.1f} / {most:.1f} / {max(values):.1f}"


def page(folders: Sequence[Path], rows: Sequence[tuple[list[str], list[str]]]) -> str:
    """Both tables, and what they are of."""
    made: list[dict[str, Any]] = [read_manifest(folder / "session") for folder in folders]
    commits = sorted({str(manifest["git_commit"]) for manifest in made})
    arms = sorted({str(manifest["robot"]) for manifest in made})
    return "\n".join(
        [
            "# Whole sessions",
            "",
            f"`python -m experiments.robot_sessions {' '.join(folder.name for folder in folders)}`; sessions of commit "
            f"{', '.join(commits)}, {', '.join(arms)}.",
            "",
            "Episodes that count, and those lost to a fault, which were played again. A failing step is one whose margin was",
            "at or below zero, as in the published robot figures.",
            "",
            markdown(COUNTS, [count for count, _ in rows]),
            "",
            "Median / 99th percentile / largest of every step. The period is between two commands; a decision is policy, gate and",
            "recovery, from the observation on. A held step is one in which the arm stood instead of following.",
            "",
            markdown(TIMES, [time for _, time in rows]),
            "",
        ]
    )


def main() -> None:
    """Read, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = page(arguments.folders, [(counts(folder), times(folder)) for folder in arguments.folders])
    print(text)
    if arguments.out:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
