"""What a camera is: the newest frame, and how old it is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Intrinsics(NamedTuple):
    """Pinhole model of a rectified image, pixels."""

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


class FrameSource(Protocol):
    """A live camera, a recording, or the twin's renderer."""

    def start(self) -> None:
        """Open the device; raises RobotError naming what is missing."""
        ...

    def newest(self) -> Frame | None:
        """The newest frame without waiting; None before the first. How old it is follows from ``taken``."""
        ...

    def fault(self) -> str:
        """Why there will be no newer frame, such as ``lost``; empty while it works."""
        ...

    def close(self) -> None:
        """Let go of the device; can be called twice."""
        ...
