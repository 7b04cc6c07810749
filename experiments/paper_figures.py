"""The figures and tables of docs/results.md, from the tables in results/paper alone.

    python -m experiments.paper_figures

Draws what there are rows for: a task without runs, or a run that is not finished, is no error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from experiments import paper_tables
from experiments.paper_rows import BASELINE, METHODS, TaskRows, ablated, main_rows, read_tasks
from farl.compare.drawing import STYLE, short_count
from farl.compare.palette import FAINT, GREY, INK, method_colours
from farl.compare.published import AGENT_STEPS, SEEDS, published_rows
from farl.compare.statistics import Reduction
from farl.errors import UserError
from farl.files import write_atomically

RESULTS = Path("results/paper")
PAGE = Path("docs/results.md")
IMAGES = Path("docs/images")
COLOURS = {name: colour.light for name, colour in method_colours(["farl-paper"]).items()}
LABELS = {BASELINE: "Uni-O4", "farl-paper": "FARL as published", "farl": "farl"}
DPI = 170


def draw(results: Path, images: Path) -> list[Path]:
    """Every figure that has data; returns the files."""
    tasks = read_tasks(results)
    drawings: list[tuple[str, Callable[[Sequence[TaskRows]], Figure], Sequence[TaskRows]]] = [
        ("results_failures", failures, main_rows(tasks)),
        ("results_curves", curves, main_rows(tasks)),
        ("results_returns", returns, [one for one in main_rows(tasks) if _evaluated(one)]),
    ]
    drawings += [("results_ablations", ablations, ablated(tasks)[:1])]
    written = []
    style = {**STYLE, "figure.facecolor": "white", "svg.fonttype": "path", "font.size": 9, "axes.titlesize": 9.5}
    with matplotlib.rc_context(style):
        for name, drawing, rows in drawings:
            if rows:
                path, figure = images / f"{name}.png", drawing(rows)
                write_atomically(path, lambda file, figure=figure: figure.savefig(file, format="png", dpi=DPI))  # type: ignore[misc]
                written.append(path)
    return written


def _evaluated(one: TaskRows) -> bool:
    return any(group.deployed("return") for group in one.shown())


# ---------------------------------------------------------------- failures


def failures(tasks: Sequence[TaskRows]) -> Figure:
    """Failure episodes of ours and of the published runs, each in its own panel, and by how much they fell."""
    figure = Figure(figsize=(10.4, 1.5 + 0.62 * len(tasks)), layout="constrained")
    ours, theirs, fallen = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 0.9, 1.25))
    for place, one in enumerate(tasks):
        groups = one.shown()
        steps = one.common_steps(groups)
        for group in groups:
            at, colour = place + _offset(group.method), COLOURS[group.method]
            counts = np.array(group.failures(steps), dtype=np.float64)
            _seeds(ours, np.maximum(counts, 0.7), at, colour)
            _number(ours, counts.mean(), max(counts.max(), 0.7), at, colour)
            if (less := one.reduction(group, steps)) is not None:
                _reduction(fallen, at, colour, less)
        _published(theirs, fallen, one.task, place)
    _task_axis(ours, tasks)
    _log(ours)
    _log(theirs)
    ours.set_title("failure episodes in training, this code", loc="left", color=INK.light)
    theirs.set_title(f"published ({short_count(AGENT_STEPS)} steps, {SEEDS} seeds)", loc="left", color=INK.light)
    fallen.set_title("fewer failure episodes than Uni-O4", loc="left", color=INK.light)
    fallen.set_xlim(EDGE - 2, 112)
    fallen.xaxis.set_major_locator(MultipleLocator(20))
    fallen.axvline(0, color=GREY.light, lw=0.8)
    fallen.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}\u2009%"))
    _legend(figure, [*_methods_in(tasks), "published"])
    return figure


def _published(counts: Axes, fallen: Axes, task: str, place: int) -> None:
    """The published figures of a task; they belong to the boundary of the publication, not to the harder variant."""
    if "Hard" in task:
        counts.annotate("no published figure", (0.04, place), xycoords=("axes fraction", "data"), va="center",
                        fontsize=8, color=GREY.light)  # fmt: skip
        return
    for row in published_rows(task):
        if row.failures is None:
            continue
        at, colour = place + _offset(ours_of(row.method)), COLOURS[ours_of(row.method)]
        counts.plot([row.failures], [at], ls="", marker="D", ms=6, mfc="white", mec=colour, mew=1.4)
        _number(counts, row.failures, row.failures, at, colour)
        if row.reduction is not None:
            value, at = 100 * row.reduction, place + _offset(BASELINE)
            fallen.plot([value], [at], ls="", marker="D", ms=5.5, mfc="white", mec=GREY.light, mew=1.4)
            _number(fallen, value, value, at, GREY.light)


def ours_of(published: str) -> str:
    """Our name of a published method: what the publication calls FARL is ``farl-paper`` here."""
    return "farl-paper" if published == "farl" else published


def _reduction(axes: Axes, at: float, colour: str, less: Reduction) -> None:
    """A dot with its interval, in per cent; what lies beyond the left edge is an arrow there."""
    value, interval = less.value, less.interval
    low, high = (100 * value, 100 * value) if interval is None else (100 * interval.low, 100 * interval.high)
    axes.plot([max(low, EDGE), max(high, EDGE)], [at, at], color=colour, lw=1.6, alpha=0.55)
    if low < EDGE:
        axes.plot([EDGE], [at], ls="", marker="<", ms=5, color=colour)
    axes.plot([max(100 * value, EDGE)], [at], ls="", marker="o", ms=6.5, color=colour)
    _number(axes, 100 * value, max(high, EDGE), at, colour)


EDGE = -25.0
"""per cent; a method with a quarter more failures than Uni-O4 has shown what it can do"""


def _number(axes: Axes, value: float, right_of: float, at: float, colour: str) -> None:
    text = f"{value:.0f}".replace("-", "\u2212")
    axes.annotate(
        text, (right_of, at), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8, color=colour
    )


def curves(tasks: Sequence[TaskRows]) -> Figure:
    """Failure episodes over agent steps: thin lines are runs, thick ones their mean as far as all runs go."""
    columns = min(len(tasks), 4)
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(max(2.65 * columns, 4.2), 2.3 * lines + 0.5), layout="constrained")
    every = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes, one in zip(every, tasks, strict=False):
        for group in one.shown():
            colour = COLOURS[group.method]
            common = min(run.steps for run in group.runs)
            grid = np.linspace(0, common, 101)
            drawn = []
            for run in group.runs:
                at = run.steps * np.arange(len(run.curve) + 1) / len(run.curve)
                axes.plot(at, np.r_[0, run.curve], color=colour, lw=0.7, alpha=0.45)
                drawn.append(np.interp(grid, at, np.r_[0, run.curve]))
            axes.plot(grid, np.mean(drawn, axis=0), color=colour, lw=2)
        axes.set_title(one.task, loc="left", color=INK.light)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in every[len(tasks) :]:
        axes.set_visible(False)
    figure.supxlabel("agent steps", color=GREY.light, fontsize=9)
    figure.supylabel("failure episodes so far", color=GREY.light, fontsize=9)
    _legend(figure, _methods_in(tasks))
    return figure


# ---------------------------------------------------------------- returns


def returns(tasks: Sequence[TaskRows]) -> Figure:
    """Where each method began and ended: as published, in the same measure here, until success, and in steps to success."""
    figure = Figure(figsize=(11.2, 1.5 + 0.62 * len(tasks)), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    titles = ("normalised return, full length", "the same, published", "return until success", "steps to success")
    for place, one in enumerate(tasks):
        for group in one.shown():
            at, colour = place + _offset(group.method), COLOURS[group.method]
            for axes, measure in (
                (panels[0], "normalised"),
                (panels[2], "return_until_success"),
                (panels[3], "steps_to_success"),
            ):
                _from_to(axes, at, colour, group.deployed(measure, start=True), group.deployed(measure))
        for row in published_rows(one.task) if "Hard" not in one.task else []:
            if row.method in (BASELINE, "farl") and row.returns is not None:
                before, after = row.returns
                method = ours_of(row.method)
                _from_to(panels[1], place + _offset(method), COLOURS[method], [before], [after], marker="D")
    _task_axis(panels[0], tasks)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left", color=INK.light)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for axes in panels[:2]:
        axes.axvline(100, color=GREY.light, lw=0.8, ls=":")
    low, high = zip(*(axes.get_xlim() for axes in panels[:2]), strict=True)
    for axes in panels[:2]:
        axes.set_xlim(min(low), max(high))
    panels[3].set_xlim(left=0)
    _legend(figure, _methods_in(tasks))
    return figure


def _from_to(
    axes: Axes, at: float, colour: str, start: Sequence[float], end: Sequence[float], marker: str = "o"
) -> None:
    """A hollow mark where training began, a filled one where it ended; small dots are seeds."""
    if not end:
        return
    if start:
        axes.plot([np.mean(start), np.mean(end)], [at, at], color=colour, lw=1.3, alpha=0.5)
        axes.plot([np.mean(start)], [at], ls="", marker=marker, ms=5.5, mfc="white", mec=colour, mew=1.3)
    if len(end) > 1:
        axes.plot(end, [at] * len(end), ls="", marker="o", ms=3, color=colour, alpha=0.5, mew=0)
    axes.plot([np.mean(end)], [at], ls="", marker=marker, ms=6.5, color=colour)


# ---------------------------------------------------------------- ablations


def ablations(tasks: Sequence[TaskRows]) -> Figure:
    """Every variant and method beside Uni-O4 and farl: failures as a share of Uni-O4's, late success and late steps."""
    (one,) = tasks
    groups = paper_tables.ablation_order(one)
    steps = one.common_steps(groups)
    figure = Figure(figsize=(10.4, 1.2 + 0.27 * len(groups)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.5, 1, 1))
    for place, group in enumerate(groups):
        colour = COLOURS[group.method] if group.method in METHODS else GREY.light
        if group.variant:
            colour = COLOURS[BASELINE] if group.method == BASELINE else COLOURS["simple-critic"]
        _seeds(panels[0], np.minimum(paper_tables.relative(one, group, steps), CUT), place, colour)
        _seeds(panels[1], 100 * np.array(group.values("late_success_rate")), place, colour)
        _seeds(panels[2], np.array(group.values("late_steps_to_success")), place, colour)
    for axes, mean in zip(panels, _reference(one, steps), strict=True):
        if mean is not None:
            axes.axvline(mean, color=COLOURS["farl"], lw=1, alpha=0.5)
    panels[0].set_yticks(range(len(groups)), [paper_tables.label(group) for group in groups])
    panels[0].set_ylim(len(groups) - 0.4, -0.6)
    panels[0].tick_params(axis="y", length=0, labelcolor=INK.light)
    panels[0].set_xlim(left=0)
    panels[1].set_xlim(min(95.0, panels[1].get_xlim()[0]), 100.3)
    panels[2].set_xlim(left=0)
    panels[0].axvline(100, color=COLOURS[BASELINE], lw=1, alpha=0.5)
    for axes, title in zip(
        panels, ("failure episodes, Uni-O4 = 100 %", "late success rate, %", "late steps to success"), strict=True
    ):
        axes.set_title(title, loc="left", color=INK.light)
        axes.grid(axis="y", visible=True)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


CUT = 200.0
"""per cent of Uni-O4's failures beyond which a dot is drawn at the edge"""


def _reference(one: TaskRows, steps: int) -> tuple[float | None, float | None, float | None]:
    farl = one.of("farl")
    if farl is None:
        return None, None, None
    late, to_success = farl.values("late_success_rate"), farl.values("late_steps_to_success")
    shares = paper_tables.relative(one, farl, steps)
    return (
        float(np.mean(shares)) if len(shares) else None,
        100 * float(np.mean(late)) if late else None,
        float(np.mean(to_success)) if to_success else None,
    )


# ---------------------------------------------------------------- drawing


def _offset(method: str) -> float:
    """Where a method's mark lies in the row of its task."""
    return {BASELINE: -0.24, "farl-paper": 0.0, "farl": 0.24}.get(method, 0.0)


def _seeds(axes: Axes, values: np.ndarray, at: float, colour: str) -> None:
    """A dot a seed, a bar at their mean."""
    if len(values):
        axes.plot(values, [at] * len(values), ls="", marker="o", ms=5, color=colour, alpha=0.65, mew=0, clip_on=False)
        axes.plot([values.mean()] * 2, [at - 0.11, at + 0.11], color=colour, lw=2.2, clip_on=False)


def _task_axis(axes: Axes, tasks: Sequence[TaskRows]) -> None:
    names = [f"{one.task}\n{short_count(round(one.common_steps(one.shown()), -4))} steps" for one in tasks]
    axes.set_yticks(range(len(tasks)), names)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK.light)
    for each in axes.figure.axes:
        each.grid(axis="y", visible=False)
        each.tick_params(axis="y", length=0)
        for edge in range(1, len(tasks)):
            each.axhline(edge - 0.5, color=FAINT.light, lw=0.6)


def _log(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 2.6)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _methods_in(tasks: Sequence[TaskRows]) -> list[str]:
    return [method for method in METHODS if any(one.of(method) for one in tasks)]


def _legend(figure: Figure, names: Sequence[str]) -> None:
    axes = figure.axes[0]
    handles = []
    for name in names:
        published = name == "published"
        colour = GREY.light if published else COLOURS[name]
        (handle,) = axes.plot([], [], ls="", marker="D" if published else "o", ms=6.5, color=colour,
                              mfc="white" if published else colour, mew=1.4, label=LABELS.get(name, name))  # fmt: skip
        handles.append(handle)
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handletextpad=0.3, columnspacing=1.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--page", type=Path, default=PAGE, help="whose generated tables are brought up to date")
    arguments = parser.parse_args()
    try:
        for path in draw(arguments.results, arguments.images):
            print(path)
        if arguments.page.exists():
            paper_tables.fill(arguments.page, read_tasks(arguments.results), arguments.images)
            print(arguments.page)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
