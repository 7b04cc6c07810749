"""A policy that sees for itself: in place of estimates of what is on the table, the points that a depth camera sees there.

The camera looks down on the table from beyond the goal. Its depth picture is turned into points in the frame of the table, cropped
to what stands on it, and thinned out to as many as every other picture has. Only what collides is drawn: a hand hides what is
behind it, and no shadow or texture costs time.
"""

from __future__ import annotations

import atexit
import functools
import math
import threading
from typing import Any

import mujoco
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from failurebench.franka.definition import FrankaTask
from failurebench.franka.panda import HIDDEN
from failurebench.rendering import open_context

POINTS = 128
"""points of an observation"""

CROP = ((0.30, -0.32, 0.012), (0.82, 0.32, 0.16))
"""lowest and highest x, y and z of points, m: above turf and table, below the hand"""

WIDTH, HEIGHT = 128, 96
"""pixels; on the table one is 6 to 7 mm wide"""

GRID_M = 0.01
"""squares of the table"""

LOOKS_AT, DISTANCE_M, ELEVATION = (0.54, 0.0, 0.02), 0.75, math.radians(-60)
GRAIN_M = 1 / 2048
"""coordinates are multiples of this: half a millimetre is more than depth cameras resolve, and packs well"""

Points = NDArray[np.float32]
_ESTIMATED = ("object", "cosine", "sine", "wall", "flower")
_NEAREST = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR  # keeps millimetres apart


def told(task: FrankaTask) -> list[int]:
    """Which of the task's numbers stay: the arm's own, the goal, what is known beforehand; not where things are seen to be."""
    return [index for index, name in enumerate(task.fields) if not name.startswith(_ESTIMATED)]


def observation_space(task: FrankaTask) -> Dict:
    """``state``, the numbers that are told, and ``points[128, 3]``, metres in the frame of the table."""
    whole, kept = task.observation_space(), told(task)
    state = Box(whole.low[kept], whole.high[kept], dtype=np.float32)
    low, high = (np.tile(np.array(corner, np.float32), (POINTS, 1)) for corner in CROP)
    return Dict({"state": state, "points": Box(low - GRAIN_M, high + GRAIN_M, dtype=np.float32)})


def unpacked(rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Flat observations, any leading axes, as ``observation_space`` has them."""
    state, points = np.split(rows, [rows.shape[-1] - 3 * POINTS], axis=-1)
    return {"state": state, "points": points.reshape(*rows.shape[:-1], POINTS, 3)}


def look(model: Any, data: Any, noise_m: float, draw: list[int]) -> Points:
    """The points seen of a scene, ``[128, 3]``; ``draw`` seeds the noise of each point along its ray.

    Raises:
        RuntimeError: there is no off-screen OpenGL; the message names what to install.
    """
    depth = _cameras.of(model).depth(data)
    if noise_m:
        depth = depth + noise_m * np.random.default_rng(draw).standard_normal(depth.shape)
    return thinned(spread(cropped(depth)))


def cropped(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of a depth picture that lie on what stands on the table, in the picture's order."""
    position, rays = _rays()
    points = position + depth.reshape(-1, 1) * rays
    low, high = CROP
    inside: NDArray[np.float64] = points[((points > low) & (points < high)).all(axis=1)]
    return inside


def spread(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """One point for each square of the table: an upright face would have most of the points otherwise, and says least."""
    x, y = np.floor(points[:, :2] / GRID_M).T
    _, first = np.unique(1000 * x + y, return_index=True)
    return points[np.sort(first)]


def thinned(points: NDArray[np.float64]) -> Points:
    """As many as ``POINTS``, evenly through the picture; some twice where there are fewer, the crop's corner without any."""
    if not len(points):
        points = np.array(CROP[:1])
    chosen = points[np.arange(POINTS) * len(points) // POINTS]
    return (np.round(chosen / GRAIN_M) * GRAIN_M).astype(np.float32)


class DepthCamera:
    """Draws the depth of one model's scenes; used by the thread that made it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._context = open_context()
        self._context.make_current()
        self._scene, self._option = mujoco.MjvScene(model, 200), mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[[0, HIDDEN]] = 1
        self._option.sitegroup[:] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._view.lookat[:], self._view.distance = LOOKS_AT, DISTANCE_M
        self._view.azimuth, self._view.elevation = 180.0, math.degrees(ELEVATION)
        quality = model.vis.quality
        wanted, quality.offsamples = (
            quality.offsamples,
            0,
        )  # of several samples a pixel's depth is one's, beside its middle
        self._target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        quality.offsamples = wanted
        self._target.readDepthMap = _NEAREST
        mujoco.mjr_resizeOffscreen(WIDTH, HEIGHT, self._target)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._target)
        self._area, self._nearness = mujoco.MjrRect(0, 0, WIDTH, HEIGHT), np.empty((HEIGHT, WIDTH), np.float32)
        # Registered now, it runs at exit before the library that was loaded for the context ends: later it would complain.
        atexit.register(_free, self._target, self._context)

    def depth(self, data: Any) -> NDArray[np.float64]:
        """``[96, 128]`` metres along the camera's axis, the picture's lowest row first."""
        model, target = self._model, self._target
        self._context.make_current()
        for ground in range(model.nhfield):
            mujoco.mjr_uploadHField(model, target, ground)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._option, None, self._view, everything, self._scene)
        self._scene.flags[:] = 0
        mujoco.mjr_render(self._area, self._scene, target)
        mujoco.mjr_readPixels(None, self._nearness, self._area, target)
        near, far = (plane * model.stat.extent for plane in (model.vis.map.znear, model.vis.map.zfar))
        # Inverse of the perspective projection: 1 at the near plane, 0 at the far one.
        metres: NDArray[np.float64] = near * far / (near + self._nearness.astype(np.float64) * (far - near))
        return metres


class _Cameras(threading.local):
    """One per model and thread: an OpenGL context belongs to a thread, and environments of a model take turns."""

    def __init__(self) -> None:
        self.made: dict[int, DepthCamera] = {}

    def of(self, model: Any) -> DepthCamera:
        if id(model) not in self.made:  # a camera keeps its model alive, so no other has its id
            self.made[id(model)] = DepthCamera(model)
        return self.made[id(model)]


_cameras = _Cameras()


@functools.cache
def _rays() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the camera is, and the way of each pixel per metre along the axis."""
    ahead = np.array([-math.cos(ELEVATION), 0.0, math.sin(ELEVATION)])
    right, half = np.array([0.0, 1.0, 0.0]), math.tan(math.radians(FIELD_OF_VIEW / 2))
    up = np.cross(right, ahead)
    across = ((np.arange(WIDTH) + 0.5) / WIDTH * 2 - 1) * half * WIDTH / HEIGHT
    along = ((np.arange(HEIGHT) + 0.5) / HEIGHT * 2 - 1) * half
    rays = ahead + along[:, None, None] * up + across[None, :, None] * right
    return np.array(LOOKS_AT) - DISTANCE_M * ahead, rays.reshape(-1, 3)


FIELD_OF_VIEW = 45.0
"""degrees from the lowest row to the highest: MuJoCo's own, which no Franka scene changes"""


def _free(target: Any, context: Any) -> None:
    target.free()
    context.free()
