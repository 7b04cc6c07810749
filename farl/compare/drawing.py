"""How figures of the report look: SVG text that lies inside the page and takes its colours from it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from farl.compare.palette import COLOURS, FAINT, GREY, INK, Colour
from farl.compare.records import Run

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


@dataclass(frozen=True)
class Plot:
    """A figure with the words around it."""

    key: str
    title: str
    svg: str
    caption: str


def new_axes(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, inches."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def legend(axes: Axes) -> None:
    """Above the axes, as wide as they are."""
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


def steps_axis(axes: Axes) -> None:
    """Agent steps along x."""
    axes.set_xlabel("agent steps")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def mean_curve(axes: Axes, runs: Sequence[Run], key: str, colour: str, label: str) -> None:
    """The runs faintly and their mean, where all of them have values."""
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


def outline(axes: Axes, values: Array, edges: Array, colour: str, label: str) -> None:
    """A histogram as shares, so that groups of unequal size can be compared."""
    share = np.histogram(values, edges)[0] / max(1, len(values))
    axes.stairs(share, edges, color=colour, lw=1.6, label=label)
    axes.stairs(share, edges, color=colour, fill=True, alpha=0.15, lw=0)
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))


def short_count(value: float) -> str:
    """Counts as people say them: 50k, 1.5M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def percent_tick(value: float, _: int) -> str:
    """A share as the text of a tick."""
    return f"{100 * value:.3g}\u2009%"


def percent_axis(axes: Axes) -> None:
    """Shares from nothing to all along y."""
    axes.set_ylim(-0.02, 1.03)
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))


def svg_text(figure: Figure, key: str, task: str) -> str:
    """SVG text without its own size, colours or shared ids: it scales with the page and follows its theme."""
    salt = re.sub(r"\W", "-", f"{task}-{key}")
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
