"""Pictures of an episode without a window: MetaWorld's corner view the right way up, the hazard outlined in red."""

from __future__ import annotations

import importlib
import os
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.episode import Episode
from failurebench.task import Segment

SIZE = 480
CAMERA = "corner"

_LINE_WIDTH_M = 0.006
_RED = np.array([1.0, 0.1, 0.1, 1.0], np.float32)
_MAX_GEOMS = 1000
_BACKENDS = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw"}


class Renderer:
    """Draws the episodes of one model.

    Raises:
        RuntimeError: no off-screen OpenGL works here; the message names what to install.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._context = open_context()
        self._context.make_current()
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(CAMERA).id
        self._target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_resizeOffscreen(SIZE, SIZE, self._target)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._target)

    def picture(self, episode: Episode) -> NDArray[np.uint8]:
        """uint8[480, 480, 3], row 0 at the top."""
        self._context.make_current()
        data = episode.sawyer.data
        # The model is shared by many episodes, so the goal's marker is placed here and not in the model.
        data.site("goal").xpos = episode.start.goal
        option, perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, option, perturb, self._camera, everything.value, self._scene)
        for segment in episode.task.outline(episode.start):
            self._draw(segment)
        pixels = np.empty((SIZE, SIZE, 3), np.uint8)
        area = mujoco.MjrRect(0, 0, SIZE, SIZE)
        mujoco.mjr_render(area, self._scene, self._target)
        mujoco.mjr_readPixels(pixels, None, area, self._target)
        # OpenGL counts rows from the bottom and this camera is mounted upside down: the two cancel.
        return pixels

    def close(self) -> None:
        """Free the OpenGL context."""
        self._target.free()
        self._context.free()

    def _draw(self, segment: Segment) -> None:
        if self._scene.ngeom >= self._scene.maxgeom:
            return
        geom = self._scene.geoms[self._scene.ngeom]
        capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(geom, capsule, np.zeros(3), np.zeros(3), np.zeros(9), _RED)
        mujoco.mjv_connector(geom, capsule, _LINE_WIDTH_M / 2, np.array(segment[0]), np.array(segment[1]))
        self._scene.ngeom += 1


def open_context() -> Any:
    """An off-screen OpenGL context: ``MUJOCO_GL`` if set, else the first that works of those fit for this machine."""
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen in _BACKENDS:
        names = [chosen]
    elif os.environ.get("DISPLAY"):
        names = ["glfw", "egl", "osmesa"]
    else:
        names = ["egl", "osmesa"]
    failures = []
    for name in names:
        try:
            # Imported by name: mujoco picks its own default once, at import, and wants a display if nothing is set.
            return importlib.import_module(_BACKENDS[name]).GLContext(SIZE, SIZE)
        except Exception as error:  # each backend fails in its own way, some with plain Exception or AttributeError
            failures.append(f"{name}: {error}")
    raise RuntimeError(
        f"rendering needs off-screen OpenGL and found none ({'; '.join(failures)}). On Debian or Ubuntu install "
        "libegl1 libegl-mesa0 libgl1-mesa-dri (MUJOCO_GL=egl) or libosmesa6 (MUJOCO_GL=osmesa)"
    )
