"""`farl robot markers`: markers to print at their true size, with a ruler to prove it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from robots.calibrate import HandMarkerConfig
from robots.errors import RobotError
from robots.perception.estimator import PerceptionConfig
from robots.perception.markers import modules, picture, require_ids

PAGE_MM = (210.0, 297.0)
"""A4"""

EDGE_MM = 15.0
GAP_MM = 12.0
RULER_MM = 100.0
RULER_SPACE_MM = 22.0
"""at the bottom of every page"""

DPI = 300
MM = 25.4
"""in an inch"""


@dataclass(frozen=True)
class SheetConfig:
    """What to print where."""

    output: str = "markers.pdf"
    """a .pdf of as many pages as are needed, or a .png for each (``markers-1.png``, ...) at 300 dpi"""

    def __post_init__(self) -> None:
        if Path(self.output).suffix not in (".pdf", ".png"):
            raise RobotError(f"marker sheet: output is {self.output!r}; give the name of a .pdf or a .png")


class Printed(NamedTuple):
    """A marker on a page; its white margin is one module wide."""

    id: int
    size_mm: float
    text: str
    x_mm: float = 0.0
    """left side of the black square, from the page's left"""
    y_mm: float = 0.0
    """its top, from the page's top"""


def main(config: SheetConfig, perception: PerceptionConfig, hand: HandMarkerConfig | None = None) -> list[Path]:
    """Write the sheet of a table's markers, and of the one that calibrates; returns the files.

    Raises:
        RobotError: there is nothing to print, a marker is larger than a page, or the file cannot be written.
    """
    wanted = [
        Printed(marker.id, 1000 * marker.size_m, f"{marked.name}, {marker.facing}")
        for marked in perception.marked
        for marker in marked.markers
    ]
    require_ids(perception.dictionary, [marker.id for marker in wanted])
    sheets = [(perception.dictionary, page) for page in pages(wanted, modules(perception.dictionary))]
    if hand is not None:
        require_ids(hand.dictionary, [hand.id])
        calibrating = [Printed(hand.id, 1000 * hand.size_m, "hand, for calibrating")]
        sheets += [(hand.dictionary, page) for page in pages(calibrating, modules(hand.dictionary))]
    if not sheets:
        raise RobotError("marker sheet: this table has no markers, its objects are seen by their colour")
    figures = [_drawn(dictionary, page) for dictionary, page in sheets]
    try:
        return _written(figures, Path(config.output))
    except OSError as error:
        raise RobotError(f"cannot write {config.output}: {error.strerror or error}") from error


def pages(wanted: Sequence[Printed], across: int) -> Iterator[list[Printed]]:
    """Rows from the top left, as many pages as it takes; ``across`` is how many modules a marker has along a side."""
    page: list[Printed] = []
    x = y = EDGE_MM
    lowest = 0.0
    for marker in wanted:
        margin = marker.size_mm / across
        side = marker.size_mm + 2 * margin
        if side > PAGE_MM[0] - 2 * EDGE_MM:
            raise RobotError(f"marker {marker.id} of {marker.size_mm:g} mm does not fit on a page: print it elsewhere")
        if x + side > PAGE_MM[0] - EDGE_MM:
            x, y = EDGE_MM, lowest + GAP_MM
        if y + side > PAGE_MM[1] - EDGE_MM - RULER_SPACE_MM:
            yield page
            page, x, y, lowest = [], EDGE_MM, EDGE_MM, 0.0
        page.append(marker._replace(x_mm=x + margin, y_mm=y + margin))
        x, lowest = x + side + GAP_MM, max(lowest, y + side)
    if page:
        yield page


def _drawn(dictionary: str, page: Sequence[Printed]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_MM[0] / MM, PAGE_MM[1] / MM))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0.0, PAGE_MM[0])
    axes.set_ylim(PAGE_MM[1], 0.0)
    axes.axis("off")
    across = modules(dictionary)
    for marker in page:
        _draw_marker(axes, dictionary, marker, across)
    _draw_ruler(axes)
    return figure


def _draw_marker(axes: Any, dictionary: str, marker: Printed, across: int) -> None:
    """Black cells as rectangles, one for each run along a row: they stay sharp at any size."""
    from matplotlib.patches import Rectangle

    cells = picture(dictionary, marker.id, across) < 128
    side = marker.size_mm / across
    for row in range(across):
        start = None
        for column in range(across + 1):
            black = column < across and bool(cells[row, column])
            if black and start is None:
                start = column
            if not black and start is not None:
                corner = marker.x_mm + start * side, marker.y_mm + row * side
                axes.add_patch(Rectangle(corner, (column - start) * side, side, color="black", linewidth=0, antialiased=False))
                start = None
    below = marker.y_mm + marker.size_mm + side + 3.5
    axes.text(marker.x_mm - side, below, f"{dictionary} {marker.id}: {marker.size_mm:g} mm, {marker.text}", fontsize=6)
    outer = marker.size_mm + 2 * side
    cut = Rectangle((marker.x_mm - side, marker.y_mm - side), outer, outer, fill=False, edgecolor="0.7", linewidth=0.3)
    axes.add_patch(cut)


def _draw_ruler(axes: Any) -> None:
    y = PAGE_MM[1] - EDGE_MM
    axes.plot([EDGE_MM, EDGE_MM + RULER_MM], [y, y], color="black", linewidth=0.8, solid_capstyle="butt")
    for tick in range(0, round(RULER_MM) + 1, 10):
        axes.plot([EDGE_MM + tick] * 2, [y, y - 3], color="black", linewidth=0.5)
    said = f"This line is {RULER_MM:g} mm long. If it is not, print again at 100 %, without fitting to the page."
    axes.text(EDGE_MM, y - 5, said, fontsize=8)


def _written(figures: Sequence[Any], output: Path) -> list[Path]:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        with PdfPages(output) as document:
            for figure in figures:
                document.savefig(figure)
        return [output]
    names = [output.with_name(f"{output.stem}-{number}.png") for number in range(1, len(figures) + 1)]
    for figure, name in zip(figures, names, strict=True):
        figure.savefig(name, dpi=DPI)
    return names
