"""When a frame was exposed, on this process's monotonic clock: cameras stamp frames by clocks of their own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WALL = frozenset({"global_time", "system_time"})
"""domains of librealsense whose stamps are milliseconds of the host's wall clock"""

WINDOW_S = 10.0
"""a foreign clock's offset is that of the fastest frame of the last seconds: it drifts, and frames are only ever late"""

BELIEVED_S = 5.0
"""an age beyond this, or below zero, is a wall clock that was set while frames came in"""


class FrameClock:
    """Maps stamps to ``time.monotonic()``.

    ``global_time`` is the camera's clock, fitted to the host's wall clock by librealsense: the age is right. ``system_time`` is
    when the host received the frame and ``hardware_clock`` counts from somewhere: what every frame spends on its way cannot be
    seen in either, and ``transit_s`` is what is assumed of it.

    Args:
        transit_s: from exposure to the fastest arrival, for the domains that cannot know it.
        wall: domains taken for the wall clock; none for a recording, whose stamps are of another day.
    """

    def __init__(
        self,
        transit_s: float = 0.0,
        wall: frozenset[str] = WALL,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transit_s, self.wall = transit_s, wall
        self._wall_clock, self._monotonic = wall_clock, monotonic
        self._offsets: deque[tuple[float, float]] = deque()
        self._last = float("-inf")

    def taken(self, domain: str, stamp_ms: float, arrived: float) -> float:
        """The moment of the exposure, never after ``arrived``.

        Args:
            domain: librealsense's name of the stamp's clock.
            stamp_ms: the frame's stamp.
            arrived: ``time.monotonic()`` when the frame could be read.
        """
        stamp = stamp_ms / 1000.0
        if domain in self.wall:
            taken = stamp + self._monotonic() - self._wall_clock()
            if domain == "system_time":
                taken -= self.transit_s
            if arrived - BELIEVED_S <= taken <= arrived:
                return taken
        return min(self._fitted(stamp, arrived) - self.transit_s, arrived)

    def _fitted(self, stamp: float, arrived: float) -> float:
        if stamp < self._last:
            self._offsets.clear()  # the counter went round, the camera restarted, or a recording began anew
        self._last = stamp
        self._offsets.append((arrived, arrived - stamp))
        while self._offsets[0][0] < arrived - WINDOW_S:
            self._offsets.popleft()
        return stamp + min(offset for _, offset in self._offsets)
