"""The figures of the report, as SVG text that lies inside the page and takes its colours from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from farl.compare.drawing import (
    SIZE,
    STYLE,
    Array,
    Colours,
    Plot,
    legend,
    mean_curve,
    new_axes,
    outline,
    percent_axis,
    percent_tick,
    steps_axis,
    svg_text,
)
from farl.compare.palette import COLOURS, GREY, INK
from farl.compare.published import AGENT_STEPS, PublishedRow, published_rows
from farl.compare.records import Run
from farl.compare.summary import CAUSES, Comparison, Estimate, MethodSummary

CAUSE_COLOURS = {"ungated": "grey", "late": "amber", "during_recovery": "purple"}
CAUSE_WORDS = {
    "ungated": "no gate, or it stayed open",
    "late": "predicted too late",
    "during_recovery": "while recovery was acting",
}


def figures(comparison: Comparison, colours: Colours) -> dict[str, Plot]:
    """Every figure that the comparison has data for, by key."""
    with matplotlib.rc_context(STYLE):
        return {plot.key: plot for plot in _draw_all(comparison, colours)}


def _draw_all(comparison: Comparison, colours: Colours) -> Iterator[Plot]:
    drawings: list[Callable[[Comparison, Colours], Plot | None]] = [
        cumulative_failures,
        success_over_steps,
        return_over_steps,
        evaluated_success,
        evaluated_failures,
        success_against_failures,
        every_run,
        gated_over_steps,
        burst_lengths,
        failure_causes,
        episode_risk,
        published_reduction,
    ]
    for draw in drawings:
        plot = draw(comparison, colours)
        if plot is not None:
            yield plot


# ---------------------------------------------------------------- learning


def cumulative_failures(comparison: Comparison, colours: Colours) -> Plot | None:
    """Failure episodes so far over agent steps: thin lines are runs, the thick one is their mean."""
    figure, axes = new_axes()
    for run in _left_out(comparison):
        ends = _failure_ends(run)
        axes.step(np.r_[0, ends, run.steps], np.r_[0, np.arange(1, len(ends) + 1), len(ends)], where="post",
                  color=colours[run.method].light, lw=0.8, alpha=0.35, ls=":")   # fmt: skip
    for summary in comparison.methods:
        colour = colours[summary.method].light
        grid = np.linspace(0, comparison.steps, 201)
        counts = [np.searchsorted(_failure_ends(run), grid, side="right") for run in summary.runs]
        for count in counts if len(counts) > 1 else []:
            axes.plot(grid, count, color=colour, lw=0.8, alpha=0.45, drawstyle="steps-post")
        axes.plot(grid, np.mean(counts, axis=0), color=colour, lw=2.0, label=summary.method)
    steps_axis(axes)
    axes.set_ylabel("failure episodes")
    axes.set_ylim(bottom=0)
    legend(axes)
    return Plot("cumulative", "Failures while learning", svg_text(figure, "cumulative", comparison.task),
                "Episodes with at least one failure so far. Thin: single runs; thick: their mean.")   # fmt: skip


def _failure_ends(run: Run) -> Array:
    return np.sort(np.array([row["end_step"] for row in run.episodes if row["failed"]], dtype=np.float64))


def success_over_steps(comparison: Comparison, colours: Colours) -> Plot | None:
    """Success rate in training."""
    figure, axes = _learning(comparison, colours, "success_rate")
    axes.set_ylabel("success rate")
    percent_axis(axes)
    caption = "Share of successes among the last 100 training episodes, with exploration and the method's own gate."
    return Plot("success", "Success while learning", svg_text(figure, "success", comparison.task), caption)


def return_over_steps(comparison: Comparison, colours: Colours) -> Plot | None:
    """Return in training."""
    figure, axes = _learning(comparison, colours, "return_mean")
    axes.set_ylabel("return of an episode")
    caption = (
        "Sum of raw rewards, mean of the last 100 training episodes. An episode ends at success, so a quicker success can mean a "
        "smaller return: read it together with the success rate."
    )
    return Plot("return", "Return while learning", svg_text(figure, "return", comparison.task), caption)


def _learning(comparison: Comparison, colours: Colours, key: str) -> tuple[Figure, Axes]:
    figure, axes = new_axes()
    for run in _left_out(comparison):
        axes.plot(*run.curve(key), color=colours[run.method].light, lw=0.8, alpha=0.5, ls=":")
    for summary in comparison.methods:
        mean_curve(axes, summary.runs, key, colours[summary.method].light, summary.method)
    steps_axis(axes)
    legend(axes)
    return figure, axes


def evaluated_success(comparison: Comparison, colours: Colours) -> Plot | None:
    """Success rate of the evaluations, with the gate on and off."""
    figure, axes = _evaluations(comparison, colours, lambda row: float(row["outcome"] == "success"))
    axes.set_ylabel("success rate")
    percent_axis(axes)
    caption = (
        "The mean action without exploration, on fixed seeds, all runs together. Filled: gate on; hollow and dashed: gate off, "
        "which is what the task policy can do by itself."
    )
    return _if_drawn(axes, Plot("evaluated", "Success in evaluation", svg_text(figure, "evaluated", comparison.task), caption))


def evaluated_failures(comparison: Comparison, colours: Colours) -> Plot | None:
    """Failures of the evaluations, with the gate on and off."""
    figure, axes = _evaluations(comparison, colours, lambda row: float(row["failed"]))
    axes.set_ylabel("episodes with a failure")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    caption = (
        "The same evaluations. A gap between hollow and filled dots at the end is safety that still depends on the gate; "
        "none is safety that the task policy has learnt."
    )
    return _if_drawn(
        axes,
        Plot("evaluated-failures", "Failures in evaluation", svg_text(figure, "evaluated-failures", comparison.task), caption),
    )


def _evaluations(
    comparison: Comparison, colours: Colours, measure: Callable[[dict[str, Any]], float]
) -> tuple[Figure, Axes]:
    figure, axes = new_axes()
    for summary in comparison.methods:
        colour = colours[summary.method].light
        rows = [row for run in summary.runs for row in run.evaluations]
        for gate in ("on", "off"):
            steps = sorted({row["step"] for row in rows if row["gate"] == gate})
            means = [
                np.mean([measure(row) for row in rows if (row["gate"], row["step"]) == (gate, step)]) for step in steps
            ]
            fill, dashes = (colour, "-") if gate == "on" else ("none", "--")
            if steps:
                axes.plot(
                    steps, means, ls=dashes, lw=1.2, marker="o", ms=4.5, mew=1.2, mfc=fill, color=colour, clip_on=False
                )
        axes.plot([], [], color=colour, lw=2, label=summary.method)
    steps_axis(axes)
    legend(axes)
    return figure, axes


def _if_drawn(axes: Axes, plot: Plot) -> Plot | None:
    return plot if any(np.size(line.get_xdata()) for line in axes.lines) else None


def success_against_failures(comparison: Comparison, colours: Colours) -> Plot | None:
    """What success cost in failures: every run as a path through (cumulative failures, success rate)."""
    figure, axes = new_axes()
    for summary in comparison.methods:
        colour = colours[summary.method].light
        for run in summary.runs:
            rows = [row for row in run.settled() if row.get("success_rate") is not None]
            if rows:
                x, y = [row["failures"] for row in rows], [row["success_rate"] for row in rows]
                axes.plot(x, y, color=colour, lw=1.2, alpha=0.6)
                axes.plot(x[-1], y[-1], ls="", marker="o", ms=6, color=colour)
        axes.plot([], [], color=colour, lw=2, marker="o", ms=5, label=summary.method)
    axes.set_xlabel("failure episodes so far")
    axes.set_ylabel("success rate")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    percent_axis(axes)
    legend(axes)
    return Plot("pareto", "Success against failures", svg_text(figure, "pareto", comparison.task),
                "Each run as a path from left to right, its end a dot. Better is up and to the left: "
                "as successful after fewer failures.")   # fmt: skip


def every_run(comparison: Comparison, colours: Colours) -> Plot | None:
    """Each run as a dot, with the mean and its interval."""
    panels: list[tuple[str, Callable[[MethodSummary], Estimate], bool]] = [
        ("failure episodes per 10,000 steps", lambda summary: summary.per_10k, False),
        ("late success rate", lambda summary: summary.success_rate, True),
        ("late steps to success", lambda summary: summary.time_to_success, False),
    ]
    height = 0.75 + 0.34 * len(comparison.methods)
    figure = Figure(figsize=(SIZE[0] * 2.05, height), layout="constrained")
    for axes, (title, estimate, percent) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for place, summary in enumerate(comparison.methods):
            _dots(axes, place, estimate(summary), colours[summary.method].light)
        axes.set_yticks(range(len(comparison.methods)), [summary.method for summary in comparison.methods])
        axes.set_ylim(len(comparison.methods) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0, labelcolor=INK.light)
        axes.grid(axis="y", visible=False)
        axes.set_title(title, loc="left", color=GREY.light)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if percent:
            lowest = min(
                (min(e.per_run) for summary in comparison.methods if (e := estimate(summary)).per_run), default=0.0
            )
            axes.set_xlim(max(0.0, lowest - 0.15), 1.01)   # one percent more or less should not look like a result
            axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        else:
            axes.set_xlim(left=0)
    return Plot("runs", "Every run", svg_text(figure, "runs", comparison.task),
                "A dot is a run, the bar their mean, the line its 95 % interval (from three seeds on). "
                "Late: the last fifth of the steps.")   # fmt: skip


def _dots(axes: Axes, place: int, estimate: Estimate, colour: str) -> None:
    if estimate.value is None:
        return
    if estimate.interval is not None and estimate.interval.kind == "95 %":
        axes.plot([estimate.interval.low, estimate.interval.high], [place, place], color=colour, lw=1.4, alpha=0.6)
    axes.plot([estimate.value] * 2, [place - 0.22, place + 0.22], color=colour, lw=2.2)
    axes.plot(
        estimate.per_run, [place] * len(estimate.per_run), ls="", marker="o", ms=5.5, color=colour, alpha=0.75, mew=0
    )


# ---------------------------------------------------------------- the gate


def gated_over_steps(comparison: Comparison, colours: Colours) -> Plot | None:
    """How much of the time recovery acted."""
    gating = [summary for summary in comparison.methods if summary.gates]
    if not gating:
        return None
    figure, axes = new_axes()
    for summary in gating:
        mean_curve(axes, summary.runs, "gated_fraction", colours[summary.method].light, summary.method)
    steps_axis(axes)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_ylabel("agent steps under recovery")
    legend(axes)
    return Plot("gated", "How often recovery acted", svg_text(figure, "gated", comparison.task),
                "It should fall as the task policy learns to stay where recovery is not needed.")   # fmt: skip


def burst_lengths(comparison: Comparison, colours: Colours) -> Plot | None:
    """How long recovery kept control once it had it."""
    bursts = {
        summary.method: [length for run in summary.runs for row in run.episodes for length in row["bursts"]]
        for summary in comparison.methods
    }
    bursts = {method: lengths for method, lengths in bursts.items() if lengths}
    if not bursts:
        return None
    figure, axes = new_axes()
    longest = max(max(lengths) for lengths in bursts.values())
    edges = np.arange(0.5, longest + 1.5, max(1, longest // 25))
    for method, lengths in bursts.items():
        outline(axes, np.asarray(lengths, dtype=np.float64), edges, colours[method].light, method)
    axes.set_xlabel("agent steps in a row")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_ylabel("share of bursts")
    axes.set_ylim(bottom=0)
    legend(axes)
    return Plot("bursts", "How long recovery kept control", svg_text(figure, "bursts", comparison.task),
                "A pile at the right end is the cap on a burst: recovery was still wanted and had to let go.")   # fmt: skip


def failure_causes(comparison: Comparison, colours: Colours) -> Plot | None:
    """What the gate did about each failure."""
    counts = {summary.method: _causes(summary) for summary in comparison.methods if summary.total_failures}
    if not counts:
        return None
    palette = {colour.name: colour.light for colour in COLOURS}
    figure = Figure(figsize=(SIZE[0], 1.25 + 0.42 * len(counts)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(counts))
    for cause in CAUSES:
        widths = np.array([count[cause] for count in counts.values()], dtype=np.float64)
        axes.barh(
            list(counts), widths, left=left, height=0.55, color=palette[CAUSE_COLOURS[cause]], label=CAUSE_WORDS[cause]
        )
        left += widths
    for place, total in enumerate(left):
        axes.annotate(f"{total:.0f}", (total, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK.light)
    axes.set_xlim(0, 1.1 * max(left))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("failure episodes, all runs")
    figure.legend(loc="outside upper left", ncols=1, handlelength=1.0, fontsize=8)
    return Plot("causes", "What the gate did about each failure", svg_text(figure, "causes", comparison.task),
                "Stayed open: a better critic or a lower threshold would help. Too late: a longer look-ahead. "
                "While recovery was acting: a better recovery policy.")   # fmt: skip


def _causes(summary: MethodSummary) -> dict[str, int]:
    """Failures by cause; those of a method without a gate are ungated by nature."""
    causes = [row["cause"] or "ungated" for run in summary.runs for row in run.episodes if row["failed"]]
    return {cause: causes.count(cause) for cause in CAUSES}


def episode_risk(comparison: Comparison, colours: Colours) -> Plot | None:
    """The highest risk of an episode, failed and clean ones apart, for the gated method that the page leads with."""
    summary = next((one for one in [comparison.headline, *comparison.methods] if one is not None and one.gates), None)
    if summary is None:
        return None
    rows = [row for run in summary.runs for row in run.episodes if row.get("risk_max") is not None]
    groups = {
        "clean": [row["risk_max"] for row in rows if not row["failed"]],
        "failed": [row["risk_max"] for row in rows if row["failed"]],
    }
    figure, axes = new_axes()
    edges = np.linspace(0, max(1e-6, *(row["risk_max"] for row in rows)), 31)
    for (name, risks), colour in zip(groups.items(), (GREY.light, colours[summary.method].light), strict=True):
        if risks:
            outline(axes, np.asarray(risks, dtype=np.float64), edges, colour, f"{name} episodes ({len(risks):,})")
    axes.set_xlabel("highest risk of the episode")
    axes.set_ylabel("share of episodes")
    axes.set_ylim(bottom=0)
    legend(axes)
    return Plot("risk", f"Predicted risk ({summary.method})", svg_text(figure, "risk", comparison.task),
                "The further right the failed episodes lie of the clean ones, the better the world model tells them apart; "
                "clean ones on the right include failures that recovery prevented.")   # fmt: skip


# ---------------------------------------------------------------- published


def published_reduction(comparison: Comparison, colours: Colours) -> Plot | None:
    """Failures per 10,000 steps, published beside ours."""
    published = [row for row in published_rows(comparison.task) if row.per_10k is not None]
    if not published:
        return None
    figure, axes = new_axes((SIZE[0], 2.7))
    for place, row in enumerate(published):
        _bar(axes, place * 0.9, row.per_10k, colours[row.method].light, row, None)
    start = 0.9 * len(published) + 0.6
    shown = [summary for summary in comparison.methods if summary.per_10k.value is not None]
    for place, summary in enumerate(shown):
        _bar(axes, start + place * 0.9, summary.per_10k.value, colours[summary.method].light, None, summary)
    middle = [0.45 * (len(published) - 1), start + 0.45 * (len(shown) - 1)]
    axes.set_xticks(middle, [f"published ({AGENT_STEPS:,} steps)", f"this study ({comparison.steps:,} steps)"])
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("failure episodes per 10,000 steps")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    return Plot("published", "Beside the published figures", svg_text(figure, "published", comparison.task),
                "Compare the ratio within each group, not the heights across groups.")   # fmt: skip


def _bar(
    axes: Axes, place: float, height: float | None, colour: str, row: PublishedRow | None, summary: MethodSummary | None
) -> None:
    height = height or 0.0
    axes.bar(place, height, width=0.72, color=colour, alpha=0.85 if summary else 0.45)
    value = row.reduction if row else summary.reduction.value if summary and summary.reduction else None
    name = row.method if row else summary.method if summary else ""
    change = "" if value is None else f"\n{-100 * value:+.0f} %".replace("-", "\u2212")
    axes.annotate(
        name + change, (place, height), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8
    )


def _left_out(comparison: Comparison) -> list[Run]:
    compared = {run.folder for summary in comparison.methods for run in summary.runs}
    return [run for run in comparison.all_runs if run.folder not in compared and run.steps > 0]
