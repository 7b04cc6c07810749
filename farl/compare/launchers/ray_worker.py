"""The far end of a job on Ray: an actor that runs the command in a process and reports what its folder holds.

Without shared files it works in a folder of its own, which goes when the actor does. What it reports is taken while the
process stands still, so it is what a kill at that moment would have left, and that is what every job can continue from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from farl.cluster.code_versions import code_versions, difference
from farl.cluster.trees import Stamp, pack, stamps, unpack
from farl.compare.launchers.local_pool import SINGLE_THREADED, signal_group, stop_groups
from farl.errors import UserError

_SCRATCH = "farl-job-"


@dataclass(frozen=True)
class Order:
    """What a worker is asked to do."""

    command: tuple[str, ...]
    """its first word is replaced by the worker's own Python where it is empty"""
    folder: str
    """where the result appears"""
    versions: dict[str, str]
    """code that must be installed, empty where any will do"""
    modules: tuple[str, ...]
    trees: tuple[str, ...]
    """where the trees that come along are unpacked"""
    collect_every_s: float
    shared: tuple[str, str] | None = None
    """with shared files: the folder to work in, and a digest of the command's configuration file, its last word"""


@dataclass(frozen=True)
class Report:
    """How far the job is."""

    node: str
    code: int | None
    """exit status, None while it runs"""
    progress: bytes = b""
    """``progress.json`` as it is now"""
    tree: bytes | None = None
    """files that changed since the last tree; None where files are shared, and between two collections"""
    gone: tuple[str, ...] = ()
    """files that were deleted since"""


class Worker:
    """One job; its methods are called one after another."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._lock: IO[str] | None = None
        self._sent: dict[str, Stamp] = {}
        self._collected = 0.0

    def start(self, order: Order, *trees: bytes) -> Report:
        """Raises UserError where this node runs other code, or does not see the files it should share."""
        found = code_versions(order.modules) if order.versions else {}
        if problem := difference(order.versions, found, socket.gethostname()):
            raise UserError(problem)
        self._order = order
        where = self._shared() if order.shared is not None else self._own(trees)
        self._folder = where / order.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sent, self._collected = stamps(self._folder), time.monotonic()
        command = [word or sys.executable for word in order.command]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "farl.compare.launchers.tied", str(os.getpid()), *command],
                cwd=where,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **SINGLE_THREADED, "PYTHONUNBUFFERED": "1"},
                process_group=0,
            )
        return Report(socket.gethostname(), None)

    def report(self) -> Report:
        """Waits a moment for the end, then says what there is."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(min(1.0, self._order.collect_every_s or 1.0))
        code = self._process.poll()
        due = code is not None or time.monotonic() - self._collected > self._order.collect_every_s
        if self._order.shared is not None or not due:
            return Report(socket.gethostname(), code, b"" if self._order.shared else self._progress())
        return self._collect(code)

    def stop(self, grace_s: float) -> Report:
        """End the job cleanly if it lets us; whatever it reached is in the report."""
        if self._process is None:
            return Report(socket.gethostname(), 0)
        stop_groups([self._process], grace_s)
        return Report(socket.gethostname(), self._process.poll()) if self._order.shared else self._collect(self._process.poll())

    def leave(self) -> None:
        """Take away what was only needed here."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _collect(self, code: int | None) -> Report:
        with _still(self._process):
            now = stamps(self._folder)
            tree = pack(self._folder, [name for name, stamp in now.items() if self._sent.get(name) != stamp])
        gone = tuple(self._sent.keys() - now.keys())
        self._sent, self._collected = now, time.monotonic()
        return Report(socket.gethostname(), code, b"", tree, gone)

    def _progress(self) -> bytes:
        path = self._folder / "progress.json"
        return path.read_bytes() if path.exists() else b""

    def _own(self, trees: tuple[bytes, ...]) -> Path:
        _sweep()
        self._scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        self._lock = _held(self._scratch)
        for place, tree in zip(self._order.trees, trees, strict=True):
            unpack(tree, self._scratch / place)
        return self._scratch

    def _shared(self) -> Path:
        assert self._order.shared is not None
        folder, digest = self._order.shared
        file = Path(folder, self._order.command[-1])
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise UserError(
                f"node {socket.gethostname()} does not see {file}, or sees another one, though --ray.shared-files says it should. "
                "Mount the folder there at the same path, or leave that flag out: files are then sent and collected."
            )
        return Path(folder)


@contextmanager
def _still(process: subprocess.Popen[bytes] | None) -> Iterator[None]:
    """The job and its children stand still meanwhile."""
    if process is None or process.poll() is not None:
        yield
        return
    signal_group(process, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_group(process, signal.SIGCONT)


def _held(scratch: Path) -> IO[str] | None:
    """The scratch folder's lock, which ends with this process; None if another one has it."""
    lock = (scratch / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _sweep() -> None:
    """Remove what actors that were killed left behind here."""
    for scratch in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if (scratch / ".lock").exists() and (lock := _held(scratch)) is not None:
                shutil.rmtree(scratch, ignore_errors=True)
                lock.close()
