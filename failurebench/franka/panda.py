"""The Panda of robosuite's models over its table: one MuJoCo world, held by a light operational-space controller.

The controller is robosuite's (Khatib 1987, as in its ``OSC_POSE``: position and orientation decoupled, null space held at the
start's posture), with its inertia and Jacobians renewed every 20 ms instead of every 2 ms and physics steps of 5 instead of 2 ms.
What that changes is measured against robosuite itself: tests/failurebench/test_franka_parity.py, results/benchmark_franka.md.
"""

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

from failurebench.franka.definition import CONTROL_HZ, FINGER_HEIGHT_M
from failurebench.franka.furniture import add_finger
from failurebench.franka.geometry import Vec2

TIMESTEP_S = 0.005
RENEW_STEPS = 4
"""physics steps from one renewal of inertia and Jacobians to the next; contacts and margins are looked at as often"""

TICKS = round(1.0 / (CONTROL_HZ * TIMESTEP_S * RENEW_STEPS))
"""renewals in a control step"""

STIFFNESS = 300.0
"""1/s2, critically damped: the gains of robosuite's controller, of which 150 is its default"""

NULL_STIFFNESS = 10.0

JOINTS = 7
BASE_M = 0.112
"""height of the robot's base over the table top, as robosuite mounts it"""

TABLE_CENTRE_M = 0.56
"""from the base to the middle of the table"""

HIDDEN = 3
"""a group of geoms that pictures leave out"""

_POSTURE = (0.0, math.pi / 16, 0.0, -5 * math.pi / 6, 0.0, math.pi - 0.2, math.pi / 4)
_DAMPING = (0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01)
_FRICTION_LOSS = 0.1
_DOWN = np.diag([1.0, -1.0, -1.0])
_SHIFT = np.array([TABLE_CENTRE_M, 0.0, -0.8])
_TABLE_HALF = (0.4, 0.4, 0.025)
_INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """A compiled scene and the arm's posture over the start; shared, and never modified but for the ground's heights."""

    model: Any
    posture: Array
    """joint angles with the finger at its start, rad"""


def build(furnish: Callable[[Any], None], hand: Vec2) -> World:
    """Put table and arm together, let ``furnish`` add what stands on the table, and bring the finger over ``hand``.

    Raises:
        ModuleNotFoundError: robosuite, whose models these are, is not installed.
    """
    assets = _assets()
    spec = _read(assets / "arenas" / "table_arena.xml")
    robot = _read(assets / "robots" / "panda" / "robot.xml")
    _set_table(spec)
    for number in range(JOINTS):  # what robosuite sets from Python
        joint = robot.joint(f"joint{number + 1}")
        joint.damping, joint.frictionloss, joint.armature = _DAMPING[number], _FRICTION_LOSS, 5.0 / (number + 1)
    for geom in (*robot.geoms, spec.geom("table_collision")):
        if geom.group == 0:
            geom.group = HIDDEN  # what collides would flicker through what is shown
    add_finger(robot.body("right_hand"))
    spec.attach(robot, frame=spec.worldbody.add_frame(pos=[0.0, 0.0, BASE_M]), prefix="")
    furnish(spec)
    spec.compiler.degree, spec.compiler.inertiagrouprange = False, [0, 0]
    option = spec.option
    option.timestep, option.impratio, option.cone = TIMESTEP_S, 20, mujoco.mjtCone.mjCONE_ELLIPTIC
    option.density, option.viscosity = 1.2, 2e-5
    model = spec.compile()
    return World(model, _posture_over(model, (*hand, FINGER_HEIGHT_M)))


class Panda:
    """One moving copy of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        model = self.model = world.model
        data = self.data = mujoco.MjData(model)
        self._tip, self._finger = model.site("tcp").id, model.geom("finger").id
        # Views into MuJoCo's memory: indexing by name at every step would cost more than the readings.
        self._position, self._rotation = data.site_xpos[self._tip], data.site_xmat[self._tip]
        self._q, self._v = data.qpos[:JOINTS], data.qvel[:JOINTS]
        self._bias, self._ctrl = data.qfrc_bias[:JOINTS], data.ctrl
        self._jacobian, self._inertia = np.zeros((6, model.nv)), np.zeros((model.nv, model.nv))
        self._gain, self._readings = np.zeros((JOINTS, 3 + 9 + 2 * JOINTS)), np.zeros(3 + 9 + 2 * JOINTS)

    def reset(self) -> None:
        """The arm at rest over its start, everything else where the model has it; ``settle`` when that is arranged."""
        mujoco.mj_resetData(self.model, self.data)
        self._q[:] = self.world.posture

    def settle(self) -> None:
        """Bring all that follows from positions and velocities up to date."""
        mujoco.mj_step1(self.model, self.data)

    @property
    def tcp(self) -> Vec2:
        """The finger's tip."""
        x, y, _ = self._position.tolist()
        return x, y

    @property
    def tcp_velocity(self) -> Vec2:
        """The tip's, m/s."""
        mujoco.mj_jacSite(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self._tip)
        x, y = (self._jacobian[:2, :JOINTS] @ self._v).tolist()
        return x, y

    def hold(self, reference: Vec2) -> float:
        """Steer the tip towards ``reference`` for one tick of 20 ms; returns the contact force at the finger at its end, N."""
        model, data, readings = self.model, self.data, self._readings
        constant, gain = self._renew(reference), self._gain
        for step in range(RENEW_STEPS):
            readings[:3], readings[3:12] = self._position, self._rotation
            readings[12:19], readings[19:] = self._v, self._q
            self._ctrl[:] = gain @ readings + constant + self._bias
            mujoco.mj_step2(model, data)
            if step == RENEW_STEPS - 1:
                force = self._contact_force()
            mujoco.mj_step1(model, data)
        return force

    def get_state(self) -> Array:
        """Everything the physics depends on."""
        state = np.empty(mujoco.mj_stateSize(self.model, _INTEGRATION))
        mujoco.mj_getState(self.model, self.data, state, _INTEGRATION)
        return state

    def set_state(self, state: Array) -> None:
        """Continue from ``state``, bit for bit."""
        mujoco.mj_setState(self.model, self.data, state, _INTEGRATION)
        self.settle()

    def _renew(self, reference: Vec2) -> Array:
        """Inertia and Jacobians as they are now: torques are ``gain`` times readings, plus the returned constant, plus bias."""
        model, data, jacobian, gain = self.model, self.data, self._jacobian, self._gain
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._tip)
        mujoco.mj_fullM(model, self._inertia, data.qM)
        j, inertia = jacobian[:, :JOINTS], self._inertia[:JOINTS, :JOINTS]
        carried = np.linalg.solve(inertia, j.T)
        compliance = j @ carried
        push = j[:3].T @ np.linalg.inv(compliance[:3, :3])
        turn = j[3:].T @ np.linalg.inv(compliance[3:, 3:])
        null = inertia - j.T @ np.linalg.solve(compliance, j)
        gain[:, :3], gain[:, 3:12] = -STIFFNESS * push, STIFFNESS * turn @ _MISALIGNMENT
        damping, null_damping = 2.0 * math.sqrt(STIFFNESS), 2.0 * math.sqrt(NULL_STIFFNESS)
        gain[:, 12:19] = -damping * (push @ j[:3] + turn @ j[3:]) - null_damping * null
        gain[:, 19:] = -NULL_STIFFNESS * null
        target = np.array([*reference, FINGER_HEIGHT_M])
        constant: Array = STIFFNESS * push @ target + NULL_STIFFNESS * null @ self.world.posture
        return constant

    def _contact_force(self) -> float:
        """Magnitude of all contact forces on the finger together, N; while ``mj_step2`` still stands."""
        data, total, wrench = self.data, np.zeros(3), np.zeros(6)
        for number, pair in enumerate(data.contact.geom.tolist()):
            if self._finger in pair:
                mujoco.mj_contactForce(self.model, data, number, wrench)
                sign = 1.0 if pair[1] == self._finger else -1.0
                total += sign * data.contact[number].frame.reshape(3, 3).T @ wrench[:3]
        return math.sqrt(float(total @ total))


def _misalignment() -> Array:
    """The matrix that makes of a rotation's nine numbers half the sum of its columns' cross products with those it should have."""
    matrix = np.zeros((3, 9))
    for number in range(9):
        unit = np.zeros(9)
        unit[number] = 1.0
        columns = unit.reshape(3, 3)
        matrix[:, number] = 0.5 * sum(np.cross(columns[:, axis], _DOWN[:, axis]) for axis in range(3))
    return matrix


_MISALIGNMENT = _misalignment()


def _posture_over(model: Any, tip: tuple[float, float, float]) -> Array:
    """Joint angles that bring the tip there, pointing down, found from robosuite's own start (Gauss-Newton)."""
    data, site = mujoco.MjData(model), model.site("tcp").id
    data.qpos[:JOINTS] = _POSTURE
    jacobian = np.zeros((6, model.nv))
    for _ in range(50):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        error = np.append(np.array(tip) - data.site_xpos[site], _MISALIGNMENT @ data.site_xmat[site])
        if np.abs(error).max() < 1e-12:
            break
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        data.qpos[:JOINTS] += np.linalg.pinv(jacobian[:, :JOINTS]) @ error
    return np.array(data.qpos[:JOINTS])


@functools.cache
def _assets() -> Path:
    """Where robosuite keeps its models. Importing it to ask would compile its controllers and greet on the way."""
    found = importlib.util.find_spec("robosuite")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "the models of the Franka tasks come with robosuite, which is not installed: "
            "pip install 'robosuite>=1.5.1,!=1.5.2,<1.6'",
            name="robosuite",
        )
    return Path(found.origin).parent / "models" / "assets"


def _read(path: Path) -> Any:
    """An ``MjSpec`` whose files are named absolutely, so that it can become part of another."""
    spec = mujoco.MjSpec.from_file(str(path))
    for part in (*spec.meshes, *spec.textures):
        if part.file:
            part.file = str((path.parent / part.file).resolve())
    return spec


def _set_table(spec: Any) -> None:
    """Robosuite's table with its top at z = 0, in front of the robot; the room's walls are left out."""
    for geom in list(spec.worldbody.geoms):
        if geom.name == "floor":
            geom.pos = geom.pos + _SHIFT
        else:
            geom.delete()
    table = spec.body("table")
    table.pos = [TABLE_CENTRE_M, 0.0, -_TABLE_HALF[2]]
    for geom in table.geoms:
        if geom.name in ("table_collision", "table_visual"):
            geom.size = _TABLE_HALF
    legs = [geom for geom in table.geoms if "leg" in geom.name]
    for leg, (x, y) in zip(legs, ((0.3, 0.3), (-0.3, 0.3), (-0.3, -0.3), (0.3, -0.3)), strict=True):
        leg.pos, leg.size = [x, y, -0.3875], [0.025, 0.3875, 0.0]
