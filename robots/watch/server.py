"""``farl robot watch``: the operator's page on this machine's loopback address, or the same facts in the terminal."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robots.errors import RobotError
from robots.replay.table import TablePicture
from robots.session.about import definition
from robots.watch.facts import Session
from robots.watch.loopback import check_port, serve

LOOK_S = 0.1
"""between two looks at the journal: as often as a step is written"""
TABLE, TABLE_SIZE = "table", (640, 480)
"""name of the view that is drawn from the observation, and its pixels"""


@dataclass(frozen=True)
class WatchConfig:
    """How a session is watched."""

    port: int = 0
    """of the page; 0 takes one that is free"""

    terminal: bool = False
    """show the facts in this terminal instead of serving a page"""

    once: bool = False
    """print the facts once and end; implies --terminal"""

    def __post_init__(self) -> None:
        check_port(self.port)


def main(folder: Path, config: WatchConfig) -> None:
    """Show the session in ``folder`` (a run's, or ``session`` in it) until Ctrl-C.

    Raises RobotError where there is no session, the port is taken, or a package is missing.
    """
    session = Session(folder)
    if config.terminal or config.once:
        from robots.watch.terminal import show

        show(session, config.once)
        return
    pictures = Pictures(session)

    def page() -> object:
        from robots.watch.page import Page

        return Page(session)

    def prepare(outer: Any) -> None:
        _follow(session)
        _serve_pictures(outer, pictures)

    serve(config.port, "Robot session", page, prepare, f"watching {folder}", "look at it with --terminal")


def _follow(session: Session) -> None:
    """Look again and again while the server runs."""
    from nicegui import app, run

    async def follow() -> None:
        while True:
            try:
                await run.io_bound(session.look)
            except OSError as error:  # a disk that is away for a while
                print(f"cannot look at the session: {error}; trying again", file=sys.stderr, flush=True)
            await asyncio.sleep(LOOK_S)

    app.on_startup(follow)


def _serve_pictures(outer: Any, pictures: Pictures) -> None:
    from fastapi import Response

    def picture(view: str) -> Response:
        content = pictures.newest(view)
        kept = {"Cache-Control": "no-store"}
        return Response(content, 200 if content else 404, kept, "image/jpeg" if content else "text/plain")

    outer.add_api_route("/picture/{view}", picture, response_model=None)


class Pictures:
    """The newest picture of every camera, and one of the table that is drawn from the observation."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._drawn: tuple[int, bytes] = (-1, b"")
        self._table: TablePicture | None = None
        with suppress(RobotError):  # a task of somebody's own: cameras are shown, the table cannot be drawn
            self._table = TablePicture(definition(session.manifest), TABLE_SIZE)

    def newest(self, view: str) -> bytes:
        """JPEG; empty where there is none."""
        facts = self.session.facts(0.0)
        path = facts.pictures.get(view)
        if path is not None:
            with suppress(OSError):
                return path.read_bytes()
        if view != TABLE or self._table is None or not facts.curve:
            return b""
        with self._lock:  # several tablets, one drawing
            if self._drawn[0] != self.session.version:
                content = io.BytesIO()
                self._table.draw(facts.curve).save(content, "JPEG", quality=85)
                self._drawn = self.session.version, content.getvalue()
            return self._drawn[1]
