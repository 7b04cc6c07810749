"""The figures of the report's page of diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from farl.compare.diagnostic_table import Diagnostics
from farl.compare.diagnostics import FIFTHS, DiagnosedMethod
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
from farl.compare.palette import AMBER, BLUE, FAINT, GREEN, GREY, INK, PURPLE, SKY, VERMILLION, Colour
from farl.diagnosis.causes import WORDS, Part
from farl.diagnosis.oracle import CONSTANT, LEARNED, SCRIPTED, STILL

PART_COLOURS: dict[Part, Colour] = {
    "no_gate": FAINT,
    "critic_miss": VERMILLION,
    "late_gate": AMBER,
    "handed_back": SKY,
    "recovery_failing": PURPLE,
    "unavoidable": GREY,
}
WAYS = {LEARNED: BLUE, SCRIPTED: GREEN, STILL: AMBER, CONSTANT: GREY}
LOWEST = 1e-4
"""left and lower edge of the reliability diagram; smaller values lie on it"""


def diagnostic_figures(task: str, found: Diagnostics, colours: Colours) -> dict[str, Plot]:
    """Every figure there is data for, by key."""
    drawings: list[Callable[[str, Sequence[DiagnosedMethod], Colours], Plot | None]] = [
        parts_by_run,
        parts_over_the_run,
        reliability,
        lead_times,
        credit,
        drift,
        avoidable,
    ]
    with matplotlib.rc_context(STYLE):
        plots = [draw(task, found.methods, colours) for draw in drawings]
    return {plot.key: plot for plot in plots if plot is not None}


def parts_by_run(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """The failures of every run, put down to parts."""
    bars = [(f"{run.run.name} ({len(run.parts)})", run.parts) for method in methods for run in method.runs if run.parts]
    if not bars:
        return None
    figure = Figure(figsize=(SIZE[0], 1.35 + 0.3 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names = [name for name, _ in bars]
    _stack(axes.barh, names, [[parts.count(part) / len(parts) for _, parts in bars] for part in WORDS], 0.62)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK.light)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_xlabel("share of the run's failure episodes")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.0, fontsize=8)
    caption = (
        "In brackets the failures of the run. Unavoidable: nothing that was tried in the simulator, from up to 20 "
        "steps before, avoids the failure."
    )
    return _plot(figure, task, "diagnosis-parts", "Which part let it fail", caption)


def parts_over_the_run(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """The same in fifths of the run, for each method with a gate."""
    gating = [method for method in methods if method.gated and method.parts][:3]
    if not gating:
        return None
    figure = Figure(figsize=(SIZE[0], 1.0 + 1.5 * len(gating)), layout="constrained")
    for axes, method in zip(np.atleast_1d(figure.subplots(len(gating), 1, sharex=True)), gating, strict=True):
        parts = [[part for _, part in fifth] for fifth in method.by_fifth()]
        _stack(axes.bar, list(_fifths()), [[fifth.count(part) for fifth in parts] for part in WORDS], 0.7)
        axes.set_title(method.method, loc="left", color=colours[method.method].light)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="x", visible=False)
    figure.supylabel("failure episodes", fontsize=8.5, color=GREY.light)
    axes.set_xlabel("part of the run")
    caption = (
        "Failures of all runs by the fifth of the steps in which they came, in the colours of the figure beside."
    )
    return _plot(figure, task, "diagnosis-fifths", "The same over the run", caption)


def _stack(bar: Callable[..., object], places: Sequence[str], layers: Sequence[Sequence[float]], width: float) -> None:
    """One bar a place, a layer for each part that occurs."""
    base = np.zeros(len(places))
    horizontal = getattr(bar, "__name__", "") == "barh"
    for part, layer in zip(WORDS, layers, strict=True):
        if any(layer):
            options = {"left": base.copy(), "height": width} if horizontal else {"bottom": base.copy(), "width": width}
            bar(places, layer, color=PART_COLOURS[part].light, label=WORDS[part], **options)
            base += layer


def reliability(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """Predicted risk against failures that came, offline and online."""
    counts = [(method, table) for method in methods if (table := method.reliability()) is not None]
    offline = _offline(methods)
    if not counts and not offline:
        return None
    figure, axes = new_axes((SIZE[0], 3.6))
    axes.plot([LOWEST, 1], [LOWEST, 1], color=GREY.light, lw=0.8, ls=":")
    if offline:
        axes.plot(*_clipped(offline), ls="", marker="x", ms=5, mew=1.2, color=GREY.light, label="offline, held-out episodes")
    for method, table in counts:
        _online(axes, table, colours[method.method].light, f"{method.method}, online")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(LOWEST * 0.8, 1.25)
    axes.set_ylim(LOWEST * 0.8, 1.25)
    axes.set_xlabel("predicted risk")
    axes.set_ylabel("share that failed within 10 steps")
    legend(axes)
    caption = (
        "A dot on the dotted line is a risk that came true as often as predicted; below it, the critic is too "
        "anxious. Online: steps of the task policy after which it kept control. Vertical lines reach from no "
        "takeover hiding a failure to every one doing so. Dots on the lower edge: no failure at all."
    )
    return _plot(figure, task, "diagnosis-reliability", "Is a risk of 10 % one in ten?", caption)


def _offline(methods: Sequence[DiagnosedMethod]) -> list[tuple[float, float]]:
    """Bins of the bundles' calibration: mean predicted risk, observed frequency."""
    bundles = {str(run.run.config.get("bundle")): run.bundle for method in methods for run in method.runs}
    tables = [(bundle.get("calibration") or {}).get("reliability") or [] for bundle in bundles.values()]
    return [(float(row[0]), float(row[1])) for table in tables for row in table]


def _online(axes: Axes, table: Array, colour: str, label: str) -> None:
    steps, failed, taken, risk = table.T
    known = steps > 0
    steps, failed, taken, risk = steps[known], failed[known], taken[known], risk[known] / steps[known]
    x, low = _clipped(list(zip(risk, failed / steps, strict=True)))
    _, high = _clipped(list(zip(risk, (failed + taken) / steps, strict=True)))
    axes.vlines(x, low, high, color=colour, lw=1.0, alpha=0.45)
    alone = steps > taken
    dots = _clipped(list(zip(risk[alone], failed[alone] / (steps - taken)[alone], strict=True)))
    axes.plot(*dots, ls="", marker="o", ms=4.5, color=colour, label=label, clip_on=False)


def _clipped(points: Sequence[tuple[float, float]]) -> tuple[Array, Array]:
    table = np.clip(np.asarray(points, dtype=np.float64).reshape(-1, 2), LOWEST, 1.0)
    return table[:, 0], table[:, 1]


def lead_times(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """How many steps recovery had before the failures that came nevertheless."""
    known = [method for method in methods if method.leads]
    if not known:
        return None
    figure, axes = new_axes()
    longest = max(max(method.leads) for method in known)
    edges = np.arange(-0.5, longest + 1.5, max(1, longest // 25))
    for method in known:
        values = np.asarray(method.leads, dtype=np.float64)
        outline(axes, values, edges, colours[method.method].light, f"{method.method} ({len(values)})")
    needed = min(run.needed for method in known for run in method.runs)
    axes.axvline(needed - 0.5, color=GREY.light, lw=1.0, ls="--")
    axes.set_xlabel("agent steps from takeover to failure")
    axes.set_ylabel("share of failures under recovery")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_ylim(bottom=0)
    legend(axes)
    caption = (
        "Of the failures before which recovery had acted. Left of the dashed line it took over later than the "
        f"{needed} steps it is calibrated to need; right of it, it had that long."
    )
    return _plot(figure, task, "diagnosis-lead", "How early the gate closed", caption)


def credit(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """What gated steps look like to the learner."""
    gating = [method for method in methods if method.gated]
    panels = [("z_median", "standard deviations"), ("gated_grad_share", "share of gradient")]
    if not any(run.run.curve(key)[0].size for key, _ in panels for method in gating for run in method.runs):
        return None
    figure = Figure(figsize=(SIZE[0] * 2.05, 2.4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for method in gating:
            mean_curve(axes, [run.run for run in method.runs], key, colours[method.method].light, method.method)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        if key == "gated_grad_share":
            axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        legend(axes)
        steps_axis(axes)
    caption = (
        "Left: how far recovery's actions lie from the task policy's mean (median of the gated steps of an "
        "iteration, 0 without any). Right: the part of the policy gradient that comes from gated steps."
    )
    return _plot(figure, task, "diagnosis-credit", "What the learner sees of recovery", caption)


def drift(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """Rates in fifths of the run."""
    panels = {
        "failures per 10,000 steps": ("failures",),
        "cap hits per 10,000 steps": ("caps",),
        "steps under recovery": ("gated",),
        "realised miss rate": ("missed",),
        "evaluated failures": ("on", "off"),
    }
    figure = Figure(figsize=(SIZE[0] * 2.05, 2.4), layout="constrained")
    drawn = False
    for axes, (title, measures) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for method in methods:
            colour = colours[method.method].light
            for measure in measures:
                drawn |= _fifths_line(axes, method.drift(measure), colour, hollow=measure == "off")
        axes.set_title(title, loc="left", color=GREY.light)
        axes.set_xlim(0.7, FIFTHS + 0.3)
        axes.set_xticks(range(1, FIFTHS + 1))
        if measures[0] in ("missed", "on"):
            percent_axis(axes)
        elif measures[0] == "gated":
            axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.set_ylim(bottom=0)
    figure.supxlabel("fifth of the run", fontsize=8.5, color=GREY.light)
    if not drawn:
        return None
    caption = (
        "A miss rate that rises while the share under recovery falls says that the critic no longer knows where the "
        "policy goes. Evaluated failures: filled with the gate on, hollow and dashed with it off; failures that stay "
        "with it off say that the policy relies on it."
    )
    return _plot(figure, task, "diagnosis-drift", "Drift", caption)


def _fifths_line(axes: Axes, values: Sequence[float], colour: str, hollow: bool) -> bool:
    """A rate in every fifth; False where none is known."""
    known = np.array(values)
    if not np.isfinite(known).any():
        return False
    fill, dashes = ("none", "--") if hollow else (colour, "-")
    places = np.arange(1, FIFTHS + 1)[np.isfinite(known)]
    axes.plot(places, known[np.isfinite(known)], ls=dashes, lw=1.4, marker="o", ms=4, mfc=fill, color=colour, clip_on=False)
    return True


def avoidable(task: str, methods: Sequence[DiagnosedMethod], colours: Colours) -> Plot | None:
    """What would have avoided the failures, tried in the simulator from some steps before."""
    tried = [(method, table) for method in methods if (table := method.avoided())][:3]
    if not tried:
        return None
    figure = Figure(figsize=(SIZE[0] * 2.05, 2.7), layout="constrained")
    for axes, (method, table) in zip(np.atleast_1d(figure.subplots(1, len(tried), sharey=True)), tried, strict=True):
        places = np.arange(len(table))
        for number, (way, colour) in enumerate(list(WAYS.items())[:-1]):
            shares = [row.ways.get(way, 0) / row.count for row in table]
            axes.bar(places + 0.2 * (number - 1.5), shares, 0.18, color=colour.light, label=way)
        axes.bar(places + 0.3, [row.avoidable / row.count for row in table], 0.18, color=GREY.light, label="anything tried")
        axes.set_xticks(places, [f"{row.place} ({row.count})" for row in table])
        axes.set_title(method.method, loc="left", color=colours[method.method].light)
        axes.grid(axis="x", visible=False)
        percent_axis(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, handlelength=1.0, fontsize=8)
    caption = (
        "Failures played again to some agent steps before they came, or to where recovery had taken over, and other "
        "actions from there on; in brackets how many. Where the learned recovery falls short of the scripted one, or "
        "both of anything that was tried, recovery is the bottleneck."
    )
    return _plot(figure, task, "diagnosis-avoidable", "What would have avoided them", caption)


def _plot(figure: Figure, task: str, key: str, title: str, caption: str) -> Plot:
    return Plot(key, title, svg_text(figure, key, task), caption)


def _fifths() -> Iterator[str]:
    return (f"{20 * number}\u2013{20 * (number + 1)}\u2009%" for number in range(FIFTHS))
