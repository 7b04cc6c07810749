"""The session in a terminal: the same facts as on the page, over ssh too."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from robots.session.record import StepRecord
from robots.watch.banner import Banner, Light
from robots.watch.facts import Facts, Session
from robots.watch.sheet import sayings, sheet

PERIOD_S = 0.25
_GROUNDS = {
    Light.STILL: "black on green3",
    Light.MOVES: "white on dodger_blue3",
    Light.ASKS: "black on gold1",
    Light.TROUBLE: "white on red3",
    Light.OVER: "white on grey37",
}
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {"task": "dodger_blue1", "recovery": "red1", "human": "gold1"}


def show(session: Session, once: bool, console: Console | None = None) -> None:
    """Print the facts again and again until Ctrl-C, or once."""
    console = console or Console()
    session.look()
    if once:
        console.print(view(session.facts(time.time()), console.width))
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(view(session.facts(time.time()), console.width), refresh=True)
            time.sleep(PERIOD_S)
            session.look()


def view(facts: Facts, width: int) -> RenderableType:
    """Banner, risk, facts, newest events."""
    return Group(_banner(facts.banner), _risk(facts.curve, width), _table(facts, width), _said(facts))


def _banner(banner: Banner) -> Panel:
    text = Text(banner.word, style="bold", justify="center")
    text.append(f"\n{banner.advice}", style="not bold")
    return Panel(text, style=_GROUNDS[banner.light])


def _risk(curve: Sequence[StepRecord], width: int) -> Text:
    """A bar a step, in the colour of who acts; as high as the threshold is half."""
    text = Text("risk ", style="grey62")
    for record in curve[-max(10, width - 8) :]:
        share = record.risk / (2 * record.threshold) if record.threshold > 0 else 1.0
        level = min(int(share * len(_BARS)), len(_BARS) - 1) if math.isfinite(share) else len(_BARS) - 1
        text.append(_BARS[max(level, 0)], style=_COLOURS.get(record.source, "grey62"))
    return text


def _table(facts: Facts, width: int) -> Table:
    """Two facts a line where there is room for them."""
    pairs = 2 if width >= 100 else 1
    table = Table(
        box=None, show_header=False, pad_edge=False, title=f"{facts.task} {facts.method}".strip(), title_justify="left"
    )
    for _ in range(pairs):
        table.add_column(style="grey62", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(style="grey62")
    cells = [
        (line.label, Text(line.value, style="bold red1" if line.marked else "bold"), line.detail)
        for line in sheet(facts)
    ]
    for start in range(0, len(cells), pairs):
        table.add_row(*(cell for line in cells[start : start + pairs] for cell in line))
    return table


def _said(facts: Facts) -> Text:
    text = Text()
    for at, words in sayings(facts.said):
        text.append(f"{at}  ", style="grey62")
        text.append(f"{words}\n")
    return text
