"""The keyboard of the computer the session runs on, through pynput: works with any window in front."""

from __future__ import annotations

import threading
import time
from typing import Any

from failurebench.franka.geometry import Vec2
from robots.errors import RobotError
from robots.operator.hand import Hand
from robots.operator.interface import Event
from robots.operator.keys import KeysConfig

ARROWS = {"up": (1.0, 0.0), "down": (-1.0, 0.0), "left": (0.0, 1.0), "right": (0.0, -1.0)}
SHIFTS = ("shift", "shift_l", "shift_r")


class Keyboard:
    """Shift and the arrows move, letters speak. A key that is held down speaks once."""

    def __init__(self, config: KeysConfig | None = None) -> None:
        self.config = config or KeysConfig()
        self._words, self._hand = self.config.words(), Hand(self.config.hand)
        self._lock = threading.Lock()
        self._said: list[Event] = []
        self._down: set[str] = set()
        self._listener: Any = None

    def start(self) -> None:
        """Raises RobotError where there is no keyboard to listen to, such as without a display."""
        try:
            from pynput import keyboard
        except Exception as error:   # pynput connects to the display when it is imported, and each backend fails in its own way
            raise RobotError(
                f"the keyboard cannot be listened to ({' '.join(str(error).split())[:120]}): it needs a display and "
                "pip install 'failure-aware-rl[robot]'; give robot.operator terminal, which needs neither"
            ) from error
        self._listener = keyboard.Listener(on_press=self.press, on_release=self.release)
        self._listener.start()
        self._listener.wait()

    def press(self, key: Any) -> None:
        """Of pynput's listener, in its thread."""
        name = _name(key)
        with self._lock:
            if name not in self._down and name in self._words:
                word, detail = self._words[name]
                self._said.append(Event(word, time.monotonic(), detail))
            self._down.add(name)

    def release(self, key: Any) -> None:
        """Of pynput's listener, in its thread."""
        with self._lock:
            self._down.discard(_name(key))

    def events(self) -> list[Event]:
        with self._lock:
            said, self._said = self._said, []
        return said

    def takeover(self) -> Vec2 | None:
        with self._lock:
            held = any(shift in self._down for shift in SHIFTS)
            pressed = [ARROWS[name] for name in self._down if name in ARROWS]
        return self._hand.ask(held, sum(ahead for ahead, _ in pressed), sum(left for _, left in pressed))

    def close(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener.join(1.0)
            self._listener = None


def _name(key: Any) -> str:
    """``a`` for the letter (also with shift), ``shift`` for the key."""
    character = getattr(key, "char", None)
    return str(character).lower() if character else str(getattr(key, "name", ""))
