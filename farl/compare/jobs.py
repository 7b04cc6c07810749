"""Jobs with dependencies, wherever they run: started when what they need is there, stopped together, never orphaned."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from farl.watchdog import EXIT_STATUS

Status = Literal["waiting", "running", "finished", "failed", "blocked"]


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
    inputs: tuple[Path, ...] = ()
    """files and folders that it reads: its configuration, and the folders of the jobs it needs"""
    wants_gpu: bool = False

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def log_tail(self, lines: int = 8) -> str:
        """The last lines that it printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(line.rpartition("\r")[2] for line in text.splitlines()[-lines:])


class Launched(Protocol):
    """A job that a launcher has started."""

    @property
    def note(self) -> str:
        """What a table should say of it beside its progress, such as ``waiting for a worker``; mostly nothing."""
        ...

    def poll(self) -> int | None:
        """Its exit status once its result has arrived in its folder, None until then; raises UserError for what no job survives."""
        ...


class Launcher(Protocol):
    """Where jobs run: processes of this machine, a Ray cluster, a Slurm cluster."""

    @property
    def limit(self) -> int:
        """How many may be started side by side."""
        ...

    def start(self, job: Job) -> Launched:
        """Start it; does not wait."""
        ...

    def stop(self, launched: Sequence[Launched]) -> None:
        """End these jobs, cleanly if they let us, with what they have reached in their folders; a second Ctrl-C insists."""
        ...


@dataclass
class Work:
    """A job and how far it is."""

    job: Job
    status: Status = "waiting"
    left_alone: bool = False
    """finished by an earlier command"""
    launched: Launched | None = None
    started: float = field(default=0.0)
    ended: float = field(default=0.0)

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0

    @property
    def note(self) -> str:
        return self.launched.note if self.launched is not None and self.status == "running" else ""


def worth_another_try(code: int) -> bool:
    """Whether an exit status says that something befell the job, rather than that the job is wrong.

    It was killed, such as for memory, or its watchdog ended it because a call into its environment never came back.
    """
    return code < 0 or code == EXIT_STATUS


def run_jobs(
    jobs: Sequence[Job], launcher: Launcher, watch: Callable[[list[Work]], None], poll_s: float = 0.25
) -> list[Work]:
    """Run every job that is not done where ``launcher`` runs them; ``watch`` is called after every look at them.

    A failing job blocks those that need it and no others. On Ctrl-C, SIGTERM or SIGHUP all jobs are stopped; then
    KeyboardInterrupt is raised.
    """
    works = [Work(job, *(("finished", True) if job.done() else ("waiting", False))) for job in jobs]
    with _terminable():
        try:
            while _advance(works, launcher):
                watch(works)
                time.sleep(poll_s)
        finally:
            _stop([work for work in works if work.status == "running"], launcher)
    watch(works)
    return works


def _advance(works: list[Work], launcher: Launcher) -> bool:
    """Collect what has ended, start what can start; False once nothing is left to do."""
    for work in works:
        if work.launched is not None and work.status == "running" and (code := work.launched.poll()) is not None:
            work.status = "finished" if code == 0 and work.job.done() else "failed"
            work.ended = time.monotonic()
    status = {work.job.name: work.status for work in works}
    for work in works:
        if work.status != "waiting":
            continue
        needed = [status[name] for name in work.job.needs]
        if any(state in ("failed", "blocked") for state in needed):
            work.status = "blocked"
        elif all(state == "finished" for state in needed) and _running(works) < launcher.limit:
            work.launched = launcher.start(work.job)
            work.status, work.started = "running", time.monotonic()
        status[work.job.name] = work.status
    return _running(works) > 0


def _running(works: list[Work]) -> int:
    return sum(work.status == "running" for work in works)


def _stop(running: list[Work], launcher: Launcher) -> None:
    launcher.stop([work.launched for work in running if work.launched is not None])
    for work in running:
        work.status, work.ended = "waiting", time.monotonic()


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
