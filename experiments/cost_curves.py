"""The figure of the gate's cost: time and memory of a decision against each of its settings.

python -m experiments.cost_curves    # draws results/benchmark_gate.csv again, which experiments.benchmark_gate measured
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from experiments.tables import read_table
from farl.compare.drawing import STYLE
from farl.compare.palette import BLUE, INK, VERMILLION, Colour
from farl.files import write_atomically

PANELS = {
    "horizon": "horizon, agent steps",
    "particles": "particles",
    "heads": "failure heads",
    "environments": "environments",
}
MEASURES = {"ms": ("processor time, ms", BLUE), "working_kb": ("working memory, kB", VERMILLION)}
DPI = 150


def draw(rows: Sequence[dict[str, Any]], defaults: dict[str, int], path: Path) -> None:
    """A column of panels for each curve among ``rows``, time above memory; the defaults are the filled points."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "font.size": 9}):
        figure = Figure(figsize=(10.4, 4.6), layout="constrained")
        panels = figure.subplots(len(MEASURES), len(PANELS), sharex="col", sharey="row")
        for line, (measure, (label, colour)) in zip(panels, MEASURES.items(), strict=True):
            for panel, name in zip(line, PANELS, strict=True):
                _curve(panel, [row for row in rows if row["curve"] == name], name, measure, colour, defaults[name])
            line[0].set_ylabel(label)
        for panel, (name, label) in zip(panels[-1], PANELS.items(), strict=True):
            panel.set_xlabel(label)
            panel.set_xticks([int(row[name]) for row in rows if row["curve"] == name])
        for line in panels:
            line[0].set_ylim(bottom=0)
        title = f"One decision for {defaults['environments']} environments; each panel changes one setting, filled: the default"
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK.light)
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI))


def _curve(panel: Axes, rows: Sequence[dict[str, Any]], name: str, measure: str, colour: Colour, default: int) -> None:
    x, y = [int(row[name]) for row in rows], [float(row[measure]) for row in rows]
    panel.plot(x, y, "-o", color=colour.light, mfc="white", ms=5, lw=1.6)
    panel.plot([a for a in x if a == default], [b for a, b in zip(x, y, strict=True) if a == default], "o",
               color=colour.light, ms=6)  # fmt: skip
    if name == "environments":
        panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())


def main() -> None:
    """Draw a table again."""
    from experiments.benchmark_gate import DEFAULTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", default=Path("results/benchmark_gate.csv"))
    asked = parser.parse_args()
    draw(read_table(asked.table), DEFAULTS, asked.table.with_suffix(".png"))


if __name__ == "__main__":
    main()
