"""From a camera's frames to what a task needs to know of the table."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from robots.cameras.interface import Frame, FrameSource
from robots.errors import RobotError
from robots.perception.colors import BallConfig, Blob, BoxConfig, find_ball, find_box
from robots.perception.interface import Estimate
from robots.perception.markers import Detected, Detector, MarkedConfig, require_ids
from robots.perception.planar import Fit, Planar, stand
from robots.perception.tracker import Sighting, Track, Tracker, TrackerConfig
from robots.rigid import Rigid

LOOK_S = 0.002
"""between two looks for a newer frame"""

NAMES = ("object", "obstacle", "hazard")


@dataclass(frozen=True)
class PerceptionConfig:
    """What is on the table and how it is recognised."""

    dictionary: str = "4X4_50"
    """of the markers, as OpenCV calls it, such as ``4X4_50`` or ``APRILTAG_36H11``"""

    marked: tuple[MarkedConfig, ...] = ()
    balls: tuple[BallConfig, ...] = ()
    boxes: tuple[BoxConfig, ...] = ()

    worst_px: float = 2.0
    """root mean square error of a marked object's corners beyond which it is not standing there"""

    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        names = self.names()
        if "object" not in names:
            raise RobotError("perception: nothing is the object; give one entry of marked, balls or boxes the name 'object'")
        for name in names:
            if name not in NAMES:
                raise RobotError(f"perception: {name!r} is no part of a task; the names are {', '.join(NAMES)}")
            if names.count(name) > 1:
                raise RobotError(f"perception: {name} is given {names.count(name)} times; one way of seeing it must do")
        if not self.worst_px > 0.0:
            raise RobotError(f"perception: worst_px is {self.worst_px!r}; give pixels above 0")

    def names(self) -> list[str]:
        """Of all objects."""
        by_marker = [marked.name for marked in self.marked]
        return by_marker + [ball.name for ball in self.balls] + [box.name for box in self.boxes]

    def ids(self) -> list[int]:
        """Of all markers."""
        return [marker.id for marked in self.marked for marker in marked.markers]


class Look(NamedTuple):
    """What one frame shows."""

    frame: Frame
    detected: list[Detected]
    """every marker of the dictionary, also foreign ones"""
    fits: dict[str, Fit]
    """marked objects that stand on the table"""
    blobs: dict[str, Blob]

    def sightings(self) -> dict[str, Sighting]:
        """By object, those that are seen."""
        taken = self.frame.taken
        by_marker = {name: Sighting(*fit.pose, confidence(fit), taken) for name, fit in self.fits.items()}
        by_color = {name: Sighting(*blob, taken) for name, blob in self.blobs.items()}
        return by_marker | by_color


class Eyes:
    """Looks at single frames; knows nothing of time.

    Args:
        config: what is there.
        table_from_camera: from the calibration.
    """

    def __init__(self, config: PerceptionConfig, table_from_camera: Rigid) -> None:
        self.config, self.table_from_camera = config, table_from_camera
        self._detector = Detector(config.dictionary) if config.marked else None
        if config.marked:
            require_ids(config.dictionary, config.ids())

    def look(self, frame: Frame) -> Look:
        """Find everything in a frame."""
        placed, config = self.table_from_camera, self.config
        detected = self._detector.detect(frame.color) if self._detector is not None else []
        by_id = {marker.id: marker for marker in detected}
        fits = {}
        for marked in config.marked:
            seen = [(marker, by_id[marker.id]) for marker in marked.markers if marker.id in by_id]
            fit = stand(seen, placed, frame.intrinsics, config.worst_px)
            if fit is not None:
                fits[marked.name] = fit
        found = {ball.name: find_ball(frame, placed, ball) for ball in config.balls}
        found |= {box.name: find_box(frame, placed, box) for box in config.boxes}
        blobs = {name: blob for name, blob in found.items() if blob is not None}
        return Look(frame, detected, fits, blobs)


def confidence(fit: Fit) -> float:
    """0 to 1: falls with the corners' error, 1/e at a pixel; a single marker, which nothing confirms, is worth three quarters."""
    return float((1.0 - 0.25 ** len(fit.markers)) * math.exp(-(fit.error_px**2)))


class CameraEstimator:
    """An ``Estimator`` that looks at every frame of a camera in a thread of its own.

    An estimate is as old as the oldest thing in it that moves. What is not seen stays where it was last seen, and its age
    grows; nothing is published before everything that moves has been seen once.

    Args:
        source: the camera; started and closed with this.
        config: what is on the table.
        table_from_camera: from the calibration.
        hazard: the task's hazard numbers from where the hazard stands, such as ``wall``.
        require_camera: raises RobotError for the serial number of a camera that this calibration is not of.
    """

    def __init__(
        self,
        source: FrameSource,
        config: PerceptionConfig,
        table_from_camera: Rigid,
        hazard: Callable[[Planar], tuple[float, ...]] | None = None,
        require_camera: Callable[[str], None] | None = None,
    ) -> None:
        self.source, self._config, self._hazard = source, config, hazard
        if "hazard" in config.names() and hazard is None:
            raise RobotError("perception: the hazard is to be seen, but this task's hazard is not a thing that stands somewhere")
        self._require_camera = require_camera
        self._eyes = Eyes(config, table_from_camera)
        self._trackers = {name: Tracker(config.tracker) for name in config.names()}
        self._estimate: Estimate | None = None
        self._look: Look | None = None
        self._fault = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the camera; raises RobotError naming what is missing."""
        self.source.start()
        if self._require_camera is not None:
            self._require_camera(self.source.serial())
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)
        self._thread.start()

    def newest(self) -> Estimate | None:
        """The newest estimate without waiting; None before the first."""
        return self._estimate

    def look(self) -> Look | None:
        """What the newest frame showed, for pages and checks."""
        return self._look

    def fault(self) -> str:
        """The camera's, or why looking ended; empty while it works."""
        return self._fault or self.source.fault()

    def close(self) -> None:
        """Let go; can be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self.source.close()

    def see(self, frame: Frame) -> None:
        """Look at a frame and publish what follows; what the thread does with every frame."""
        look = self._eyes.look(frame)
        for name, sighting in look.sightings().items():
            self._trackers[name].add(sighting)
        self._estimate, self._look = self._published(), look

    def _run(self) -> None:
        last: Frame | None = None
        try:
            while not self._stop.is_set():
                frame = self.source.newest()
                if frame is None or frame is last:
                    time.sleep(LOOK_S)
                    continue
                last = frame
                self.see(frame)
        except Exception as error:  # a thread that dies in silence leaves an arm that trusts old numbers
            self._fault = f"perception failed: {type(error).__name__}: {error}"

    def _published(self) -> Estimate | None:
        tracks = {name: tracker.track for name, tracker in self._trackers.items()}
        moving = [track for name, track in tracks.items() if name != "hazard"]
        known = [track for track in moving if track is not None]
        thing = tracks["object"]
        if thing is None or len(known) < len(moving):
            return None
        obstacle = tracks.get("obstacle")
        return Estimate(
            (thing.last.x, thing.last.y),
            thing.last.yaw,
            thing.velocity,
            (0.0, 0.0) if obstacle is None else (obstacle.last.x, obstacle.last.y),
            (0.0, 0.0) if obstacle is None else obstacle.velocity,
            min(track.last.confidence for track in known),
            min(track.last.taken for track in known),
            self._hazard_numbers(tracks.get("hazard")),
        )

    def _hazard_numbers(self, track: Track | None) -> tuple[float, ...]:
        if track is None or self._hazard is None:
            return ()
        return self._hazard(Planar(track.last.x, track.last.y, track.last.yaw))
