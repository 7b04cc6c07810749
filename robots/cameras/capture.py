"""A camera that is read in a thread of its own and survives time-outs, unplugged cables and a library that hangs."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from robots.cameras.assembly import Assembler
from robots.cameras.clock import FrameClock
from robots.cameras.interface import Frame, Statistics
from robots.cameras.links import Link
from robots.errors import RobotError

RECENT_S = 5.0
"""what rates and latencies are taken over"""

JOIN_S = 3.0
"""how long closing waits for a thread that the library may hold; it is a daemon and holds nothing else up"""


@dataclass(frozen=True)
class PatienceConfig:
    """When a silent camera is given up, and how it is brought back."""

    timeout_s: float = 0.2
    """a single wait for a frame"""

    stalled_s: float = 1.0
    """without a frame for this long, the camera is opened anew"""

    backoff_s: float = 0.5
    """pause after the first failed opening; it doubles with every further one"""

    longest_backoff_s: float = 8.0

    reset_after: int = 3
    """failed openings after which the camera's hardware is reset"""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "stalled_s", "backoff_s", "longest_backoff_s"):
            if not getattr(self, name) > 0.0:
                raise RobotError(f"camera patience: {name} is {getattr(self, name)!r}; give seconds above 0")
        if self.reset_after < 1:
            raise RobotError(f"camera patience: reset_after is {self.reset_after!r}; give 1 or more failed openings")


class _Seen(NamedTuple):
    arrived: float
    latency: float


class Captured:
    """A ``FrameSource`` over any link. Nothing that its caller uses ever waits for the device."""

    def __init__(self, link: Link, clock: FrameClock, patience: PatienceConfig | None = None) -> None:
        self._link, self._clock = link, clock
        self._patience = patience or PatienceConfig()
        self._assembler: Assembler | None = None
        self._frame: Frame | None = None
        self._fault = "not started"
        self._serial = self._error = ""
        self._timeouts = self._reopened = self._resets = self._frames = 0
        self._seen: deque[_Seen] = deque(maxlen=1024)
        self._beat = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the device; does nothing the second time. Raises RobotError naming what is missing."""
        if self._thread is not None:
            if self._stop.is_set():
                raise RobotError("this camera was closed: make another one")
            return
        self._assembler = Assembler(self._clock)
        self._link.open()
        self._serial, self._fault, self._beat = self._link.serial(), "", time.monotonic()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def newest(self) -> Frame | None:
        """The newest frame without waiting; None before the first."""
        return self._frame

    def fault(self) -> str:
        """``stalled``, ``lost``, ``ended``, ``stuck`` (the library does not return) or ``closed``; empty while it works."""
        stuck = not self._fault and time.monotonic() - self._beat > self._patience.stalled_s + self._patience.timeout_s
        return "stuck" if stuck else self._fault

    def serial(self) -> str:
        """The camera's own, empty where it has none."""
        return self._serial

    def statistics(self) -> Statistics:
        """Rates, latencies and what was lost."""
        now = time.monotonic()
        recent = [seen for seen in tuple(self._seen) if seen.arrived > now - RECENT_S]
        latencies = [seen.latency for seen in recent]
        span = now - recent[0].arrived if recent else 0.0
        assembler = self._assembler
        return Statistics(
            self._frames,
            assembler.dropped if assembler else 0,
            assembler.incomplete if assembler else 0,
            self._timeouts,
            self._reopened,
            self._resets,
            len(recent) / span if len(recent) > 1 else 0.0,
            statistics.median(latencies) if latencies else float("nan"),
            max(latencies, default=float("nan")),
            self._error,
        )

    def close(self) -> None:
        """Let go of the device; can be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        self._fault = "closed"

    def _run(self) -> None:
        try:
            while self._listen() and self._open_again():
                pass
        finally:
            self._shut()

    def _listen(self) -> bool:
        """Take frames until none come; whether to open the device again."""
        heard = time.monotonic()
        while not self._stop.is_set():
            self._beat = time.monotonic()
            try:
                frame = self._next()
                ended = frame is None and self._link.ended()
            except Exception as error:  # whatever the library throws, the device is opened again: a blind robot stands
                self._fault, self._error = "lost", f"{type(error).__name__}: {error}"
                return True
            if frame is not None:
                heard, self._fault = time.monotonic(), ""
            elif ended:
                self._fault = "ended"
                return False
            elif time.monotonic() - heard > self._patience.stalled_s:
                self._fault = "stalled"
                return True
        return False

    def _next(self) -> Frame | None:
        frames = self._link.wait(self._patience.timeout_s)
        if frames is None:
            self._timeouts += 1
            return None
        assert self._assembler is not None
        arrived = time.monotonic()
        frame = self._assembler.frame(frames, arrived)
        if frame is not None:
            self._frame = frame
            self._frames += 1
            self._seen.append(_Seen(arrived, time.monotonic() - frame.taken))
        return frame

    def _open_again(self) -> bool:
        """Close and open until it works; False once this source is closed."""
        patience, failed = self._patience, 0
        while not self._stop.is_set():
            self._shut()
            try:
                self._link.open()
            except Exception as error:  # a camera that is still gone raises RobotError, a confused library anything
                self._error = str(error)
                failed += 1
                if failed % patience.reset_after == 0:
                    self._reset()
                self._stop.wait(min(patience.backoff_s * 2 ** min(failed - 1, 16), patience.longest_backoff_s))
                continue
            self._reopened += 1
            return True
        return False

    def _reset(self) -> None:
        self._resets += 1
        with contextlib.suppress(Exception):  # it may be gone from the bus altogether
            self._link.reset()

    def _shut(self) -> None:
        with contextlib.suppress(Exception):  # stopping what has died raises, too
            self._link.close()
