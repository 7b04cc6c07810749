"""What a wire twin is made with, and how that gets into its process."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.errors import RobotError
from robots.twin.placing import BASE_HEIGHT_M

TASKS: dict[str, type[FrankaTask]] = {
    task.name: task for task in (FrankaFragilePushWall, FrankaDisturbedPush, FrankaBoundedSoccer)
}
"""those that have furniture, by name"""


@dataclass(frozen=True)
class ControllerConfig:
    """How the simulated controller behaves."""

    server_version: int = 10
    """of the protocol that it speaks; a client of another version is refused"""

    robot_type: str = "fr3"
    """name in the description that a client asks for"""

    force_sign: int = -1
    """-1 reports what the hand presses with, as people find that real arms do (libfranka issue 26); 1 reports what acts on it"""

    recovery_s: float = 0.3
    """that an automatic error recovery takes"""

    silence_s: float = 0.1
    """without a command in motion before it is aborted; a real one waits 0.02 s, too short where the kernel is no real-time one"""

    def __post_init__(self) -> None:
        if self.force_sign not in (-1, 1):
            raise RobotError(f"force_sign is {self.force_sign!r}; give -1 or 1")
        for name in ("recovery_s", "silence_s"):
            if not 0.0 <= getattr(self, name) <= 60.0:
                raise RobotError(f"{name} is {getattr(self, name)!r}; give 0 to 60 seconds")


@dataclass(frozen=True)
class TwinConfig:
    """One simulated robot at one table."""

    task: FrankaTask
    seed: int = 0
    """of the episode that is on the table when it starts"""

    host: str = ""
    """a loopback address; empty for the next free one"""

    base_height_m: float = BASE_HEIGHT_M
    """of the arm's base over the table's top"""

    controller: ControllerConfig = field(default_factory=ControllerConfig)

    def __post_init__(self) -> None:
        if TASKS.get(self.task.name) is not type(self.task):
            raise RobotError(f"no twin for {type(self.task).__name__}; there is one for {', '.join(TASKS)}")
        if self.host and not self.host.startswith("127."):
            raise RobotError(f"the twin's host is {self.host!r}; it serves loopback only, give 127.x.y.z or nothing")
        if not 0.0 <= self.base_height_m <= 0.3:
            raise RobotError(f"base_height_m is {self.base_height_m!r}; give 0 to 0.3 metres over the table")

    def to_json(self) -> str:
        """For another process."""
        fields: dict[str, Any] = dataclasses.asdict(self)
        return json.dumps({**fields, "name": self.task.name})

    @classmethod
    def from_json(cls, text: str) -> TwinConfig:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        task = TASKS[fields.pop("name")](**fields.pop("task"))
        return cls(task, controller=ControllerConfig(**fields.pop("controller")), **fields)


def task_named(name: str, **options: Any) -> FrankaTask:
    """The definition of that name, also as ``FailureBench/<name>-v0``.

    Raises:
        RobotError: there is none, or it has no such option.
    """
    short = name.rsplit("/", 1)[-1].removesuffix("-v0")
    if short not in TASKS:
        raise RobotError(f"no twin for the task {name!r}; there is one for {', '.join(TASKS)}")
    try:
        return TASKS[short](**options)
    except (TypeError, ValueError) as error:
        raise RobotError(f"{short}: {error}") from error
