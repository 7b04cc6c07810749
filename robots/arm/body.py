"""The arm as one thread keeps it: readings, the running motion, the state, and a new connection after the old one died."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from robots.arm.config import ArmConfig
from robots.arm.connection import FRAME_M, Connection, Reading, connect, load_franky
from robots.arm.contact import Contact, Felt
from robots.arm.interface import ArmStatus
from robots.arm.states import ABLE, STOPPED_BY_PERSON, Happening, after, happened
from robots.arm.tracking import Tracker, make_tracker
from robots.errors import RobotError
from robots.limits import Limits, Vec3
from robots.permit import Permit, stand

BEAT_S = 0.01
"""between two readings"""

DEAD_S = 1.0
"""without a new state until the controller counts as lost; the library notices as late, and not in every case"""

FIRST_RETRY_S, LAST_RETRY_S = 0.25, 5.0
"""pauses between attempts to reach a controller that fell silent; doubled each time"""


class Change(NamedTuple):
    """One change of state."""

    time: float
    """``time.monotonic()``"""
    status: ArmStatus
    reason: str


class Body:
    """Connection, motion and state. It follows permits only; who may ask for one is not decided here."""

    def __init__(self, config: ArmConfig, limits: Limits) -> None:
        self.config, self.limits = config, limits
        self.status = ArmStatus.CLOSED
        self.changes: deque[Change] = deque(maxlen=1000)
        self.contact: Contact | None = None
        self.raised = 1.0
        """factor on reaction and reflex thresholds"""
        self._newest: Reading | None = None
        self._felt = Felt()
        self._connection: Connection | None = None
        self._tracker: Tracker | None = None
        self._stopping, self._prepared, self._orders = False, False, 0
        self._errors: tuple[str, ...] = ()
        self._changed = threading.Condition(threading.RLock())
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._letting_go: threading.Thread | None = None

    def open(self) -> None:
        """Connect and begin to read; raises RobotError."""
        with self._changed:
            connection = connect(self.config)
            try:
                self._attach(connection)
            except RobotError:
                raise
            except Exception as error:  # the library's have no common base
                raise RobotError(f"the controller at {self.config.host} cannot be used: {error}") from error
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat_on, name="arm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the motion and let go; can be called twice."""
        if self.moving:
            self.stop("closed")
            self.wait_for(lambda: not self.moving, 2.5)
        self._ended.set()
        if self._thread is not None:
            self._thread.join(3.0)
        with self._changed:
            self._let_go()
            self._apply(Happening.CLOSED, "closed")
        if self._letting_go is not None:  # a process that ends while the library lets go would be aborted
            self._letting_go.join(3.0)

    @property
    def reading(self) -> Reading:
        """The newest; old where the controller is silent."""
        if self._newest is None:
            raise RobotError("the arm is not connected; call connect first")
        return self._newest

    @property
    def errors(self) -> tuple[str, ...]:
        """What is wrong, in the controller's words."""
        return self.reading.report.errors or self._errors

    @property
    def stopping(self) -> bool:
        """Whether a motion is being ended."""
        return self._stopping

    @property
    def moving(self) -> bool:
        """Whether a motion runs, be it one that stands."""
        return self.status in (ArmStatus.RUNNING, ArmStatus.HOLD)

    @property
    def able(self) -> bool:
        """Whether a command would be taken."""
        return self.status in ABLE and not self._stopping

    @property
    def reference(self) -> Vec3:
        """Where the finger is asked to be: where it is, without a motion."""
        tracker = self._tracker
        return self.reading.tip if tracker is None else tracker.reference

    def follow(self, permit: Permit, reason: str = "") -> None:
        """Go where the permit says, starting a motion from where the finger is if there is none."""
        with self._changed:
            if not self.able:
                return
            held, now = "held" in permit.clipped, time.monotonic()
            if self._tracker is None and (held or not self._begin()):
                return
            assert self._tracker is not None
            self._orders += 1
            self._tracker.follow(permit, self.reading.tip, now)
            self._apply(Happening.HELD if held else Happening.COMMANDED, reason)

    def started(self, seconds: float) -> bool:
        """Whether the controller really moves, waiting for it for a while: it may accept a motion and never begin."""
        return self.wait_for(lambda: self.reading.report.mode == "Move", seconds)

    def stop(self, reason: str) -> None:
        """End the motion; the state follows when the arm has come to rest."""
        with self._changed:
            if self._tracker is None or self._stopping:
                return
            self._stopping, self._orders = True, self._orders + 1
            self.changes.append(Change(time.monotonic(), self.status, f"stopping: {reason}"))
            with contextlib.suppress(Exception):  # a motion that has just failed is told by the next reading
                self._tracker.stop()

    def set_raised(self, factor: float) -> None:
        """Multiply reaction and reflex thresholds; without a motion only. ConnectionError where nobody answers."""
        connection = self._attached()
        connection.set_thresholds(factor * self.limits.reflex_force_n, factor * self.limits.reflex_torque_nm)
        self.raised = factor

    def distrust_settings(self) -> None:
        """Nobody knows what the thresholds are: they are set again before the next motion."""
        self._prepared, self.raised = False, 1.0

    def clear_errors(self) -> None:
        """Ask for the controller's recovery; ConnectionError where nobody answers."""
        self._attached().clear_errors()

    def cleared(self, seconds: float) -> bool:
        """Wait until the controller is idle and without errors, and leave the state of being stopped then."""
        since = time.monotonic()

        def idle() -> bool:
            reading = self.reading
            return reading.time > since and reading.report.mode == "Idle" and not reading.report.errors

        if not self.wait_for(idle, seconds):
            return False
        with self._changed:
            self._errors = ()
            self._apply(Happening.CLEARED, "recovered")
        return self.status is ArmStatus.IDLE

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether ``condition`` came true within that time; looked at with every reading."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def _attached(self) -> Connection:
        connection = self._connection
        if connection is None:
            raise ConnectionError("there is no connection to the controller")
        return connection

    def _attach(self, connection: Connection) -> None:
        self._connection, self._tracker, self._stopping, self.raised = connection, None, False, 1.0
        self._errors = ()
        self._felt.forget()
        try:
            self._prepared = self._prepare(connection)
            if self._prepared:
                connection.check_frame()
            self._keep(connection.read(finished=True))
        except BaseException:
            self._let_go()
            raise
        self._apply(Happening.CONNECTED, "connected")
        self._judge(self.reading)

    def _prepare(self, connection: Connection) -> bool:
        """Whether the controller took its settings: one that a person has stopped takes none."""
        try:
            connection.prepare(self.limits)
        except load_franky().CommandException:
            return False
        return True

    def _begin(self) -> bool:
        """Start a motion that stands; False where that has to wait for the next reading, which must show the finger's frame."""
        connection = self._attached()
        if not self._prepared:
            self._prepared = self._prepare(connection)
            return False
        if self.reading.misplaced_m > FRAME_M:
            return False
        tracker = make_tracker(connection, self.limits, self.raised * self.limits.reaction_force_n)
        tracker.begin(stand(self.reading.tip))
        self._tracker = tracker
        return True

    def _apply(self, happening: Happening, reason: str) -> None:
        status = after(self.status, happening)
        if status is self.status:
            return
        if status in (ArmStatus.REACTION_STOP, ArmStatus.REFLEX):
            self.contact = self._felt.strongest()
        if status not in (ArmStatus.RUNNING, ArmStatus.HOLD):
            self._tracker, self._stopping = None, False
        self.status = status
        self.changes.append(Change(time.monotonic(), status, reason))
        self._changed.notify_all()

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_S):
            if self._connection is None:
                self._reconnect()
            elif fault := self._try_beat():
                self._lose(fault)

    def _try_beat(self) -> str:
        """What went wrong with the controller, in words; empty where nothing did."""
        try:
            self._beat(self._attached())
        # The library's exceptions have no common base, and after any of them the controller cannot be trusted.
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    def _lose(self, fault: str) -> None:
        with self._changed:
            self._errors = ("no_answer",)
            self._let_go()
            self._apply(Happening.SILENT, fault)

    def _let_go(self) -> None:
        """Drop the connection in a thread of its own: the library waits for a controller that may hang."""
        dead = [self._connection, self._tracker]
        if dead == [None, None]:
            return
        self._connection = self._tracker = None
        self._letting_go = threading.Thread(target=dead.clear, name="letting go", daemon=True)
        self._letting_go.start()

    def _beat(self, connection: Connection) -> None:
        """One reading and what follows from it."""
        orders = self._orders
        finished, aborted = _ended(connection)
        reading = connection.read(finished)
        with self._changed:
            self._keep(reading)
            if time.monotonic() - self.reading.time > DEAD_S:
                raise ConnectionError("the controller sends no new state")
            if aborted:
                self._errors = tuple(re.findall(r"\w+_\w+", aborted.partition("[")[2])) or (aborted,)
                pressed = reading.report.mode in STOPPED_BY_PERSON
                self._apply(Happening.PRESSED if pressed else Happening.REFLEXED, aborted.partition("\n")[0])
            elif orders == self._orders:  # otherwise a motion began or ended while this was read
                self._judge(reading)
            self._changed.notify_all()

    def _judge(self, reading: Reading) -> None:
        """Bring motion and state up to date."""
        now, tracker = time.monotonic(), self._tracker
        if tracker is not None and not reading.report.finished:
            tracker.pulse(math.hypot(*reading.force), now)
        ran_out = tracker is not None and tracker.runs_out(now)
        happening = happened(self.status, reading.report, self._stopping or ran_out)
        if happening is not None:
            self._apply(happening, ", ".join(reading.report.errors) or reading.report.mode)

    def _keep(self, reading: Reading) -> None:
        if self._newest is not None and reading.clock_s == self._newest.clock_s:
            reading = reading._replace(time=self._newest.time)  # the same state again: it is getting old
        self._newest = reading
        self._felt.keep(reading.force, reading.tip, self.reference)

    def _reconnect(self) -> None:
        """Build the connection anew, with growing pauses, until it works or the arm is closed."""
        pause = FIRST_RETRY_S
        while not self._ended.wait(pause):
            pause = min(2.0 * pause, LAST_RETRY_S)
            try:
                connection = connect(self.config)
                with self._changed:
                    self._attach(connection)
                return
            except Exception as error:
                self.changes.append(Change(time.monotonic(), self.status, f"not reached: {error}"))


def _ended(connection: Connection) -> tuple[bool, str]:
    """Whether no motion runs, and what the controller aborted it with. ``poll_motion`` says True when none runs."""
    franky = load_franky()
    try:
        return bool(connection.robot.poll_motion()), ""
    except (franky.ControlException, franky.CommandException) as error:
        return True, str(error)
