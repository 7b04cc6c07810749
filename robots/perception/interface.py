"""What the eyes make of the table."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from failurebench.franka.geometry import Vec2


class Estimate(NamedTuple):
    """Where the objects are; the frame is the table's (``failurebench.franka.scene``), metres and radians."""

    object: Vec2
    yaw: float
    object_velocity: Vec2
    obstacle: Vec2
    obstacle_velocity: Vec2
    confidence: float
    """0 to 1; 0 is "not seen" """
    seen: float
    """``time.monotonic()`` of the exposure that it is from"""
    hazard: tuple[float, ...] = ()
    """the numbers of ``Layout.hazard`` where they are seen too, such as where the wall stands"""


class Estimator(Protocol):
    """Markers, colour and depth, or the twin's own knowledge."""

    def start(self) -> None:
        """Open what it looks through; raises RobotError naming what is missing."""
        ...

    def newest(self) -> Estimate | None:
        """The newest estimate without waiting; None before the first."""
        ...

    def fault(self) -> str:
        """Why there will be no newer one; empty while it works."""
        ...

    def close(self) -> None:
        """Let go; can be called twice."""
        ...
