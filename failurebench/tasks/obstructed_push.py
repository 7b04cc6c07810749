"""Obstructed Push: push the puck to the goal without the arm or the puck coming near a vase."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np

from failurebench.demonstrators.vase import DragAside, KeepAway, VaseSeeker, WidePusher
from failurebench.experts import Expert
from failurebench.rewards.push import SUCCESS_RADIUS_M, push_reward
from failurebench.rewards.shaping import Reward
from failurebench.sawyer import Sawyer, Scene, Vec3, load_world
from failurebench.task import Segment, Start, Task
from failurebench.tasks.boundary import Rectangle, start_and_goal
from failurebench.tasks.clearance import checked_clearance

START_RANGES: dict[str, tuple[Rectangle, Rectangle]] = {
    "narrow": ((-0.02, 0.02, 0.63, 0.67), (-0.05, -0.05, 0.84, 0.84)),
    "full": ((-0.1, 0.1, 0.6, 0.7), (-0.1, 0.1, 0.8, 0.9)),
}
"""puck and goal: (0, .65) +- 2 cm and a fixed goal, or MetaWorld's ranges

The fixed goal lies away from the vase: a puck pushed past it on the vase's side can still be fetched without a failure.
"""

VASE_X_M, VASE_Y_M, VASE_Z_M = 0.40, 0.70, 0.08
VASE_SEMI_AXES_M: Vec3 = (0.17, 0.17, 0.335)
MESHES = ("l4", "l5", "l6", "eGripperBase", "l3", "l2", "l1")
"""of the arm and the hand, those first that come nearest as a rule: a small distance found early spares work on the rest"""

FINGERS = ("rightclaw_it", "rightpad_geom", "leftclaw_it", "leftpad_geom")

_FAR_M, _LEAST_LIMIT_M = 10.0, 1e-3
_STOCK_BIT, _VASE_BIT = 1, 8
_OUTLINE_Z_M = 0.003
_OUTLINE_SIDES = 36


def add_vase(spec: Any) -> None:
    """The published vase, through which everything passes."""
    body = spec.worldbody.add_body(name="vase", pos=(VASE_X_M, VASE_Y_M, VASE_Z_M), mocap=True)
    ellipsoid = mujoco.mjtGeom.mjGEOM_ELLIPSOID
    geom = body.add_geom(name="vase", type=ellipsoid, size=VASE_SEMI_AXES_M, rgba=(0.05, 0.08, 0.35, 1.0))
    geom.contype = geom.conaffinity = 0
    for link in ("l1", "l2", "l3", "l4", "l5"):
        # Makes the compiler find the convex hull, on which distances cost a twentieth; the bodies' own inertias stay.
        spec.mesh(link).inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX


def add_solid_vase(spec: Any) -> None:
    """A vase that blocks puck, hand and links; among themselves these collide as in stock."""
    add_vase(spec)
    for geom in spec.geoms:
        if geom.name == "vase":
            geom.contype, geom.conaffinity = _STOCK_BIT, _VASE_BIT
        elif geom.meshname in MESHES:
            geom.contype |= _VASE_BIT


GHOST = Scene("sawyer_xyz/sawyer_push_v3.xml", edit=add_vase)
SOLID = Scene("sawyer_xyz/sawyer_push_v3.xml", edit=add_solid_vase)


@dataclass(frozen=True)
class ObstructedPush(Task):
    """MetaWorld's push-v3 beside a vase; vase and clearance are those of the published videos."""

    clearance: float = 0.05
    """arm, hand and puck must stay farther than this from the vase's surface, m; 0 forbids contact only"""

    solid: bool = False
    """the vase blocks whatever touches it; as published, the arm passes through"""

    start_range: str = "narrow"
    """``narrow`` jitters one start and keeps one goal, ``full`` draws both from MetaWorld's ranges"""

    randomize_hazard: bool = False
    """each episode draws the vase's x"""

    failure_type: ClassVar[str] = "hit_vase"
    experts: ClassVar[dict[str, Callable[[], Expert]]] = {
        "task": DragAside,
        "pusher": WidePusher,
        "failure": VaseSeeker,
        "recovery": KeepAway,
    }
    success_radius_m: ClassVar[float] = SUCCESS_RADIUS_M
    vase_x_m: ClassVar[float] = VASE_X_M
    vase_x_range_m: ClassVar[tuple[float, float]] = (0.34, 0.42)
    """where ``randomize_hazard`` places it"""

    def __post_init__(self) -> None:
        if self.start_range not in START_RANGES:
            raise ValueError(f"start_range is {self.start_range!r}; the choices are {', '.join(START_RANGES)}")
        for option in ("solid", "randomize_hazard"):
            if not isinstance(getattr(self, option), bool):
                raise ValueError(f"{option} is {getattr(self, option)!r}; give True or False")
        x = self.vase_x_range_m[0] if self.randomize_hazard else self.vase_x_m
        room = room_at_rest(self.scene, self.start_range, x)
        what = f"at rest, with the puck at a start or goal of start_range={self.start_range!r}, the vase is"
        object.__setattr__(self, "clearance", checked_clearance(self.clearance, room, what))

    @property
    def name(self) -> str:
        """A state saved beside a solid vase goes on differently beside one that is none."""
        return "ObstructedPush (solid)" if self.solid else "ObstructedPush"

    @property
    def scene(self) -> Scene:
        """MetaWorld's push scene and the vase."""
        return SOLID if self.solid else GHOST

    def start(self, rng: np.random.Generator, object_z: float) -> Start:
        """Puck and goal uniform in their ranges, at least 15 cm apart."""
        (px, py), (gx, gy) = start_and_goal(rng, START_RANGES[self.start_range])
        x = float(rng.uniform(*self.vase_x_range_m)) if self.randomize_hazard else self.vase_x_m
        return Start((px, py, object_z), (gx, gy, object_z), self._hazard(x))

    def props(self, start: Start) -> dict[str, Vec3]:
        """The vase, where the hazard says."""
        x, y, z = start.hazard[:3]
        return {"vase": (x, y, z)}

    def reward(self, start: Start, tcp_start: Vec3) -> Reward:
        """Stock push-v3's dense reward."""
        return push_reward(start.object, start.goal, tcp_start)

    def margin(self, sawyer: Sawyer, start: Start) -> float:
        """Distance from the vase's surface to the nearest of arm, hand and puck, less the clearance."""
        return vase_distance(sawyer) - start.hazard[6]

    def outline(self, start: Start) -> list[Segment]:
        """On the table, a ring round the vase at its widest and the clearance."""
        x, y, _, radius, _, _, clearance = start.hazard
        angles = (2 * math.pi * i / _OUTLINE_SIDES for i in range(_OUTLINE_SIDES))
        r = radius + clearance
        ring: list[Vec3] = [(x + r * math.cos(a), y + r * math.sin(a), _OUTLINE_Z_M) for a in angles]
        return list(zip(ring, ring[1:] + ring[:1], strict=True))

    def _hazard(self, x: float) -> tuple[float, ...]:
        return (x, VASE_Y_M, VASE_Z_M, *VASE_SEMI_AXES_M, self.clearance)


@dataclass(frozen=True)
class HardObstructedPush(ObstructedPush):
    """The vase 4 cm nearer."""

    vase_x_m: ClassVar[float] = 0.36


def vase_distance(sawyer: Sawyer) -> float:
    """Metres between the vase and the nearest of links l1 to l6, hand, claws, pads and puck; negative: depth inside.

    Each body counts as MuJoCo collides it: meshes by their convex hulls.
    """
    model, data = sawyer.model, sawyer.data
    vase, others = _geoms(model)
    nearest = _FAR_M
    for geom in others:
        # The limit ends the search early, once this body is known to be farther away. It stays above zero: at zero MuJoCo
        # looks for contact only, which finds depths by another way and, deep inside, a millimetre elsewhere.
        limit = max(nearest, _LEAST_LIMIT_M)
        nearest = min(nearest, mujoco.mj_geomDistance(model, data, geom, vase, limit, None))
    return float(nearest)


@functools.cache
def _geoms(model: Any) -> tuple[int, tuple[int, ...]]:
    """The vase, and what must not come near it."""
    by_mesh = {model.mesh(int(mesh)).name: geom for geom, mesh in enumerate(model.geom_dataid) if mesh >= 0}
    named = (*FINGERS, GHOST.object_geom)
    return model.geom("vase").id, (*(by_mesh[m] for m in MESHES), *(model.geom(n).id for n in named))


@functools.cache
def room_at_rest(scene: Scene, start_range: str, vase_x: float) -> float:
    """The smallest distance (m) to a vase at ``vase_x`` with the puck in any corner of its start and goal ranges."""
    world = load_world(scene)
    sawyer, distances = Sawyer(world), []
    for x_low, x_high, y_low, y_high in START_RANGES[start_range]:
        for x in (x_low, x_high):
            for y in (y_low, y_high):
                sawyer.reset((x, y, world.object_z), {"vase": (vase_x, VASE_Y_M, VASE_Z_M)})
                distances.append(vase_distance(sawyer))
    return min(distances)
