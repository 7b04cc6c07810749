"""A SpaceMouse through pyspacemouse: its cap moves the finger while a button is held; the other button says failure."""

from __future__ import annotations

import time
from typing import Any

from failurebench.franka.geometry import Vec2
from robots.errors import RobotError
from robots.operator.hand import Hand, HandConfig
from robots.operator.interface import Event, Operator, Word


class SpaceMouse:
    """Two buttons are too few for a session: everything else is said by ``speaker``, such as the keyboard.

    Args:
        speaker: says what the cap cannot.
        config: how the cap moves the finger.
    """

    def __init__(self, speaker: Operator, config: HandConfig | None = None) -> None:
        self.speaker, self._hand = speaker, Hand(config or HandConfig())
        self._device: Any = None
        self._held = self._pressed = False
        self._ahead = self._left = 0.0
        self._gone: list[Event] = []

    def start(self) -> None:
        """Raises RobotError where library or device is missing."""
        try:
            import pyspacemouse
        except ImportError as error:
            raise RobotError(f"a SpaceMouse needs pyspacemouse ({error}): pip install pyspacemouse") from error
        self.speaker.start()
        self._device = pyspacemouse.open()
        if not self._device:
            raise RobotError("no SpaceMouse is connected, or this user may not read it; give robot.operator gamepad or keyboard")

    def events(self) -> list[Event]:
        said, pressed = self.speaker.events(), self._pressed
        self._read()
        if self._pressed and not pressed:
            said.append(Event(Word.FAILURE, time.monotonic()))
        said, self._gone = said + self._gone, []
        return said

    def takeover(self) -> Vec2 | None:
        self._read()
        return None if self._device is None else self._hand.ask(self._held, self._ahead, self._left)

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None
        self.speaker.close()

    def _read(self) -> None:
        """Everything that it has sent up to now."""
        if self._device is None:
            return
        try:
            state = self._device.read()
        except OSError:
            self._device = None
            self._hand.release()
            self._gone.append(Event(Word.UNPLUGGED, time.monotonic()))
            return
        self._ahead, self._left = float(state.y), -float(state.x)
        self._held, self._pressed = (bool(button) for button in state.buttons[:2])
