"""Sessions on the paper table: a bundle with networks nobody has taught, and everything around them real."""

import dataclasses

import torch

from farl.algorithms.ppo import PPOConfig
from farl.environments import TaskConfig
from farl.offline.bundle import OfflineBundle, Shape
from farl.robot.config import RobotSessionConfig
from farl.robot.session import RobotSession
from robots.config import RobotConfig
from robots.env import EnvConfig, FrankaTaskEnv
from robots.session.episode import RulesConfig
from tests.robots.paper_table import PUSH, PaperClock, paper_station

TASK = TaskConfig("failurebench:FailureBench/FrankaFragilePushWall-v0")
STEPS = 12


def untaught(folder):
    """A bundle of the task: it acts, predicts and recovers, none of it well."""
    torch.manual_seed(0)
    bundle = OfflineBundle.empty(TASK, Shape(len(PUSH.fields), 2))
    bundle.save(folder)
    return folder


def config(tmp_path, episodes=4, **changes) -> RobotSessionConfig:
    """Short episodes, an update after every two of them."""
    bundle = tmp_path / "bundle"
    rules = RulesConfig(max_episode_steps=STEPS)
    plain = RobotSessionConfig(
        task=TASK,
        bundle=bundle if bundle.exists() else untaught(bundle),
        out=tmp_path / "run",
        robot=RobotConfig(env=EnvConfig(rules=rules)),
        episodes=episodes,
        first_speed=0.0,
        rollout_steps=2 * STEPS,
        ppo=PPOConfig(batch=8, epochs=2, warmup=0, lr=1e-3),
        method="random-gate",  # hands over now and then, and has random numbers of its own to be restored
        learner="here",
        preflight=False,
    )
    return dataclasses.replace(plain, **changes)


class PaperSession(RobotSession):
    """On the paper table, whose parts it has."""

    def __init__(self, settings: RobotSessionConfig) -> None:
        self.clock = PaperClock()
        self.station = paper_station(PUSH, self.clock)
        self.operator, self.paper = self.station.operator, self.station.arm
        env = FrankaTaskEnv(PUSH, lambda: self.station, settings.robot.env, None, self.clock)
        super().__init__(settings, env, {"config_hash": settings.fingerprint()})
