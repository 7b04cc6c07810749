"""Between two episodes: the arm is able to move, the finger stands at its start, the object where episodes begin. Never blindly.

A person is asked wherever this cannot be seen to, and nothing goes on until they say ``reset_done``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from failurebench.franka.definition import FINGER_HEIGHT_M, FINGER_RADIUS_M, FrankaTask, Range
from failurebench.franka.geometry import Vec2
from failurebench.franka.scene import Layout
from robots.arm.interface import ArmStatus
from robots.errors import RobotError
from robots.operator.interface import Event, Word
from robots.perception.interface import Estimate
from robots.session import words
from robots.session.pace import Clock
from robots.session.station import Station

POLL_S = 0.05


class SessionEnded(Exception):
    """The operator ends the session; everything up to now is kept."""


@dataclass(frozen=True)
class ResetConfig:
    """How the table is put back."""

    by: Literal["human", "scripted"] = "human"
    """``scripted`` asks a person only where the object is not seen where episodes begin, or a failure came before"""

    speed_mps: float = 0.1
    """of the finger on its way to the start"""

    lift_m: float = 0.16
    """height of the finger's tip on that way: over everything that stands on the table"""

    room_m: float = 0.02
    """free of the object around the finger's start, for the finger to come down"""

    near_m: float = 0.03
    """how far from the range that episodes begin in the object may stand"""

    fresh_s: float = 0.5
    """age of the estimate that the start is judged by"""

    patience_s: float = 20.0
    """that a lost controller or a first estimate may take before a person is asked"""


Say = Callable[[str, str], None]
"""keeps an event: word, detail"""


class Resetting:
    """Brings a station to the start of an episode.

    Args:
        task: the definition.
        station: opened.
        config: how.
        hear: what the operator said since it was last asked; journals it.
        say: journals the session's own words.
    """

    def __init__(
        self, task: FrankaTask, station: Station, config: ResetConfig, hear: Callable[[], list[Event]], say: Say, clock: Clock
    ) -> None:
        self.task, self.station, self.config = task, station, config
        self._hear, self._say, self.clock = hear, say, clock

    def prepare(self, seed: int, failed: bool) -> Layout:
        """The layout of the episode that ``seed`` names, as it stands on the table now.

        Args:
            failed: whether the episode before ended in trouble that a person has to look at.

        Raises:
            SessionEnded: the operator quits.
            RobotError: the arm cannot be had back.
        """
        drawn = self.task.layout(np.random.default_rng(seed))
        self.able()
        if self.station.stage is not None:
            return self._on_stage(drawn, seed)
        asked = self.config.by == "human" or failed
        if asked:
            self._ask("put the object where episodes begin, everything else back, and step away")
        while True:
            wrong = self._to_start() or self._misplaced()
            if not wrong:
                self._say(words.RESET, "human" if asked else "scripted")
                return self._seen(drawn)
            asked = True
            self._ask(wrong)

    def able(self) -> None:
        """The arm can be moved again, or a person is asked until it can."""
        since = self.clock.now()
        while (status := self.station.arm.state().status) not in (ArmStatus.IDLE, ArmStatus.RUNNING, ArmStatus.HOLD):
            if status in (ArmStatus.REFLEX, ArmStatus.REACTION_STOP):
                if self.station.arm.recover():
                    self._say(words.RECOVERED, status.value)
                elif self.station.stage is not None:   # nobody could free a twin: the same command starts another
                    raise RobotError(f"the twin's arm cannot leave {status.value}; what was played is kept, begin again to go on")
                else:
                    self._ask(f"the arm cannot leave {status.value} by itself: free it, or end the session and begin it again")
                    self.station.arm.new_episode()   # a person has looked: it may try again
            elif status is ArmStatus.USER_STOP:
                self._ask(f"{words.STOP_PRESSED}: release it when everything is clear")
            else:
                self._reconnect(since)
                self._say(words.RECOVERED, status.value)

    def _reconnect(self, since: float) -> None:
        while True:
            try:
                self.station.arm.connect()
                return
            except RobotError as error:
                if self.clock.now() - since > self.config.patience_s:
                    raise
                self._say(words.FAULT, str(error))
                self._pause(1.0)

    def _on_stage(self, drawn: Layout, seed: int) -> Layout:
        """A twin's table is put back by itself; objects that bar the way are put back first."""
        assert self.station.stage is not None
        if self._to_start():
            self.station.stage.reset(seed)
            self._pause(0.2)
            if wrong := self._to_start():
                raise RobotError(f"the twin's arm cannot reach the start: {wrong}")
        layout = self.station.stage.reset(seed)
        self._say(words.RESET, "stage")
        begun = self.clock.now()
        self._newer_than(begun)
        return layout

    def _to_start(self) -> str:
        """Bring the finger to its start, over whatever stands on the table; what prevents that, empty where nothing does."""
        tip, (x, y), high = self.station.arm.state().tip, self.task.hand_start, self.config.lift_m
        if math.dist(tip, (x, y, FINGER_HEIGHT_M)) < 0.01:
            return ""
        above = _inside((tip[0], tip[1]), self.station.box or self.task.workspace)   # it may have been pressed out a little
        return (
            self._moved(above, high)
            or self._moved((x, y), high)
            or self._in_the_way()   # looked for from here: the hand hides no more of the table
            or self._moved((x, y), FINGER_HEIGHT_M)
        )

    def _moved(self, target: Vec2, height: float) -> str:
        """Empty where the finger got there, at the second attempt at the latest: a computer that was busy is no obstacle."""
        for _ in range(2):
            if self.station.arm.move_to(target, self.config.speed_mps, height):
                return ""
            self.able()
        return f"the finger did not arrive at ({target[0]:.2f}, {target[1]:.2f}, {height:.2f}) m: look what holds it"

    def _in_the_way(self) -> str:
        """Whether the finger would come down on the object."""
        estimate, (x, y) = self._newer_than(self.clock.now()), self.task.hand_start
        if estimate is None:
            return "the object is not seen, so the finger cannot come down beside it: look at camera and markers"
        half = getattr(self.task, "box_half_m", None)
        reach = math.sqrt(2.0) * half if half is not None else float(getattr(self.task, "ball_radius_m", 0.0))
        if math.dist(estimate.object, (x, y)) < reach + FINGER_RADIUS_M + self.config.room_m:
            return f"the object is where the finger starts, at ({x:g}, {y:g}) m: move it to where episodes begin"
        return ""

    def _misplaced(self) -> str:
        """What is wrong with the object's place; empty where episodes can begin."""
        estimate = self._newer_than(self.clock.now())
        if estimate is None:
            return "the object is not seen: look at camera and markers"
        outside = [
            max(low - at, at - high, 0.0)
            for at, (low, high) in zip(estimate.object, self.task.starts[self.task.start_range], strict=True)
        ]
        if math.hypot(*outside) <= self.config.near_m:
            return ""
        (x_low, x_high), (y_low, y_high) = self.task.starts[self.task.start_range]
        x, y = estimate.object
        start = f"x {x_low:g} to {x_high:g}, y {y_low:g} to {y_high:g}"
        return f"the object is seen at ({x:.3f}, {y:.3f}) m; episodes begin with it at {start}"

    def _seen(self, drawn: Layout) -> Layout:
        """What is configured, with what is seen in place of what would have been drawn."""
        estimate = self._newer_than(self.clock.now() - self.config.fresh_s)
        if estimate is None:
            raise RobotError("the object was lost from sight right after the reset; look at camera and markers")
        return with_hazard(drawn, estimate)._replace(object=estimate.object, yaw=estimate.yaw)

    def _newer_than(self, moment: float) -> Estimate | None:
        """An estimate made after ``moment``, waited for; None where none comes."""
        until = self.clock.now() + max(self.config.fresh_s, 0.5)
        while True:
            estimate = self.station.estimator.newest()
            if estimate is not None and estimate.confidence > 0.0 and estimate.seen >= moment:
                return estimate
            if self.clock.now() > until:
                return None
            self.clock.sleep(POLL_S)

    def _ask(self, why: str) -> None:
        """Hold and wait until a person says that it is done."""
        self.station.arm.hold("needs_reset")
        self._say(words.NEEDS_RESET, why)
        while not any(event.word is Word.RESET_DONE for event in self._listen()):
            self.clock.sleep(POLL_S)

    def _listen(self) -> list[Event]:
        events = self._hear()
        if any(event.word is Word.QUIT for event in events):
            raise SessionEnded("the operator ended the session")
        return events

    def _pause(self, seconds: float) -> None:
        self._listen()
        self.clock.sleep(seconds)


def _inside(at: Vec2, box: tuple[Range, Range]) -> Vec2:
    (x_low, x_high), (y_low, y_high) = box
    return min(max(at[0], x_low), x_high), min(max(at[1], y_low), y_high)


def with_hazard(layout: Layout, estimate: Estimate) -> Layout:
    """The layout with its hazard where it is seen, if it is."""
    return layout._replace(hazard=tuple(estimate.hazard)) if estimate.hazard else layout
