"""What is known of a session at a moment: computed here once, shown by the page and in the terminal."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robots.session.about import back_steps
from robots.session.journal import IMAGES, Follower, News, read_manifest
from robots.session.record import EventRecord, StepRecord
from robots.session.words import CHECKPOINT
from robots.watch.alive import gone
from robots.watch.banner import Banner, Phase, banner
from robots.watch.tally import Tally, Totals

CURVE = 200
"""steps whose risk is drawn: twenty seconds"""
TIMED = 600
"""steps that times are judged over: a minute"""
ASKED_AFTER_S = 1.0
"""of silence before it is asked whether the session's process is still there"""
SAID = 4
"""newest events that are shown"""


@dataclass(frozen=True)
class Timing:
    """Seconds: the newest, and the 99th percentile of the last minute of steps."""

    newest: float = math.nan
    p99: float = math.nan


@dataclass(frozen=True)
class Facts:
    """Everything that a view shows; nothing here changes."""

    task: str
    method: str
    banner: Banner
    quiet_s: float
    """since the session last wrote something"""
    live: bool
    """whether an episode runs: otherwise what is known of the arm is as old as its last step"""
    episode: int
    """that count, the one that is running included"""
    budget: int
    slow: bool
    """whether the running one is the slow one before a session goes to work, which does not count"""
    totals: Totals
    failing: bool
    """whether the newest step violates"""
    step: StepRecord | None
    """the newest"""
    curve: tuple[StepRecord, ...]
    """the newest steps of the running or the last episode"""
    period: Timing
    decision: Timing
    said: tuple[EventRecord, ...]
    """the newest events, oldest first"""
    pictures: Mapping[str, Path]
    """camera -> its newest picture"""

    @property
    def force_n(self) -> float:
        """Magnitude of the newest force."""
        return math.hypot(*self.step.force) if self.step is not None else math.nan


class Session:
    """Follows one session; every look reads only what is new.

    Args:
        folder: the run's folder, or ``session`` in it.

    Raises:
        RobotError: there is no session.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = session_folder(folder)
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        self._follower = Follower(self.folder)
        self._tally = Tally(back_steps(self.manifest))
        self._phase = Phase()
        self._curve: deque[StepRecord] = deque(maxlen=CURVE)
        self._times: deque[tuple[float, float]] = deque(maxlen=TIMED)
        self._said: deque[EventRecord] = deque(maxlen=SAID)
        self._waiting: deque[EventRecord] = deque()
        """read before the steps that they came after"""
        self._newest: StepRecord | None = None
        self._written = math.nan
        self._pictures: dict[str, Path] = {}
        self._lock = threading.Lock()
        self.version = 0
        """grows with everything new"""

    def look(self) -> bool:
        """Take in what is new; whether there was anything. One thread may look while others ask for facts."""
        news = self._follower.new()
        if not news.steps and not news.events and not self._waiting:
            return False
        with self._lock:
            self._sort_in(news)
        return True

    def _sort_in(self, news: News) -> None:
        """Steps and events lie in two files; an event says which steps were acknowledged before it."""
        late = len(self._waiting)  # these waited for their steps, and by now all of those have been read
        self._waiting.extend(news.events)
        for record in news.steps:
            while self._waiting and self._precedes(self._waiting[0], record):
                self._hear(self._waiting.popleft())
                late -= 1
            self._take(record)
        while self._waiting and (late > 0 or self._acknowledged(self._waiting[0])):
            self._hear(self._waiting.popleft())
            late -= 1
        self.version += 1

    def _precedes(self, event: EventRecord, record: StepRecord) -> bool:
        if event.episode == record.episode:
            return event.step <= record.step
        return event.step == 0 or self._acknowledged(event)

    def _acknowledged(self, event: EventRecord) -> bool:
        """Whether the steps that it came after have been read."""
        newest = self._newest
        steps = newest.step + 1 if newest is not None and newest.episode == event.episode else 0
        return event.step <= steps

    def facts(self, now: float) -> Facts:
        """As of ``now``, ``time.time()``."""
        with self._lock:
            return self._facts(now)

    def _facts(self, now: float) -> Facts:
        quiet = max(0.0, now - self._written) if math.isfinite(self._written) else 0.0
        times = np.array(self._times, dtype=np.float64).reshape(-1, 2)
        period, decision = (_timing(times[:, column]) for column in (0, 1))
        return Facts(
            task=str(self.manifest.get("task", "")),
            method=str(self.manifest.get("method", "")),
            banner=banner(self._phase, quiet, gone(self.folder.parent) if quiet > ASKED_AFTER_S else ""),
            quiet_s=quiet,
            live=self._phase.name == "episode",
            episode=self._tally.begun,
            budget=max(int(self.manifest.get("episodes", 50)), self._tally.begun),  # a continued session may have more
            slow=self._tally.open is not None and not self._tally.open.counted,
            totals=self._tally.now,
            failing=self._newest is not None and self._newest.failure,
            step=self._newest,
            curve=tuple(self._curve),
            period=period,
            decision=decision,
            said=tuple(self._said),
            pictures=dict(self._pictures),
        )

    def _take(self, record: StepRecord) -> None:
        if self._newest is not None and record.episode != self._newest.episode:
            self._curve.clear()
        self._newest = record
        self._curve.append(record)
        self._times.append((record.period, record.decision))
        self._pictures |= {camera: self.folder / IMAGES / name for camera, name in record.images.items()}
        self._tally.step(record)
        self._phase.step(record)
        self._wrote(record.time)

    def _hear(self, record: EventRecord) -> None:
        if record.word != CHECKPOINT:  # after every episode
            self._said.append(record)
        self._tally.event(record)
        self._phase.event(record)
        self._wrote(record.time)

    def _wrote(self, at: float) -> None:
        self._written = at if math.isnan(self._written) else max(self._written, at)


def session_folder(folder: Path) -> Path:
    """The folder of the journal, for it or for the run that it lies in."""
    return folder / "session" if (folder / "session").is_dir() else folder


def _timing(values: Any) -> Timing:
    finite = values[np.isfinite(values)]
    return Timing(float(values[-1]), float(np.percentile(finite, 99))) if len(finite) else Timing()
