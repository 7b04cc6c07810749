"""``farl robot watch``: the operator's page on this machine's loopback address, or the same facts in the terminal."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robots.errors import RobotError
from robots.replay.table import TablePicture
from robots.twin.configuration import task_named
from robots.watch.facts import Session

HOST = "127.0.0.1"
LOOK_S = 0.1
"""between two looks at the journal: as often as a step is written"""
PATIENCE_S = 30.0
"""for which a browser may be silent before its page is given up"""
TABLE_SIZE = (640, 480)


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
        if not 0 <= self.port < 65536:
            raise ValueError(f"port is {self.port}; give a number up to 65535, or 0 for one that is free")


def main(folder: Path, config: WatchConfig) -> None:
    """Show the session in ``folder`` (a run's, or ``session`` in it) until Ctrl-C.

    Raises RobotError where there is no session, the port is taken, or a package is missing.
    """
    session = Session(folder)
    if config.terminal or config.once:
        from robots.watch.terminal import show

        show(session, config.once)
        return
    _check_package()
    listening = _listen(config.port)
    address = f"http://{HOST}:{listening.getsockname()[1]}"
    print(f"watching {folder} at {address} (Ctrl-C ends it)", flush=True)
    server = _server(session)
    with suppress(KeyboardInterrupt):  # which is how one ends it
        server.run(sockets=[listening])


def _check_package() -> None:
    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        cure = "pip install 'failure-aware-rl[watch]', or look at it with --terminal"
        raise RobotError(f"the page needs the package nicegui, which is not here ({error}); {cure}") from error


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        cure = "choose another --port, or leave it out to take one that is free"
        raise RobotError(f"cannot listen on {HOST}, port {port}: {error.strerror or error}; {cure}") from error
    return listening


def _server(session: Session) -> Any:
    """The web server with the page in it, not started yet."""
    import uvicorn
    from fastapi import FastAPI, Response
    from nicegui import app, run, ui
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from robots.watch.page import Page

    pictures = Pictures(session)

    async def follow() -> None:
        while True:
            try:
                await run.io_bound(session.look)
            except OSError as error:  # a disk that is away for a while
                print(f"cannot look at the session: {error}; trying again", file=sys.stderr, flush=True)
            await asyncio.sleep(LOOK_S)

    outer = FastAPI(openapi_url=None)

    @outer.get("/picture/{view}")
    def picture(view: str) -> Response:
        content = pictures.newest(view)
        kept = {"Cache-Control": "no-store"}
        return Response(content, 200 if content else 404, kept, "image/jpeg" if content else "text/plain")

    app.on_startup(follow)
    ui.run_with(
        outer, root=lambda: Page(session) and None, title="Robot session", tailwind=False,
        gzip_middleware_factory=None, show_welcome_message=False, reconnect_timeout=PATIENCE_S,
    )  # fmt: skip
    # A page from elsewhere must not reach this one through a name that points here.
    outer.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return uvicorn.Server(uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=2))


class Pictures:
    """The newest picture of every camera, and one of the table that is drawn from the observation."""

    def __init__(self, session: Session) -> None:
        from robots.watch.page import TABLE

        self.session, self.name = session, TABLE
        self._lock = threading.Lock()
        self._drawn: tuple[int, bytes] = (-1, b"")
        try:
            task = task_named(str(session.manifest.get("task", "")), **session.manifest.get("task_options", {}))
        except RobotError:  # a task of somebody's own: cameras are shown, the table cannot be drawn
            self._table = None
        else:
            self._table = TablePicture(task, TABLE_SIZE)

    def newest(self, view: str) -> bytes:
        """JPEG; empty where there is none."""
        facts = self.session.facts(0.0)
        path = facts.pictures.get(view)
        if path is not None:
            with suppress(OSError):
                return path.read_bytes()
        if view != self.name or self._table is None or not facts.curve:
            return b""
        with self._lock:  # several tablets, one drawing
            if self._drawn[0] != self.session.version:
                content = io.BytesIO()
                self._table.draw(facts.curve).save(content, "JPEG", quality=85)
                self._drawn = self.session.version, content.getvalue()
            return self._drawn[1]
