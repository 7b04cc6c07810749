"""Jobs with dependencies, each a process: started when what they need is there, stopped together, never orphaned."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["waiting", "running", "finished", "failed", "blocked"]
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""tiny networks get many times slower when every job takes all cores"""


@dataclass(frozen=True)
class Job:
    """A command that leaves a result in a folder."""

    name: str
    folder: Path
    command: tuple[str, ...]
    done: Callable[[], bool]
    """whether its result is there; a job that is done is not started"""
    needs: tuple[str, ...] = ()
    """names of the jobs whose results it reads"""

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def log_tail(self, lines: int = 8) -> str:
        """The last lines that it printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(line.rpartition("\r")[2] for line in text.splitlines()[-lines:])


@dataclass
class Work:
    """A job and how far it is."""

    job: Job
    status: Status = "waiting"
    left_alone: bool = False
    """finished by an earlier command"""
    process: subprocess.Popen[bytes] | None = None
    started: float = field(default=0.0)
    ended: float = field(default=0.0)

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0


def run_jobs(
    jobs: Sequence[Job], limit: int, watch: Callable[[list[Work]], None], poll_s: float = 0.25, grace_s: float = 15.0
) -> list[Work]:
    """Run every job that is not done, at most ``limit`` side by side; ``watch`` is called after every look at them.

    A failing job blocks those that need it and no others. On Ctrl-C, SIGTERM or SIGHUP all processes are asked to stop, given
    ``grace_s`` to stop cleanly, and ended; then KeyboardInterrupt is raised.
    """
    works = [Work(job, *(("finished", True) if job.done() else ("waiting", False))) for job in jobs]
    with _terminable():
        try:
            while _advance(works, limit):
                watch(works)
                time.sleep(poll_s)
        finally:
            _stop([work for work in works if work.status == "running"], grace_s)
    watch(works)
    return works


def _advance(works: list[Work], limit: int) -> bool:
    """Collect what has ended, start what can start; False once nothing is left to do."""
    for work in works:
        if work.process is not None and work.status == "running" and work.process.poll() is not None:
            work.status = "finished" if work.process.returncode == 0 and work.job.done() else "failed"
            work.ended = time.monotonic()
    status = {work.job.name: work.status for work in works}
    for work in works:
        if work.status != "waiting":
            continue
        needed = [status[name] for name in work.job.needs]
        if any(state in ("failed", "blocked") for state in needed):
            work.status = "blocked"
        elif all(state == "finished" for state in needed) and sum(one.status == "running" for one in works) < limit:
            _start(work)
        status[work.job.name] = work.status
    return any(work.status == "running" for work in works)


def _start(work: Work) -> None:
    work.job.folder.mkdir(parents=True, exist_ok=True)
    with work.job.log.open("ab") as log:
        work.process = subprocess.Popen(
            work.job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SINGLE_THREADED, "PYTHONUNBUFFERED": "1"},
            process_group=0,   # Ctrl-C reaches us alone; we pass it on in order
            preexec_fn=_die_with_parent,   # safe: no other thread runs while jobs do
        )
    work.status, work.started = "running", time.monotonic()


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Should this process be killed outright, the kernel ends its jobs: two studies must never write into one run."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(running: list[Work], grace_s: float) -> None:
    """Ask with SIGINT, insist with SIGTERM, end with SIGKILL; a second Ctrl-C goes straight to the end."""
    for number, patience in ((signal.SIGINT, grace_s), (signal.SIGTERM, grace_s / 3), (signal.SIGKILL, 5.0)):
        alive = [work.process for work in running if work.process is not None and work.process.poll() is None]
        for process in alive:
            _signal_group(process, number)
        try:
            _wait(alive, patience)
        except KeyboardInterrupt:
            continue
    for work in running:
        if work.process is not None:
            _signal_group(work.process, signal.SIGKILL)   # what a job itself left behind in its group
        work.status, work.ended = "waiting", time.monotonic()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _wait(processes: list[subprocess.Popen[bytes]], patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.05)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and a closed terminal stop the jobs like Ctrl-C does (only the main thread may set this up)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
