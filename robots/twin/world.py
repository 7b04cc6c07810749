"""The table of a task with an FR3 behind it: franky-sim's arm, the finger on its flange, the task's furniture."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import Any

import mujoco
import numpy as np
from franky_sim import RobotParameters
from franky_sim.base_simulator import InnerRobotState
from franky_sim.mujoco_simulator import FrankaMujocoRobot, MujocoSimulator
from numpy.typing import NDArray

from failurebench.franka.definition import FINGER_HEIGHT_M, FINGER_LENGTH_M, FrankaTask
from failurebench.franka.furniture import add_finger, furnish
from robots.twin.placing import TABLE_CENTRE_M, TABLE_HALF_M

FINGER = "finger"
"""body and geom of the tool"""

TIP = "tcp"
"""site at the finger's end"""

HAND = "robot0_hand"

JOINTS = 7

READY = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4)
"""a posture from which the finger is brought over the start"""

HELD_M = 0.0005
"""how near to its goal the gripper is left alone"""

HAND_KG, HAND_COM_M, HAND_INERTIA = 0.73, np.array([-0.01, 0.0, 0.03]), np.diag([0.001, 0.0025, 0.0017])
"""of the hand that franky-sim's arm carries"""

Array = NDArray[np.float64]


class Arm(FrankaMujocoRobot):  # type: ignore[misc]
    """Franky-sim's robot with its real pose in the streamed state."""

    def kinematics(self, q: Array) -> Any:
        """Pose of the end effector in the base's frame.

        The base class returns a view that its next call overwrites: it would stream the desired pose as the measured one.
        """
        return super().kinematics(q).copy()

    def _attach_to_scene(self, model: Any, data: Any, prefix: str) -> None:
        super()._attach_to_scene(model, data, prefix)
        self._joints = slice(self._qpos_addrs[0], self._qpos_addrs[0] + JOINTS)
        self._dofs = slice(self._dof_addrs[0], self._dof_addrs[0] + JOINTS)
        assert [*range(self._joints.start, self._joints.stop)] == self._qpos_addrs
        assert [*range(self._dofs.start, self._dofs.stop)] == self._dof_addrs

    def _get_state(self) -> InnerRobotState:
        """Three times a millisecond: the base class's takes a tenth of it joint by joint."""
        if self._data is None:
            return super()._get_state()
        q, dq = self._data.qpos[self._joints], self._data.qvel[self._dofs]
        return InnerRobotState(tuple(q.tolist()), tuple(dq.tolist()), tuple(self._applied_torques.tolist()))

    def _pre_step(self) -> None:
        """The gripper's controller, while there is something for it to do; otherwise its joints' friction holds it."""
        if abs(self._get_hand_width() - self._hand_goal_width) > HELD_M:
            super()._pre_step()
        elif self._data is not None:
            self._data.qfrc_applied[self._finger_dof_addrs] = 0.0


class Simulation(MujocoSimulator):  # type: ignore[misc]
    """One arm and one task in MuJoCo, at steps of a millisecond.

    Args:
        task: whose furniture stands on the table.
        base_height_m: of the arm's base over the table's top.
    """

    def __init__(self, task: FrankaTask, base_height_m: float) -> None:
        super().__init__()
        self.task, self.base_height_m = task, base_height_m
        tool = _tool()
        self.add_robot(robot_parameters=tool, position=(0.0, 0.0, base_height_m))
        self.arm = Arm(robot_parameters=tool)
        self._robots: list[Arm] = [self.arm]

    def _start(self) -> None:
        """Compile the scene and bring the finger over the start."""
        model = self._mj_model = self.spec().compile()
        data = self._mj_data = mujoco.MjData(model)
        self.arm._attach_to_scene(model, data, "robot0_")
        self.arm._initial_q = tuple(_posture_over(model, self.arm._qpos_addrs, self.task.hand_start))
        data.qpos[self.arm._qpos_addrs] = self.arm.initial_q
        data.qpos[self.arm._finger_qpos_addrs] = self.arm._initial_hand_width / 2
        mujoco.mj_forward(model, data)

    def spec(self) -> Any:
        """The scene as an ``MjSpec``."""
        spec = mujoco.MjSpec.from_string(ET.tostring(self.scene, encoding="unicode"))
        for name in (HAND, "robot0_left_finger", "robot0_right_finger"):
            for geom in list(spec.body(name).geoms):
                geom.delete()  # the finger sits on the flange; the gripper's joints stay, for a client that homes it
        add_finger(spec.body(HAND))
        spec.geom("ground").pos = [0.0, 0.0, -0.8]
        half_x, half_y, half_z = TABLE_HALF_M
        spec.worldbody.add_geom(
            name="table",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[half_x, half_y, half_z],
            pos=[TABLE_CENTRE_M, 0.0, -half_z],
            rgba=[0.75, 0.7, 0.62, 1.0],
        )
        furnish(self.task, spec)
        for actuator in list(spec.actuators):
            actuator.delete()  # torques come from the controller
        option = spec.option
        option.timestep, option.impratio, option.cone = 0.001, 20, mujoco.mjtCone.mjCONE_ELLIPTIC
        return spec


def _tool() -> RobotParameters:
    """Mass, centre and inertia of hand and finger together, the end effector's frame at the finger's tip."""
    spec = mujoco.MjSpec()
    add_finger(spec.worldbody)
    model = spec.compile()
    finger = model.body(FINGER).id
    kg, at = float(model.body_mass[finger]), model.body_ipos[finger]
    turn = np.empty(9)
    mujoco.mju_quat2Mat(turn, model.body_iquat[finger])
    axes = turn.reshape(3, 3)
    inertia = axes @ np.diag(model.body_inertia[finger]) @ axes.T
    total = HAND_KG + kg
    centre = (HAND_KG * HAND_COM_M + kg * at) / total
    whole = _moved(HAND_INERTIA, HAND_KG, HAND_COM_M - centre) + _moved(inertia, kg, at - centre)
    return RobotParameters(
        ee_mass=total,
        ee_com=tuple(centre.tolist()),
        ee_tcp_xyz=(0.0, 0.0, FINGER_LENGTH_M),
        ee_inertia=tuple(whole.ravel(order="F").tolist()),
    )


def _moved(inertia: Array, kg: float, by: Array) -> Array:
    """About a point that is ``by`` away from the centre of mass (Steiner)."""
    moved: Array = inertia + kg * (float(by @ by) * np.eye(3) - np.outer(by, by))
    return moved


def _posture_over(model: Any, joints: list[int], over: tuple[float, float]) -> Array:
    """Joint angles with the finger upright and its tip over that point of the table (Gauss-Newton from ``READY``)."""
    data, site = mujoco.MjData(model), model.site(TIP).id
    data.qpos[joints] = READY
    jacobian, turn = np.zeros((6, model.nv)), np.empty(3)
    wanted, have, back, error = np.array([0.0, 1.0, 0.0, 0.0]), np.empty(4), np.empty(4), np.empty(4)
    for _ in range(100):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mju_mat2Quat(have, data.site_xmat[site])
        mujoco.mju_negQuat(back, have)
        mujoco.mju_mulQuat(error, wanted, back)
        mujoco.mju_quat2Vel(turn, error, 1.0)
        off = np.concatenate([[*over, FINGER_HEIGHT_M] - data.site_xpos[site], turn])
        if np.abs(off).max() < 1e-10:
            return np.array(data.qpos[joints])
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        data.qpos[joints] += np.linalg.pinv(jacobian[:, :JOINTS]) @ off
    raise RuntimeError(f"no posture brings the finger over {over}")
