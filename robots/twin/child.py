"""A process that serves until its parent lets go: told what to serve in a line of JSON, it answers in one where."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from robots.errors import RobotError

END_S = 5.0
"""that a process may take to end by itself"""


class Child:
    """A running Python module.

    Args:
        module: whose ``main`` reads a line from standard input, writes one to standard output, and ends when the input closes.
        told: that line.
        name: what messages call it.
        start_s: that it may take to answer.

    Raises:
        RobotError: it answers with an error, or does not.
    """

    def __init__(self, module: str, told: str, name: str, start_s: float) -> None:
        self.name = name
        self._errors: Any = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **one_thread},
        )
        try:
            self.said = self._first_words(told, start_s)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def freeze(self) -> None:
        """Stop it where it is, as something that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self._process.kill()
        self._process.wait()

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line of what it wrote to standard error."""
        if self._errors.closed:
            return "it was closed"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def close(self) -> None:
        """Let it end, or end it; can be called twice."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        if self.running():
            self.thaw()
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.kill()
        process.stdin.close()
        process.stdout.close()
        self._errors.close()

    def _first_words(self, told: str, start_s: float) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(told.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words tell why
        until = time.monotonic() + start_s
        while time.monotonic() < until:
            readable, _, _ = select.select([process.stdout], [], [], 0.1)
            if readable:
                line = process.stdout.readline()
                if not line:
                    break
                said: dict[str, Any] = json.loads(line)
                if "error" in said:
                    raise RobotError(str(said["error"]))
                return said
        raise RobotError(f"{self.name} did not start within {start_s:.0f} s: {self.last_words()}")


def orphaned() -> bool:
    """In a child: whether its parent has let go, or is gone."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)
