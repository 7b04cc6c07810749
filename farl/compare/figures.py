"""The figures of the report, as SVG text that lies inside the page and takes its colours from it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from farl.compare.palette import COLOURS, FAINT, GREY, INK, Colour
from farl.compare.published import AGENT_STEPS, PublishedRow, published_rows
from farl.compare.records import Run
from farl.compare.summary import CAUSES, Comparison, Estimate, MethodSummary

Array = NDArray[np.float64]
Colours = dict[str, Colour]

STYLE = {
    "svg.fonttype": "none",   # text stays text: it takes the page's font and can be searched
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "text.color": INK.light,
    "axes.labelcolor": GREY.light,
    "axes.edgecolor": FAINT.light,
    "xtick.color": FAINT.light,
    "ytick.color": FAINT.light,
    "xtick.labelcolor": GREY.light,
    "ytick.labelcolor": GREY.light,
    "grid.color": FAINT.light,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
SIZE = (5.4, 3.1)
CAUSE_COLOURS = {"ungated": "grey", "late": "amber", "during_recovery": "purple"}
CAUSE_WORDS = {
    "ungated": "no gate, or it stayed open",
    "late": "predicted too late",
    "during_recovery": "while recovery was acting",
}


@dataclass(frozen=True)
class Plot:
    """A figure with the words around it."""

    key: str
    title: str
    svg: str
    caption: str


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
    figure, axes = _axes()
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
    _steps_axis(axes)
    axes.set_ylabel("failure episodes")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return Plot("cumulative", "Failures while learning", _svg(figure, "cumulative", comparison),
                "Episodes with at least one failure so far. Thin: single runs; thick: their mean.")   # fmt: skip


def _failure_ends(run: Run) -> Array:
    return np.sort(np.array([row["end_step"] for row in run.episodes if row["failed"]], dtype=np.float64))


def success_over_steps(comparison: Comparison, colours: Colours) -> Plot | None:
    """Success rate in training."""
    figure, axes = _learning(comparison, colours, "success_rate")
    axes.set_ylabel("success rate")
    _percent_axis(axes)
    caption = "Share of successes among the last 100 training episodes, with exploration and the method's own gate."
    return Plot("success", "Success while learning", _svg(figure, "success", comparison), caption)


def return_over_steps(comparison: Comparison, colours: Colours) -> Plot | None:
    """Return in training."""
    figure, axes = _learning(comparison, colours, "return_mean")
    axes.set_ylabel("return of an episode")
    caption = (
        "Sum of raw rewards, mean of the last 100 training episodes. An episode ends at success, so a quicker success can mean a "
        "smaller return: read it together with the success rate."
    )
    return Plot("return", "Return while learning", _svg(figure, "return", comparison), caption)


def _learning(comparison: Comparison, colours: Colours, key: str) -> tuple[Figure, Axes]:
    figure, axes = _axes()
    for run in _left_out(comparison):
        axes.plot(*run.curve(key), color=colours[run.method].light, lw=0.8, alpha=0.5, ls=":")
    for summary in comparison.methods:
        _mean_curve(axes, summary.runs, key, colours[summary.method].light, summary.method)
    _steps_axis(axes)
    _legend(axes)
    return figure, axes


def _mean_curve(axes: Axes, runs: Sequence[Run], key: str, colour: str, label: str) -> None:
    curves = [curve for run in runs if len((curve := run.curve(key))[0])]
    if not curves:
        return
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= max(steps[0] for steps, _ in curves)) & (grid <= min(steps[-1] for steps, _ in curves))]
    if len(curves) > 1:
        for steps, values in curves:
            axes.plot(steps, values, color=colour, lw=0.8, alpha=0.45)
    axes.plot(
        grid,
        np.mean([np.interp(grid, steps, values) for steps, values in curves], axis=0),
        color=colour,
        lw=2.0,
        label=label,
    )


def evaluated_success(comparison: Comparison, colours: Colours) -> Plot | None:
    """Success rate of the evaluations, with the gate on and off."""
    figure, axes = _evaluations(comparison, colours, lambda row: float(row["outcome"] == "success"))
    axes.set_ylabel("success rate")
    _percent_axis(axes)
    caption = (
        "The mean action without exploration, on fixed seeds, all runs together. Filled: gate on; hollow and dashed: gate off, "
        "which is what the task policy can do by itself."
    )
    return _if_drawn(axes, Plot("evaluated", "Success in evaluation", _svg(figure, "evaluated", comparison), caption))


def evaluated_failures(comparison: Comparison, colours: Colours) -> Plot | None:
    """Failures of the evaluations, with the gate on and off."""
    figure, axes = _evaluations(comparison, colours, lambda row: float(row["failed"]))
    axes.set_ylabel("episodes with a failure")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    caption = (
        "The same evaluations. A gap between hollow and filled dots at the end is safety that still depends on the gate; "
        "none is safety that the task policy has learnt."
    )
    return _if_drawn(
        axes,
        Plot("evaluated-failures", "Failures in evaluation", _svg(figure, "evaluated-failures", comparison), caption),
    )


def _evaluations(
    comparison: Comparison, colours: Colours, measure: Callable[[dict[str, Any]], float]
) -> tuple[Figure, Axes]:
    figure, axes = _axes()
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
    _steps_axis(axes)
    _legend(axes)
    return figure, axes


def _if_drawn(axes: Axes, plot: Plot) -> Plot | None:
    return plot if any(np.size(line.get_xdata()) for line in axes.lines) else None


def success_against_failures(comparison: Comparison, colours: Colours) -> Plot | None:
    """What success cost in failures: every run as a path through (cumulative failures, success rate)."""
    figure, axes = _axes()
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
    _percent_axis(axes)
    _legend(axes)
    return Plot("pareto", "Success against failures", _svg(figure, "pareto", comparison),
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
            axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        else:
            axes.set_xlim(left=0)
    return Plot("runs", "Every run", _svg(figure, "runs", comparison),
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
    figure, axes = _axes()
    for summary in gating:
        _mean_curve(axes, summary.runs, "gated_fraction", colours[summary.method].light, summary.method)
    _steps_axis(axes)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_ylabel("agent steps under recovery")
    _legend(axes)
    return Plot("gated", "How often recovery acted", _svg(figure, "gated", comparison),
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
    figure, axes = _axes()
    longest = max(max(lengths) for lengths in bursts.values())
    edges = np.arange(0.5, longest + 1.5, max(1, longest // 25))
    for method, lengths in bursts.items():
        _outline(axes, np.asarray(lengths, dtype=np.float64), edges, colours[method].light, method)
    axes.set_xlabel("agent steps in a row")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_ylabel("share of bursts")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return Plot("bursts", "How long recovery kept control", _svg(figure, "bursts", comparison),
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
    return Plot("causes", "What the gate did about each failure", _svg(figure, "causes", comparison),
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
    figure, axes = _axes()
    edges = np.linspace(0, max(1e-6, *(row["risk_max"] for row in rows)), 31)
    for (name, risks), colour in zip(groups.items(), (GREY.light, colours[summary.method].light), strict=True):
        if risks:
            _outline(axes, np.asarray(risks, dtype=np.float64), edges, colour, f"{name} episodes ({len(risks):,})")
    axes.set_xlabel("highest risk of the episode")
    axes.set_ylabel("share of episodes")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return Plot("risk", f"Predicted risk ({summary.method})", _svg(figure, "risk", comparison),
                "The further right the failed episodes lie of the clean ones, the better the world model tells them apart; "
                "clean ones on the right include failures that recovery prevented.")   # fmt: skip


def _outline(axes: Axes, values: Array, edges: Array, colour: str, label: str) -> None:
    """A histogram as shares, so that groups of unequal size can be compared."""
    share = np.histogram(values, edges)[0] / max(1, len(values))
    axes.stairs(share, edges, color=colour, lw=1.6, label=label)
    axes.stairs(share, edges, color=colour, fill=True, alpha=0.15, lw=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))


# ---------------------------------------------------------------- published


def published_reduction(comparison: Comparison, colours: Colours) -> Plot | None:
    """Failures per 10,000 steps, published beside ours."""
    published = [row for row in published_rows(comparison.task) if row.per_10k is not None]
    if not published:
        return None
    figure, axes = _axes((SIZE[0], 2.7))
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
    return Plot("published", "Beside the published figures", _svg(figure, "published", comparison),
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


# ---------------------------------------------------------------- drawing


def _axes(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _left_out(comparison: Comparison) -> list[Run]:
    compared = {run.folder for summary in comparison.methods for run in summary.runs}
    return [run for run in comparison.all_runs if run.folder not in compared and run.steps > 0]


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = max(1, min(len(labels), 72 // (max(map(len, labels)) + 7)))   # as many as fit the width
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=columns,
            handlelength=1.4,
            borderaxespad=0.2,
        )


def _steps_axis(axes: Axes) -> None:
    axes.set_xlabel("agent steps")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def short_count(value: float) -> str:
    """Counts as people say them: 50k, 1.5M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.3g}\u2009%"


def _percent_axis(axes: Axes) -> None:
    axes.set_ylim(-0.02, 1.03)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))


def _svg(figure: Figure, key: str, comparison: Comparison) -> str:
    """SVG text without its own size, colours or shared ids: it scales with the page and follows its theme."""
    salt = re.sub(r"\W", "-", f"{comparison.task}-{key}")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', text, count=1)
    text = re.sub(r'\bid="', f'id="{salt}-', text)   # ids are shared by all figures of a page
    text = re.sub(r'(url\(#|href="#)', rf"\1{salt}-", text)
    text = re.sub(r"font: ([^;\"']*?)'?sans-serif'?[^;\"]*", r"font: \1sans-serif", text)
    for colour in COLOURS:
        text = re.sub(colour.light, f"var(--{colour.name})", text, flags=re.IGNORECASE)
    return text
