"""Processes that can be killed, without importing everything again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

FORK = multiprocessing.get_context("fork")


class Forked:
    """A copy of this process that does one thing; as ``subprocess.Popen``, without importing everything again."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        self.process = FORK.Process(target=work, args=arguments)
        self.process.start()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    poll = returncode.fget

    def wait(self) -> int | None:
        self.process.join(60)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def communicate(self) -> tuple[None, bytes]:
        self.wait()
        return None, b""
