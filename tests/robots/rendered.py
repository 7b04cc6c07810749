"""Pictures of a Franka task's table, drawn by MuJoCo, its lengths and angles known: perception is measured against them."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.franka.definition import FrankaTask
from failurebench.franka.furniture import HAZARD, OBJECT, furnish
from failurebench.rendering import open_context
from robots.cameras.interface import Frame, Intrinsics
from robots.cameras.software import Rendered, quantised
from robots.perception.markers import MarkedConfig
from robots.perception.plates import add_plates
from robots.rigid import Array, Rigid

WIDTH, HEIGHT = 640, 480
DICTIONARY = "4X4_50"


def looking(eye: tuple[float, float, float], target: tuple[float, float, float]) -> Rigid:
    """``table_from_camera`` of an upright camera, its axes OpenCV's: x right, y down, z ahead."""
    ahead = np.subtract(target, eye)
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return Rigid(np.stack([right, np.cross(ahead, right), ahead], axis=1), np.array(eye))


class Table:
    """One task's furniture with markers on it, and a camera."""

    def __init__(
        self,
        task: FrankaTask,
        marked: tuple[MarkedConfig, ...] = (),
        camera: Rigid | None = None,
        fovy_deg: float = 42.0,
        ball_rgb: tuple[float, float, float] | None = None,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        on_flange: MarkedConfig | None = None,
    ) -> None:
        self.camera = camera or looking((0.95, 0.35, 0.75), (0.54, 0.0, 0.02))
        self.width, self.height = size
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        spec.visual.map.znear, spec.visual.map.zfar = 0.01, 10.0
        spec.visual.quality.offsamples = 8
        spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.4] * 3, [0.4] * 3
        spec.visual.headlight.specular = [0.0] * 3
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.4, 0.4, 0.025], pos=[0.56, 0, -0.025], rgba=[0.75, 0.7, 0.65, 1]
        )
        spec.worldbody.add_light(pos=[0.5, 0.3, 2.0], dir=[0, -0.1, -1.0], diffuse=[0.4] * 3, castshadow=False)
        furnish(task, spec)
        self._markers(spec, marked)
        if ball_rgb is not None:
            spec.body(OBJECT).geoms[0].rgba = [*ball_rgb, 1.0]
        if on_flange is not None:
            flange = spec.worldbody.add_body(name="flange", mocap=True, pos=[0.0, 0.0, 3.0])
            add_plates(spec, flange, on_flange, DICTIONARY, 0.0)
        self._add_finger(spec)
        back = np.diag([1.0, -1.0, -1.0])  # MuJoCo looks along -z, its y is up
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, (self.camera.rotation @ back).ravel())
        fovy = math.radians(fovy_deg) if not spec.compiler.degree else fovy_deg
        spec.worldbody.add_camera(name="eye", pos=self.camera.translation, quat=quat, fovy=math.degrees(fovy))
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        focal = self.height / 2 / math.tan(math.radians(fovy_deg) / 2)
        self.intrinsics = Intrinsics(self.width, self.height, focal, focal, (self.width - 1) / 2, (self.height - 1) / 2)
        self._context = open_context()
        self._context.make_current()
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = self.width, self.height
        self._drawing = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        self._scene = mujoco.MjvScene(self.model, maxgeom=500)
        self.taken = 0.0
        self.number = 0

    def put(self, x: float, y: float, yaw: float = 0.0, z: float | None = None) -> None:
        """Stand the object somewhere."""
        geom = self.model.geom_bodyid.tolist().index(self.model.body(OBJECT).id)
        height = float(self.model.geom_size[geom][2] or self.model.geom_size[geom][0]) if z is None else z
        self.data.joint(OBJECT).qpos[:] = (x, y, height, math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))

    def put_hazard(self, x: float, y: float, yaw: float = 0.0) -> None:
        """Stand the wall or the flower somewhere."""
        self.data.mocap_pos[0][:2] = x, y
        self.data.mocap_quat[0] = math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)

    def put_finger(self, x: float, y: float, z: float = 0.02) -> None:
        """Hold the arm's finger and hand somewhere; at the start it is out of the picture."""
        self.data.mocap_pos[-1] = x, y, z

    def put_flange(self, pose: Rigid) -> None:
        """Hold the flange, and the marker on it, somewhere."""
        number = int(self.model.body("flange").mocapid[0])
        self.data.mocap_pos[number] = pose.translation
        mujoco.mju_mat2Quat(self.data.mocap_quat[number], pose.rotation.ravel())

    def rendered(self, light: float = 1.0) -> Rendered:
        """A picture; ``light`` scales what the camera receives, and more than it can bear is white."""
        mujoco.mj_forward(self.model, self.data)
        option, viewed = mujoco.MjvOption(), mujoco.MjvCamera()
        option.sitegroup[:] = 0
        viewed.type, viewed.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self.model.camera("eye").id
        self._context.make_current()
        mujoco.mjv_updateScene(
            self.model, self.data, option, None, viewed, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        color = np.empty((self.height, self.width, 3), np.uint8)
        depth = np.empty((self.height, self.width), np.float32)
        size = mujoco.MjrRect(0, 0, self.width, self.height)
        mujoco.mjr_render(size, self._scene, self._drawing)
        mujoco.mjr_readPixels(color, depth, size, self._drawing)
        lit = np.clip(color[::-1].astype(np.float64) * light, 0, 255).astype(np.uint8)
        return Rendered(lit, self._metres(depth[::-1]), self.taken)

    def frame(self, light: float = 1.0, depth_noise_m: float = 0.0, seed: int = 0) -> Frame:
        """A picture as a camera would deliver it; stereo depth errs by ``depth_noise_m`` at a metre, more farther away."""
        picture = self.rendered(light)
        depth = picture.depth_m
        if depth_noise_m:
            depth = depth + np.random.default_rng(seed).normal(0.0, depth_noise_m, depth.shape) * depth**2
        self.number += 1
        return Frame(picture.color, quantised(depth), 0.001, self.intrinsics, self.taken, self.number)

    def close(self) -> None:
        """Free the drawing context."""
        self._context.make_current()
        self._drawing.free()
        self._context.free()

    def _metres(self, buffer: NDArray[np.float32]) -> Array:
        extent = self.model.stat.extent
        near, far = self.model.vis.map.znear * extent, self.model.vis.map.zfar * extent
        metres: Array = near / (1.0 - buffer.astype(np.float64) * (1.0 - near / far))
        metres[buffer >= 1.0] = np.nan
        return metres

    def _markers(self, spec: Any, marked: tuple[MarkedConfig, ...]) -> None:
        for object in marked:
            body = spec.body(OBJECT if object.name == "object" else HAZARD)
            origin = float(body.pos[2]) if object.name == "object" else 0.0
            add_plates(spec, body, object, DICTIONARY, origin)

    def _add_finger(self, spec: Any) -> None:
        body = spec.worldbody.add_body(name="hand", mocap=True, pos=[0.0, 0.0, 2.0])
        capsule, cylinder = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
        grey = [0.3, 0.3, 0.32, 1.0]
        body.add_geom(type=capsule, fromto=[0, 0, 0.012, 0, 0, 0.17], size=[0.012, 0, 0], rgba=grey)
        body.add_geom(type=cylinder, fromto=[0, 0, 0.17, 0, 0, 0.30], size=[0.045, 0, 0], rgba=[0.9, 0.9, 0.9, 1.0])
