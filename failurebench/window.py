"""A window on a running episode: MuJoCo's viewer, which may look but not touch."""

from __future__ import annotations

import atexit
import copy
import importlib
import os
import sys
import threading
import time
import weakref
from typing import Any

import mujoco
import numpy as np

from failurebench.interface import CORNER, View
from failurebench.judged import Judged
from failurebench.rendering import create_context, draw

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_VIEW_DISTANCE_M = 1.5
"""from the camera to the point about which the mouse turns the view"""


class Window:
    """Shows one environment's episodes in real time. Closing the window lets the environment go on unseen.

    Args:
        model: of the episodes to show.
        fps: pictures per second of simulated time, the pace that ``show`` keeps to.

    Raises:
        RuntimeError: there is no display, or it offers no OpenGL.
    """

    def __init__(self, model: Any, fps: float, view: View = CORNER) -> None:
        require_display()
        # A private copy: keys and mouse in the window can change a model's options and push its bodies.
        self._model, self._period = copy.deepcopy(model), 1.0 / fps
        self._data = mujoco.MjData(self._model)
        launch = importlib.import_module("mujoco.viewer").launch_passive
        others = set(threading.enumerate())
        self._viewer = launch(self._model, self._data, show_left_ui=False, show_right_ui=False)
        drawing = [thread for thread in threading.enumerate() if thread not in others]
        # Threads that still draw when the interpreter ends take it down with them. Registered after the viewer's own
        # exit handler, and so called before it.
        self._close = weakref.finalize(self, _close, self._viewer, drawing)
        atexit.register(self._close)
        self._due = time.monotonic()
        self._place_camera(view.camera)

    def show(self, episode: Judged) -> None:
        """Draw the episode's present state, waiting until it is due."""
        if not self._viewer.is_running():
            return
        with self._viewer.lock():
            state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
            mujoco.mj_getState(episode.model, episode.data, state, _STATE)
            mujoco.mj_setState(self._model, self._data, state, _STATE)
            mujoco.mj_forward(self._model, self._data)
            episode.dress(self._model, self._data)
            for ground in range(self._model.nhfield):
                self._viewer.update_hfield(ground)
            self._viewer.user_scn.ngeom = 0
            for segment in episode.outline():
                draw(self._viewer.user_scn, segment)
        self._viewer.sync()
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due, time.monotonic() - self._period) + self._period

    def close(self) -> None:
        """Close the window."""
        self._close()

    def _place_camera(self, name: str) -> None:
        """Begin where ``rgb_array`` looks from; that camera itself may hang upside down."""
        mujoco.mj_forward(self._model, self._data)
        camera = self._data.camera(name)
        ahead = -camera.xmat.reshape(3, 3)[:, 2]
        with self._viewer.lock():
            self._viewer.cam.lookat = camera.xpos + _VIEW_DISTANCE_M * ahead
            self._viewer.cam.distance = _VIEW_DISTANCE_M
            self._viewer.cam.azimuth = np.degrees(np.arctan2(ahead[1], ahead[0]))
            self._viewer.cam.elevation = np.degrees(np.arcsin(ahead[2]))


def _close(viewer: Any, drawing: list[threading.Thread]) -> None:
    viewer.close()
    for thread in drawing:
        thread.join(timeout=5.0)


def has_display() -> bool:
    """Whether a window can be hoped for: on Linux a display server must be named, elsewhere there is one."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def require_display() -> None:
    """Open an invisible window and close it again.

    Raises:
        RuntimeError: that did not work; the message says what does.
    """
    reason = "neither DISPLAY nor WAYLAND_DISPLAY is set"
    if has_display():
        try:
            # Tried here because the viewer opens its window in a thread, and a failure there would never be heard of.
            create_context("glfw").free()
            return
        except Exception as error:  # also AttributeError or OSError, where a library is missing
            reason = str(error)
    raise RuntimeError(
        f'render_mode="human" needs a display with OpenGL, and there is none ({reason}). Run it on a desktop, over '
        '"ssh -X", or under "xvfb-run -s \'-screen 0 1280x960x24\'"; render_mode="rgb_array" gives pictures without one'
    )
