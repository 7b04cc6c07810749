"""The part of the page on the gate of one run: tiles with numbers, and two charts."""

from __future__ import annotations

from pathlib import Path

from nicegui import ui

from farl.following.run import RunView
from farl.watch.gate_charts import NEWEST, figures, reliability_options, reliability_series, risk_options, risk_series
from farl.watch.parts import card, chart, head, heading


class GatePanel:
    """Shows the run it was last given."""

    def __init__(self) -> None:
        self._sent: tuple[Path, int] | None = None
        self._tiles = ui.element("section").classes("farl-tiles")
        with ui.element("section").classes("farl-pair"):
            with card():
                with head():
                    heading(f"Largest predicted risk of each of the newest {NEWEST} episodes")
                    self._no_risk = ui.label("none on record: nothing predicts it in this run").classes("farl-note")
                self._risk = chart(risk_options(), "risk", "farl-tall")
            with card():
                with head():
                    heading("Risk against what came of it: steps that failed within ten (%)")
                    ui.label("on the grey line it is as predicted; pale dots: none failed").classes("farl-note")
                self._reliability = chart(reliability_options(), "reliability", "farl-tall")

    def show(self, view: RunView) -> None:
        """Send what there is of the run, if it is another or has changed."""
        if self._sent == (view.folder, view.version):
            return
        self._sent = view.folder, view.version
        self._tiles.clear()
        with self._tiles:
            for label, number, note in figures(view):
                _tile(label, number, note)
        self._no_risk.visible = not (view.episodes["risk_max"] > 0).any()
        self._risk.options["series"] = risk_series(view)
        self._reliability.options["series"] = reliability_series(view)


def _tile(label: str, number: str, note: str) -> None:
    with ui.element("div").classes("farl-tile"):
        ui.label(label).classes("label")
        ui.label(number).classes("number")
        ui.label(note).classes("farl-note")
