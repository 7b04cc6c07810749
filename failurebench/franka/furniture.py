"""What stands on the table in each task, as parts of a MuJoCo model. Also fit for another arm's scene with the same table."""

from __future__ import annotations

import functools
from typing import Any

import mujoco

from failurebench.franka.definition import FINGER_LENGTH_M, FINGER_RADIUS_M, FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer

OBJECT, HAZARD, GOAL, TURF, CAMERA = "object", "hazard", "goal", "turf", "watch"
"""names of what a task adds: bodies, a site, a height field, a camera"""

DENSITY = 1000.0
"""of the finger, kg/m3"""

SLIPPERY = 0.3
"""friction of the finger with whatever it touches; a rough one presses boxes down as the arm sways"""

_BOX, _CYLINDER, _SPHERE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE
_RED, _BLUE, _WHITE, _GREEN = (
    (0.85, 0.15, 0.12, 1.0),
    (0.45, 0.65, 0.9, 1.0),
    (0.95, 0.95, 0.95, 1.0),
    (0.2, 0.6, 0.25, 1.0),
)
_YELLOW, _BROWN, _TURF = (0.98, 0.8, 0.1, 1.0), (0.55, 0.35, 0.2, 1.0), (0.25, 0.5, 0.22, 1.0)
_GOAL_COLOUR = (0.1, 0.8, 0.3, 0.6)


@functools.singledispatch
def furnish(task: FrankaTask, spec: Any) -> None:
    """Add the task's object, hazard, goal marker and camera to an ``MjSpec`` whose table top is at z = 0."""
    raise TypeError(f"nobody has said what {task.name} looks like: register it with furnish")


@furnish.register
def _(task: FrankaFragilePushWall, spec: Any) -> None:
    _box(spec, task.box_half_m, task.box_density)
    _marker(spec)
    half_x, half_y = task.wall_half
    wall = spec.worldbody.add_body(name=HAZARD, mocap=True)
    wall.add_geom(
        name=HAZARD,
        type=_BOX,
        size=[half_x, half_y, task.wall_height_m / 2],
        pos=[0, 0, task.wall_height_m / 2],
        rgba=_BLUE,
    )
    _camera(spec)


@furnish.register
def _(task: FrankaDisturbedPush, spec: Any) -> None:
    _box(spec, task.box_half_m, task.box_density)
    _marker(spec)
    radius, height = task.flower_radius_m, task.flower_height_m
    flower = spec.worldbody.add_body(name=HAZARD, mocap=True)
    flower.add_geom(
        name=HAZARD, type=_CYLINDER, size=[radius, height / 2, 0], pos=[0, 0, height / 2 + 0.002], rgba=_BROWN
    )
    stem = {"contype": 0, "conaffinity": 0, "type": _CYLINDER}
    flower.add_geom(**stem, size=[0.004, 0.06, 0], pos=[0, 0, height + 0.06], rgba=_GREEN)
    blossom = {"contype": 0, "conaffinity": 0, "type": _SPHERE}
    for x, y in ((0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02)):
        flower.add_geom(**blossom, size=[0.016, 0, 0], pos=[x, y, height + 0.125], rgba=_YELLOW)
    flower.add_geom(**blossom, size=[0.013, 0, 0], pos=[0, 0, height + 0.135], rgba=_BROWN)
    _camera(spec)


@furnish.register
def _(task: FrankaBoundedSoccer, spec: Any) -> None:
    ball = spec.worldbody.add_body(name=OBJECT)
    ball.add_freejoint(name=OBJECT)
    friction = [0.8, 0.005, task.rolling_friction]
    ball.add_geom(
        name=OBJECT,
        type=_SPHERE,
        size=[task.ball_radius_m, 0, 0],
        mass=task.ball_mass_kg,
        condim=6,
        friction=friction,
        rgba=_WHITE,
    )
    half_x, half_y = task.turf_half_m
    cells = task.turf_cells
    # MuJoCo scales heights to 0..1; a flat field needs a height all the same.
    heights = [0.0] * (cells * cells)
    spec.add_hfield(
        name=TURF, nrow=cells, ncol=cells, size=[half_x, half_y, max(task.uneven_m, 1e-4), 0.01], userdata=heights
    )
    spec.worldbody.add_geom(
        name=TURF,
        type=mujoco.mjtGeom.mjGEOM_HFIELD,
        hfieldname=TURF,
        pos=[*task.turf_centre, 0.0],
        condim=6,
        friction=friction,
        rgba=_TURF,
    )
    spec.worldbody.add_site(name=GOAL, type=_BOX, size=[0.006, task.lane_half_m, 0.004], rgba=_GOAL_COLOUR)
    _camera(spec)


def add_finger(hand: Any) -> None:
    """A rigid upright finger in the hand: an ``MjSpec`` body gets a capsule, and a site at its tip."""
    finger = hand.add_body(name="finger")
    ends = [0.0, 0.0, 0.0, 0.0, 0.0, FINGER_LENGTH_M - FINGER_RADIUS_M]
    finger.add_geom(
        name="finger",
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=ends,
        size=[FINGER_RADIUS_M, 0.0, 0.0],
        density=DENSITY,
        friction=[SLIPPERY, 0.005, 0.0001],
        priority=1,
        rgba=[0.93, 0.55, 0.15, 1.0],
    )
    finger.add_site(name="tcp", pos=[0.0, 0.0, FINGER_LENGTH_M], group=4)


def _box(spec: Any, half: float, density: float) -> None:
    body = spec.worldbody.add_body(name=OBJECT, pos=[0, 0, half])
    body.add_freejoint(name=OBJECT)
    body.add_geom(name=OBJECT, type=_BOX, size=[half] * 3, density=density, rgba=_RED)


def _marker(spec: Any) -> None:
    spec.worldbody.add_site(name=GOAL, type=_CYLINDER, size=[0.03, 0.001, 0], rgba=_GOAL_COLOUR)


def _camera(spec: Any) -> None:
    """From the left, behind the goal and above: robot, object, hazard and goal are in the picture."""
    eye, target = (1.08, 0.44, 0.56), (0.52, 0.0, 0.07)
    spec.worldbody.add_camera(name=CAMERA, pos=eye, fovy=38, quat=_looking(eye, target))


def _looking(eye: tuple[float, float, float], target: tuple[float, float, float]) -> Any:
    """The quaternion of a camera at ``eye`` that looks at ``target``, upright."""
    import numpy as np

    back = np.subtract(eye, target)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(back, right), back], axis=1)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, turn.ravel())
    return quaternion
