"""The furniture of an episode, moved and judged: objects where the layout drew them, the person's ways, the turf."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.furniture import HAZARD, OBJECT
from failurebench.franka.geometry import Vec2
from failurebench.franka.person import Person
from failurebench.franka.scene import Layout, Scene
from failurebench.franka.sensing import planar_yaw
from failurebench.franka.soccer import FrankaBoundedSoccer
from failurebench.franka.turf import beneath, heights
from robots.twin.world import FINGER, TIP

LOOK_TICKS = 20
"""milliseconds from one look at margin and person to the next, the robosuite twin's"""

STRONGEST_N = 500.0
"""of a push"""

REMEMBERED_S = 10.0
"""how far back a margin can be asked for"""


class Look(NamedTuple):
    """What was judged at one moment."""

    time: float
    """``time.monotonic()``"""
    margin: float
    detail: str


class Stage:
    """Everything on the table of one simulation.

    Args:
        task: the definition that draws and judges.
        model, data: of the running simulation.
    """

    layout: Layout

    def __init__(self, task: FrankaTask, model: Any, data: Any) -> None:
        self.task, self.model, self.data = task, model, data
        self.force_n = 0.0
        self._tip, self._hand = model.site(TIP).id, model.body(FINGER).id
        joint = model.joint(OBJECT)
        self._position, self._speed = int(joint.qposadr[0]), int(joint.dofadr[0])
        mocap = [int(model.body(body).mocapid[0]) for body in range(model.nbody) if model.body(body).name == HAZARD]
        self._hazard = mocap[0] if mocap else None
        self._person: Person | None = None
        self._pushes: dict[int, int] = {}
        self._ticks, self._looks = 0, deque[Look](maxlen=round(REMEMBERED_S * 1000 / LOOK_TICKS))

    def reset(self, seed: int) -> None:
        """Draw an episode as the robosuite twin does for ``env.reset(seed=seed)``; the arm stays where it is."""
        task, data = self.task, self.data
        layout = self.layout = task.layout(np.random.default_rng(seed))
        if isinstance(task, FrankaDisturbedPush):
            self._person = Person(layout.script, task.habits(layout), LOOK_TICKS / 1000)
        if isinstance(task, FrankaBoundedSoccer):
            ground = heights(layout.script, (task.turf_cells, task.turf_cells), 1.0)
            self.model.hfield_data[:] = ground.ravel()
        half = layout.yaw / 2.0
        pose = (*layout.object, self._height(), math.cos(half), 0.0, 0.0, math.sin(half))
        data.qpos[self._position : self._position + 7] = pose
        data.qvel[self._speed : self._speed + 6] = 0.0
        self._move_hazard()
        self._looks.clear()
        self._judge(self.scene())

    def tick(self) -> None:
        """Every millisecond, before the physics; the person moves and the margin is looked at every twentieth time."""
        for body, until in list(self._pushes.items()):
            if self._ticks >= until:
                self.data.xfrc_applied[body] = 0.0
                del self._pushes[body]
        if self._ticks % LOOK_TICKS == 0:
            self._look()
        self._ticks += 1

    def push(self, body: str, force: list[float], seconds: float) -> None:
        """Press on the ``object`` or the ``finger``, at its centre of mass, with a force in newtons along x, y, z.

        Whatever pressed on it before no longer does.
        """
        x, y, z = (float(part) for part in force)
        if not all(map(math.isfinite, (x, y, z, seconds))) or math.hypot(x, y, z) > STRONGEST_N or seconds < 0.0:
            raise ValueError(f"{force} N for {seconds} s; give up to {STRONGEST_N:g} N and a time")
        number = int(self.model.body({"object": OBJECT, "finger": FINGER}[body]).id)
        self.data.xfrc_applied[number, :3] = x, y, z
        self._pushes[number] = self._ticks + round(1000 * seconds)

    def scene(self) -> Scene:
        """The truth, now."""
        data, person = self.data, self._person
        x, y, _ = data.site_xpos[self._tip].tolist()
        qpos, qvel = data.qpos[self._position :], data.qvel[self._speed :]
        ox, oy = qpos[:2].tolist()
        vx, vy = qvel[:2].tolist()
        return Scene(
            (x, y),
            self._tip_velocity(),
            (ox, oy),
            planar_yaw(qpos[3:7].tolist()),
            (vx, vy),
            (0.0, 0.0) if person is None else person.position,
            (0.0, 0.0) if person is None else person.velocity,
            self.force_n,
        )

    def nearest(self, since: float) -> Look:
        """The look with the smallest margin since a ``time.monotonic()``; the last one where there is none since."""
        looks = [look for look in self._looks if look.time >= since] or [self._looks[-1]]
        return min(looks, key=lambda look: look.margin)

    def _look(self) -> None:
        scene = self.scene()
        if self._person is not None:
            self._person.step(scene.object, scene.tcp)
            self._move_hazard()
            scene = self.scene()
        self._judge(scene)

    def _judge(self, scene: Scene) -> None:
        margin, detail = self.task.margin(scene, self.layout), self.task.detail(scene, self.layout)
        self._looks.append(Look(time.monotonic(), margin, detail))

    def _move_hazard(self) -> None:
        if self._hazard is not None:
            at = self.layout.hazard[:2] if self._person is None else self._person.position
            self.data.mocap_pos[self._hazard, :2] = at

    def _tip_velocity(self) -> Vec2:
        data, tip = self.data, self._tip
        turn, move = data.cvel[self._hand, :3], data.cvel[self._hand, 3:]
        root = data.subtree_com[self.model.body_rootid[self._hand]]
        vx, vy, _ = (move + np.cross(turn, data.site_xpos[tip] - root)).tolist()
        return vx, vy

    def _height(self) -> float:
        """Of the object's centre at the start, m."""
        task = self.task
        if not isinstance(task, FrankaBoundedSoccer):
            return float(self.model.geom(OBJECT).size[2])
        ground = self.model.hfield_data.reshape(task.turf_cells, task.turf_cells)
        highest = beneath(ground, self.layout.object, task.turf_centre, task.turf_half_m)
        return task.ball_radius_m + max(task.uneven_m, 1e-4) * highest
