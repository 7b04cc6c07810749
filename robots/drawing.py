"""What is known of the table, drawn into a camera's picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robots.cameras.interface import Frame
from robots.errors import RobotError
from robots.perception.markers import import_cv2, project
from robots.rigid import Array, Rigid

Region = tuple[tuple[float, float], tuple[float, float]]
Colour = tuple[int, int, int]

RED, GREEN, BLUE = (230, 40, 40), (30, 190, 60), (60, 110, 255)
YELLOW, WHITE = (250, 210, 40), (255, 255, 255)

PIECE_M = 0.02
"""lines are drawn in pieces, so that what is behind the camera is left out and nothing else"""

AXIS_M = 0.05

ENLARGED = 2
"""pictures are drawn at this many times the camera's size, so that words can be read"""


class Canvas:
    """An enlarged copy of a frame's colour picture; pixels are given as the camera's.

    Args:
        frame: what to draw on.
        table_from_camera: from the calibration; None where only pixels will be drawn.
    """

    def __init__(self, frame: Frame, table_from_camera: Rigid | None) -> None:
        self._frame, self._placed = frame, table_from_camera
        self._cv2 = import_cv2()
        size = ENLARGED * frame.intrinsics.width, ENLARGED * frame.intrinsics.height
        self.image = np.asarray(self._cv2.resize(frame.color, size, interpolation=self._cv2.INTER_LINEAR), np.uint8)

    def line(self, points: Sequence[Sequence[float]] | Array, colour: Colour, width: int = 1) -> None:
        """A polygon line through points of the table's frame."""
        for start, end in itertools.pairwise(points):
            pieces = max(2, round(float(np.linalg.norm(np.subtract(end, start))) / PIECE_M) + 1)
            pixels = self._pixels(np.linspace(start, end, pieces))
            for one, other in itertools.pairwise(pixels):
                if np.isfinite([one, other]).all() and np.abs([one, other]).max() < 1e4:
                    self._cv2.line(self.image, _whole(one), _whole(other), colour, 2 * width - 1, self._cv2.LINE_AA)

    def region(self, sides: Region, colour: Colour = YELLOW, every_m: float = 0.1) -> None:
        """A grid on the table's top, its border thicker."""
        (x_low, x_high), (y_low, y_high) = sides
        for x in np.arange(np.ceil(x_low / every_m), np.floor(x_high / every_m) + 1) * every_m:
            self.line([(x, y_low, 0), (x, y_high, 0)], colour)
        for y in np.arange(np.ceil(y_low / every_m), np.floor(y_high / every_m) + 1) * every_m:
            self.line([(x_low, y, 0), (x_high, y, 0)], colour)
        self.outline(sides, 0.0, colour)

    def box(self, sides: Region, z_m: tuple[float, float], colour: Colour = GREEN) -> None:
        """A box over the table: its floor, its lid and its corners."""
        (x_low, x_high), (y_low, y_high) = sides
        for z in z_m:
            self.outline(sides, z, colour)
        for x, y in ((x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high)):
            self.line([(x, y, z_m[0]), (x, y, z_m[1])], colour)

    def outline(self, sides: Region, z: float, colour: Colour) -> None:
        """A rectangle at a height."""
        (x_low, x_high), (y_low, y_high) = sides
        around = [(x_low, y_low, z), (x_high, y_low, z), (x_high, y_high, z), (x_low, y_high, z), (x_low, y_low, z)]
        self.line(around, colour, 2)

    def axes(self, table_from_object: Rigid, length_m: float = AXIS_M) -> None:
        """x red, y green, z blue."""
        origin = table_from_object.translation
        for axis, colour in enumerate((RED, GREEN, BLUE)):
            self.line(np.stack([origin, origin + length_m * table_from_object.rotation[:, axis]]), colour, 3)

    def square(self, corners: Array, name: str, colour: Colour = GREEN) -> None:
        """A detected marker, its first corner marked."""
        around = np.rint(_enlarged(corners) * 8).astype(np.int32).reshape(-1, 1, 2)
        self._cv2.polylines(self.image, [around], True, colour, 2, self._cv2.LINE_AA, 3)
        self._cv2.circle(self.image, _whole(corners[0]), 4, RED, -1, self._cv2.LINE_AA)
        self.text(name, corners.mean(axis=0), colour)

    def label(self, text: str, point: Sequence[float], colour: Colour = WHITE) -> None:
        """Text at a point of the table's frame."""
        where = self._pixels(np.asarray(point, np.float64))
        if np.isfinite(where).all():
            self.text(text, where, colour)

    def text(self, text: str, pixel: Array, colour: Colour = WHITE) -> None:
        """Text beside a pixel, on a dark ground so that it can be read anywhere."""
        font, size = self._cv2.FONT_HERSHEY_SIMPLEX, 0.5
        (width, height), _ = self._cv2.getTextSize(text, font, size, 1)
        x, y = _whole(pixel)
        self._cv2.rectangle(self.image, (x + 4, y - height - 9), (x + width + 10, y - 1), (20, 20, 24), -1)
        self._cv2.putText(self.image, text, (x + 7, y - 5), font, size, colour, 1, self._cv2.LINE_AA)

    def save(self, path: Path) -> None:
        """As a PNG; raises RobotError where it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._cv2.imencode(".png", self.image[:, :, ::-1])[1].tobytes())
        except OSError as error:
            raise RobotError(f"cannot write the picture {path}: {error.strerror or error}") from error

    def _pixels(self, points: Array) -> Any:
        assert self._placed is not None, "drawing on the table needs the camera's place"
        return project(self._placed.inverse().apply(points), self._frame.intrinsics)


def _enlarged(pixels: Any) -> Array:
    """Where the camera's pixels are in the enlarged picture."""
    return np.asarray((np.asarray(pixels, np.float64) + 0.5) * ENLARGED - 0.5)


def _whole(pixel: Any) -> tuple[int, int]:
    x, y = _enlarged(pixel).tolist()
    return round(x), round(y)
