"""A wire twin in a process of its own, started and ended by a ``with``."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any

from failurebench.franka.definition import FrankaTask
from robots.errors import RobotError
from robots.twin.configuration import ControllerConfig, TwinConfig
from robots.twin.placing import BASE_HEIGHT_M
from robots.twin.side import SideChannel
from robots.twin.version import require_known_version

START_S = 60.0
"""that the twin may take to serve; on an idle computer it is one or two"""

END_S = 5.0


class TwinProcess(SideChannel):
    """A simulated FR3 at the task's table, served at ``host`` in its own protocol. Also the side channel to its surroundings.

    Args:
        task: whose furniture is on the table.
        seed: of the episode that is on it at the start.
        host: a loopback address; empty for the next free one.
        base_height_m: of the arm's base over the table's top.
        controller: how the simulated controller behaves.

    Raises:
        RobotError: franky-sim is missing or of another version, the address is in use, or the twin does not start.
    """

    def __init__(
        self,
        task: FrankaTask,
        seed: int = 0,
        host: str = "",
        base_height_m: float = BASE_HEIGHT_M,
        controller: ControllerConfig | None = None,
    ) -> None:
        require_known_version()
        self.config = TwinConfig(task, seed, host, base_height_m, controller or ControllerConfig())
        self._errors: Any = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "robots.twin.serving"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            super().__init__(self._started())
        except BaseException:
            self.close()
            raise

    @property
    def task(self) -> FrankaTask:
        """Whose furniture is on the table."""
        return self.config.task

    def freeze(self) -> None:
        """Stop the process where it is, as a controller that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, as a power cut does."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process; can be called twice."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.thaw()
            self.process.stdin.close()
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self._errors.close()
        if hasattr(self, "_socket"):
            super().close()

    def __enter__(self) -> TwinProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> str:
        """Hand over what to serve, and wait for the address."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(self.config.to_json().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words tell why
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            readable, _, _ = select.select([process.stdout], [], [], 0.1)
            if readable:
                line = process.stdout.readline()
                said = json.loads(line) if line else {"error": f"the twin did not start: {self._last_words()}"}
                if "error" in said:
                    raise RobotError(str(said["error"]))
                return str(said["host"])
        raise RobotError(f"the twin did not start within {START_S:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
