"""The configuration of a session: a task and its bundle, a robot's table, and how it is learned there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from farl import configuration
from farl.algorithms.credit import CreditMode
from farl.algorithms.gate import GateConfig
from farl.algorithms.ppo import PPOConfig
from farl.environments import TaskConfig
from farl.online.config import OnlineConfig
from farl.online.distributed.other_process import LinkConfig
from farl.watchdog import WatchdogConfig
from robots.config import TWIN, RobotConfig

EXTENDABLE = ("out", "episodes", "confirm", "twin", "preflight", "checkpoints_kept")
"""settings that may differ when a session is continued"""


@dataclass(frozen=True)
class RobotSessionConfig:
    """A post-training session on one arm."""

    task: TaskConfig = field(default_factory=lambda: TaskConfig("failurebench:FailureBench/FrankaFragilePushWall-v0"))
    """the task that the bundle was made for; its definition is played on the arm"""
    bundle: Path = Path("bundles/fragile-push-wall")
    """folder made by `farl offline`"""
    out: Path = Path("runs/robot/fragile-push-wall")
    robot: RobotConfig = field(default_factory=RobotConfig)
    episodes: int = 50
    """that count: an episode lost to a fault is played again; a larger number continues a finished session"""
    first_speed: float = 0.5
    """share of every command in an episode before the first of each start, which is not counted; 0 leaves it out"""
    method: str = "farl"
    """`farl list` shows them"""
    seed: int = 0
    rollout_steps: int = 256
    """agent steps between two updates; rollouts are made of whole episodes"""
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(batch=64))
    gate: GateConfig = field(default_factory=GateConfig)
    credit: CreditMode | None = None
    """how steps of recovery and of people are credited; None takes the method's own"""
    learner: Literal["process", "here"] = "process"
    """``here`` learns between episodes in the session's own process, for computers without a core to spare"""
    link: LinkConfig = field(default_factory=lambda: LinkConfig(spare=True))
    twin: bool = False
    """play on the wire twin, whatever the robot's address is"""
    confirm: str = ""
    """the robot's address once more: without it, or typing it when asked, no real arm moves"""
    preflight: bool = True
    """rehearse on a wire twin before anything moves"""
    checkpoints_kept: int = 5

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes is {self.episodes}; give 1 or more")
        if not 0.0 <= self.first_speed <= 1.0:
            raise ValueError(f"first_speed is {self.first_speed}; give a share of the full command, 0 to 1")

    @property
    def placed(self) -> RobotSessionConfig:
        """With the twin in the robot's place, if that is asked for."""
        if not self.twin:
            return self
        robot = dataclasses.replace(self.robot, arm=dataclasses.replace(self.robot.arm, host=TWIN))
        return dataclasses.replace(self, robot=robot)

    def online(self) -> OnlineConfig:
        """The run that this session is to everything else: one arm, a learner of its own, versions taken between episodes."""
        steps = self.episodes * self.robot.env.rules.max_episode_steps
        return OnlineConfig(
            task=self.task,
            bundle=self.bundle,
            out=self.out,
            method=self.method,
            seed=self.seed,
            steps=steps,
            num_envs=1,
            rollout_steps=self.rollout_steps,
            ppo=self.ppo,
            gate=self.gate,
            credit=self.credit,
            evaluate_every=1_000_000_000,
            evaluation_episodes=0,
            checkpoint_every=1,
            checkpoints_kept=self.checkpoints_kept,
            mode="async" if self.learner == "process" else "single",
            link=dataclasses.replace(self.link, swap="episode"),
            watchdog=WatchdogConfig(call_s=0.0),   # a person may take their time over a reset; the arm has a watchdog of its own
        )

    def fingerprint(self) -> str:
        """A short name for everything that makes it this session and no other."""
        told = configuration.parse(configuration.dump(self.placed))
        fixed = {name: value for name, value in told.items() if name not in EXTENDABLE}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
