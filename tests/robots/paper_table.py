"""A table with rules of thumb in place of physics, and a clock that runs as fast as it is asked: to test what surrounds an arm.

The finger follows its reference within a few hundredths of a second, a box that it meets goes before it. Definitions, limits
and verdicts are the real ones.
"""

from __future__ import annotations

import math

import numpy as np

from failurebench.franka.definition import FINGER_HEIGHT_M, FINGER_RADIUS_M, FrankaTask
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.scene import Layout
from robots.actions import GatedAction
from robots.arm.interface import ArmState, ArmStatus, Commanded
from robots.env import EnvConfig, FrankaTaskEnv
from robots.errors import RobotError
from robots.limits import Limits
from robots.operator.scripted import ScriptedOperator
from robots.perception.interface import Estimate
from robots.permit import Stance, admit
from robots.session.episode import RulesConfig
from robots.session.journal import Journal
from robots.session.resetting import ResetConfig
from robots.session.station import Station

TICK_S = 0.005
LAG_S = 0.03
PUSH = FrankaFragilePushWall()


class PaperClock:
    """Sleeping is what makes the table go on."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.everyone = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        while self.time < until - 1e-9:
            self.time += min(TICK_S, until - self.time)
            for tick in self.everyone:
                tick()


class PaperArm:
    """Finger, box and what can go wrong with them."""

    def __init__(self, task: FrankaTask, clock: PaperClock, layout: Layout) -> None:
        self.task, self.clock, self.layout = task, clock, layout
        self.status = ArmStatus.CLOSED
        self.tip = self.reference = (*task.hand_start, FINGER_HEIGHT_M)
        self.object, self.yaw = layout.object, layout.yaw
        self.force = (0.0, 0.0, 0.0)
        self.commands: list[GatedAction] = []
        self.command_times: list[float] = []
        self.holds: list[str] = []
        self.connections = self.recoveries = self.episodes = 0
        self.stuck = 0
        """until so many episodes have begun, no recovery succeeds"""
        self.unreachable = 0
        """attempts to connect that still fail"""
        clock.everyone.append(self.tick)

    def connect(self) -> None:
        if self.unreachable:
            self.unreachable -= 1
            raise RobotError("no controller answers")
        self.connections += 1
        self.status = ArmStatus.IDLE

    def tick(self) -> None:
        if self.status not in (ArmStatus.RUNNING, ArmStatus.HOLD):
            return
        share = TICK_S / LAG_S
        self.tip = tuple(t + share * (r - t) for t, r in zip(self.tip, self.reference, strict=True))
        reach = getattr(self.task, "box_half_m", 0.03) + FINGER_RADIUS_M
        apart = math.dist(self.tip[:2], self.object)
        if 0 < apart < reach and self.tip[2] < 0.06:
            self.object = tuple(t + reach / apart * (o - t) for t, o in zip(self.tip, self.object, strict=False))

    def state(self) -> ArmState:
        speed = (0.0, 0.0, 0.0)
        return ArmState(self.status, self.clock.now(), (0.0,) * 7, self.tip, speed, self.force, self.reference[:2])

    def command(self, action: GatedAction) -> Commanded:
        self.command_times.append(self.clock.now())
        if self.status not in (ArmStatus.IDLE, ArmStatus.RUNNING, ArmStatus.HOLD):
            return Commanded(self.reference[:2], (0.0, 0.0), ("held",), self.status.value)
        if not (action.finite and action.permitted):
            self.hold("unsafe")
            return Commanded(self.reference[:2], (0.0, 0.0), ("held",))
        self.commands.append(action)
        permit = admit(Limits(), self.task, Stance(self.reference, self.tip, self.force), action.executed)
        assert permit is not None
        self.status, self.reference = ArmStatus.RUNNING, permit.reference
        return Commanded(self.reference[:2], permit.executed, permit.clipped)

    def hold(self, reason: str) -> None:
        self.holds.append(reason)
        if self.status is ArmStatus.RUNNING:
            self.status, self.reference = ArmStatus.HOLD, self.tip

    def move_to(self, target, speed_mps: float, height_m: float = FINGER_HEIGHT_M) -> bool:
        self.status, target = ArmStatus.RUNNING, (*target, height_m)
        while math.dist(self.reference, target) > 1e-9:
            share = min(1.0, speed_mps * TICK_S / math.dist(self.reference, target))
            self.reference = tuple(r + share * (t - r) for r, t in zip(self.reference, target, strict=True))
            self.clock.sleep(TICK_S)
        self.clock.sleep(0.3)
        return math.dist(self.tip, target) < 0.01

    def new_episode(self) -> None:
        self.episodes += 1

    def recover(self) -> bool:
        self.recoveries += 1
        if self.stuck > self.episodes:
            return False
        self.status = ArmStatus.IDLE
        return True

    def close(self) -> None:
        self.status = ArmStatus.CLOSED


class PaperEstimator:
    """Knows where the box is, a moment late."""

    def __init__(self, arm: PaperArm) -> None:
        self.arm = arm
        self.blind_since: float | None = None
        self.reason = ""

    def start(self) -> None: ...

    def newest(self) -> Estimate | None:
        seen = self.arm.clock.now() - 0.01 if self.blind_since is None else self.blind_since
        return Estimate(self.arm.object, self.arm.yaw, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 1.0, seen)

    def fault(self) -> str:
        return self.reason

    def close(self) -> None: ...


class PaperStage:
    """Puts the box back, as a twin does."""

    def __init__(self, arm: PaperArm) -> None:
        self.arm = arm

    def reset(self, layout_seed: int) -> Layout:
        self.arm.layout = self.arm.task.layout(np.random.default_rng(layout_seed))
        self.arm.object, self.arm.yaw = self.arm.layout.object, self.arm.layout.yaw
        return self.arm.layout


def paper_station(task: FrankaTask, clock: PaperClock, staged: bool = True) -> Station:
    """A twin's station, or one where only a person puts things back."""
    arm = PaperArm(task, clock, task.layout(np.random.default_rng(0)))
    stage = PaperStage(arm) if staged else None
    return Station(arm, PaperEstimator(arm), ScriptedOperator(), stage=stage)


class Table:
    """An environment on the paper table, and its parts."""

    def __init__(self, folder=None, staged=True, task=PUSH, by="human", **rules):
        self.clock = PaperClock()
        self.station = paper_station(task, self.clock, staged)
        self.arm, self.operator, self.eyes = self.station.arm, self.station.operator, self.station.estimator
        self.journal = None if folder is None else Journal(folder, {"config_hash": "x"})
        config = EnvConfig(rules=RulesConfig(**rules), reset=ResetConfig(by=by))
        self.env = FrankaTaskEnv(task, lambda: self.station, config, self.journal, self.clock)

    def step(self, x=0.0, y=0.0, source="task", risk=0.0, threshold=0.3):
        executed = (float(np.float32(x)), float(np.float32(y)))
        self.env.permit(self.env.decided(executed, executed, (0.0, 0.0), risk, threshold, source))
        return self.env.step(np.array(executed, np.float32))


def later(table, seconds, do):
    """Let something happen on the table's clock; when it will."""
    when, done = table.clock.now() + seconds, []

    def look():
        if not done and table.clock.now() >= when:
            done.append(True)
            do()

    table.clock.everyone.append(look)
    return when
