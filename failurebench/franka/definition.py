"""What every Franka task has in common: the finger, the workspace, the spaces, the reference that commands move.

Nothing here knows a simulator or a robot: a definition is a frozen dataclass, judged on snapshots (``Scene``).
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from failurebench.experts import Expert
from failurebench.franka.geometry import Vec2
from failurebench.franka.scene import Layout, Scene

Segment = tuple[tuple[float, float, float], tuple[float, float, float]]
Range = tuple[float, float]

CONTROL_HZ = 10
"""commands per second"""

FINGER_RADIUS_M = 0.012
"""of the rigid upright finger that the hand holds"""

FINGER_LENGTH_M = 0.18
"""from the flange to the finger's tip"""

FINGER_HEIGHT_M = 0.02
"""height of the tip over the table, held throughout"""

FURTHEST_M = 2.0
"""bound of positions in observations; nothing on the table is as far"""

FASTEST_MPS = 2.0
STRONGEST_N = 100.0
OLDEST_S = 10.0

OBSERVED = ("state", "points")

MAX_DELAY = 2
"""control steps that a command may be late at most"""

ALL_AROUND = 4.0
"""a box's sides look alike: what can be known of its yaw are cosine and sine of four times the angle"""


@dataclass(frozen=True)
class FrankaTask(ABC):
    """The fields are the task's keyword arguments; those from ``action_delay`` on matter to simulated backends only."""

    start_range: str = "narrow"
    """``narrow`` jitters one start and keeps one goal, ``full`` draws both from wider ranges"""

    randomize_hazard: bool = False
    """the hazard stands, or is, a little different in every episode"""

    action_delay: int = 0
    """control steps from a command to its effect, 0 to 2"""

    object_noise_m: float = 0.0
    """standard deviation of the estimated positions of object and obstacle, each axis"""

    object_dropout: float = 0.0
    """probability at every control step that object and obstacle are not seen: the last estimate stays, and ages"""

    actuator_gain: float = 1.0
    """share of a commanded displacement that the reference really moves"""

    observe: str = "state"
    """``state`` shows estimates of where things are, ``points`` what a depth camera sees of them"""

    depth_noise_m: float = 0.0
    """standard deviation of each of those points along its ray"""

    name: ClassVar[str]
    """stamped into saved states and bundles of sizes"""

    failure_type: ClassVar[str]
    details: ClassVar[tuple[str, ...]] = ()
    """every ``info["failure_detail"]`` there may be, apart from none"""

    experts: ClassVar[dict[str, Callable[[], Expert]]]
    starts: ClassVar[dict[str, tuple[Range, Range]]]
    """x and y of the object at the start, by range"""

    fields: ClassVar[dict[str, tuple[float, float]]]
    """every number of the observation by name: its bounds, in its order"""

    step_m: ClassVar[float] = 0.015
    """displacement of the reference by a full command: 0.15 m/s"""

    lead_m: ClassVar[float] = 0.04
    """the reference is at most this far ahead of the finger: what holds the finger is pressed no harder for being pressed longer"""

    workspace: ClassVar[tuple[Range, Range]] = ((0.34, 0.74), (-0.26, 0.26))
    """x and y of the reference"""

    hand_start: ClassVar[Vec2] = (0.36, 0.0)

    def __post_init__(self) -> None:
        self._check()

    @abstractmethod
    def layout(self, rng: np.random.Generator) -> Layout:
        """Draw an episode."""

    @abstractmethod
    def margin(self, scene: Scene, layout: Layout) -> float:
        """Metres to failure; at or below zero is a failure."""

    @abstractmethod
    def reached(self, scene: Scene, layout: Layout) -> bool:
        """Whether the object is where it should be."""

    @abstractmethod
    def remaining(self, scene: Scene, layout: Layout) -> float:
        """Metres that the object has still to go."""

    @abstractmethod
    def outline(self, layout: Layout) -> list[Segment]:
        """Lines that show the hazard in pictures."""

    @abstractmethod
    def row(self, scene: Scene, layout: Layout) -> list[float]:
        """The numbers of ``fields``, from what is seen."""

    def detail(self, scene: Scene, layout: Layout) -> str:
        """Which of the ways to fail this is; empty where there is one only."""
        return ""

    def reward(self, scene: Scene, layout: Layout) -> float:
        """Between 0 and 1: 1 at the goal, 0.8 for the share of the way that is done, 0.2 for the finger being at the object."""
        if self.reached(scene, layout):
            return 1.0
        way = self.remaining(self._begun(layout), layout)
        done = 1.0 - min(self.remaining(scene, layout) / way, 1.0)
        near = math.exp(-max(math.dist(scene.tcp, scene.object) - 0.04, 0.0) / 0.1)
        return 0.8 * done + 0.2 * near

    def observation_space(self) -> Box:
        """Finite float32 numbers, those of ``fields``."""
        low, high = (np.array(side, np.float32) for side in zip(*self.fields.values(), strict=True))
        return Box(low, high, dtype=np.float32)

    def action_space(self) -> Box:
        """Displacement of the finger's reference along x and y; height and orientation are held."""
        return Box(-1.0, 1.0, (2,), np.float32)

    def observation(self, scene: Scene, layout: Layout) -> NDArray[np.float32]:
        """What a policy sees of a snapshot: a fresh array, within the bounds."""
        low, high = zip(*self.fields.values(), strict=True)
        return np.clip(self.row(scene, layout), low, high).astype(np.float32)

    def advance(self, reference: Vec2, tcp: Vec2, action: Vec2) -> Vec2:
        """Where a command moves the reference.

        It is integrated from what was commanded before, not from where the finger is: that would sag and drift under contact.
        It stays in the workspace and, where the finger is held back, within ``lead_m`` of it.
        """
        scale = self.step_m * self.actuator_gain
        x, y = reference[0] + scale * action[0], reference[1] + scale * action[1]
        (x_low, x_high), (y_low, y_high) = self.workspace
        x, y = min(max(x, x_low), x_high), min(max(y, y_low), y_high)
        ahead = math.hypot(x - tcp[0], y - tcp[1])
        if ahead > self.lead_m:
            share = self.lead_m / ahead
            x, y = tcp[0] + share * (x - tcp[0]), tcp[1] + share * (y - tcp[1])
        return x, y

    def expert(self, kind: str) -> Expert:
        """Build the scripted behaviour of that kind; ``reset`` it before use."""
        if kind not in self.experts:
            raise ValueError(f"unknown expert {kind!r}; this task has {', '.join(self.experts)}")
        return self.experts[kind]()

    def _begun(self, layout: Layout) -> Scene:
        return Scene(self.hand_start, (0.0, 0.0), layout.object, layout.yaw)

    def _check(self) -> None:
        if self.start_range not in self.starts:
            raise ValueError(f"start_range is {self.start_range!r}; the choices are {', '.join(self.starts)}")
        if not isinstance(self.randomize_hazard, bool):
            raise ValueError(f"randomize_hazard is {self.randomize_hazard!r}; give True or False")
        whole = isinstance(self.action_delay, int) and not isinstance(self.action_delay, bool)
        if not whole or not 0 <= self.action_delay <= MAX_DELAY:
            raise ValueError(f"action_delay is {self.action_delay!r}; give 0 to {MAX_DELAY} control steps")
        self._check_number("object_noise_m", 0.0, 0.05, "metres")
        self._check_number("object_dropout", 0.0, 0.95, "a probability")
        self._check_number("actuator_gain", 0.1, 2.0, "a share of the commanded displacement")
        if self.observe not in OBSERVED:
            raise ValueError(f"observe is {self.observe!r}; the choices are {', '.join(OBSERVED)}")
        self._check_number("depth_noise_m", 0.0, 0.05, "metres")

    def _check_number(self, name: str, low: float, high: float, what: str) -> None:
        """Refuse what is no number between ``low`` and ``high``; keep it as a plain float."""
        value: Any = getattr(self, name)
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"{name} is {value!r}; give {what}, {low:g} to {high:g}")
        object.__setattr__(self, name, float(value))

    def _draw_start(self, rng: np.random.Generator) -> Vec2:
        (x_low, x_high), (y_low, y_high) = self.starts[self.start_range]
        return float(rng.uniform(x_low, x_high)), float(rng.uniform(y_low, y_high))


POSITION, VELOCITY = (-FURTHEST_M, FURTHEST_M), (-FASTEST_MPS, FASTEST_MPS)
COSINE = (-1.0, 1.0)

ARM = {
    "finger x": POSITION,
    "finger y": POSITION,
    "finger velocity x": VELOCITY,
    "finger velocity y": VELOCITY,
    "contact force": (0.0, STRONGEST_N),
}
"""the numbers that every observation begins with"""

SIGHT = {
    "object x": POSITION,
    "object y": POSITION,
    "object velocity x": VELOCITY,
    "object velocity y": VELOCITY,
    "age of the estimate": (0.0, OLDEST_S),
}
"""the numbers that come next"""

YAW = {"cosine of 4 yaw": COSINE, "sine of 4 yaw": COSINE}


def seen(scene: Scene) -> list[float]:
    """The numbers of ``ARM`` and ``SIGHT``."""
    arm = [*scene.tcp, *scene.tcp_velocity, scene.force_n]
    return [*arm, *scene.object, *scene.object_velocity, scene.age_s]


def turned(scene: Scene) -> list[float]:
    """The numbers of ``YAW``."""
    return [math.cos(ALL_AROUND * scene.yaw), math.sin(ALL_AROUND * scene.yaw)]
