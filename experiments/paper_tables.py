"""The generated tables of docs/results.md, between its markers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.paper_rows import BASELINE, METHODS, Group, TaskRows, ablated, main_rows
from experiments.tables import markdown
from farl.compare.published import published_rows
from farl.compare.statistics import Reduction
from farl.compare.summary import CAUSES
from farl.errors import UserError
from farl.files import write_text

END = "<!-- end -->"


def begin(name: str) -> str:
    """The line before the table called ``name``."""
    return f"<!-- {name}: made by experiments.paper_figures -->"


def fill(page: Path, tasks: Sequence[TaskRows], images: Path) -> None:
    """Put figure and table between each pair of markers; raises UserError where a pair is missing."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCKS:
        before, marker, rest = text.partition(begin(block.name))
        _, end, after = rest.partition(END)
        if not marker or not end:
            raise UserError(f"{page} has no lines '{begin(block.name)}' and '{END}' to put a table between")
        picture = images / f"{block.figure}.png"
        shown = (
            [f"![{block.about}]({os.path.relpath(picture, page.parent)})"] if block.figure and picture.exists() else []
        )
        shown += [made] if block.table is not None and (made := block.table(tasks)) else []
        parts = [f"{before}{marker}", *(shown or ["No runs yet."]), f"{end}{after}"]
        text = "\n\n".join(parts)
    write_text(page, text)


def failures(tasks: Sequence[TaskRows]) -> str:
    """Failure episodes of a run, and the reductions with their intervals."""
    head = (
        "task",
        "agent steps",
        "seeds",
        *METHODS,
        "farl-paper: fewer than uni-o4",
        "farl: fewer than uni-o4",
        "published",
    )
    rows = []
    for one in main_rows(tasks):
        groups = one.shown()
        steps = one.common_steps(groups)
        rows.append([
            one.task, f"{steps:,}", str(max(len(group.runs) for group in groups)),
            *(_counts(one.of(method), steps) for method in METHODS),
            *(_reduction(one, method, steps) for method in METHODS[1:]),
            _published_reduction(one.task),
        ])  # fmt: skip
    return markdown(head, rows) if rows else ""


def _counts(group: Group | None, steps: int) -> str:
    if group is None:
        return "-"
    counts = group.failures(steps)
    return f"{np.mean(counts):.0f} ({', '.join(map(str, counts))})" if len(counts) > 1 else f"{counts[0]}"


def _reduction(one: TaskRows, method: str, steps: int) -> str:
    group = one.of(method)
    less = None if group is None else one.reduction(group, steps)
    if less is None:
        return "-"
    interval = "" if less.interval is None else f" ({100 * less.interval.low:.0f} to {100 * less.interval.high:.0f})"
    return f"{100 * less.value:.1f} %{interval}"


def _published_reduction(task: str) -> str:
    values = [row.reduction for row in published_rows(task) if row.reduction is not None]
    return f"{100 * values[0]:.1f} %" if values and "Hard" not in task else "-"


def mean_reductions(tasks: Sequence[TaskRows]) -> str:
    """Means over tasks, those with the published boundary and all."""
    lines = []
    for method in METHODS[1:]:
        values = {one.task: less.value for one in main_rows(tasks) if (less := _of(one, method)) is not None}
        stock = [value for task, value in values.items() if "Hard" not in task]
        for which, chosen in (("the published boundaries", stock), ("all tasks above", list(values.values()))):
            if chosen:
                lines.append(
                    f"- `{method}`, {which} ({len(chosen)}): {100 * np.mean(chosen):.1f} %, least {100 * min(chosen):.1f} %"
                )
    return "\n".join(lines)


def _of(one: TaskRows, method: str) -> Reduction | None:
    group = one.of(method)
    return None if group is None else one.reduction(group, one.common_steps(one.shown()))


def performance(tasks: Sequence[TaskRows]) -> str:
    """What the policies can do: before and after, with the mean action."""
    head = (
        "task", "method", "success", "failure", "steps to success", "return until success", "normalised return",
        "published", "gate off: success", "failure", "normalised return",
    )  # fmt: skip
    rows = []
    for one in main_rows(tasks):
        for group in one.shown():
            if not group.deployed("success"):
                continue
            rows.append([
                one.task, group.method, *(_change(group, name, 100) for name in ("success", "failure")),
                *(_change(group, name) for name in ("steps_to_success", "return_until_success", "normalised")),
                _published_returns(one.task, group.method),
                *(_mean(group.values(f"{name}_gate_off"), 100) for name in ("success", "failure")),
                _mean(group.values("normalised_gate_off")),
            ])  # fmt: skip
    return markdown(head, rows) if rows else ""


def _change(group: Group, measure: str, scale: float = 1) -> str:
    return f"{_mean(group.deployed(measure, start=True), scale)} → {_mean(group.deployed(measure), scale)}"


def _mean(values: Sequence[float], scale: float = 1) -> str:
    return f"{scale * np.mean(values):.0f}{' %' if scale == 100 else ''}" if len(values) else "-"


def _published_returns(task: str, method: str) -> str:
    """What the publication calls FARL is ``farl-paper`` here."""
    theirs = {"farl-paper": "farl", BASELINE: BASELINE}.get(method)
    found = [row.returns for row in published_rows(task) if row.method == theirs and row.returns is not None]
    return f"{found[0][0]:.0f} → {found[0][1]:.0f}" if found and "Hard" not in task else "-"


def training(tasks: Sequence[TaskRows]) -> str:
    """What training was like: success, time to success, whose fault the failures were, and where the time went."""
    head = (
        "task", "method", "episodes", "late success", "late steps to success", "failures ungated / late / in recovery",
        "gated", "wall s", "environment s", "gate s", "policy s", "update s",
    )  # fmt: skip
    rows = []
    for one in main_rows(tasks):
        for group in one.shown():
            rows.append([
                one.task, group.method, _mean(group.values("episodes")), _mean(group.values("late_success_rate"), 100),
                _mean(group.values("late_steps_to_success")),
                " / ".join(f"{sum(group.values(cause)):.0f}" for cause in CAUSES),
                f"{100 * np.mean(group.values('gated_share') or [0.0]):.1f} %",
                *(_mean(group.values(name)) for name in ("wall_s", "env_s", "gate_s", "policy_s", "update_s")),
            ])  # fmt: skip
    return markdown(head, rows) if rows else ""


# ---------------------------------------------------------------- ablations


def ablations(tasks: Sequence[TaskRows]) -> str:
    """Every variant with its failures, its reduction, and what it does to success."""
    head = (
        "",
        "seeds",
        "failure episodes",
        "fewer than uni-o4 (so changed too, if it was)",
        "late success",
        "late steps to success",
        "gated",
        "gate / environment time",
    )
    parts = []
    for one in ablated(tasks):
        groups = ablation_order(one)
        steps = one.common_steps(groups)
        rows = []
        for group in groups:
            less = one.reduction(group, steps)
            pairs = zip(group.values("gate_s"), group.values("env_s"), strict=False)
            rows.append([
                label(group), str(len(group.runs)), _counts(group, steps), "-" if less is None else f"{100 * less.value:.0f} %",
                _mean(group.values("late_success_rate"), 100), _mean(group.values("late_steps_to_success")),
                f"{100 * np.mean(group.values('gated_share') or [0.0]):.1f} %",
                f"{np.mean([gate / max(env, 1e-9) for gate, env in pairs] or [0.0]):.2f}",
            ])  # fmt: skip
        parts.append(f"{one.task}, {steps:,} agent steps:\n\n{markdown(head, rows)}")
    return "\n\n".join(parts)


def ablation_order(one: TaskRows) -> list[Group]:
    """The published methods, the other methods, then the variants by setting, Uni-O4's under the same change beside farl's."""

    def place(group: Group) -> tuple[object, ...]:
        published = METHODS.index(group.method) if group.method in METHODS else len(METHODS)
        return bool(group.variant), *_natural(group.variant), published, group.method

    return sorted(one.groups, key=place)


def _natural(variant: str) -> tuple[str, float]:
    """Settings in alphabetical order, the values of one as numbers."""
    name, _, value = variant.partition("=")
    try:
        return name.removeprefix("offline."), float(value)
    except ValueError:
        return variant.removeprefix("offline."), 0.0


def label(group: Group) -> str:
    """``farl``, ``mppi``, or what was changed: ``horizon 5``."""
    if not group.variant:
        return group.method
    changes = (change.partition("=") for change in group.variant.split())
    text = ", ".join(f"{'.'.join(name.removeprefix('offline.').split('.')[-2:])} {value}" for name, _, value in changes)
    return text if group.method == "farl" else f"{group.method}: {text}"


def relative(one: TaskRows, group: Group, steps: int) -> NDArray[np.float64]:
    """Failures of each seed in per cent of those of Uni-O4, as published in every setting, on the same seed."""
    baseline = one.of(BASELINE)
    theirs = {} if baseline is None else {run.seed: run.failures_at(steps) for run in baseline.runs}
    pairs = [(run.failures_at(steps), theirs[run.seed]) for run in group.runs if theirs.get(run.seed)]
    return np.array([100 * ours / base for ours, base in pairs])


@dataclass(frozen=True)
class Block:
    """What stands between a pair of markers."""

    name: str
    table: Callable[[Sequence[TaskRows]], str] | None
    figure: str = ""
    about: str = ""


BLOCKS = (
    Block("failures", failures, "results_failures", "Failure episodes in training, beside the published ones"),
    Block("mean reductions", mean_reductions),
    Block("curves", None, "results_curves", "Failure episodes over agent steps"),
    Block("performance", performance, "results_returns", "Returns before and after, beside the published ones"),
    Block("training", training),
    Block(
        "ablations", ablations, "results_ablations", "Every method, and farl with one setting changed, beside Uni-O4"
    ),
)
