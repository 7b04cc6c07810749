"""Letters typed into the terminal that the session runs in: needs neither display nor library. It cannot take the arm over."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from typing import Any

from failurebench.franka.geometry import Vec2
from robots.errors import RobotError
from robots.operator.interface import Event
from robots.operator.keys import KeysConfig


class Terminal:
    """A terminal tells of no key being released, so none can be held: this one speaks, and never moves.

    Args:
        config: which key says what.
        handle: file descriptor of the terminal; None is standard input's.
    """

    def __init__(self, config: KeysConfig | None = None, handle: int | None = None) -> None:
        self.config = config or KeysConfig()
        self._words, self._given = self.config.words(), handle
        self._handle = -1
        self._settings: Any = None

    def start(self) -> None:
        """Raises RobotError where there is no terminal."""
        self._handle = sys.stdin.fileno() if self._given is None else self._given
        if not os.isatty(self._handle):
            raise RobotError("robot.operator is terminal, but standard input is none; start the session from one, or give gamepad")
        self._settings = termios.tcgetattr(self._handle)
        tty.setcbreak(self._handle)

    def events(self) -> list[Event]:
        said: list[Event] = []
        while self._settings is not None and select.select([self._handle], [], [], 0)[0]:
            for key in os.read(self._handle, 64).decode(errors="ignore").lower():
                if key in self._words:
                    word, detail = self._words[key]
                    said.append(Event(word, time.monotonic(), detail))
        return said

    def takeover(self) -> Vec2 | None:
        return None

    def close(self) -> None:
        if self._settings is not None:
            termios.tcsetattr(self._handle, termios.TCSADRAIN, self._settings)
            self._settings = None
