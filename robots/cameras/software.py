"""Rendered pictures through librealsense's own software device: what follows cannot tell them from a camera's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from robots.cameras.assembly import librealsense
from robots.cameras.interface import Intrinsics
from robots.cameras.links import unused
from robots.errors import RobotError

DEPTH_UNIT_M = 0.001
FURTHEST = np.iinfo(np.uint16).max
PAIRING_S = 0.05
"""librealsense pairs the two images of a moment as soon as it has seen what follows them, or within this"""


class Rendered(NamedTuple):
    """What a renderer delivers."""

    color: NDArray[np.uint8]
    """``[h, w, 3]``, RGB"""
    depth_m: NDArray[np.floating[Any]]
    """``[h, w]``, along the optical axis, of the depth camera's picture; what is no number above 0 was not measured"""
    taken: float
    """``time.monotonic()`` that the picture shows"""


class Feed(Protocol):
    """A renderer, in this process or behind a loopback connection."""

    def open(self) -> None:
        """Reach it; raises RobotError naming what is missing."""
        ...

    def intrinsics(self) -> Intrinsics:
        """Of colour and depth alike; known once it is open."""
        ...

    def serial(self) -> str:
        """What a calibration calls this camera."""
        ...

    def next(self, timeout_s: float) -> Rendered | None:
        """The next picture, or None when none came in time; raises RuntimeError or OSError when the renderer is gone."""
        ...

    def close(self) -> None:
        """Can be called twice."""
        ...


class SoftwareLink:
    """librealsense's ``software_device``, fed by a renderer; its frames go through the library's syncer as a camera's do.

    Args:
        feed: where pictures come from.
        fps: what the streams claim to be.
        baseline_m: where the depth camera stands, to the right of the colour camera; the library aligns the two.
        record_to: a ``.db3`` that everything is written to as well.
    """

    def __init__(self, feed: Feed, fps: int = 30, baseline_m: float = 0.0, record_to: Path | None = None) -> None:
        self.feed, self.fps, self.baseline_m, self._record_to = feed, fps, baseline_m, record_to
        self._opened = False
        self._recorder: Any = None

    def open(self) -> None:
        self.feed.open()
        rs = librealsense()
        given = self.feed.intrinsics()
        self._device = device = rs.software_device()
        device.register_info(rs.camera_info.serial_number, self.feed.serial())
        sensors = device.add_sensor("Depth"), device.add_sensor("Color")
        streams = (
            _stream(rs.stream.depth, 1, rs.format.z16, 2, self.fps, given),
            _stream(rs.stream.color, 2, rs.format.rgb8, 3, self.fps, given),
        )
        pairs = zip(sensors, streams, strict=True)
        profiles = [sensor.add_video_stream(stream).as_video_stream_profile() for sensor, stream in pairs]
        sensors[0].add_read_only_option(rs.option.depth_units, DEPTH_UNIT_M)
        apart = rs.extrinsics()
        apart.rotation, apart.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [self.baseline_m, 0, 0]
        profiles[0].register_extrinsics_to(profiles[1], apart)
        device.create_matcher(rs.matchers.default)
        self._sensors, self._profiles, self._number = sensors, profiles, 0
        self._syncer = rs.syncer(16)
        self._listeners = self._recorded() if self._record_to is not None else sensors
        for sensor, profile in zip(self._listeners, profiles, strict=True):
            sensor.open(profile)
            sensor.start(self._syncer)
        self._opened = True

    def wait(self, timeout_s: float) -> Any | None:
        try:
            picture = self.feed.next(timeout_s)
        except OSError as error:
            raise RuntimeError(f"the renderer is gone: {error}") from error
        if picture is None:
            return None
        self._push(picture)
        return self._paired(time.monotonic() + PAIRING_S)

    def ended(self) -> bool:
        return False

    def reset(self) -> None:
        """There is no hardware."""

    def serial(self) -> str:
        return self.feed.serial()

    def close(self) -> None:
        self.feed.close()
        if not self._opened:
            return
        self._opened = False
        for sensor in self._listeners:
            sensor.stop()
            sensor.close()
        self._recorder = None  # a recording is whole once its writer is gone

    def _push(self, picture: Rendered) -> None:
        rs = librealsense()
        stamp_ms = (picture.taken + time.time() - time.monotonic()) * 1000.0
        images: tuple[Any, Any] = quantised(picture.depth_m), np.ascontiguousarray(picture.color, np.uint8)
        for sensor, profile, image in zip(self._sensors, self._profiles, images, strict=True):
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp = image, image.strides[1]
            frame.stride = image.strides[0]
            frame.timestamp, frame.domain = stamp_ms, rs.timestamp_domain.global_time
            frame.frame_number, frame.profile = self._number, profile
            sensor.on_video_frame(frame)
        self._number += 1

    def _paired(self, until: float) -> Any | None:
        """The newest frameset that is there, waiting for a first one; older ones were overtaken."""
        came, newest = self._syncer.try_wait_for_frames(max(round((until - time.monotonic()) * 1000), 1))
        if not came:
            return None
        while True:
            further = self._syncer.poll_for_frames()
            if not further:
                return newest
            if further.size() >= newest.size():
                newest = further

    def _recorded(self) -> list[Any]:
        rs = librealsense()
        assert self._record_to is not None
        path = unused(self._record_to)
        try:
            self._recorder = rs.recorder(str(path), self._device)
        except RuntimeError as error:
            raise RobotError(f"cannot record to {path} ({error}): librealsense writes .db3 files only") from error
        return list(self._recorder.query_sensors())


def quantised(depth_m: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Depth as a RealSense camera reports it: millimetres, 0 for NaN, infinity, and what is nearer or farther than it can say."""
    millimetres = np.nan_to_num(np.asarray(depth_m, np.float64) / DEPTH_UNIT_M, nan=0.0, posinf=0.0, neginf=0.0)
    millimetres[(millimetres < 0.0) | (millimetres > FURTHEST)] = 0.0
    return np.ascontiguousarray(np.rint(millimetres).astype(np.uint16))


def _stream(kind: Any, uid: int, form: Any, bytes_per_pixel: int, fps: int, given: Intrinsics) -> Any:
    rs = librealsense()
    stream = rs.video_stream()
    stream.type, stream.uid, stream.index = kind, uid, 0
    stream.width, stream.height, stream.fps = given.width, given.height, fps
    stream.bpp, stream.fmt = bytes_per_pixel, form
    model = rs.intrinsics()
    model.width, model.height, model.fx, model.fy = given.width, given.height, given.fx, given.fy
    model.ppx, model.ppy, model.model, model.coeffs = given.cx, given.cy, rs.distortion.none, [0.0] * 5
    stream.intrinsics = model
    return stream
