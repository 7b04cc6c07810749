"""What the scripted experts achieve, as pages: all of it, and a table for every task's own page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from experiments.rollouts import TIPPED

Row = dict[str, Any]
Measured = dict[str, Any]
"""a file of results/experts: task, versions, rows by name"""

PAGE = Path("results/experts.md")
TASK_PAGES = Path("docs/tasks")
BEGIN, END = "<!-- made by experiments.experts_table -->", "<!-- end -->"
LEADS = (3, 5, 8)


def write_pages(folder: Path) -> list[Path]:
    """Write the page of everything and the tables of the tasks' pages from the measurements in ``folder``."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    PAGE.write_text(everything(found))
    written = [PAGE]
    families: dict[str, list[Measured]] = {}
    for one in found:
        if f"recovery, lead {LEADS[-1]}" not in one["rows"]:
            continue  # interrupted: its page keeps the tables it has
        families.setdefault(page_of(one["task"]), []).append(one)
    for name, ids in families.items():
        path = TASK_PAGES / name
        before, begin, rest = path.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{path} has no lines '{BEGIN}' and '{END}' to put the tables between")
        ids.sort(key=lambda one: len(one["task"]))  # -v0 before -Hard-v0
        path.write_text(before + begin + "\n\n" + "\n".join(tables(ids)) + "\n" + end + after)
        written.append(path)
    return written


def page_of(task: str) -> str:
    """The name of a task's page: FailureBench/BoundedPush-Hard-v0 is described in bounded_push.md."""
    name = re.sub(r"(-Hard)?-v\d+$", "", task.partition("/")[2])
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() + ".md"


def short_id(one: Measured) -> str:
    """v0 or Hard-v0."""
    return str(one["task"]).partition("/")[2].partition("-")[2]


def everything(found: list[Measured]) -> str:
    """All tasks, all rows."""
    known = {name: number for one in found for name, number in one["versions"].items()}
    versions = ", ".join(f"{name} {number}" for name, number in known.items())
    lines = ["# Scripted experts", "", "`OMP_NUM_THREADS=1 python -m experiments.experts_table`", "", versions, ""]
    for one in found:
        lines += [f"## {one['task']}", "", *_rates(one["rows"]), "", *_recoveries([one]), ""]
    return "\n".join(lines)


SHARES = "| success | failure | success without failure | tipped | return | steps to success | to failure |"


def tables(ids: list[Measured]) -> list[str]:
    """Three tables for the page of a task: without noise, with noise, recovery."""
    lines = [
        f"Without noise, until success (median steps; tipped: |cos| of the object's axis below {TIPPED}):",
        "",
        f"| id | policy | episodes {SHARES}",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in ids:
        for kind in ("task", "pusher", "failure", "random"):
            lines.append(f"| {short_id(one)} | {kind} | {_cells(one['rows'][f'{kind}, noise 0'])} |")
    columns = [(one, kind) for kind in ("task", "pusher") for one in ids]
    lines += [
        "",
        "Episodes with a failure, and with success, under exploration noise (white, or OU with correlation 0.9):",
        "",
    ]
    heads = [f"{kind}, {short_id(one)}" for one, kind in columns]
    lines += [f"| noise | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    for noise in (name.partition(", noise ")[2] for name in ids[0]["rows"] if name.startswith("task, noise ")):
        rows = [one["rows"][f"{kind}, noise {noise}"] for one, kind in columns]
        cells = [f"{row['failure']:.0%}, {row['success']:.0%}" for row in rows]
        lines.append(f"| {noise} | {' | '.join(cells)} |")
    return [*lines, "", *_recoveries(ids)]


def _cells(row: Row) -> str:
    shares = " | ".join(f"{row[key]:.3f}" for key in ("success", "failure", "safe_success", "tipped"))
    steps = " | ".join(
        "-" if row[key] is None else f"{row[key]:.0f}" for key in ("steps_to_success", "steps_to_failure")
    )
    return f"{row['episodes']} | {shares} | {row['return']:.0f} | {steps}"


def _rates(rows: dict[str, Row]) -> list[str]:
    lines = [
        f"Noise is white, or OU (correlation 0.9), on all actions; tipped: |cos| of its axis below {TIPPED}; median steps.",
        "",
        f"| expert | episodes {SHARES}",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [f"| {name} | {_cells(row)} |" for name, row in rows.items() if not name.startswith("recovery")]


def _recoveries(ids: list[Measured]) -> list[str]:
    plans = 27 if "/Franka" in ids[0]["task"] else 162
    lines = [
        "Recovery, taking over some agent steps before a failure of pushers and failure seekers: share without a violation after "
        f"that. Beyond help: none of {plans} plans avoids the failure either.",
        "",
        "| id | steps before | states | saved | of those not beyond help | lost, not beyond it | beyond help | by standing still |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in ids:
        for lead in LEADS:
            row = one["rows"].get(f"recovery, lead {lead}")
            if row is None:
                continue
            count, saved, beyond = row["states"], row["saved"], row["lost_by_physics"]
            shares = f"{saved / count:.1%} | {saved / max(count - beyond, 1):.1%}"
            still = f"{row['saved_by_holding'] / count:.1%}"
            lines.append(
                f"| {short_id(one)} | {lead} | {count} | {shares} | {row['lost_but_savable']} | {beyond} | {still} |"
            )
    return lines
