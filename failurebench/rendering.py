"""Pictures of an episode without a window: MetaWorld's corner view the right way up, the hazard outlined in red."""

from __future__ import annotations

import importlib
import os
import warnings
import weakref
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.interface import CORNER, View
from failurebench.judged import Judged
from failurebench.task import Segment

SIZE = 480
CAMERA = CORNER.camera

_LINE_WIDTH_M = 0.006
_RED = np.array([1.0, 0.1, 0.1, 1.0], np.float32)
_MAX_GEOMS = 1000
_AREA = mujoco.MjrRect(0, 0, SIZE, SIZE)
_BACKENDS = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw"}


class Renderer:
    """Draws the episodes of one model.

    Raises:
        RuntimeError: no off-screen OpenGL works here; the message names what to install.
    """

    def __init__(self, model: Any, view: View = CORNER) -> None:
        self._model, self._hangs = model, view.hangs
        self._context = open_context()
        self._context.make_current()
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(view.camera).id
        self._target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._target.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR  # keeps millimetres apart at two metres
        mujoco.mjr_resizeOffscreen(SIZE, SIZE, self._target)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._target)
        # Left to the interpreter's exit, the context is freed after the library that frees it, and complains.
        self._free = weakref.finalize(self, _free, self._target, self._context)

    def picture(self, episode: Judged) -> NDArray[np.uint8]:
        """uint8[480, 480, 3], row 0 at the top, as somebody standing at the camera sees it."""
        self._render(episode, mujoco.MjvOption(), episode.outline())
        pixels = np.empty((SIZE, SIZE, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, _AREA, self._target)
        return _upright(pixels, self._hangs)

    def depth(self, episode: Judged) -> NDArray[np.float32]:
        """float32[480, 480], metres along the camera's axis to what can be touched or seen; markers are left out."""
        option = mujoco.MjvOption()
        option.sitegroup[:] = 0
        self._render(episode, option, [])
        nearness = np.empty((SIZE, SIZE), np.float32)
        mujoco.mjr_readPixels(None, nearness, _AREA, self._target)
        extent, planes = self._model.stat.extent, self._model.vis.map
        near, far = planes.znear * extent, planes.zfar * extent
        # Inverse of the perspective projection: 1 at the near plane, 0 at the far one.
        metres = near * far / (near + nearness.astype(np.float64) * (far - near))
        return _upright(metres.astype(np.float32), self._hangs)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._free()

    def _render(self, episode: Judged, option: Any, outline: list[Segment]) -> None:
        self._context.make_current()
        episode.dress(self._model, episode.data)
        for ground in range(self._model.nhfield):
            mujoco.mjr_uploadHField(self._model, self._target, ground)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        data, perturb = episode.data, mujoco.MjvPerturb()
        mujoco.mjv_updateScene(self._model, data, option, perturb, self._camera, everything, self._scene)
        for segment in outline:
            draw(self._scene, segment)
        mujoco.mjr_render(_AREA, self._scene, self._target)


def draw(scene: Any, segment: Segment) -> None:
    """Add a red line to an ``MjvScene``; a full scene is left as it is."""
    if scene.ngeom >= scene.maxgeom:
        return
    geom = scene.geoms[scene.ngeom]
    capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(geom, capsule, np.zeros(3), np.zeros(3), np.zeros(9), _RED)
    mujoco.mjv_connector(geom, capsule, _LINE_WIDTH_M / 2, np.array(segment[0]), np.array(segment[1]))
    scene.ngeom += 1


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
            return create_context(name)
        except Exception as error:  # each backend fails in its own way, some with plain Exception or AttributeError
            failures.append(f"{name}: {error}")
    raise RuntimeError(
        f"rendering needs off-screen OpenGL and found none ({'; '.join(failures)}). On Debian or Ubuntu install "
        "libegl1 libegl-mesa0 libgl1-mesa-dri (MUJOCO_GL=egl) or libosmesa6 (MUJOCO_GL=osmesa)"
    )


def create_context(backend: str) -> Any:
    """An off-screen OpenGL context of that backend, or an exception of its own kind."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # Imported by name: mujoco picks its own default once, at import, and wants a display if nothing is set.
        context = importlib.import_module(_BACKENDS[backend]).GLContext(SIZE, SIZE)
        if backend == "glfw":
            # Without a display that answers, GLFW only warns, and MuJoCo's drawing then aborts.
            context.make_current()
            if not importlib.import_module("glfw").get_current_context():
                raise RuntimeError("; ".join(str(warning.message) for warning in said) or "no window")
    return context


def _upright(image: NDArray[Any], hangs: bool) -> NDArray[Any]:
    """OpenGL counts rows from the bottom; where the camera hangs upside down, what is left to turn are the columns."""
    return np.ascontiguousarray(image[:, ::-1] if hangs else image[::-1])


def _free(target: Any, context: Any) -> None:
    target.free()
    context.free()
