"""The same markers in a simulated scene, printed on plates that are as thin as paper."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from robots.perception.markers import MarkedConfig, MarkerConfig, modules, picture

MARGIN = 1.0
"""white around the black square, in its modules: less is not detected on a dark object"""

PIXELS = 32
"""of the texture, per module"""

LIFT_M = 0.0002
"""in front of the face it is glued to, so that the two do not flicker through each other"""


def add_plates(spec: Any, body: Any, marked: MarkedConfig, dictionary: str, origin_z_m: float) -> None:
    """Glue an object's markers to its body in an ``MjSpec``; they are seen and touch nothing.

    Args:
        spec: the model.
        body: the object's ``MjSpec`` body.
        marked: which markers, where.
        dictionary: as for ``Detector``.
        origin_z_m: height of the body's origin over the table when the object stands on it.
    """
    for marker in marked.markers:
        name = f"marker {marker.id}"
        _add_print(spec, name, dictionary, marker.id)
        _add_sheet(spec, name, marker, dictionary)
        placed = marker.placed()
        at = placed.translation - [0.0, 0.0, origin_z_m] + LIFT_M * placed.rotation[:, 2]
        turn = np.empty(4)
        mujoco.mju_mat2Quat(turn, placed.rotation.ravel())
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            material=name,
            pos=at,
            quat=turn,
            contype=0,
            conaffinity=0,
            mass=0.0,
        )


def _add_print(spec: Any, name: str, dictionary: str, id: int) -> None:
    side = modules(dictionary)
    black = picture(dictionary, id, side * PIXELS)
    white = np.pad(black, round(MARGIN * PIXELS), constant_values=255)
    rgb = np.repeat(white[:, :, None], 3, axis=2)
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=rgb.shape[1], height=rgb.shape[0], nchannel=3)
    texture.data = rgb.tobytes()
    material = spec.add_material(name=name, specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_sheet(spec: Any, name: str, marker: MarkerConfig, dictionary: str) -> None:
    """A flat mesh: a box has no say in how its faces are textured."""
    side = modules(dictionary)
    half = marker.size_m * (side + 2 * MARGIN) / side / 2.0
    deep = -1e-4
    front = [[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]]
    behind = [[x, y, deep] for x, y, _ in front]
    faces = [[0, 1, 2], [0, 2, 3], [4, 6, 5], [4, 7, 6]]
    for k in range(4):
        after = (k + 1) % 4
        faces += [[k, k + 4, after], [after, k + 4, after + 4]]
    coordinates = [[0, 1], [1, 1], [1, 0], [0, 0]] * 2
    spec.add_mesh(
        name=name,
        uservert=np.array(front + behind, float).ravel(),
        userface=np.array(faces, int).ravel(),
        usertexcoord=np.array(coordinates, float).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
