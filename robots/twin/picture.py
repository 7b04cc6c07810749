"""Colour and depth of a twin's table, drawn by MuJoCo: the arm as its collision bodies, the objects with their markers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.franka.furniture import GOAL, HAZARD, OBJECT
from failurebench.franka.scene import Layout
from failurebench.franka.soccer import FrankaBoundedSoccer
from failurebench.franka.turf import heights
from failurebench.rendering import open_context
from robots.arm.connection import HAND_YAW_RAD
from robots.cameras.interface import Intrinsics
from robots.errors import RobotError
from robots.perception.markers import MarkedConfig, MarkerConfig
from robots.perception.plates import add_plates
from robots.perception.tasks import usual
from robots.rigid import Rigid, about_z
from robots.twin.configuration import TwinConfig
from robots.twin.world import FINGER, HAND, Simulation

ARM_GROUP = 3
"""what the arm collides with; its visible meshes take ten times as long to draw"""

ORANGE, GREY = (0.95, 0.45, 0.05, 1.0), (0.3, 0.3, 0.32, 1.0)
"""a ball that is told from the turf by its colour, and a finger that is not taken for it"""

ON_FINGER = MarkedConfig("hand", (MarkerConfig(40, 0.06, (0.03, 0.0, 0.08), "back"),))
"""on the hand's body: 8 cm down the finger, facing ahead"""

_EYE = "eye"


def on_flange() -> tuple[float, float, float]:
    """Where the marker on the finger is in the flange's frame, about whose axis the hand is mounted turned."""
    x, y, z = (about_z(HAND_YAW_RAD) @ ON_FINGER.markers[0].at_m).tolist()
    return x, y, z


@dataclass(frozen=True)
class TwinCameraConfig:
    """Where the twin's camera stands and what it delivers."""

    width: int = 640
    height: int = 480
    rate_hz: float = 30.0
    fovy_deg: float = 42.0
    """from the picture's bottom to its top"""
    eye: tuple[float, float, float] = (1.2, 0.0, 0.9)
    """in the table's frame, m; facing the robot, where the finger hides the object least (results/camera_places.md)"""
    target: tuple[float, float, float] = (0.54, 0.0, 0.02)
    """what it looks at"""
    markers: bool = True
    """whether the objects wear the markers that their task is usually seen by"""
    hand_marker: bool = False
    """whether the finger wears the marker that a camera is calibrated by"""

    def __post_init__(self) -> None:
        for name, low, high in (("width", 16, 1920), ("height", 16, 1080), ("rate_hz", 1, 90), ("fovy_deg", 10, 100)):
            if not low <= getattr(self, name) <= high:
                raise RobotError(f"the twin's camera: {name} is {getattr(self, name)!r}; give {low} to {high}")
        if math.dist(self.eye[:2], self.target[:2]) < 1e-3:
            raise RobotError(f"the twin's camera: eye {self.eye} is straight above target {self.target}; move it aside")

    @property
    def table_from_camera(self) -> Rigid:
        """Where it stands, upright; its axes are OpenCV's: x right, y down, z ahead."""
        ahead = np.subtract(self.target, self.eye)
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return Rigid(np.stack([right, np.cross(ahead, right), ahead], axis=1), np.array(self.eye))

    @property
    def intrinsics(self) -> Intrinsics:
        """Square pixels, no distortion."""
        focal = self.height / 2 / math.tan(math.radians(self.fovy_deg) / 2)
        return Intrinsics(self.width, self.height, focal, focal, (self.width - 1) / 2, (self.height - 1) / 2)

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TwinCameraConfig:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "eye": tuple(fields["eye"]), "target": tuple(fields["target"])})


class Painter:
    """Draws what a twin says of itself.

    Args:
        twin: what the twin was made with.
        camera: where from.

    Raises:
        RuntimeError: no off-screen OpenGL works here; the message names what to install.
    """

    def __init__(self, twin: TwinConfig, camera: TwinCameraConfig) -> None:
        self.twin, self.camera = twin, camera
        spec = Simulation(twin.task, twin.base_height_m).spec()
        self._dress(spec)
        model = self.model = spec.compile()
        self.data = mujoco.MjData(model)
        model.vis.global_.offwidth, model.vis.global_.offheight = camera.width, camera.height
        self._context = open_context()
        self._context.make_current()
        self._target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._target.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._target)
        self._scene = mujoco.MjvScene(model, 500)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[[0, ARM_GROUP]] = 1
        self._eye = mujoco.MjvCamera()
        self._eye.type, self._eye.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(_EYE).id
        self._layout: Layout | None = None

    def picture(
        self, qpos: list[float], mocap: list[float], layout: Layout
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """Colour ``[h, w, 3]`` and depth ``[h, w]`` in millimetres, 0 where there is nothing."""
        model, data = self.model, self.data
        data.qpos[:], data.mocap_pos.ravel()[:] = qpos, mocap
        if layout != self._layout:
            self._arrange(layout)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        data.site(GOAL).xpos = (*layout.goal, 0.002)
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._option, None, self._eye, every, self._scene)
        width, height = self.camera.width, self.camera.height
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(area, self._scene, self._target)
        color, depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
        mujoco.mjr_readPixels(color, depth, area, self._target)
        return np.ascontiguousarray(color[::-1]), self._millimetres(depth[::-1])

    def close(self) -> None:
        """Free what is on the graphics card."""
        self._context.make_current()
        self._target.free()
        self._context.free()

    def _dress(self, spec: Any) -> None:
        """What is only seen: the camera, light from all sides, colours and markers."""
        placed = self.camera.table_from_camera
        turn = np.empty(4)
        mujoco.mju_mat2Quat(
            turn, (placed.rotation @ np.diag([1.0, -1.0, -1.0])).ravel()
        )  # MuJoCo looks along -z, y is up
        fovy = self.camera.fovy_deg if spec.compiler.degree else math.radians(self.camera.fovy_deg)
        spec.worldbody.add_camera(name=_EYE, pos=placed.translation, quat=turn, fovy=math.degrees(fovy))
        visual = spec.visual
        visual.map.znear, visual.map.zfar, visual.quality.offsamples = 0.01, 10.0, 0
        light = visual.headlight
        light.ambient, light.diffuse, light.specular = [0.2] * 3, [0.2] * 3, [0.0] * 3
        spec.geom(FINGER).rgba = GREY
        task = self.twin.task
        if isinstance(task, FrankaBoundedSoccer):
            spec.geom(OBJECT).rgba = ORANGE
        if self.camera.markers:
            seen = usual(task)
            for marked in seen.marked:
                body = spec.body(OBJECT if marked.name == "object" else HAZARD)
                add_plates(spec, body, marked, seen.dictionary, float(body.pos[2]) if marked.name == "object" else 0.0)
        if self.camera.hand_marker:
            add_plates(spec, spec.body(HAND), ON_FINGER, usual(task).dictionary, 0.0)

    def _arrange(self, layout: Layout) -> None:
        """What an episode's beginning changes."""
        self._layout, task, model = layout, self.twin.task, self.model
        if isinstance(task, FrankaBoundedSoccer):
            model.hfield_data[:] = heights(layout.script, (task.turf_cells, task.turf_cells), 1.0).ravel()
            mujoco.mjr_uploadHField(model, self._target, 0)

    def _millimetres(self, buffer: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Of OpenGL's depth, near 1 and far 0."""
        extent = self.model.stat.extent
        near, far = self.model.vis.map.znear * extent, self.model.vis.map.zfar * extent
        nothing = buffer <= 0.0
        metres = near * far / (near + np.where(nothing, 1.0, buffer) * (far - near))
        return np.where(nothing, 0, np.minimum(1000.0 * metres + 0.5, 65535)).astype(np.uint16)
