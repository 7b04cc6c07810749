"""What a task is: a scene, a start, a reward, a margin to failure, and experts. One file per task in ``tasks``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from failurebench.experts import Expert
from failurebench.rewards.shaping import Reward
from failurebench.sawyer import Sawyer, Scene, Vec3

Segment = tuple[Vec3, Vec3]

TIPPED = "tipped"
"""``info["failure_detail"]`` of an object that no longer stands"""

_STANDING = 0.7
"""cosine of the angle between an object's axis and the vertical, below which it has tipped over (45 degrees)"""


class Start(NamedTuple):
    """Where an episode begins, metres."""

    object: Vec3
    goal: Vec3
    hazard: tuple[float, ...]
    """at most 7 numbers that say where the hazard is, shown in the observation's spare slots"""


class Task(ABC):
    """The definition of a task; a frozen dataclass whose fields are the task's keyword arguments."""

    failure_type: ClassVar[str]
    """``info["failure_type"]`` of a failing step"""

    experts: ClassVar[dict[str, Callable[[], Expert]]]
    """scripted behaviour by kind"""

    success_radius_m: ClassVar[float]

    stands: ClassVar[bool] = True
    """the object has an upright position that it can lose; a ball has none"""

    @property
    @abstractmethod
    def name(self) -> str:
        """Stamped into saved states: a state goes on only where the physics is the same. Usually a class constant."""

    @property
    @abstractmethod
    def scene(self) -> Scene:
        """What is loaded. Usually a class constant."""

    @abstractmethod
    def start(self, rng: np.random.Generator, object_z: float) -> Start:
        """Draw an episode's start."""

    @abstractmethod
    def reward(self, start: Start, tcp_start: Vec3) -> Reward:
        """The reward of an episode that began at ``start``."""

    @abstractmethod
    def margin(self, sawyer: Sawyer, start: Start) -> float:
        """Metres to failure; at or below zero is a failure."""

    @abstractmethod
    def outline(self, start: Start) -> list[Segment]:
        """Lines drawn in pictures to show the hazard."""

    def detail(self, sawyer: Sawyer) -> str:
        """``info["failure_detail"]``, asked at a failing step: what may have made it, empty where there is nothing to say."""
        return TIPPED if self.stands and abs(sawyer.upright) < _STANDING else ""

    def props(self, start: Start) -> dict[str, Vec3]:
        """Where this episode's movable furniture stands: mocap body by name -> position, m."""
        return {}

    def reached(self, position: Sequence[float], goal: Vec3) -> bool:
        """Whether the object at ``position`` is where it should be."""
        return math.dist(position, goal) <= self.success_radius_m

    def expert(self, kind: str) -> Expert:
        """Build the scripted behaviour of that kind; ``reset`` it before use."""
        if kind not in self.experts:
            raise ValueError(f"unknown expert {kind!r}; this task has {', '.join(self.experts)}")
        return self.experts[kind]()


def make_task(reference: str, options: dict[str, Any]) -> Task:
    """Build the task named ``module:Class`` with the task's own keyword arguments.

    Raises:
        TypeError: an argument the task does not have.
        ValueError: a value it cannot take.
    """
    module, _, name = reference.partition(":")
    kind = getattr(importlib.import_module(module), name)
    known = list(inspect.signature(kind).parameters)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise TypeError(f"{name} has no option {option!r}{hint}; it takes {', '.join(known)}")
    task: Task = kind(**options)
    return task
