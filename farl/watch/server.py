"""``farl watch``: serve the page to a browser on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farl.errors import UserError
from farl.following.follower import Follower

LOOK_S = 1.0
"""between two looks at the run directories"""
PATIENCE_S = 30.0
"""for which a browser may be silent before its page is given up: runs take the cores that it wants too"""


@dataclass(frozen=True)
class WatchConfig:
    """Where the page is served."""

    port: int = 0
    """0 takes one that is free"""

    host: str = "127.0.0.1"
    """address to listen on; anything else than this machine's own lets everybody in the network see the runs"""

    open: bool = True
    """open the page in a browser, where there is a screen; --no-open does not"""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"port is {self.port}; give a number up to 65535, or 0 for one that is free")


def watch(folders: Sequence[Path], config: WatchConfig) -> None:
    """Serve until Ctrl-C; raises UserError for a folder without runs, an occupied port or a missing package."""
    follower = Follower(folders)
    _check_package()
    listening = _listen(config)
    address = f"http://{_shown(config.host)}:{listening.getsockname()[1]}"
    print(f"watching {', '.join(map(str, folders))} at {address} (Ctrl-C ends it)", flush=True)
    if not _is_loopback(config.host):
        warning = f"warning: everybody who can reach {config.host} sees these runs; nothing asks for a password"
        print(warning, file=sys.stderr, flush=True)
    server = _server(follower, ", ".join(map(str, folders)), only_loopback=_is_loopback(config.host))
    if config.open and _has_screen():
        webbrowser.open(address)
    with suppress(KeyboardInterrupt):   # which is how one ends it
        server.run(sockets=[listening])


def _check_package() -> None:
    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        cure = "install the extra: pip install -c constraints.txt -e '.[watch]'"
        raise UserError(f"the page needs the package nicegui, which is not here ({error}); {cure}") from error


def _server(follower: Follower, title: str, only_loopback: bool) -> Any:
    """The web server with the page in it, not started yet."""
    import uvicorn
    from fastapi import FastAPI
    from nicegui import app, run, ui
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from farl.watch.clip_cards import ROUTE
    from farl.watch.clips import Clips
    from farl.watch.page import Page

    clips = Clips()

    async def follow() -> None:
        while True:
            try:
                await run.io_bound(follower.look)
            except OSError as error:   # a disk that is away for a while
                print(f"cannot look at the runs: {error}; trying again", file=sys.stderr, flush=True)
            await asyncio.sleep(LOOK_S)

    app.on_startup(follow)
    app.on_shutdown(clips.stop)
    app.add_media_files(ROUTE, clips.folder)
    outer = FastAPI(openapi_url=None)
    ui.run_with(
        outer, root=lambda: Page(follower, clips, title) and None, title="FARL watch", favicon=_ICON, tailwind=False,
        gzip_middleware_factory=None, show_welcome_message=False, reconnect_timeout=PATIENCE_S,
    )   # fmt: skip
    if only_loopback:   # a page from elsewhere must not reach this one through a name that points here
        outer.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    return uvicorn.Server(uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=2))


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0072b2"/>'
    '<path d="M5 22 L12 14 L18 18 L27 8" stroke="#fff" stroke-width="3" fill="none" stroke-linejoin="round"/></svg>'
)


def _listen(config: WatchConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
        listening.listen()
    except OSError as error:
        listening.close()
        cure = "choose another --port, or leave it out to take one that is free"
        raise UserError(f"cannot listen on {config.host}, port {config.port}: {error.strerror or error}; {cure}") from error
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    """An address that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
