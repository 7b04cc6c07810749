"""A camera over the twin's table: a ``Feed`` of pictures that a process of its own draws."""

from __future__ import annotations

import json
import socket
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.cameras.interface import Intrinsics
from robots.cameras.software import DEPTH_UNIT_M, Rendered
from robots.errors import RobotError
from robots.rigid import Rigid
from robots.twin.child import Child
from robots.twin.filming import ASK, HEADER
from robots.twin.picture import TwinCameraConfig

START_S = 60.0
"""that the process may take; meshes are read and a scene is compiled"""


class Picture(NamedTuple):
    """As it comes from the renderer."""

    color: NDArray[np.uint8]
    """``[h, w, 3]``, RGB"""
    depth: NDArray[np.uint16]
    """``[h, w]``, millimetres along the optical axis; 0 where there is nothing"""
    taken: float
    """``time.monotonic()`` that it shows"""


class TwinCamera:
    """Films a twin, wherever it was started from.

    Args:
        host: the twin's address.
        config: where the camera stands.
    """

    def __init__(self, host: str, config: TwinCameraConfig | None = None) -> None:
        self.host, self.config = host, config or TwinCameraConfig()
        self._child: Child | None = None
        self._socket: socket.socket | None = None
        self._asked, self._plugged = False, True

    @property
    def table_from_camera(self) -> Rigid:
        """Where it stands: what a calibration would find."""
        return self.config.table_from_camera

    def open(self) -> None:
        """Start the renderer; raises RobotError where no twin answers, nothing can be drawn, or the camera is unplugged."""
        self.close()
        if not self._plugged:
            raise RobotError("the twin's camera is unplugged")
        told = json.dumps({"host": self.host, "camera": self.config.to_json()})
        self._child = Child("robots.twin.filming", told, "the twin's camera", START_S)
        self._socket = socket.create_connection(("127.0.0.1", self._child.said["port"]), timeout=5.0)

    def intrinsics(self) -> Intrinsics:
        """Of colour and depth alike."""
        return self.config.intrinsics

    def serial(self) -> str:
        """What a calibration calls this camera."""
        return "twin"

    def next(self, timeout_s: float) -> Rendered | None:
        """The next picture for ``robots.cameras.software``; None when none came in time."""
        picture = self.picture(timeout_s)
        return None if picture is None else Rendered(picture.color, picture.depth * DEPTH_UNIT_M, picture.taken)

    def picture(self, timeout_s: float) -> Picture | None:
        """The next picture; None when none came in time.

        Raises:
            ConnectionError: the renderer is gone; ``open`` starts another.
        """
        if self._socket is None:
            raise ConnectionError("the twin's camera is not open")
        if not self._asked:
            self._socket.sendall(ASK)
            self._asked = True
        self._socket.settimeout(timeout_s)
        try:
            first = self._socket.recv(1)
        except TimeoutError:
            return None
        until = time.monotonic() + 5.0  # what has begun to come is all there in a moment
        taken, width, height = HEADER.unpack(first + self._receive(HEADER.size - 1, until))
        color = np.frombuffer(self._receive(3 * width * height, until), np.uint8).reshape(height, width, 3)
        depth = np.frombuffer(self._receive(2 * width * height, until), np.uint16).reshape(height, width)
        self._asked = False
        return Picture(color, depth, taken)

    def freeze(self) -> None:
        """Stop the renderer where it is, as a camera that hangs."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        if self._child is not None:
            self._child.thaw()

    def unplug(self) -> None:
        """End the renderer at once and let none start, as a cable that is pulled."""
        self._plugged = False
        if self._child is not None:
            self._child.kill()

    def plug_in(self) -> None:
        """From now on ``open`` works again."""
        self._plugged = True

    def close(self) -> None:
        """End the renderer; can be called twice."""
        if self._socket is not None:
            self._socket.close()
        if self._child is not None:
            self._child.close()
        self._socket = self._child = None
        self._asked = False

    def __enter__(self) -> TwinCamera:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, size: int, until: float) -> bytearray:
        assert self._socket is not None
        received = bytearray(size)
        view, have = memoryview(received), 0
        while have < size:
            self._socket.settimeout(max(until - time.monotonic(), 0.001))
            came = self._socket.recv_into(view[have:])
            if not came:
                raise ConnectionError("the twin's camera is gone")
            have += came
        return received
