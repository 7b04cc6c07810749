"""Sessions on the paper table: a bundle with networks nobody has taught, and everything around them real."""

import dataclasses
import json

import torch

from farl.algorithms.ppo import PPOConfig
from farl.environments import TaskConfig
from farl.offline.bundle import OfflineBundle, Shape
from farl.online import checkpoint
from farl.robot.config import RobotSessionConfig
from farl.robot.digest import digest
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


class Killed(BaseException):
    """As far as the session is concerned, SIGKILL."""


class Traced(PaperSession):
    """Remembers what it had become after every episode, and can be killed after a step that the journal has."""

    def __init__(self, settings, kill_after=None):
        self.trace, self.rollouts = {}, []
        super().__init__(settings)
        if kill_after is not None:
            keep, count = self.journal.step, [0]

            def step(record, images=None):
                keep(record, images)
                count[0] += 1
                if count[0] == kill_after:
                    raise Killed

            self.journal.step = step

    def hand_over(self, piece):
        super().hand_over(piece)
        self.rollouts.append(piece)
        self.trace[self.actor.ledger.episodes, self.actor.ledger.lost] = self.become()

    def become(self):
        """Everything that learns, decides and counts, apart from clocks and from how the box stood when it ended."""
        state = checkpoint.gather({"learner": self.learner, "actor": self.actor})
        for name in ("seconds", "obs"):
            del state["actor"][name]
        state["actor"]["router"] = {k: v for k, v in state["actor"]["router"].items() if k != "seconds"}
        return digest(state)


def lines(folder, stream):
    path = folder / "run" / f"{stream}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def play(settings, **options):
    with Traced(settings, **options) as session:
        session.play()
    return session
