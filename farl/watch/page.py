"""The page itself: which runs are shown is kept here, per browser; what they are is read from the follower."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from farl.compare.live import duration
from farl.following.follower import Follower
from farl.following.run import RunView
from farl.watch import tables
from farl.watch.charts import CHOICES, FAILURES, GATED, SUCCESS, Curve, curve_options, scale, series
from farl.watch.clip_cards import ClipCards
from farl.watch.clips import Clips
from farl.watch.faces import Face, faces
from farl.watch.gate_panel import GatePanel
from farl.watch.parts import card, chart, head, heading
from farl.watch.rows import FILTERS, Query, episode_rows, run_rows

PERIOD_S = 1.0
"""between two looks at what has changed"""
MOST_SHOWN = 8
"""runs whose curves are drawn before anybody chooses"""
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


class Page:
    """One browser's page. Only parts whose content has changed are sent."""

    def __init__(self, follower: Follower, clips: Clips, title: str) -> None:
        self.follower, self.clips = follower, clips
        self.shown: set[Path] = set()
        """runs whose curves are drawn"""
        self.focus: Path | None = None
        """the run whose gate, clips and episodes are shown"""
        self.query = Query()
        self._known: set[Path] = set()
        self._sent: dict[str, Hashable] = {}
        ui.add_css(STYLE)
        self._build(title)
        self._recall()
        self.refresh()
        ui.run_javascript("document.querySelector('.farl-runs tr.focus')?.scrollIntoView({block: 'nearest'})")
        ui.timer(PERIOD_S, self.refresh)

    # ------------------------------------------------------------ layout

    def _build(self, title: str) -> None:
        with ui.element("header").classes("farl-bar"):
            ui.html("<b>FARL watch</b>", sanitize=False)
            ui.label(title).classes("where")
            self.when = ui.label().classes("when")
        with ui.element("main").classes("farl-main"):
            self.problems = ui.label().classes("farl-problem")
            self._build_runs()
            self._build_curves()
            self._build_gate()
            self._build_clips()
            self._build_episodes()

    def _build_runs(self) -> None:
        with ui.element("section").classes("farl-card farl-runs"):
            with head():
                heading("Runs")
                ui.label("tick those to draw; click one to look at its gate, failures and episodes").classes("farl-note")
            self.runs = tables.runs_table()
            self.runs.on("toggle", lambda event: self._toggle(Path(event.args)))
            self.runs.on("focus", lambda event: self._look_at(Path(event.args)))

    def _build_curves(self) -> None:
        with ui.element("section").classes("farl-pair"):
            self.curves: dict[str, tuple[Curve, Any]] = {}
            for name, curve in (("failures", FAILURES), ("success", SUCCESS), ("gated", GATED)):
                with card():
                    with head():
                        heading(curve.title)
                    self.curves[name] = curve, chart(curve_options(curve.share), name)
            first = next(iter(CHOICES))
            with card():
                with head():
                    self.choice = ui.select(list(CHOICES), value=first, on_change=self._choose)
                    self.choice.props("dense borderless options-dense").classes("farl-choice")
                self.curves["choice"] = CHOICES[first], chart(curve_options(), "choice")

    def _build_gate(self) -> None:
        with ui.element("section").classes("farl-section"):
            ui.label("One run").classes("name")
            self.which = ui.select({}, on_change=lambda event: self._look_at(Path(event.value)) if event.value else None)
            self.which.props("dense borderless options-dense").classes("farl-choice farl-which")
            self.state = ui.label().classes("farl-note")
        self.gate = GatePanel()

    def _build_clips(self) -> None:
        with card():
            with head():
                heading("Newest failures")
                ui.label("played again in the simulator when you ask for it").classes("farl-note")
            self.strip = ClipCards(self.clips)

    def _build_episodes(self) -> None:
        with card():
            with head():
                heading("Episodes")
                self.count = ui.label().classes("farl-note")
                ui.element("span").classes("grow")
                toggle = ui.toggle(list(FILTERS), value=self.query.kind, on_change=lambda event: self._filter(event.value))
                toggle.props("no-caps unelevated toggle-color=blue-grey-1 toggle-text-color=black text-color=grey-8")
                toggle.classes("farl-toggle")
            self.episodes = tables.episodes_table(self.query)
            self.episodes.on("request", lambda event: self._turn(event.args["pagination"]))
            self.episodes.on("clip", lambda event: self._open(int(event.args)))
        with ui.dialog() as self.dialog, ui.element("div").classes("farl-card farl-dialog"):
            self.opened = ClipCards(self.clips)

    # ------------------------------------------------------------ what the person does

    def _recall(self) -> None:
        """What was chosen before, from the page's address."""
        asked = ui.context.client.request.query_params
        runs = {str(view.folder): view.folder for view in self.follower.views}
        self.focus = runs.get(asked.get("look", ""))
        if "draw" in asked:
            self.shown = {runs[name] for name in asked.getlist("draw") if name in runs}
            self._known = set(runs.values())
        if asked.get("curve") in CHOICES:
            self.choice.value = asked["curve"]

    def _remember(self) -> None:
        """Put what is chosen into the address: loaded again, or sent to somebody, the page is the same."""
        chosen = [("look", str(self.focus)), ("curve", self.choice.value), *(("draw", str(run)) for run in sorted(self.shown))]
        ui.navigate.history.replace(f"/?{urlencode(chosen)}")
        self.refresh(at_once=True)

    def _toggle(self, run: Path) -> None:
        self.shown ^= {run}
        self._remember()

    def _look_at(self, run: Path) -> None:
        if run != self.focus and self.follower.view(run) is not None:
            self.focus, self.query = run, dataclasses.replace(self.query, page=1)
            self._remember()

    def _choose(self, event: Any) -> None:
        curve, (_, lines) = CHOICES[event.value], self.curves["choice"]
        self.curves["choice"] = curve, lines
        lines.options["yAxis"].update(scale(curve.share))
        self._remember()

    def _filter(self, kind: str) -> None:
        self.query = dataclasses.replace(self.query, kind=kind, page=1)
        self.refresh()

    def _turn(self, wanted: dict[str, Any]) -> None:
        """Another page of the table, or another order."""
        by = wanted["sortBy"] or "episode"
        descending = bool(wanted["descending"]) if wanted["sortBy"] else True
        self.query = dataclasses.replace(self.query, page=wanted["page"], size=wanted["rowsPerPage"], by=by, descending=descending)
        self.refresh()

    def _open(self, episode: int) -> None:
        view = self.follower.view(self.focus) if self.focus else None
        if view is not None:
            self.clips.ask(self.clips.of(view, episode))
            self.opened.show(view, [episode])
            self.dialog.open()

    # ------------------------------------------------------------ what is shown

    def refresh(self, at_once: bool = False) -> None:
        """Send what has changed; curves at most every other second unless somebody has just asked for them."""
        views, now = self.follower.views, time.time()
        self._take_up(views)
        looks = faces(views)
        drawn = [view for view in views if view.folder in self.shown]
        self._show_runs(views, looks, now)
        if at_once or self._due("curves", now, 2 * PERIOD_S):
            self._show_curves(drawn, looks)
        focus = self.follower.view(self.focus) if self.focus else None
        if focus is not None:
            self._show_run(focus, looks, now)
            self._show_episodes(focus)

    def _take_up(self, views: Sequence[RunView]) -> None:
        """The first look is at a run at work, with a gate, the latest of them; of many runs only those of its task are drawn."""
        if views and all(view.folder != self.focus for view in views):
            best = max(views, key=lambda view: (view.status() == "running", view.threshold is not None, view.changed))
            self.focus = best.folder
        task = next((view.task for view in views if view.folder == self.focus), "")
        for view in views:
            fitting = len(views) <= MOST_SHOWN or view.task == task
            if fitting and view.folder not in self._known and len(self.shown) < MOST_SHOWN:
                self.shown.add(view.folder)
            self._known.add(view.folder)

    def _show_runs(self, views: Sequence[RunView], looks: dict[Path, Face], now: float) -> None:
        rows = run_rows(views, looks, self.shown, self.focus, now)
        if self._changed("runs", repr(rows)):
            self.runs.rows = rows
        running = sum(row["status"] == "running" for row in rows)
        newest = max((view.changed for view in views), default=0.0)
        said = f"newest line {duration(max(0.0, now - newest))} ago" if newest else "waiting for the first run"
        self.when.text = f"{len(views)} run{'s' * (len(views) != 1)}, {running} running; {said}"
        problems = [problem for view in views for problem in view.problems]
        self.problems.text = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        self.problems.visible = bool(problems)
        names = {str(folder): face.name for folder, face in looks.items()}
        if self._changed("names", (tuple(names.items()), self.focus)):
            self.which.set_options(names, value=str(self.focus) if self.focus else None)

    def _show_curves(self, drawn: Sequence[RunView], looks: dict[Path, Face]) -> None:
        state = tuple((looks[view.folder], view.version) for view in drawn)
        for name, (curve, lines) in self.curves.items():
            if self._changed(name, (state, curve)):
                lines.options["series"] = series(drawn, looks, curve)

    def _show_run(self, view: RunView, looks: dict[Path, Face], now: float) -> None:
        left = view.seconds_left() if view.status(now) == "running" else None
        self.state.text = f"{view.status(now)}, {view.steps:,} steps" + (f", {duration(left)} left" if left else "")
        self.gate.show(view)
        self.strip.newest(view)
        self.opened.refresh()

    def _show_episodes(self, view: RunView) -> None:
        if not self._changed("episodes", (view.folder, view.version, self.query)):
            return
        rows, count = episode_rows(view, self.query)
        self.episodes.pagination = tables.pagination(self.query, count)
        self.episodes.rows = rows
        self.count.text = f"{count:,} of {len(view.episodes):,}, newest first" if self.query.by == "episode" else f"{count:,}"

    # ------------------------------------------------------------ sent or not

    def _changed(self, part: str, content: Hashable) -> bool:
        before, self._sent[part] = self._sent.get(part), content
        return before != content

    def _due(self, part: str, now: float, period: float) -> bool:
        last = self._sent.get(f"{part} at", 0.0)
        if isinstance(last, float) and now - last < period:
            return False
        self._sent[f"{part} at"] = now
        return True
