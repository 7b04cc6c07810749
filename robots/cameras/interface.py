"""What a camera is: the newest frame, how old it is, and what went wrong on the way."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Intrinsics(NamedTuple):
    """Pinhole model of a rectified image, pixels; the middle of the first pixel is (0, 0)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


class Frame(NamedTuple):
    """Colour and depth of one moment, the depth aligned to the colour image."""

    color: NDArray[np.uint8]
    """``[h, w, 3]``, RGB"""
    depth: NDArray[np.uint16]
    """``[h, w]``; 0 where nothing was measured"""
    depth_unit_m: float
    intrinsics: Intrinsics
    taken: float
    """``time.monotonic()`` of the exposure"""
    number: int


class Statistics(NamedTuple):
    """What a source has been through since ``start``. Counts, hertz, seconds."""

    frames: int = 0
    """colour and depth together"""
    dropped: int = 0
    """gaps in the camera's own frame numbers"""
    incomplete: int = 0
    """one of the two images was missing"""
    timeouts: int = 0
    reopened: int = 0
    resets: int = 0
    rate_hz: float = 0.0
    """over the last seconds"""
    latency_s: float = float("nan")
    """from exposure until the frame could be read, median of the last seconds"""
    worst_latency_s: float = float("nan")
    last_error: str = ""
    """what the library said when it was last opened anew"""


class FrameSource(Protocol):
    """A live camera, a recording, or the twin's renderer."""

    def start(self) -> None:
        """Open the device; does nothing the second time. Raises RobotError naming what is missing."""
        ...

    def newest(self) -> Frame | None:
        """The newest frame without waiting; None before the first. How old it is follows from ``taken``."""
        ...

    def fault(self) -> str:
        """Why there will be no newer frame, such as ``lost``; empty while it works."""
        ...

    def serial(self) -> str:
        """Which camera this is; a calibration belongs to it."""
        ...

    def statistics(self) -> Statistics:
        """Rates, latencies and what was lost."""
        ...

    def close(self) -> None:
        """Let go of the device; can be called twice."""
        ...
