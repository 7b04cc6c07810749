"""The operator's page, one per browser: shows the facts, asks for nothing, changes nothing."""

from __future__ import annotations

import html
import time
from collections.abc import Hashable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from nicegui import ui

from robots.watch.curve import curve
from robots.watch.facts import Facts, Session
from robots.watch.server import TABLE
from robots.watch.sheet import ACTS, lasting, sayings, sheet

PERIOD_S = 0.25
OLD_S = 2.0
"""of silence after which a picture is said to be an old one: nothing is taken between episodes"""
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

WATCHDOG = """
let beat = Date.now();
const everything = {childList: true, characterData: true, subtree: true};
new MutationObserver(() => { beat = Date.now(); }).observe(document.querySelector('.rw-beat'), everything);
setInterval(() => document.body.classList.toggle('silent', Date.now() - beat > 3000), 500);
"""
"""a page whose server is silent would show for ever that everything is well"""

DEAD = (
    "<b>PAGE IS OLD</b>Nothing has come from the robot's computer for 3 seconds. "
    "Do not trust what was shown: look at the robot itself."
)


class Page:
    """One browser's page. Only parts whose content has changed are sent."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.chosen = ""
        """view of the picture that the person chose; empty: a camera where there is one"""
        self._sent: dict[str, Hashable] = {}
        ui.add_css(STYLE)
        with ui.element("main").classes("rw"):
            self._build()
        ui.html(DEAD, sanitize=False).classes("rw-dead")
        self.refresh()
        ui.run_javascript(WATCHDOG)
        ui.timer(PERIOD_S, self.refresh)

    def _build(self) -> None:
        self.banner = ui.element("header").classes("rw-banner")
        with self.banner:
            self.word = ui.label().classes("word")
            self.advice = ui.label().classes("advice")
            with ui.element("div").classes("when"):
                self.title = ui.html("", sanitize=False)
                self.clock = ui.html("", sanitize=False).classes("rw-beat")
        self.frame = ui.element("section").classes("rw-picture")
        with self.frame:
            self.picture = ui.element("img").props('alt="no picture"')
            self.acts = ui.label().classes("rw-acts")
            self.views = ui.element("div").classes("rw-views")
        with ui.element("section").classes("rw-card rw-curve"):
            ui.html(
                "<span>Predicted risk</span><span>red: recovery acts · yellow: a person acts · orange: violating</span>",
                sanitize=False,
            ).classes("head")
            self.curve = ui.html("", sanitize=False)
        self.sheet = ui.html("", sanitize=False).classes("rw-card rw-sheet")
        self.said = ui.html("", sanitize=False).classes("rw-card rw-said")

    def refresh(self) -> None:
        """Send what has changed."""
        now = time.time()
        facts = self.session.facts(now)
        self._show_banner(facts, now)
        self._show_picture(facts)
        if self._changed("curve", self.session.version):
            self.curve.content = curve(facts.curve)
        lines = sheet(facts)
        if self._changed("sheet", tuple(lines)):
            self.sheet.content = "".join(
                f'<div class="rw-line{" marked" * line.marked}" data-fact="{line.key}">'
                f'<div class="label">{html.escape(line.label)}</div><div class="value">{html.escape(line.value)}</div>'
                f'<div class="detail">{html.escape(line.detail)}</div></div>'
                for line in lines
            )
        if self._changed("said", facts.said):
            rows = (f"<div><span>{at}</span>{html.escape(words)}</div>" for at, words in sayings(facts.said))
            self.said.content = "".join(rows)

    def _show_banner(self, facts: Facts, now: float) -> None:
        if self._changed("banner", facts.banner):
            self.banner.classes(replace=f"rw-banner {facts.banner.light.value}")
            self.word.text, self.advice.text = facts.banner.word, facts.banner.advice
        if self._changed("title", (facts.task, facts.method)):
            self.title.content = html.escape(f"{facts.task} {facts.method}".strip())
        if self._changed("clock", int(now)):
            self.clock.content = f"<b>{datetime.fromtimestamp(now):%H:%M:%S}</b>"

    def _show_picture(self, facts: Facts) -> None:
        fresh = facts.live and facts.quiet_s < OLD_S
        source = facts.step.source if facts.step is not None and fresh else "none"
        old = "" if fresh or facts.step is None else f", {lasting(facts.quiet_s)} ago"
        if self._changed("acts", (source, old)):
            self.frame.classes(replace=f"rw-picture {source}")
            self.acts.text = ACTS.get(source, f"last picture{old}")
        names = (*facts.pictures, TABLE)
        view = self.chosen if self.chosen in names else names[0]
        if self._changed("views", (names, view)):
            self.views.clear()
            with self.views:
                for name in names if len(names) > 1 else ():
                    button = ui.element("button").on("click", lambda _, name=name: self._choose(name))
                    button.classes("chosen" if name == view else "")
                    with button:
                        ui.html(html.escape(name), tag="span", sanitize=False)
        if facts.step is not None and self._changed("picture", (view, self.session.version)):
            self.picture.props(
                f'src="/picture/{quote(view)}?at={facts.step.episode}-{facts.step.step}" alt="no picture by {html.escape(view)}"'
            )

    def _choose(self, name: str) -> None:
        self.chosen = name
        self.refresh()

    def _changed(self, part: str, content: Hashable) -> bool:
        before, self._sent[part] = self._sent.get(part), content
        return before != content
