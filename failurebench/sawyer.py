"""The Sawyer arm over MetaWorld's table: one MuJoCo world, moved exactly as the stock environments move it."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

FRAME_SKIP = 5
"""physics steps (2.5 ms each) per simulator step: control runs at 80 Hz"""

ACTION_SCALE = np.float32(0.01)
"""metres the hand's target moves per simulator step at full action; float32 because stock multiplies in float32"""

HAND = "mocap"
"""the body the hand is welded to"""

FRAME = 18
"""numbers in one observation frame: hand 3, gripper 1, object 3, quaternion 4, spare 7"""

_SETTLING_STEPS = 50
_GRIPPER_SPAN_M = 0.1
_INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION
_POSITION_AND_VELOCITY = mujoco.mjtStage.mjSTAGE_VEL.value

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """What a task loads: a MetaWorld model, changed in memory, and where the hand starts and may go (metres)."""

    xml: str
    """path below MetaWorld's ``assets``"""

    object_body: str = "obj"
    object_geom: str = "objGeom"
    hand_start: Vec3 = (0.0, 0.6, 0.2)
    hand_low: Vec3 = (-0.5, 0.40, 0.05)
    hand_high: Vec3 = (0.5, 1.0, 0.5)
    edit: Callable[[Any], None] | None = None
    """adds the task's hazard to the ``MjSpec``; a module-level function, so that scenes compare and pickle"""


@dataclass(frozen=True, eq=False)
class World:
    """A compiled scene and the state it rests in; never modified, so any number of environments share it."""

    scene: Scene
    model: Any
    settled: NDArray[np.float64]
    """``mjSTATE_INTEGRATION`` with the open hand resting at its start"""

    object_z: float
    """height of the object's centre at rest, m"""

    tcp_start: Vec3
    """point between the fingertips at rest, m"""


@functools.cache
def load_world(scene: Scene) -> World:
    """Compile ``scene`` and let the hand settle, once per process (0.1 s); every reset afterwards is a copy."""
    spec = mujoco.MjSpec.from_file(str(_assets() / scene.xml))
    if scene.edit is not None:
        scene.edit(spec)
    model = spec.compile()
    for i in range(model.neq):
        if model.eq_type[i] == mujoco.mjtEq.mjEQ_WELD:
            # hold the hand on the mocap body: no anchor, no offset, torque scale 5; newer MuJoCo has more columns
            model.eq_data[i, :11] = (0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5)
    data = mujoco.MjData(model)
    hand = mocap_index(model, HAND)
    for _ in range(_SETTLING_STEPS):
        data.mocap_pos[hand] = scene.hand_start
        data.mocap_quat[hand] = (1, 0, 1, 0)
        data.ctrl[:] = (-1, 1)
        mujoco.mj_step(model, data, nstep=FRAME_SKIP)
    # Stock reads these before it refreshes the kinematics, one physics step behind; the reward depends on them.
    tips = data.site("rightEndEffector").xpos + data.site("leftEndEffector").xpos
    settled = np.empty(mujoco.mj_stateSize(model, _INTEGRATION))
    mujoco.mj_getState(model, data, settled, _INTEGRATION)
    tcp: Vec3 = tuple((tips / 2).tolist())
    return World(scene, model, settled, float(data.body(scene.object_body).xpos[2]), tcp)


def _assets() -> Path:
    """Where MetaWorld keeps its models. Importing it to ask would cost every process 40 MB and a quarter of a second."""
    found = importlib.util.find_spec("metaworld")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the models of the tasks come with metaworld: pip install 'metaworld>=3.1.1'")
    return Path(found.origin).parent / "assets"


class Sawyer:
    """One moving copy of a world. After every move its readings (metres, plain floats) are up to date."""

    hand: list[float]
    object: list[float]
    tcp: Vec3
    opening: float
    """distance between the claws over 0.1 m, in [0, 1]"""
    left_pad_y: float
    right_pad_y: float

    def __init__(self, world: World) -> None:
        self.world = world
        model = self.model = world.model
        data = self.data = mujoco.MjData(model)
        scene = world.scene
        # Views into MuJoCo's memory: indexing by name at every step would cost more than the readings.
        self._mocap, self._ctrl = data.mocap_pos[mocap_index(model, HAND)], data.ctrl
        self._target = data.body(HAND).xpos
        self._hand = data.body("hand").xpos
        self._object, self._rotation = data.body(scene.object_body).xpos, data.geom(scene.object_geom).xmat
        self._claws = data.body("rightclaw").xpos, data.body("leftclaw").xpos
        self._pads = data.body("leftpad").xpos, data.body("rightpad").xpos
        self._tips = data.site("rightEndEffector").xpos, data.site("leftEndEffector").xpos
        joint = model.joint(model.body_jntadr[model.body(scene.object_body).id])
        self._object_qpos, self._object_qvel = int(joint.qposadr[0]), int(joint.dofadr[0])

    def reset(self, object_position: Vec3, props: dict[str, Vec3]) -> None:
        """Go back to the settled state with the object at rest at ``object_position`` and ``props`` in their places."""
        mujoco.mj_setState(self.model, self.data, self.world.settled, _INTEGRATION)
        for body, position in props.items():
            self.data.mocap_pos[mocap_index(self.model, body)] = position
        self.data.qpos[self._object_qpos : self._object_qpos + 3] = object_position
        self.data.qvel[self._object_qvel : self._object_qvel + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)
        self._read()

    def advance(self, dx: float, dy: float, dz: float, grip: float) -> None:
        """One simulator step (12.5 ms): shift the hand's target by metres, drive the fingers by ``grip``, -1 to 1."""
        x, y, z = self._mocap.tolist()
        low, high = self.world.scene.hand_low, self.world.scene.hand_high
        self._mocap[:] = (
            min(max(x + dx, low[0]), high[0]),
            min(max(y + dy, low[1]), high[1]),
            min(max(z + dz, low[2]), high[2]),
        )
        self._ctrl[:] = (grip, -grip)
        self._step_from_known_motion()
        mujoco.mj_step(self.model, self.data, FRAME_SKIP - 1)
        # Kinematics alone would give the same readings; the full pass also sets the solver's warm start as stock does.
        mujoco.mj_forward(self.model, self.data)
        self._read()

    def _step_from_known_motion(self) -> None:
        """``mj_step``, to the bit, where nothing but the hand's target and the controls changed since ``mj_forward``.

        Contacts, inertias and velocities are still those of the last pass; only the constraints have to be looked at again,
        for the hand's weld is one of them.
        """
        model, data = self.model, self.data
        self._target[:] = self._mocap
        mujoco.mj_makeConstraint(model, data)
        mujoco.mj_referenceConstraint(model, data)
        mujoco.mj_forwardSkip(model, data, _POSITION_AND_VELOCITY, 1)
        mujoco.mj_Euler(model, data)

    def frame(self) -> list[float]:
        """The first 11 numbers of an observation frame: hand, opening, object, object quaternion (x, y, z, w)."""
        return [*self.hand, self.opening, *self.object, *quaternion(self._rotation.tolist())]

    @property
    def upright(self) -> float:
        """Cosine of the angle between the object's axis and the vertical: 1 standing, 0 on its side."""
        return float(self._rotation[8])

    def get_state(self) -> NDArray[np.float64]:
        """Everything the physics depends on."""
        state = np.empty_like(self.world.settled)
        mujoco.mj_getState(self.model, self.data, state, _INTEGRATION)
        return state

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Continue from ``state``, bit for bit."""
        mujoco.mj_setState(self.model, self.data, state, _INTEGRATION)
        mujoco.mj_forward(self.model, self.data)
        # The pass above, needed for the readings, moved the solver's warm start: put it back.
        mujoco.mj_setState(self.model, self.data, state, _INTEGRATION)
        self._read()

    def _read(self) -> None:
        self.hand = self._hand.tolist()
        self.object = self._object.tolist()
        self.left_pad_y, self.right_pad_y = float(self._pads[0][1]), float(self._pads[1][1])
        self.opening = min(math.dist(self._claws[0].tolist(), self._claws[1].tolist()) / _GRIPPER_SPAN_M, 1.0)
        (ax, ay, az), (bx, by, bz) = self._tips[0].tolist(), self._tips[1].tolist()
        self.tcp = ((ax + bx) / 2, (ay + by) / 2, (az + bz) / 2)


def mocap_index(model: Any, body: str) -> int:
    """Row of ``body`` in ``mocap_pos``. Furniture that moves between episodes is a mocap body: the model stays shared.

    Raises:
        KeyError: there is no such body.
    """
    return int(model.body(body).mocapid[0])


def quaternion(m: list[float]) -> tuple[float, float, float, float]:
    """Unit quaternion (x, y, z, w) of a row-major rotation matrix, its largest component positive (Shepperd 1978)."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = m
    trace = xx + yy + zz
    largest = max(xx, yy, zz, trace)
    if largest == xx:
        x, y, z, w = 1 - trace + 2 * xx, yx + xy, zx + xz, zy - yz
    elif largest == yy:
        x, y, z, w = yx + xy, 1 - trace + 2 * yy, zy + yz, xz - zx
    elif largest == zz:
        x, y, z, w = zx + xz, zy + yz, 1 - trace + 2 * zz, yx - xy
    else:
        x, y, z, w = zy - yz, xz - zx, yx - xy, 1 + trace
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return x / norm, y / norm, z / norm, w / norm
