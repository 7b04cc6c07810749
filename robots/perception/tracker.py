"""From single sightings to positions with velocities, kept while nothing new is seen."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from failurebench.franka.geometry import Vec2
from robots.errors import RobotError


@dataclass(frozen=True)
class TrackerConfig:
    """How much of the past a velocity is made of, and what is not believed."""

    window_s: float = 0.12
    """sightings of the last seconds give the velocity, by a straight line: four of a camera at 30 Hz"""

    fastest_mps: float = 2.0
    """a sighting that would need more is not believed until the next one agrees with it"""

    least: float = 0.2
    """confidence below this is no sighting"""

    def __post_init__(self) -> None:
        if not (self.window_s > 0.0 and self.fastest_mps > 0.0 and 0.0 <= self.least < 1.0):
            given = f"window_s {self.window_s!r}, fastest_mps {self.fastest_mps!r}, least {self.least!r}"
            raise RobotError(f"tracker: {given}; give seconds and m/s above 0 and a confidence between 0 and 1")


class Sighting(NamedTuple):
    """An object in one frame. Table's frame, metres, radians."""

    x: float
    y: float
    yaw: float
    confidence: float
    taken: float
    """``time.monotonic()`` of the exposure"""


class Track(NamedTuple):
    """The last sighting that was believed, with a velocity."""

    last: Sighting
    velocity: Vec2


class Tracker:
    """Follows one object."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self._past: deque[Sighting] = deque(maxlen=64)
        self._doubted: Sighting | None = None

    @property
    def track(self) -> Track | None:
        """None before the first sighting."""
        return Track(self._past[-1], self._velocity()) if self._past else None

    def add(self, sighting: Sighting) -> bool:
        """Take a sighting; whether it was believed. One that is not newer than the last, or no number, never is."""
        numbers = (sighting.x, sighting.y, sighting.yaw, sighting.confidence, sighting.taken)
        if not all(map(math.isfinite, numbers)) or sighting.confidence < self.config.least:
            return False
        if self._past and sighting.taken <= self._past[-1].taken:
            return False
        if self._past and not self._reachable(self._past[-1], sighting):
            if self._doubted is None or not self._reachable(self._doubted, sighting):
                self._doubted = sighting
                return False
            self._past.clear()  # it really is somewhere else: put there by hand, or seen wrongly before
            self._past.append(self._doubted)
        self._doubted = None
        self._past.append(sighting)
        return True

    def _reachable(self, before: Sighting, after: Sighting) -> bool:
        way = math.dist((before.x, before.y), (after.x, after.y))
        return way <= self.config.fastest_mps * (after.taken - before.taken) + 0.005

    def _velocity(self) -> Vec2:
        """Slope of the straight line through the sightings of the window; zero while there is only one."""
        newest = self._past[-1].taken
        recent = [seen for seen in self._past if seen.taken >= newest - self.config.window_s]
        if len(recent) < 2:
            return (0.0, 0.0)
        when = np.array([seen.taken for seen in recent])
        when -= when.mean()
        where = np.array([(seen.x, seen.y) for seen in recent])
        vx, vy = (when @ where / (when @ when)).tolist()
        return vx, vy
