"""Deadlines on what must keep coming: commands, pictures, estimates. Whoever misses one makes the arm hold, then stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum

from robots.limits import PERIOD_S, Limits

TICK_S = 0.01
"""between two looks at the deadlines"""


class Verdict(Enum):
    """What the deadlines say."""

    FINE = "fine"
    HOLD = "hold"
    STOP = "stop"


class Deadlines:
    """When which deadline is missed; knows no threads and no clock.

    Armed by the first ``feed``; a hold that somebody asked for disarms it, since nothing has to come then.

    Args:
        ages: seconds since each source was last good, by name (``camera...`` or an object's); NaN is "never".
    """

    def __init__(self, limits: Limits, ages: Mapping[str, Callable[[], float]]) -> None:
        self.limits, self.ages = limits, dict(ages)
        self._fed: float | None = None
        self._seeing = True

    def feed(self, now: float, seeing: bool = True) -> None:
        """A command has come.

        Args:
            seeing: it was decided on what was seen; a reset or a retreat is not, and goes on without a fresh picture.
        """
        self._fed, self._seeing = now, seeing

    def disarm(self) -> None:
        """Nothing is expected to come."""
        self._fed = None

    def stale(self) -> str:
        """The first source that is too old, as ``stale_NAME``; empty where all are fresh. What cannot say its age is too old."""
        return next((f"stale_{name}" for name in self.ages if not self._fresh(name)), "")

    def judge(self, now: float) -> tuple[Verdict, str]:
        """What is to be done, and why."""
        if self._fed is None:
            return Verdict.FINE, ""
        silent = (now - self._fed) / PERIOD_S
        if silent > self.limits.stop_periods:
            return Verdict.STOP, "stalled"
        if silent > self.limits.stall_periods:
            return Verdict.HOLD, "stalled"
        stale = self.stale() if self._seeing else ""
        return (Verdict.HOLD, stale) if stale else (Verdict.FINE, "")

    def _fresh(self, name: str) -> bool:
        allowed = self.limits.camera_age_s if name.startswith("camera") else self.limits.object_age_s
        try:
            return self.ages[name]() <= allowed
        except Exception:  # whatever is wrong with a source, the arm must not move on what it said before
            return False


class Watchdog:
    """A thread that holds or stops the arm when a deadline is missed, once for each time it is missed.

    Args:
        hold, stop: called in the watchdog's thread with the reason. What they raise ends up in ``failed``, and the watch goes on.
    """

    def __init__(self, deadlines: Deadlines, hold: Callable[[str], None], stop: Callable[[str], None]) -> None:
        self.deadlines, self._hold, self._stop = deadlines, hold, stop
        self.failed: list[Exception] = []
        self._said = (Verdict.FINE, "")
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def feed(self, seeing: bool = True) -> None:
        """A command has come; see ``Deadlines.feed``."""
        self.deadlines.feed(time.monotonic(), seeing)

    def disarm(self) -> None:
        """Nothing is expected to come."""
        self.deadlines.disarm()

    def look(self, now: float) -> None:
        """One look at the deadlines."""
        said = self.deadlines.judge(now)
        if said == self._said:
            return
        self._said = said
        verdict, reason = said
        try:
            if verdict is Verdict.HOLD:
                self._hold(reason)
            elif verdict is Verdict.STOP:
                self.deadlines.disarm()
                self._stop(reason)
        except Exception as error:
            self.failed.append(error)

    def close(self) -> None:
        """End the thread; can be called twice."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _watch(self) -> None:
        while not self._ended.wait(TICK_S):
            self.look(time.monotonic())
