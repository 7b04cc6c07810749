"""A wire twin in a terminal: where it is, and a line that says how it does."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import Any

from robots.errors import RobotError
from robots.twin.configuration import task_named
from robots.twin.placing import BASE_HEIGHT_M
from robots.twin.process import TwinProcess

TERMINAL_S, FILE_S = 0.5, 10.0
"""between two lines, which replace each other in a terminal and follow each other in a file"""


@dataclass(frozen=True)
class ServeConfig:
    """A simulated robot at a task's table, in its own protocol."""

    task: str = "FrankaFragilePushWall"
    """name of the definition, also as in FailureBench/FrankaFragilePushWall-v0"""

    seed: int = 0
    """of the episode that is on the table"""

    host: str = ""
    """a loopback address such as 127.0.0.5; empty for the next free one"""

    base_height_m: float = BASE_HEIGHT_M
    """of the arm's base over the table's top"""


def main(config: ServeConfig) -> None:
    """Serve until Ctrl-C.

    Raises:
        RobotError: no such task, the address is in use, franky-sim is missing or another version, or the twin ended by itself.
    """
    with TwinProcess(task_named(config.task), config.seed, config.host, config.base_height_m) as twin:
        print(
            f"{twin.task.name}, episode {config.seed}: a Franka Research 3 answers at {twin.host} (Ctrl-C ends it)",
            flush=True,
        )
        try:
            _watch(twin)
        except KeyboardInterrupt:
            print()


def _watch(twin: TwinProcess) -> None:
    live = sys.stdout.isatty()
    while twin.process.running():
        try:
            status = line(twin.status())
        except RobotError:
            status = "does not answer"
        print(f"\r\033[K{status}" if live else status, end="" if live else "\n", flush=True)
        until = time.monotonic() + (TERMINAL_S if live else FILE_S)
        while twin.process.running() and time.monotonic() < until:
            time.sleep(0.05)
    raise RobotError(f"the twin at {twin.host} ended by itself: {twin.process.last_words()}")


def line(status: dict[str, Any]) -> str:
    """What ``TwinProcess.status`` says, for a person."""
    fx, fy, fz = status["wrench"][:3]
    words = [
        f"{status['rate_hz']:5.0f} Hz",
        f"{status['busy_ms']:.2f} ms of each busy",
        status["mode"].removeprefix("k"),
        "a client" if status["connected"] else "no client",
        f"force {math.hypot(fx, fy, fz):4.1f} N",
    ]
    if status["errors"]:
        words.append(f"errors {', '.join(status['errors'])}")
    if status["late"]:
        words.append(f"{status['late']} times behind")
    return " · ".join(words)
