"""From what librealsense hands over to a ``Frame``: aligned, rectified, stamped, and free of the library's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robots.cameras.clock import FrameClock
from robots.cameras.interface import Frame, Intrinsics
from robots.errors import RobotError


def librealsense() -> Any:
    """The library; raises RobotError naming what to install."""
    try:
        import pyrealsense2
    except ImportError as error:
        missing = "pip install 'failure-aware-rl[robot]'"
        if "libusb" in str(error):
            missing = "apt-get install libusb-1.0-0"
        raise RobotError(f"pyrealsense2, which reads RealSense cameras, cannot be imported ({error}): {missing}") from error
    return pyrealsense2


class Assembler:
    """Makes frames of one stream and counts what is missing in it."""

    def __init__(self, clock: FrameClock) -> None:
        rs = librealsense()
        self.clock = clock
        self.dropped = self.incomplete = 0
        self._align = rs.align(rs.stream.color)
        self._last: int | None = None
        self._rectified: Rectified | None = None

    def frame(self, frames: Any, arrived: float) -> Frame | None:
        """The frameset's picture; None where colour or depth is missing in it."""
        if not (frames.get_color_frame() and frames.get_depth_frame()):
            self.incomplete += 1
            return None
        aligned = self._align.process(frames)
        color, depth = aligned.get_color_frame(), aligned.get_depth_frame()
        if not (color and depth):
            self.incomplete += 1
            return None
        number = int(color.frame_number)
        if self._last is not None and number > self._last + 1:
            self.dropped += number - self._last - 1
        self._last = number
        if self._rectified is None:
            self._rectified = Rectified(color.profile.as_video_stream_profile().intrinsics)
        taken = self.clock.taken(color.frame_timestamp_domain.name, color.timestamp, arrived)
        return Frame(
            self._rectified.color(np.asanyarray(color.get_data())),
            self._rectified.depth(np.asanyarray(depth.get_data())),
            float(depth.get_units()),
            self._rectified.intrinsics,
            taken,
            number,
        )


class Rectified:
    """Removes the lens's distortion where the camera reports one; copies the picture where it reports none.

    Where each pixel of the pinhole image comes from is asked of librealsense itself, whose models (Brown-Conrady, its inverse,
    Kannala-Brandt) differ between cameras.
    """

    def __init__(self, intrinsics: Any) -> None:
        given = intrinsics
        self.intrinsics = Intrinsics(given.width, given.height, given.fx, given.fy, given.ppx, given.ppy)
        self._maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if any(given.coeffs):
            self._maps = _origins(given)

    def color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``[h, w, 3]``, interpolated."""
        if self._maps is None:
            return image.copy()
        import cv2

        return np.asarray(cv2.remap(image, *self._maps, cv2.INTER_LINEAR), np.uint8)

    def depth(self, image: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """``[h, w]``, the nearest pixel: between two surfaces there is nothing."""
        if self._maps is None:
            return image.copy()
        import cv2

        return np.asarray(cv2.remap(image, *self._maps, cv2.INTER_NEAREST), np.uint16)


def _origins(given: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For every pixel of the pinhole image its place in the distorted one."""
    rs = librealsense()
    across = (np.arange(given.width) - given.ppx) / given.fx
    down = (np.arange(given.height) - given.ppy) / given.fy
    project = rs.rs2_project_point_to_pixel
    places = [[project(given, [x, y, 1.0]) for x in across.tolist()] for y in down.tolist()]
    grid = np.array(places, np.float32)
    return np.ascontiguousarray(grid[..., 0]), np.ascontiguousarray(grid[..., 1])
