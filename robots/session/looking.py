"""What a control step led to: the table looked at every 20 ms between two commands, and what is wrong with arm and eyes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from failurebench.franka.definition import CONTROL_HZ, FrankaTask
from failurebench.franka.scene import Layout, Scene
from robots.arm.interface import ArmState, ArmStatus
from robots.perception.interface import Estimate
from robots.session.pace import Clock, Pace
from robots.session.station import Station

LOOK_S = 0.02
"""between two looks at the margin, the robosuite twin's"""

_WORDS = {
    ArmStatus.REFLEX: "reflex",
    ArmStatus.REACTION_STOP: "reaction_stop",
    ArmStatus.USER_STOP: "user_stop",
    ArmStatus.LOST: "arm_lost",
    ArmStatus.CLOSED: "arm_closed",
}

NEVER = 1e9
"""age in seconds of what was never seen"""


@dataclass(frozen=True)
class StalenessConfig:
    """What is too old to act on."""

    estimate_s: float = 0.5
    """age of the estimate of the objects"""
    camera_s: float = 1.0
    """age of a camera's newest picture, where there are cameras"""
    contact_m: float = 0.01
    """a reflex with the hazard this near counts as contact with it: a failure, not a fault"""


@dataclass
class Look:
    """Everything seen since the last command."""

    state: ArmState
    estimate: Estimate | None
    margin: float = math.inf
    """the smallest, m"""
    detail: str = ""
    forces: list[float] = field(default_factory=list)

    @property
    def force_n(self) -> float:
        """Mean over the looks, as the twin's observation has it."""
        return sum(self.forces) / len(self.forces) if self.forces else 0.0


class Eyes:
    """Looks at a station's table with the task's definition."""

    def __init__(self, task: FrankaTask, station: Station, config: StalenessConfig, clock: Clock) -> None:
        self.task, self.station, self.config, self.clock = task, station, config, clock

    def look(self, layout: Layout) -> Look:
        """Once, now."""
        look = Look(self.station.arm.state(), self.station.estimator.newest())
        self._judge(look, layout)
        return look

    def look_until(self, due: float, layout: Layout, pace: Pace) -> Look:
        """Again and again until ``due``; one more look then, which is what the next decision is made on."""
        margins: list[tuple[float, str]] = []
        forces: list[float] = []
        while (now := self.clock.now()) < due - LOOK_S / 2:
            pace.wait(min(now + LOOK_S, due - LOOK_S / 4))
            between = self.look(layout)
            margins.append((between.margin, between.detail))
            forces += between.forces
        pace.wait(due)
        last = self.look(layout)
        margins.append((last.margin, last.detail))
        last.margin, last.detail = min(margins, key=lambda one: (not math.isnan(one[0]), one[0]))
        last.forces = forces + last.forces
        return last

    def scene(self, look: Look) -> Scene:
        """As the definitions take it. The age is in whole control steps: what is seen within one is as new as the twin's."""
        state, estimate = look.state, look.estimate
        tcp, speed = (state.tip[0], state.tip[1]), (state.tip_velocity[0], state.tip_velocity[1])
        if estimate is None:
            return Scene(tcp, speed, (math.nan, math.nan))
        age = math.floor(self.age(estimate) * CONTROL_HZ) / CONTROL_HZ
        return Scene(
            tcp,
            speed,
            estimate.object,
            estimate.yaw,
            estimate.object_velocity,
            estimate.obstacle,
            estimate.obstacle_velocity,
            look.force_n,
            age,
        )

    def age(self, estimate: Estimate | None) -> float:
        """Seconds since the exposure."""
        return NEVER if estimate is None else max(self.clock.now() - estimate.seen, 0.0)

    def ages(self, look: Look) -> dict[str, float]:
        """Of everything that is looked with, s."""
        now = self.clock.now()
        ages = {"arm": max(now - look.state.time, 0.0), "estimate": self.age(look.estimate)}
        for name, camera in self.station.cameras.items():
            frame = camera.newest()
            ages[f"camera_{name}"] = NEVER if frame is None else max(now - frame.taken, 0.0)
        return ages

    def fault(self, look: Look, ages: dict[str, float]) -> str:
        """What is wrong with arm or eyes; empty where nothing is, or where the arm stopped because it met the hazard."""
        status = look.state.status
        if status in (ArmStatus.REFLEX, ArmStatus.REACTION_STOP):
            if not self.met_hazard(look):
                return _WORDS[status]
        elif status in (ArmStatus.LOST, ArmStatus.USER_STOP, ArmStatus.CLOSED):
            return _WORDS[status]
        if reason := self.station.estimator.fault():
            return f"estimate_{reason}"
        if not ages["estimate"] <= self.config.estimate_s:
            return "estimate_stale"
        for name, camera in self.station.cameras.items():
            if reason := camera.fault():
                return f"camera_{reason}"
            if not ages[f"camera_{name}"] <= self.config.camera_s:
                return "camera_stale"
        return "margin_unknown" if math.isnan(look.margin) else ""

    def met_hazard(self, look: Look) -> bool:
        """Whether the arm stopped for a force while the hazard was as near as contact."""
        stopped = look.state.status in (ArmStatus.REFLEX, ArmStatus.REACTION_STOP)
        return stopped and look.margin <= self.config.contact_m

    def _judge(self, look: Look, layout: Layout) -> None:
        fx, fy, _ = look.state.force
        look.forces = [math.hypot(fx, fy)]
        scene = self.scene(look)
        look.margin = self.task.margin(scene, layout)
        look.detail = self.task.detail(scene, layout)
