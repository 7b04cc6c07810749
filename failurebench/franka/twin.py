"""An episode of a Franka task on the robosuite twin: the definition's snapshots come from MuJoCo."""

from __future__ import annotations

import functools
import math
from dataclasses import fields, replace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from failurebench.franka import points
from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.furniture import GOAL, HAZARD, OBJECT, furnish
from failurebench.franka.geometry import Vec2
from failurebench.franka.panda import RENEW_STEPS, TICKS, TIMESTEP_S, Panda, World, build
from failurebench.franka.person import Person
from failurebench.franka.scene import Layout, Scene
from failurebench.franka.sensing import Camera, planar_yaw
from failurebench.franka.soccer import FrankaBoundedSoccer
from failurebench.franka.turf import beneath, heights
from failurebench.judged import Judged, Protocol, State, Widths

TICK_S = RENEW_STEPS * TIMESTEP_S
"""between two looks at margin, contact and person"""

_SENSED = {
    "action_delay",
    "object_noise_m",
    "object_dropout",
    "actuator_gain",
    "start_range",
    "randomize_hazard",
    "observe",
    "depth_noise_m",
}
"""options that change no model"""


def load_world(task: FrankaTask) -> World:
    """The task's compiled scene, once per process (about half a second); tasks that differ in no body share it."""
    plain: dict[str, Any] = {field.name: field.default for field in fields(task) if field.name in _SENSED}
    return _load(replace(task, **plain))


@functools.cache
def _load(task: FrankaTask) -> World:
    return build(lambda spec: furnish(task, spec), task.hand_start)


class TwinEpisode(Judged):
    """One arm, one task, one running episode."""

    task: FrankaTask
    layout: Layout
    scene: Scene
    """what is, at the end of the last step"""

    seen: Scene
    """what the camera makes of it"""

    def __init__(self, task: FrankaTask, protocol: Protocol) -> None:
        super().__init__(task, protocol)
        self.panda = Panda(load_world(task))
        model, data = self.panda.model, self.panda.data
        joint = model.joint(OBJECT)
        self._pose = data.qpos[int(joint.qposadr[0]) : int(joint.qposadr[0]) + 7]
        self._velocity = data.qvel[int(joint.dofadr[0]) : int(joint.dofadr[0]) + 6]
        self._hazard = _moved(model, data)
        self._person: Person | None = None
        self._ground: NDArray[np.float32] | None = None
        self._points = np.zeros((points.POINTS if task.observe == "points" else 0, 3), np.float32)

    @classmethod
    def widths(cls, task: FrankaTask) -> Widths:
        """Two displacements; the definition's fields, or what is told of them and points."""
        numbers = len(points.told(task)) + 3 * points.POINTS if task.observe == "points" else len(task.fields)
        return Widths(2, numbers, max(map(len, (task.failure_type, *task.details))))

    @property
    def model(self) -> Any:
        """The scene's."""
        return self.panda.model

    @property
    def data(self) -> Any:
        """The arm's."""
        return self.panda.data

    def begin(self, rng: np.random.Generator) -> None:
        """Start an episode that ``rng`` alone decides."""
        self._set_layout(self.task.layout(rng))
        panda, layout = self.panda, self.layout
        panda.reset()
        half = layout.yaw / 2.0
        self._pose[:] = (*layout.object, self._height(), math.cos(half), 0.0, 0.0, math.sin(half))
        self._place_hazard()
        self._on_ground()
        panda.settle()
        self.reference = self.task.hand_start
        self._late = [(0.0, 0.0)] * self.task.action_delay
        self.scene = self._snapshot(0.0)
        self._look()
        self.steps, self.failed = 0, False
        self.nothing_happened(self.task.margin(self.scene, layout))

    def step(self, *move: float) -> None:
        """One agent step: displacement of the reference in x and y, in units of the task's full command."""
        protocol, task, layout = self.protocol, self.task, self.layout
        self._on_ground()
        reward, margin, success, failure = 0.0, math.inf, False, False
        for _ in range(protocol.action_repeat):
            self._late.append((move[0], move[1]))
            nearest = self._control_step(self._late.pop(0))
            reward += task.reward(self.scene, layout)
            margin, failure = min(margin, nearest), nearest <= 0.0
            success = success or task.reached(self.scene, layout)
            self._look()
            if failure and protocol.terminate_on_failure:
                break
        self.judge(reward, margin, success, failure)

    def observation(self) -> NDArray[np.float32]:
        """What the definition shows of what is seen; with points, what is told of it and then they."""
        shown = self.expert_view()
        return np.append(shown[points.told(self.task)], self._points) if len(self._points) else shown

    def expert_view(self) -> NDArray[np.float32]:
        """What demonstrators see, who know where things are also where a policy has to look for itself."""
        return self.task.observation(self.seen, self.layout)

    def detail(self) -> str:
        """Which way of failing the nearest tick of the last step shows."""
        return self._detail

    def outline(self) -> list[Any]:
        """The task's, for this layout."""
        return list(self.task.outline(self.layout))

    def dress(self, model: Any, data: Any) -> None:
        """The goal's marker and this episode's ground."""
        data.site(GOAL).xpos = (*self.layout.goal, 0.002)
        if self._ground is not None:
            model.hfield_data[:] = self._ground

    def get_state(self) -> State:
        """The whole episode: physics, layout, reference, commands on their way, camera, person, counters."""
        layout = self.layout
        return {
            "task": self.task.name,
            "mujoco": mujoco.__version__,
            "physics": self.panda.get_state(),
            "start": np.array([*layout.object, layout.yaw]),
            "goal": np.array(layout.goal),
            "hazard": np.array(layout.hazard),
            "script": layout.script,
            "reference": np.array(self.reference),
            "late": np.array(self._late).reshape(-1, 2),
            "camera": self._camera.get_state(),
            "person": np.zeros(0) if self._person is None else self._person.get_state(),
            "force": self.scene.force_n,
            "steps": self.steps,
            "failed": self.failed,
            **({"points": self._points.copy()} if len(self._points) else {}),
        }

    def set_state(self, state: State) -> None:
        """Continue from a saved state, bit for bit.

        Raises:
            ValueError: the state is another task's, another MuJoCo version's, or not a state.
        """
        keys = {
            "start",
            "goal",
            "hazard",
            "script",
            "reference",
            "late",
            "camera",
            "person",
            "force",
            "steps",
            "failed",
            *(["points"] if len(self._points) else []),
        }
        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        self.require(state, keys, (size,))
        x, y, yaw = state["start"].tolist()
        goal_x, goal_y = state["goal"].tolist()
        self._set_layout(Layout((x, y), yaw, (goal_x, goal_y), tuple(state["hazard"].tolist()), int(state["script"])))
        self._on_ground()
        self.panda.set_state(state["physics"])
        ahead = state["reference"].tolist()
        self.reference, self._late = (ahead[0], ahead[1]), [(dx, dy) for dx, dy in state["late"].tolist()]
        self._camera.set_state(state["camera"])
        if self._person is not None:
            self._person.set_state(state["person"])
        self.scene = self._snapshot(float(state["force"]))
        self.seen = self._camera.again(self.scene)
        if len(self._points):
            self._points = state["points"].copy()
        self.steps, self.failed = int(state["steps"]), bool(state["failed"])
        self.nothing_happened(self.task.margin(self.scene, self.layout))

    def _look(self) -> None:
        """The camera's next picture; one that shows nothing new leaves estimate and points as they were."""
        self.seen = self._camera.look(self.scene)
        if len(self._points) and self._camera.age == 0:
            draw = [self.layout.script, self._camera.looks, 1]
            self._points = points.look(self.model, self.data, self.task.depth_noise_m, draw)

    def _control_step(self, command: Vec2) -> float:
        """A tenth of a second; returns the smallest margin met on the way, m."""
        panda, task = self.panda, self.task
        self.reference = task.advance(self.reference, panda.tcp, command)
        nearest, pressed = math.inf, 0.0
        for _ in range(TICKS):
            pressed += panda.hold(self.reference)
            if self._person is not None:
                self._person.step(_xy(self._pose), panda.tcp)
                self._hazard[:2] = self._person.position
            self.scene = self._snapshot(pressed / TICKS)
            margin = task.margin(self.scene, self.layout)
            if margin < nearest:
                nearest, self._detail = margin, task.detail(self.scene, self.layout)
        return nearest

    def _snapshot(self, force: float) -> Scene:
        panda, person = self.panda, self._person
        vx, vy = self._velocity[:2].tolist()
        return Scene(
            panda.tcp,
            panda.tcp_velocity,
            _xy(self._pose),
            planar_yaw(self._pose[3:].tolist()),
            (vx, vy),
            (0.0, 0.0) if person is None else person.position,
            (0.0, 0.0) if person is None else person.velocity,
            force,
        )

    def _set_layout(self, layout: Layout) -> None:
        """What follows from the layout alone."""
        self.layout, self.begun, self._detail = layout, True, ""
        task = self.task
        self._camera = Camera(task.object_noise_m, task.object_dropout, layout.script)
        if isinstance(task, FrankaDisturbedPush):
            self._person = Person(layout.script, task.habits(layout), TICK_S)
        if isinstance(task, FrankaBoundedSoccer):
            ground = heights(layout.script, (task.turf_cells, task.turf_cells), 1.0)
            self._ground = ground.ravel().astype(np.float32)

    def _place_hazard(self) -> None:
        if self._person is not None:
            self._hazard[:2] = self._person.position
        elif len(self._hazard):
            self._hazard[:2] = self.layout.hazard[:2]

    def _on_ground(self) -> None:
        """Environments share one model; the ground under their balls differs."""
        if self._ground is not None:
            self.model.hfield_data[:] = self._ground

    def _height(self) -> float:
        """Of the object's centre at the start, m."""
        task = self.task
        if not isinstance(task, FrankaBoundedSoccer):
            return float(self.model.geom(OBJECT).size[2])
        assert self._ground is not None
        ground = self._ground.reshape(task.turf_cells, task.turf_cells)
        highest = beneath(ground, self.layout.object, task.turf_centre, task.turf_half_m)
        return task.ball_radius_m + max(task.uneven_m, 1e-4) * highest


def _moved(model: Any, data: Any) -> Any:
    """The position of the hazard's body, an empty array where the task has none."""
    for body in range(model.nbody):
        if model.body(body).name == HAZARD:
            return data.mocap_pos[int(model.body(body).mocapid[0])]
    return np.zeros(0)


def _xy(pose: Any) -> Vec2:
    x, y = pose[:2].tolist()
    return x, y
