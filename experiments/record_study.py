"""Record a finished study as a page of numbers that can be committed.

    python experiments/record_study.py studies/quickstart results/quickstart.md --command "make demo"

One row per run with counts, rates and where the time went; the bundles' acceptance checks; versions and hardware.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from farl.compare.records import Run, find_runs
from farl.compare.summary import Comparison, compare_runs
from farl.files import write_text

COLUMNS = (
    "method", "seed", "steps", "episodes", "successes", "failures", "per 10k steps", "failures / episode",
    "late success", "late steps", "gated", "causes: ungated / late / in recovery",
)  # fmt: skip
TIMES = ("method", "seed", "steps", "environment s", "gate s", "policy s", "update s", "wall s", "gate / environment")


def page(study: Path, command: str) -> str:
    """The whole page as Markdown."""
    runs = find_runs(study)
    comparison = compare_runs(runs[0].task, runs)
    parts = [
        f"# {study.name}: {runs[0].task}",
        f"`{command}`",
        _versions(runs[0].meta),
        "## Runs",
        "Training episodes under exploration noise; *late* is over the last 100 episodes of a run.",
        _table(COLUMNS, [_counts(run) for run in runs]),
        _reductions(comparison),
        "## Evaluation",
        "The mean action on the same fixed seeds, before and after training.",
        _evaluations(runs),
        "## Where the time goes",
        _table(TIMES, [_times(run) for run in runs]),
        "## Acceptance of the bundles",
        *(_acceptance(path) for path in sorted(study.glob("bundles/*/seed-*/acceptance.json"))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _versions(meta: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    hardware = ", ".join(f"{name} {value}" for name, value in meta["hardware"].items())
    return f"{versions}; commit {meta['git_commit']}; {hardware}; begun {meta['started']}"


def _counts(run: Run) -> list[str]:
    steps = run.metrics[-1]["step"]
    failed = [row for row in run.episodes if row["failed"]]
    causes = Counter(row["cause"] for row in failed)
    late = run.episodes[-100:]
    done = [row["length"] for row in late if row["outcome"] == "success"]
    gated = sum(row["gated_steps"] for row in run.episodes) / max(sum(row["length"] for row in run.episodes), 1)
    return [
        run.method, str(run.seed), str(steps), str(len(run.episodes)),
        str(sum(row["outcome"] == "success" for row in run.episodes)), str(len(failed)),
        f"{1e4 * len(failed) / steps:.1f}", f"{len(failed) / max(len(run.episodes), 1):.3f}",
        f"{len(done) / max(len(late), 1):.2f}", f"{sum(done) / max(len(done), 1):.0f}", f"{gated:.1%}",
        " / ".join(str(causes[name]) for name in ("ungated", "late", "during_recovery")),
    ]  # fmt: skip


def _reductions(comparison: Comparison) -> str:
    lines = []
    for method in comparison.methods:
        if method.reduction is not None:
            r = method.reduction
            seeds = ", ".join("-" if value is None else f"{value:.0%}" for value in r.per_seed)
            interval = f" (95 % interval {r.interval.low:.0%} to {r.interval.high:.0%})" if r.interval else ""
            lines.append(
                f"- {method.method} against {comparison.baseline} at {comparison.steps} steps: {r.value:.0%} fewer failure "
                f"episodes{interval}, {r.total} against {r.baseline_total}; by seed {seeds}"
            )
    return "\n".join(lines)


def _evaluations(runs: list[Run]) -> str:
    rows = []
    for run in runs:
        for gate in ("off", "on"):
            of_gate = [row for row in run.evaluations if row["gate"] == gate]
            for step in sorted({row["step"] for row in of_gate})[:: max(len({row["step"] for row in of_gate}) - 1, 1)]:
                at = [row for row in of_gate if row["step"] == step]
                success = sum(row["outcome"] == "success" for row in at)
                failed = sum(row["failed"] for row in at)
                mean = {key: sum(row[key] for row in at) / len(at) for key in ("length", "return")}
                counts = (f"{success} of {len(at)}", str(failed), f"{mean['length']:.0f}", f"{mean['return']:.0f}")
                rows.append([run.method, str(run.seed), gate, str(step), *counts])
    return _table(("method", "seed", "gate", "at step", "success", "failed", "length", "return"), rows)


def _times(run: Run) -> list[str]:
    last = run.metrics[-1]
    seconds = [last[name] for name in ("env_s", "gate_s", "policy_s", "update_s", "wall_s")]
    ratio = last["gate_s"] / max(last["env_s"], 1e-9)
    return [run.method, str(run.seed), str(last["step"]), *(f"{value:.0f}" for value in seconds), f"{ratio:.2f}"]


def _acceptance(path: Path) -> str:
    checks = json.loads(path.read_text())
    mark = {True: "met", False: "**not met**", None: "not measured"}
    rows = [[c["name"], c["value"], c["target"], mark[c["met"]], c["note"]] for c in checks]
    return f"### {path.parent.name}\n\n" + _table(("check", "measured", "target", "", "note"), rows)


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--command", required=True, help="the command that made the study")
    arguments = parser.parse_args()
    write_text(arguments.out, page(arguments.study, arguments.command))
    print(arguments.out)


if __name__ == "__main__":
    main()
