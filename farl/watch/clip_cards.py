"""Cards with clips: drawn when asked for, played as soon as they are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nicegui import ui

from farl.following.recordings import read_recorded
from farl.following.run import RunView
from farl.watch.clips import Clip, Clips, newest
from farl.watch.preview import preview
from farl.watch.rows import CAUSES, failure_words, short, significant

ROUTE = "/clips"
CARDS = 4


class ClipCards:
    """A row of clips."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips
        self._row = ui.element("div").classes("farl-clips")
        self._shown: list[Clip] = []
        self._of: tuple[Path, int] | None = None
        self._places: list[tuple[Clip, Any]] | None = None
        self._sent: dict[Path, tuple[bool, bool, bool, str]] = {}

    def newest(self, view: RunView) -> None:
        """Show the latest failures of a run."""
        if self._of != (view.folder, view.version):
            self._of = (view.folder, view.version)
            self._shown = [self.clips.of(view, episode) for episode in newest(view, CARDS)]
        self.refresh()

    def show(self, view: RunView, episodes: Sequence[int]) -> None:
        """Show these episodes of a run."""
        self._shown = [self.clips.of(view, episode) for episode in episodes]
        self.refresh()

    def refresh(self) -> None:
        """Send the cards that have got further; the others stay, so that a click on them is never lost."""
        if self._places is None or [clip for clip, _ in self._places] != self._shown:
            self._lay()
        for clip, place in self._places or ():
            state = (clip.ready, clip.working, clip.drawing, clip.error)
            if self._sent.get(clip.video) != state:
                self._sent[clip.video] = state
                place.clear()
                with place:
                    self._card(clip)

    def _lay(self) -> None:
        """A place for each clip."""
        self._row.clear()
        self._sent = {}
        with self._row:
            self._places = [(clip, _place(clip)) for clip in self._shown]
            if not self._shown:
                ui.label("No failure on record that could be played again.").classes("farl-note farl-wide")

    def _card(self, clip: Clip) -> None:
        if clip.ready:
            with ui.element("div").classes("screen"):
                ui.video(f"{ROUTE}/{clip.video.name}", autoplay=True, muted=True, loop=True).props("playsinline")
        else:
            with ui.element("div").classes("curtain"):
                self._curtain(clip)
        with ui.element("div").classes("words"):
            ui.label(f"Episode {clip.episode:,}").classes("farl-title")
            for line in _words(clip):
                ui.label(line).classes("farl-note")

    def _curtain(self, clip: Clip) -> None:
        """What stands where the video will be."""
        recorded = read_recorded(clip.view, clip.episode)
        if recorded is not None:
            ui.html(preview(recorded), sanitize=False).classes("preview")
        if clip.working:
            with ui.element("div").classes("working"):
                ui.spinner(size="18px", color="grey-5")
                ui.label("playing it again" if clip.drawing else "waiting for its turn")
            return
        if clip.error:
            ui.label(clip.error)
        button = ui.button("try again" if clip.error else "show the clip", icon="play_arrow", on_click=lambda: self._ask(clip))
        button.props("flat dense no-caps color=grey-4")

    def _ask(self, clip: Clip) -> None:
        self.clips.ask(clip)
        self.refresh()


def _place(clip: Clip) -> Any:
    return ui.element("div").classes("farl-clip").props(f'data-episode="{clip.episode}"')


def _words(clip: Clip) -> list[str]:
    """What the record says of the episode."""
    table = clip.view.episodes
    found = (table["episode"] == clip.episode).nonzero()[0]
    if not len(found):
        return []
    row = int(found[0])
    failed = table["failed"][row] == 1
    what = f"{failure_words(table, row)} at step {table['first_failure'][row] + 1:.0f}" if failed else "no failure"
    lines = [f"{what}, of {table['length'][row]:.0f}", f"{short(table['end_step'][row])} agent steps into the run"]
    if failed and clip.view.threshold is not None:
        lines.append(f"{CAUSES.get(table.word('cause', row), '')}; largest risk {significant(table['risk_max'][row])}")
    if clip.ready and not clip.matches:
        lines.append("Played again, it did not fail at the recorded step: another version of the task?")
    return lines
