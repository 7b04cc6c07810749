"""Pages on this machine's own address: of a running session and of recorded ones. Nothing else can reach them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from robots.errors import RobotError

HOST = "127.0.0.1"
PATIENCE_S = 30.0
"""for which a browser may be silent before its page is given up"""


def check_port(port: int) -> None:
    """Raise ValueError for what cannot be one."""
    if not 0 <= port < 65536:
        raise ValueError(f"port is {port}; give a number up to 65535, or 0 for one that is free")


def serve(
    port: int, title: str, page: Callable[[], object], prepare: Callable[[Any], None], about: str, instead: str
) -> None:
    """Serve a NiceGUI page until Ctrl-C and print where.

    Args:
        port: 0 takes one that is free.
        page: builds it, once per browser.
        prepare: gets the FastAPI application, for what the page fetches.
        about: what is served, for the line that is printed.
        instead: how to do without a page, for a machine that lacks the package.

    Raises:
        RobotError: the port is taken, or the package is missing.
    """
    try:
        import uvicorn
        from fastapi import FastAPI
        from nicegui import ui
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        cure = f"pip install 'failure-aware-rl[watch]', or {instead}"
        raise RobotError(f"the page needs the package nicegui, which is not here ({error}); {cure}") from error
    listening = _listen(port)
    outer = FastAPI(openapi_url=None)
    prepare(outer)
    ui.run_with(
        outer,
        root=lambda: page() and None,
        title=title,
        tailwind=False,
        gzip_middleware_factory=None,
        show_welcome_message=False,
        reconnect_timeout=PATIENCE_S,
    )
    # A page from elsewhere must not reach this one through a name that points here.
    outer.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    print(f"{about} at http://{HOST}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    server = uvicorn.Server(uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=2))
    with suppress(KeyboardInterrupt):  # which is how one ends it
        server.run(sockets=[listening])


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
