"""The states of arm and connection: what leads from one to another, and what a reading of the controller means."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from robots.arm.interface import ArmStatus


class Happening(Enum):
    """What can happen to the arm."""

    CONNECTED = "connected"
    COMMANDED = "commanded"
    """a permitted command was taken"""
    HELD = "held"
    """it was asked to stand where it is"""
    STOPPED = "stopped"
    """the motion ended because this side ended it"""
    REACTED = "reacted"
    """the motion ended without being asked to: the 1 kHz reaction"""
    REFLEXED = "reflexed"
    """the controller aborted the motion, or reports errors"""
    PRESSED = "pressed"
    """a person stopped the arm, unlocked nothing yet, or guides it by hand"""
    CLEARED = "cleared"
    """the controller is idle and without errors again"""
    SILENT = "silent"
    """no controller answers"""
    CLOSED = "closed"


_S, _H = ArmStatus, Happening

_MOVING = {
    _H.COMMANDED: _S.RUNNING,
    _H.HELD: _S.HOLD,
    _H.STOPPED: _S.IDLE,
    _H.REACTED: _S.REACTION_STOP,
    _H.REFLEXED: _S.REFLEX,
    _H.PRESSED: _S.USER_STOP,
    _H.SILENT: _S.LOST,
    _H.CLOSED: _S.CLOSED,
}

TRANSITIONS: dict[ArmStatus, dict[Happening, ArmStatus]] = {
    _S.IDLE: {
        _H.COMMANDED: _S.RUNNING,
        _H.HELD: _S.HOLD,
        _H.REFLEXED: _S.REFLEX,
        _H.PRESSED: _S.USER_STOP,
        _H.SILENT: _S.LOST,
        _H.CLOSED: _S.CLOSED,
    },
    _S.RUNNING: _MOVING,
    _S.HOLD: _MOVING,
    # What stopped because of a force is left by a recovery only: no command gets through before.
    _S.REACTION_STOP: {
        _H.CLEARED: _S.IDLE,
        _H.REFLEXED: _S.REFLEX,
        _H.PRESSED: _S.USER_STOP,
        _H.SILENT: _S.LOST,
        _H.CLOSED: _S.CLOSED,
    },
    _S.REFLEX: {
        _H.CLEARED: _S.IDLE,
        _H.PRESSED: _S.USER_STOP,
        _H.SILENT: _S.LOST,
        _H.CLOSED: _S.CLOSED,
    },
    # The release of the stop, which the controller reports as idle, is the only way on.
    _S.USER_STOP: {
        _H.CLEARED: _S.IDLE,
        _H.REFLEXED: _S.REFLEX,
        _H.SILENT: _S.LOST,
        _H.CLOSED: _S.CLOSED,
    },
    _S.LOST: {
        _H.CONNECTED: _S.IDLE,
        _H.REFLEXED: _S.REFLEX,
        _H.PRESSED: _S.USER_STOP,
        _H.CLOSED: _S.CLOSED,
    },
    _S.CLOSED: {_H.CONNECTED: _S.IDLE},
}
"""every change of state; what is not listed changes nothing"""


def after(status: ArmStatus, happening: Happening) -> ArmStatus:
    """The state that ``happening`` leads to from ``status``."""
    return TRANSITIONS[status].get(happening, status)


class Report(NamedTuple):
    """What the controller says of itself."""

    mode: str
    """name of libfranka's robot mode"""
    errors: tuple[str, ...]
    """names of the flags that are set"""
    finished: bool
    """no motion runs any more"""


STOPPED_BY_PERSON = ("UserStopped", "Guiding", "Other")
"""modes that only a person ends: the stop is pressed, the arm is guided by hand, its joints are locked"""

RECOVERING = ("Reflex", "AutomaticErrorRecovery")


def happened(status: ArmStatus, report: Report, stopping: bool) -> Happening | None:
    """What a report means in a state; None where it is nothing new.

    Args:
        stopping: whether this side has asked the motion to end.
    """
    if report.mode in STOPPED_BY_PERSON:
        return Happening.PRESSED
    if report.mode in RECOVERING or report.errors:
        return Happening.REFLEXED
    if status in (ArmStatus.RUNNING, ArmStatus.HOLD) and report.finished:
        return Happening.STOPPED if stopping else Happening.REACTED
    if status is ArmStatus.USER_STOP and report.mode == "Idle":
        return Happening.CLEARED
    return None


STOPPED_BY_FORCE = (ArmStatus.REACTION_STOP, ArmStatus.REFLEX)
"""states that ``recover`` leaves by backing off"""

ABLE = (ArmStatus.IDLE, ArmStatus.RUNNING, ArmStatus.HOLD)
"""states in which a command is taken"""
