"""An operator in code: for twins, for trying a session out, for tests."""

from __future__ import annotations

import threading
import time

from failurebench.franka.geometry import Vec2
from robots.operator.interface import Event, Word


class ScriptedOperator:
    """Says what it is told to; any thread may tell it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: list[Event] = []
        self._hand: Vec2 | None = None

    def say(self, word: Word, detail: str = "") -> None:
        """As if a person had pressed the button now."""
        with self._lock:
            self._said.append(Event(word, time.monotonic(), detail))

    def hold(self, displacement: Vec2 | None) -> None:
        """Hold the take-over with the stick there, or let go of it with None."""
        self._hand = displacement

    def start(self) -> None:
        """There is nothing to open."""

    def events(self) -> list[Event]:
        with self._lock:
            said, self._said = self._said, []
        return said

    def takeover(self) -> Vec2 | None:
        return self._hand

    def close(self) -> None:
        """There is nothing to close."""
