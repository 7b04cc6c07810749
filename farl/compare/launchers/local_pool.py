"""Jobs as processes of this machine: a few side by side, ended with this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farl.compare.jobs import Job, Launched

SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""tiny networks get many times slower when every job takes all cores"""


@dataclass
class PoolProcess:
    """A job in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    note: str = ""

    def poll(self) -> int | None:
        """Its exit status once it has ended; who was killed could not say so, and its log says it instead."""
        code = self.process.poll()
        if code is not None and code < 0 and not self.note:
            number = signal.Signals(-code)
            cause = ", mostly because memory ran out: give fewer --jobs" if number == signal.SIGKILL else ""
            self.note = f"ended from outside by {number.name}{cause}"
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"\n{self.note}\n")
        return code


class LocalPool:
    """At most ``limit`` processes side by side; those that must stop are given ``grace_s`` to do so cleanly."""

    def __init__(self, limit: int = 0, grace_s: float = 15.0) -> None:
        self.limit, self.grace_s = limit or len(os.sched_getaffinity(0)), grace_s

    def start(self, job: Job) -> PoolProcess:
        job.folder.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **SINGLE_THREADED, "PYTHONUNBUFFERED": "1"},
                process_group=0,   # Ctrl-C reaches us alone; we pass it on in order
                preexec_fn=_die_with_parent,   # safe: no other thread runs while jobs do
            )
        return PoolProcess(process, job.log)

    def stop(self, launched: Sequence[Launched]) -> None:
        stop_groups([one.process for one in launched if isinstance(one, PoolProcess)], self.grace_s)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Should this process be killed outright, the kernel ends its jobs: two studies must never write into one run."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_groups(processes: Sequence[subprocess.Popen[bytes]], grace_s: float) -> None:
    """Ask with SIGINT, insist with SIGTERM, end with SIGKILL; a second Ctrl-C goes straight to the end."""
    for number, patience in ((signal.SIGINT, grace_s), (signal.SIGTERM, grace_s / 3), (signal.SIGKILL, 5.0)):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            signal_group(process, number)
        try:
            _wait(alive, patience)
        except KeyboardInterrupt:
            continue
    for process in processes:
        signal_group(process, signal.SIGKILL)   # what a job itself left behind in its group


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _wait(processes: list[subprocess.Popen[bytes]], patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.05)
