"""Which camera, as a configuration says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robots.cameras.capture import Captured, PatienceConfig
from robots.cameras.clock import FrameClock
from robots.cameras.links import LiveLink, RecordingLink
from robots.cameras.software import Feed, SoftwareLink
from robots.errors import RobotError


@dataclass(frozen=True)
class CameraConfig:
    """A RealSense camera, or a recording of one."""

    serial: str = ""
    """as on the camera's label; empty takes the only one that is connected"""

    recording: str = ""
    """a .db3 that is played instead of a live camera"""

    width: int = 640
    height: int = 480
    fps: int = 30

    exposure_us: int = 0
    """fixed exposure of the colour sensor, microseconds; 0 leaves it to the camera"""

    record_to: str = ""
    """a .db3 that everything is recorded to; with a number behind its name where it exists"""

    transit_s: float = 0.03
    """from exposure to arrival, assumed where the camera's stamps cannot tell; with global time they do"""

    patience: PatienceConfig = field(default_factory=PatienceConfig)

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps"):
            if not getattr(self, name) > 0:
                raise RobotError(f"camera: {name} is {getattr(self, name)!r}; give a number above 0, such as 640, 480 and 30")
        if self.exposure_us < 0:
            raise RobotError(f"camera: exposure_us is {self.exposure_us!r}; give microseconds, or 0 to leave it to the camera")
        if not 0.0 <= self.transit_s < 1.0:
            raise RobotError(f"camera: transit_s is {self.transit_s!r}; give seconds between 0 and 1")
        for name in ("recording", "record_to"):
            path = getattr(self, name)
            if path and Path(path).suffix != ".db3":
                raise RobotError(f"camera: {name} is {path!r}; librealsense records and plays .db3 files only")
        if self.recording and self.record_to:
            raise RobotError("camera: recording and record_to are both given; what is played is recorded already")


def open_camera(config: CameraConfig) -> Captured:
    """The configured camera, not started yet."""
    if config.recording:
        link = RecordingLink(Path(config.recording))
        return Captured(link, FrameClock(wall=frozenset()), config.patience)
    record_to = Path(config.record_to) if config.record_to else None
    live = LiveLink(config.serial, config.width, config.height, config.fps, config.exposure_us, record_to)
    return Captured(live, FrameClock(config.transit_s), config.patience)


def rendered_camera(feed: Feed, config: CameraConfig) -> Captured:
    """A renderer's pictures through the real library, such as the twin's."""
    record_to = Path(config.record_to) if config.record_to else None
    return Captured(SoftwareLink(feed, config.fps, record_to=record_to), FrameClock(), config.patience)
