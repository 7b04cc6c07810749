"""The one word over everything: what the arm does now, and what a person does about it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from robots.arm.interface import ArmStatus
from robots.operator.interface import Word
from robots.session import words
from robots.session.record import EventRecord, StepRecord


class Light(Enum):
    """What the word means for somebody who stands at the table; the value is its colour's name."""

    STILL = "still"
    """the arm stands, and will until a person says otherwise"""
    MOVES = "moves"
    """the arm moves or may at any moment: hands off"""
    ASKS = "asks"
    """nothing goes on without a person"""
    TROUBLE = "trouble"
    """something is wrong, and it is not certain what the arm does"""
    OVER = "over"


class Banner(NamedTuple):
    """Word, colour, and what to do."""

    word: str
    light: Light
    advice: str


QUIET_S = {"episode": 2.0, "ready": 20.0, "between": 120.0}
"""how long a session that works may write nothing: steps come every tenth of a second, a reset may take its time"""

HANDS_OFF = "keep hands off the table"
CONFIRM = "then say that the reset is done"
UNSURE = "stay away and press the user stop"


class Phase:
    """Where the session stands, from what it wrote last."""

    def __init__(self) -> None:
        self.name = "waiting"
        """waiting, starting, ready, episode, between, asking or stopped"""
        self.detail = ""
        self.paused = False
        self.unplugged = False
        self.fault = ""
        """that has not been recovered from"""
        self.status = ""
        """of the arm at the newest step"""

    def step(self, record: StepRecord) -> None:
        """A step was acknowledged."""
        self.name, self.detail = "episode", ""
        self.status, self.fault = record.status, record.fault

    def event(self, record: EventRecord) -> None:
        """Something was said."""
        turns = {
            words.SESSION: "starting",
            words.RESUMED: "starting",
            words.EPISODE: "ready",
            words.ENDED: "between",
            words.NEEDS_RESET: "asking",
            words.RESET: "between",
            words.STOPPED: "stopped",
            Word.RESET_DONE.value: "between",
        }
        if record.word == Word.PAUSE.value:
            self.paused = self.name in ("episode", "ready")  # said between episodes it stops nothing
        elif record.word in (Word.RESUME.value, words.ENDED, words.SESSION, words.RESUMED):
            self.paused = False
        if record.word in turns:
            self.name, self.detail = turns[record.word], record.detail
        if record.word == words.FAULT:
            self.fault = record.detail
        elif record.word in (words.RECOVERED, words.EPISODE, words.SESSION, words.RESUMED):
            self.fault, self.status = "", ""
        if record.word == Word.UNPLUGGED.value:
            self.unplugged = True
        elif record.word in {word.value for word in Word} | {words.SESSION}:
            self.unplugged = False


def banner(phase: Phase, quiet_s: float, gone: str = "") -> Banner:
    """What to show ``quiet_s`` seconds after the session last wrote something; ``gone`` as of ``robots.watch.alive``."""
    found = _ended(gone) if gone and phase.name != "stopped" else _choose(phase, quiet_s)
    return found._replace(advice=found.advice[:1].upper() + found.advice[1:])


def _ended(status: str) -> Banner:
    if status == "running":
        killed = "the session's process is gone without a word: the arm stops by itself. Make sure that it has"
        return Banner("KILLED", Light.TROUBLE, f"{killed}, then run the same command again: it continues")
    return Banner("ENDED", Light.OVER, f"the session is over ({status}); the same command continues it")


def _choose(phase: Phase, quiet_s: float) -> Banner:
    if phase.name == "waiting":
        return Banner("WAITING", Light.ASKS, "the session has written nothing yet")
    if phase.name == "stopped":
        return Banner("FINISHED", Light.OVER, _sentence("the session has ended", phase.detail))
    if phase.name == "asking":
        return _asking(phase)
    if not phase.paused and quiet_s > QUIET_S.get(phase.name, QUIET_S["between"]):
        said = f"nothing was written for {quiet_s:.0f} s: the session hangs or was killed"
        return Banner("NOT WRITING", Light.TROUBLE, f"{said}; {UNSURE}, then look at its terminal")
    trouble = _trouble(phase)
    if trouble is not None:
        return trouble
    if phase.paused:
        return Banner("SAFE", Light.STILL, "paused: the arm holds still until a person says resume")
    if phase.name in ("episode", "ready"):
        return _in_episode(phase)
    return Banner("RESETTING", Light.MOVES, f"between episodes the arm moves by itself: {HANDS_OFF}")


def _asking(phase: Phase) -> Banner:
    if words.STOP_PRESSED in phase.detail:
        return Banner("USER STOP", Light.ASKS, f"{phase.detail}; {CONFIRM}")
    return Banner("NEEDS RESET", Light.ASKS, f"the arm holds still. {_sentence(phase.detail)}, {CONFIRM}")


def _trouble(phase: Phase) -> Banner | None:
    status, fault = phase.status, phase.fault
    if status == ArmStatus.USER_STOP.value or fault == "user_stop":
        return Banner("USER STOP", Light.ASKS, "a person pressed the stop; release it when everything is clear")
    if status in (ArmStatus.LOST.value, ArmStatus.CLOSED.value) or fault.startswith("arm_"):
        return Banner("LOST", Light.TROUBLE, f"no controller answers, it is being reconnected; {UNSURE}")
    if status in (ArmStatus.REFLEX.value, ArmStatus.REACTION_STOP.value) or fault in ("reflex", "reaction_stop"):
        which = (status or fault).replace("_", " ")
        return Banner("STOPPED", Light.MOVES, f"the arm met something ({which}) and backs off by itself: {HANDS_OFF}")
    if fault:
        return Banner(
            "FAULT",
            Light.MOVES,
            f"{fault.replace('_', ' ')}; the episode is not counted, the arm may move again: {HANDS_OFF}",
        )
    return None


def _in_episode(phase: Phase) -> Banner:
    if phase.status == ArmStatus.HOLD.value:
        why = (
            "the operator's device is unplugged: plug it in again" if phase.unplugged else "it may go on at any moment"
        )
        return Banner("HOLDING", Light.MOVES, f"the arm holds still, but the episode runs: {why}")
    does = "the arm moves" if phase.name == "episode" else "an episode begins"
    return Banner("RUNNING", Light.MOVES, f"{does}: {HANDS_OFF}")


def _sentence(*parts: str) -> str:
    said = ": ".join(part for part in parts if part)
    return said[:1].upper() + said[1:] if said else "Put the table back"
