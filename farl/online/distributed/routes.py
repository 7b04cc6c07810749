"""How the actor gets to its learner: one that it starts and keeps alive, or one that somebody else started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from farl.errors import UserError
from farl.online.distributed import link
from farl.online.distributed.courier import Courier
from farl.online.distributed.link import Channel, LinkLost, WrongKey

ADDRESS, LOG, KEY = "learner.json", "learner.log", "link.key"
"""what lies in a run's directory beside its results"""
ATTEMPTS = 5
"""starts of a learner in a row that led to no update; after that something is wrong with more than one process"""
START_S = 300.0
"""seconds that a learner may take to listen: mostly the import of PyTorch on a busy machine"""


class Elsewhere:
    """A learner that somebody else started."""

    def __init__(self, address: str, key: bytes) -> None:
        self.host, _, port = address.rpartition(":")
        self.port, self.key = int(port), key

    def reach(self, failed: int) -> Channel:
        return link.connect(self.host, self.port, self.key)

    def stuck(self) -> None:
        """It is not ours to end."""

    def close(self, courier: Courier) -> None:
        courier.close("bye")


class Started:
    """A learner that this process starts, unless one that lost its actor still waits in the run's directory."""

    def __init__(self, folder: Path, flags: Mapping[str, object], key: bytes, digest: str) -> None:
        self.folder, self.flags, self.key, self.digest = folder, flags, key, digest
        self.process: subprocess.Popen[bytes] | None = None

    def reach(self, failed: int) -> Channel:
        if self.process is None:
            with suppress(LinkLost, WrongKey):
                return self._connect(self._address(self.digest))
        elif self.process.poll() is not None and failed >= ATTEMPTS:
            raise UserError(f"the learner ended {ATTEMPTS} times in a row without an update; {self._tail()}")
        if self.process is None or self.process.poll() is not None:
            self._start()
        return self._connect(self._awaited())

    def _start(self) -> None:
        command = [sys.executable, "-m", "farl.online.distributed.learner_process", str(self.folder / "config.yaml")]
        for name, value in self.flags.items():   # the run's configuration may have been continued with others since
            command += [f"--link.{name.replace('_', '-')}", str(value)]
        log: IO[bytes]
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def _awaited(self) -> dict[str, Any]:
        """The address of the process just started, once it listens."""
        assert self.process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with suppress(LinkLost):
                if (found := self._address(self.digest))["pid"] == self.process.pid:
                    return found
            if self.process.poll() is not None:
                raise LinkLost(f"its process ended with status {self.process.returncode}; {self._tail()}")
            time.sleep(0.05)
        self.stuck()
        raise LinkLost(f"it did not listen within {START_S:.0f} s")

    def _address(self, digest: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / ADDRESS).read_text())
        except (OSError, ValueError) as error:
            raise LinkLost("none has left its address") from error
        if found.get("identity") != digest:
            raise LinkLost("the one that left its address serves another configuration or bundle")
        return found

    def _connect(self, address: dict[str, Any]) -> Channel:
        return link.connect(address["host"], address["port"], self.key)

    def _tail(self) -> str:
        path = self.folder / LOG
        lines = path.read_text(errors="replace").splitlines()[-3:] if path.exists() else []
        return f"{path} ends with: {' / '.join(lines)}"

    def stuck(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)

    def close(self, courier: Courier) -> None:
        """Asked to stop, given time, ended."""
        if not courier.connected:   # nobody could ask it
            self.stuck()
        courier.close("stop")
        if self.process is None:
            return
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.stuck()
