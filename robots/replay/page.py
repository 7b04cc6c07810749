"""The page that steps through a recorded session: a frame, a slider, keys."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from failurebench.franka.definition import CONTROL_HZ
from robots.replay.recording import Episode, Recording

STYLE = """
body { margin: 0; background: #0d0f13; color: #c9cfd8; font-family: Roboto, sans-serif; }
.nicegui-content { padding: 0; display: block; }
.rr { max-width: 1040px; margin: 0 auto; padding: 10px; display: grid; gap: 10px; }
.rr img { width: 100%; display: block; border-radius: 6px; background: #14171c; }
.rr-bar { display: flex; gap: 10px; align-items: center; flex-wrap: wrap; }
.rr-bar > button { font: inherit; font-size: 16px; min-width: 52px; min-height: 44px; }
.rr-bar > button { border: 0; border-radius: 6px; background: #2a303a; color: #fff; cursor: pointer; }
.rr-bar .grow { flex: 1; min-width: 200px; }
.rr-note { color: #f28a4b; font-size: 14px; }
.rr-keys { font-size: 13px; color: #8b94a3; }
"""
MOVES = {"ArrowRight": 1, "ArrowLeft": -1, "PageDown": CONTROL_HZ, "PageUp": -CONTROL_HZ}
"""keys, and how many steps they go"""


class ReplayPage:
    """One browser's place in the recording."""

    def __init__(self, recording: Recording, begin: Episode) -> None:
        self.recording, self.episode, self.step = recording, begin, 0
        ui.add_css(STYLE)
        with ui.element("main").classes("rr"):
            self.picture = ui.element("img")
            with ui.element("div").classes("rr-bar"):
                self._button("\u25c0", lambda: self.go(self.step - 1), "back")
                self.playing = self._button("\u25b6", self.toggle, "play")
                self._button("\u25b6\u2758", lambda: self.go(self.step + 1), "on")
                self.slider = ui.slider(min=0, max=1, value=0, on_change=lambda event: self.go(int(event.value)))
                self.slider.classes("grow").props("dark")
            with ui.element("div").classes("rr-bar"):
                titles = {episode.number: episode.title for episode in recording.episodes}
                self.choice = ui.select(titles, value=begin.number, on_change=lambda event: self.open(int(event.value)))
                self.choice.props("dark dense outlined").classes("grow")
            for note in recording.notes:
                ui.label(note).classes("rr-note")
            ui.label("space: play; arrows: a step; page up and down: a second; n, p: another episode").classes(
                "rr-keys"
            )
        self.timer = ui.timer(1 / CONTROL_HZ, lambda: self.go(self.step + 1), active=False)
        ui.keyboard(on_key=self._key, ignore=["input", "select", "textarea"])
        self.open(begin.number)

    def open(self, number: int) -> None:
        """Another episode, from its first step."""
        self.episode = self.recording.episode(number)
        self.slider.props(f"max={len(self.episode.steps) - 1}")
        self.choice.value = number
        self.go(0)

    def go(self, step: int) -> None:
        """Show a step; playing ends at the last one."""
        last = len(self.episode.steps) - 1
        self.step = min(max(step, 0), last)
        if step > last:
            self._play(False)
        self.slider.value = self.step
        self.picture.props(f'src="/frame/{self.episode.number}/{self.step}.jpg"')

    def toggle(self) -> None:
        """Play or stop; from the beginning where it is over."""
        starts = not self.timer.active
        if starts and self.step == len(self.episode.steps) - 1:
            self.go(0)
        self._play(starts)

    def _play(self, on: bool) -> None:
        self.timer.active = on
        self.playing.props(f'data-playing="{on}"')

    def _next_episode(self, by: int) -> None:
        numbers = [episode.number for episode in self.recording.episodes]
        place = numbers.index(self.episode.number) + by
        if 0 <= place < len(numbers):
            self.open(numbers[place])

    def _key(self, event: Any) -> None:
        if not event.action.keydown:
            return
        name = event.key.name
        if name in MOVES:
            self.go(self.step + MOVES[name])
        elif name == " ":
            self.toggle()
        elif name in ("n", "p"):
            self._next_episode(1 if name == "n" else -1)

    def _button(self, text: str, act: Any, name: str) -> Any:
        button = ui.element("button").on("click", lambda _: act()).props(f'data-act="{name}" aria-label="{name}"')
        with button:
            ui.html(text, tag="span", sanitize=False)
        return button
