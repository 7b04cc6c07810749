"""The Franka tasks as stock robosuite environments: what the twin's path and its speed are measured against.

Robosuite builds these models and runs its own controller; of ours there are only the definitions and their constants.
"""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from robosuite import load_composite_controller_config
from robosuite.environments.manipulation.manipulation_env import ManipulationEnv
from robosuite.models.arenas import TableArena
from robosuite.models.grippers import ALL_GRIPPERS, GRIPPER_MAPPING
from robosuite.models.grippers.gripper_model import GripperModel
from robosuite.models.objects import BallObject, BoxObject
from robosuite.models.tasks import ManipulationTask
from robosuite.utils.mjcf_utils import new_body, new_element, new_geom

from failurebench.franka.definition import CONTROL_HZ, FINGER_HEIGHT_M, FINGER_LENGTH_M, FINGER_RADIUS_M
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.furniture import DENSITY, SLIPPERY
from failurebench.franka.geometry import Vec2
from failurebench.franka.panda import STIFFNESS, TABLE_CENTRE_M
from failurebench.franka.person import Person
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.scene import Layout, Scene
from failurebench.franka.sensing import planar_yaw
from failurebench.franka.soccer import FrankaBoundedSoccer
from failurebench.franka.turf import heights

TABLE_Z_M = 0.8
ORIGIN = np.array([-TABLE_CENTRE_M, 0.0, TABLE_Z_M])
"""the definitions' origin in robosuite's world"""

POINTING_DOWN = (math.pi, 0.0, 0.0)
"""rotation vector of the hand"""

_END = FINGER_LENGTH_M - FINGER_RADIUS_M
_FINGER = f"""<mujoco model="finger">
  <worldbody>
    <body name="finger_body">
      <site name="ft_frame" size="0.01" rgba="0 0 0 0"/>
      <geom name="finger" type="capsule" fromto="0 0 0 0 0 {_END}" size="{FINGER_RADIUS_M}" density="{DENSITY}"
            friction="{SLIPPERY} 0.005 0.0001" priority="1" group="0"/>
      <body name="eef" pos="0 0 {FINGER_LENGTH_M}" quat="1 0 0 0">
        <inertial pos="0 0 0" mass="1e-6" diaginertia="1e-9 1e-9 1e-9"/>
        <site name="grip_site" size="0.01" rgba="0 0 0 0"/>
        <site name="ee_x" size="0.005" rgba="0 0 0 0"/>
        <site name="ee_y" size="0.005" rgba="0 0 0 0"/>
        <site name="ee_z" size="0.005" rgba="0 0 0 0"/>
        <site name="grip_site_cylinder" size="0.005" rgba="0 0 0 0"/>
      </body>
    </body>
  </worldbody>
  <sensor><force name="force_ee" site="ft_frame"/><torque name="torque_ee" site="ft_frame"/></sensor>
</mujoco>
"""


def world(x: float, y: float, z: float = 0.0) -> NDArray[np.float64]:
    """A point of the definitions' frame in robosuite's world."""
    return ORIGIN + np.array([x, y, z])


@functools.cache
def offer_finger() -> None:
    """Let robosuite know the finger as a gripper without actuators."""
    with tempfile.NamedTemporaryFile("w", suffix=".xml", delete=False) as file:
        file.write(_FINGER)
    path = Path(file.name)

    class Finger(GripperModel):
        def __init__(self, idn: int | str = 0) -> None:
            super().__init__(str(path), idn=idn)

        def format_action(self, action: Any) -> Any:
            return action

        @property
        def init_qpos(self) -> None:
            return None

    GRIPPER_MAPPING["Finger"] = Finger
    if isinstance(ALL_GRIPPERS, set):
        ALL_GRIPPERS.add("Finger")


class StockFranka(ManipulationEnv):  # type: ignore[misc]
    """One layout of a task on robosuite's table, steered by the absolute position of the finger's tip.

    Args:
        task: the definition.
        layout: where everything stands; a reset brings it back.
        posture: joint angles at the start, rad.
    """

    def __init__(self, task: Any, layout: Layout, posture: NDArray[np.float64]) -> None:
        offer_finger()
        self._task, self._layout, self._posture = task, layout, posture
        config = load_composite_controller_config(robot="Panda")
        # With OSC_POSITION the orientation would be let go: its goal is where the hand is at every command.
        config["body_parts"]["right"].update(
            type="OSC_POSE", input_type="absolute", input_ref_frame="world", kp=STIFFNESS
        )
        super().__init__(
            robots="Panda",
            gripper_types="Finger",
            controller_configs=config,
            initialization_noise=None,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=CONTROL_HZ,
            horizon=1_000_000,
            ignore_done=True,
            hard_reset=False,
        )
        self.reset()

    def steer(self, reference: Vec2) -> tuple[NDArray[np.float32], float, float]:
        """One control step towards ``reference``: the definition's observation, reward and margin."""
        self.step(np.concatenate([world(*reference, FINGER_HEIGHT_M), POINTING_DOWN]))
        scene, task, layout = self.scene(), self._task, self._layout
        return task.observation(scene, layout), task.reward(scene, layout), task.margin(scene, layout)

    def scene(self) -> Scene:
        """The definition's snapshot."""
        data = self.sim.data
        pose = np.array(data.get_joint_qpos(self.thing.joints[0]))
        tip, speed = self.tip, np.array(data.get_site_xvelp(self._tip_name))
        moving, person = np.array(data.get_joint_qvel(self.thing.joints[0])), self._person
        position = pose[:3] - ORIGIN
        return Scene(
            (float(tip[0]), float(tip[1])),
            (float(speed[0]), float(speed[1])),
            (float(position[0]), float(position[1])),
            planar_yaw(pose[3:].tolist()),
            (float(moving[0]), float(moving[1])),
            (0.0, 0.0) if person is None else person.position,
            (0.0, 0.0) if person is None else person.velocity,
        )

    @property
    def tip(self) -> NDArray[np.float64]:
        """x, y, z of the finger's tip, in the definitions' frame."""
        return np.array(self.sim.data.get_site_xpos(self._tip_name)) - ORIGIN

    def reward(self, action: Any = None) -> float:
        """Robosuite asks for one; the definition's is computed in ``steer``."""
        return 0.0

    def _load_model(self) -> None:
        super()._load_model()
        robot = self.robots[0]
        robot.robot_model.set_base_xpos(robot.robot_model.base_xpos_offset["table"](0.8))
        robot.init_qpos = self._posture
        arena = TableArena(table_full_size=(0.8, 0.8, 0.05), table_offset=(0, 0, TABLE_Z_M))
        arena.set_origin([0, 0, 0])
        contact = {"solref": [0.02, 1.0], "solimp": [0.9, 0.95, 0.001]}  # MuJoCo's own, as in the twin
        task = self._task
        if isinstance(task, FrankaBoundedSoccer):
            self.thing = BallObject(
                name="thing",
                size=[task.ball_radius_m],
                density=task.ball_mass_kg / (4 / 3 * math.pi * task.ball_radius_m**3),
                friction=[0.8, 0.005, task.rolling_friction],
                **contact,
            )
            _add_turf(arena, task)
        else:
            half = [task.box_half_m] * 3
            self.thing = BoxObject(
                name="thing", size=half, density=task.box_density, friction=[1, 0.005, 0.0001], **contact
            )
            arena.worldbody.append(_hazard(task, self._layout))
        self.model = ManipulationTask(
            mujoco_arena=arena, mujoco_robots=[robot.robot_model], mujoco_objects=[self.thing]
        )

    def _setup_references(self) -> None:
        super()._setup_references()
        self._tip_name = self.robots[0].gripper["right"].important_sites["grip_site"]

    def _reset_internal(self) -> None:
        super()._reset_internal()
        task, layout = self._task, self._layout
        disturbed = isinstance(task, FrankaDisturbedPush)
        self._person = Person(layout.script, task.habits(layout), 1 / CONTROL_HZ) if disturbed else None
        height, half = 0.03, layout.yaw / 2
        if isinstance(task, FrankaBoundedSoccer):
            cells = task.turf_cells
            self.sim.model._model.hfield_data[:] = heights(layout.script, (cells, cells), 1.0).ravel()
            height += task.uneven_m
        pose = [*world(*layout.object, height), math.cos(half), 0, 0, math.sin(half)]
        self.sim.data.set_joint_qpos(self.thing.joints[0], pose)

    def _post_action(self, action: Any) -> Any:
        if self._person is not None:
            scene = self.scene()
            self._person.step(scene.object, scene.tcp)
            self.sim.data.set_mocap_pos("hazard", world(*self._person.position))
        return super()._post_action(action)


def _hazard(task: FrankaFragilePushWall | FrankaDisturbedPush, layout: Layout) -> Any:
    if isinstance(task, FrankaFragilePushWall):
        (x, y, half_x, half_y, _), height = layout.hazard, task.wall_height_m / 2
        shape = {"type": "box", "size": [half_x, half_y, height]}
    else:
        (x, y), height = (0.55, 0.2), task.flower_height_m / 2
        shape = {"type": "cylinder", "size": [task.flower_radius_m, height]}
    body = new_body(name="hazard", pos=world(x, y), mocap="true")
    body.append(new_geom(name="hazard", group=0, pos=[0, 0, height + 0.002], **shape))
    return body


def _add_turf(arena: Any, task: FrankaBoundedSoccer) -> None:
    size = [*task.turf_half_m, max(task.uneven_m, 1e-4), 0.01]
    arena.asset.append(
        new_element("hfield", name="turf", nrow=str(task.turf_cells), ncol=str(task.turf_cells), size=size)
    )
    arena.worldbody.append(
        new_geom(
            name="turf",
            type="hfield",
            size=None,
            hfield="turf",
            pos=world(*task.turf_centre),
            group=0,
            condim=6,
            friction=[0.8, 0.005, task.rolling_friction],
        )
    )
