"""Two ways into the real ``rs.pipeline``: a connected camera, and a recording of one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from robots.cameras.assembly import librealsense
from robots.errors import RobotError


class Link(Protocol):
    """What delivers librealsense's framesets. Whatever fails in the device raises RuntimeError, as the library does."""

    def open(self) -> None:
        """Begin to deliver; raises RobotError naming what is missing, at the first opening and at every later one."""
        ...

    def wait(self, timeout_s: float) -> Any | None:
        """The next frameset, or None when none came in time."""
        ...

    def ended(self) -> bool:
        """Whether nothing will come any more, as at the end of a recording."""
        ...

    def reset(self) -> None:
        """The last resort before opening again."""
        ...

    def serial(self) -> str:
        """Of the device that is open."""
        ...

    def close(self) -> None:
        """Can be called twice."""
        ...


class _Piped:
    """What both ways share once the pipeline runs."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        self.width, self.height, self.fps = width, height, fps
        self._pipeline: Any = None
        self._profile: Any = None

    def wait(self, timeout_s: float) -> Any | None:
        came, frames = self._pipeline.try_wait_for_frames(round(timeout_s * 1000))
        return frames if came else None

    def close(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.stop()

    def serial(self) -> str:
        rs = librealsense()
        device = self._profile.get_device()
        known = device.supports(rs.camera_info.serial_number)
        return str(device.get_info(rs.camera_info.serial_number)) if known else ""

    def _start(self, config: Any) -> None:
        pipeline = librealsense().pipeline()
        self._profile = pipeline.start(config)
        self._pipeline = pipeline


class LiveLink(_Piped):
    """A connected RealSense camera.

    Args:
        serial: which one; empty takes the only one.
        exposure_us: fixed exposure of the colour sensor, 0 leaves it automatic.
        record_to: a ``.db3`` that everything is written to as well; after a reconnection ``name-1.db3`` and so on.
    """

    def __init__(self, serial: str, width: int, height: int, fps: int, exposure_us: int, record_to: Path | None) -> None:
        super().__init__(width, height, fps)
        self._wanted, self._exposure_us, self._record_to = serial, exposure_us, record_to

    def open(self) -> None:
        rs = librealsense()
        device = self._find()
        config = rs.config()
        config.enable_device(device.get_info(rs.camera_info.serial_number))
        config.enable_stream(rs.stream.color, self.width, self.height, rs.format.rgb8, self.fps)
        config.enable_stream(rs.stream.depth, self.width, self.height, rs.format.z16, self.fps)
        if self._record_to is not None:
            config.enable_record_to_file(str(unused(self._record_to)))
        try:
            self._start(config)
        except RuntimeError as error:
            descriptor = rs.camera_info.usb_type_descriptor
            bus = f"USB {device.get_info(descriptor)}" if device.supports(descriptor) else "its bus"
            raise RobotError(
                f"camera {device.get_info(rs.camera_info.serial_number)} does not deliver {self.width}x{self.height} at "
                f"{self.fps} Hz ({error}) on {bus}: use a port and cable of USB 3, or a smaller picture"
            ) from error
        for sensor in self._profile.get_device().query_sensors():
            self._set_options(sensor)

    def ended(self) -> bool:
        return False

    def reset(self) -> None:
        """Power-cycle the camera by software; it needs some seconds to come back."""
        self._find().hardware_reset()
        time.sleep(3.0)

    def _find(self) -> Any:
        rs = librealsense()
        devices = {str(device.get_info(rs.camera_info.serial_number)): device for device in rs.context().query_devices()}
        if self._wanted in devices:
            return devices[self._wanted]
        there = ", ".join(devices) or "none"
        if not self._wanted and len(devices) == 1:
            return next(iter(devices.values()))
        if not self._wanted and devices:
            raise RobotError(f"several RealSense cameras are connected ({there}): say which one, as camera.serial")
        wanted = f"RealSense camera {self._wanted}" if self._wanted else "RealSense camera"
        raise RobotError(
            f"no {wanted} is connected (connected: {there}): check its cable and port, whether another program holds it, "
            "and librealsense's udev rules"
        )

    def _set_options(self, sensor: Any) -> None:
        rs = librealsense()
        if sensor.supports(rs.option.global_time_enabled):
            sensor.set_option(rs.option.global_time_enabled, 1)  # ages need a stamp that the host's clock understands
        if self._exposure_us and sensor.is_color_sensor() and sensor.supports(rs.option.exposure):
            sensor.set_option(rs.option.enable_auto_exposure, 0)
            sensor.set_option(rs.option.exposure, self._exposure_us)


class RecordingLink(_Piped):
    """A ``.db3`` that a RealSense camera, or ``SoftwareLink``, has recorded.

    Args:
        path: the recording.
        repeat: begin anew at its end; otherwise its end is the camera's.
        real_time: deliver at the pace it was recorded at, leaving out what nobody takes; otherwise every frame, as fast as
            it is taken.
    """

    def __init__(self, path: Path, repeat: bool = False, real_time: bool = True) -> None:
        super().__init__(0, 0, 0)
        self.path, self.repeat, self.real_time = path, repeat, real_time

    def open(self) -> None:
        rs = librealsense()
        if not self.path.is_file():
            raise RobotError(f"there is no recording {self.path}: give a .db3 file that a camera has recorded")
        config = rs.config()
        try:
            config.enable_device_from_file(str(self.path), repeat_playback=self.repeat)
            self._start(config)
        except RuntimeError as error:
            raise RobotError(f"{self.path} is not a recording that librealsense can play ({error}): give a .db3 file") from error
        self._playback().set_real_time(self.real_time)

    def ended(self) -> bool:
        rs = librealsense()
        return self._pipeline is not None and self._playback().current_status() == rs.playback_status.stopped

    def reset(self) -> None:
        """Nothing can be reset in a file."""

    def _playback(self) -> Any:
        return self._profile.get_device().as_playback()


def unused(path: Path) -> Path:
    """``path``, or with the first number behind its name that is not taken: nothing recorded is ever overwritten."""
    count, candidate = 0, path
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return candidate
