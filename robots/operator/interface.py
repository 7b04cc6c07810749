"""What a person at the robot can say without anything waiting for it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from failurebench.franka.geometry import Vec2


class Word(Enum):
    """What an event says."""

    SUCCESS = "success"
    FAILURE = "failure"
    """its kind is the event's ``detail``"""
    RETRACT = "retract"
    """the last label was a mistake"""
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    """end this episode, without a label"""
    RESET_DONE = "reset_done"
    QUIT = "quit"
    """end the session after this episode"""
    UNPLUGGED = "unplugged"
    """the device is gone: the arm holds"""


class Event(NamedTuple):
    """One thing said."""

    word: Word
    time: float
    """``time.monotonic()``"""
    detail: str = ""


class Operator(Protocol):
    """A gamepad, a keyboard, a SpaceMouse, or the operator's page."""

    def start(self) -> None:
        """Open the device; raises RobotError naming what is missing."""
        ...

    def events(self) -> list[Event]:
        """What was said since the last call, oldest first; never waits."""
        ...

    def takeover(self) -> Vec2 | None:
        """The displacement a person asks for while they hold the take-over, in units of the task's full command; None otherwise."""
        ...

    def close(self) -> None:
        """Let go; can be called twice."""
        ...
