"""What goes wrong around a session, over and over: the same table as `experiments.robot_faults`, with these rows added.

    python -m experiments.robot_session_faults --only session --output results/robot_session_faults.md [--repeats 20]

An episode is played on the wire twin with a journal; something of the session's is then broken: its process, its learner, its
gamepad, its disk. *To safe* is until the finger rests, or, where nothing has to stop, the longest time between two commands of that
episode; *back* is until the next episode's first step was kept.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.robot_faults import PATIENCE_S, TASK, Rig, Trial, fault, told
from experiments.robot_faults import main as table
from farl.environments import TaskConfig
from farl.offline.bundle import OfflineBundle, Shape
from farl.robot.config import RobotSessionConfig
from farl.robot.session import RobotSession
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.config import RobotConfig
from robots.env import EnvConfig, FrankaTaskEnv
from robots.errors import RobotError
from robots.eyes import rendered_eyes
from robots.limits import Limits
from robots.operator.gamepad import BUTTONS, Gamepad
from robots.operator.interface import Operator
from robots.operator.scripted import ScriptedOperator
from robots.perception.interface import Estimator
from robots.session.episode import RulesConfig
from robots.session.journal import Journal, read_steps
from robots.session.opening import CAMERA, ages_of
from robots.session.station import Station
from robots.twin.camera import TwinCamera
from robots.twin.estimator import TwinEstimator
from robots.twin.side import SideChannel

ACTION = (-0.1, 0.6)
"""off to the side, where nothing stands"""


def table_at(
    host: str, folder: Path | None, operator: Operator | None = None, feed: TwinCamera | None = None
) -> FrankaTaskEnv:
    """An environment on a twin that is already there, seen by ``feed`` if one is given; neither is the station's to end."""
    side, cameras = SideChannel(host), {}
    eyes: Estimator = TwinEstimator(host)
    if feed is not None:
        sight = rendered_eyes(feed, feed.table_from_camera, TASK)
        eyes, cameras = sight.estimator, {CAMERA: sight.camera}
    arm = FrankyArm(ArmConfig(host), TASK, Limits(), ages_of(eyes))
    station = Station(arm, eyes, operator or ScriptedOperator(), cameras, side, others=(side,))
    journal = None if folder is None else Journal(folder, {"config_hash": "faults"})
    return FrankaTaskEnv(TASK, lambda: station, None, journal)


def step(env: FrankaTaskEnv) -> dict[str, Any]:
    """One of a policy that goes sideways; what is told of it."""
    executed = (float(np.float32(ACTION[0])), float(np.float32(ACTION[1])))
    env.permit(env.decided(executed, executed, (0.0, 0.0), 0.0, 0.3, "task"))
    return env.step(np.array(executed, np.float32))[4]


def next_episode(env: FrankaTaskEnv, seed: int) -> float:
    """Seconds until a step of another episode was kept; NaN where none is."""
    begun = time.monotonic()
    env.reset(seed=seed)
    return time.monotonic() - begun if not step(env)["lost"] else math.nan


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """For one trial's journal."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@fault("session killed (kill -9) in an episode")
def session_killed(rig: Rig) -> Trial:
    rig.arm.close()
    with folder() as journal:
        command = [sys.executable, "-m", "experiments.robot_session_faults", "--play", rig.twin.host, str(journal)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as player:
            assert player.stdout is not None
            said = [player.stdout.readline() for _ in range(5)]
            player.kill()
            since = time.monotonic()
            said += player.stdout.readlines()
        safe = rig.at_rest(since)
        acknowledged = sum(line.endswith(b"\n") for line in said)
        kept = len(read_steps(journal).records)
        env = table_at(rig.twin.host, journal)
        with contextlib.closing(env):
            back = next_episode(env, 1)
        return Trial(told(kept >= acknowledged, "every acknowledged step was on disk"), safe, back)


@fault("session's gamepad unplugged")
def unplugged(rig: Rig) -> Trial:
    import sdl2

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    sdl2.SDL_Init(sdl2.SDL_INIT_GAMECONTROLLER | sdl2.SDL_INIT_EVENTS)
    pad = sdl2.SDL_JoystickAttachVirtual(sdl2.SDL_JOYSTICK_TYPE_GAMECONTROLLER, 6, len(BUTTONS), 0)
    rig.arm.close()
    env = table_at(rig.twin.host, None, Gamepad())
    with contextlib.closing(env):
        env.reset(seed=0)
        for _ in range(4):
            step(env)
        since = time.monotonic()
        sdl2.SDL_JoystickDetachVirtual(pad)
        lost = step(env)["lost"]
        safe = rig.at_rest(since)
        sdl2.SDL_JoystickAttachVirtual(sdl2.SDL_JOYSTICK_TYPE_GAMECONTROLLER, 6, len(BUTTONS), 0)
        back = next_episode(env, 1)
    sdl2.SDL_Quit()
    return Trial(told(lost == "operator_unplugged", "held, the episode lost"), safe, back)


@fault("session's camera unplugged")
def camera_lost(rig: Rig) -> Trial:
    return blinded(rig, TwinCamera.unplug, TwinCamera.plug_in)


@fault("session's camera hangs")
def camera_stale(rig: Rig) -> Trial:
    return blinded(rig, TwinCamera.freeze, TwinCamera.thaw)


def blinded(rig: Rig, strike: Callable[[TwinCamera], None], mend: Callable[[TwinCamera], None]) -> Trial:
    """What the arm does without pictures; the camera works again for the next episode."""
    rig.arm.close()
    feed = TwinCamera(rig.twin.host)
    with contextlib.closing(table_at(rig.twin.host, None, None, feed)) as env:
        env.reset(seed=0)
        for _ in range(4):
            step(env)
        since, lost = time.monotonic(), ""
        strike(feed)
        while not lost and time.monotonic() - since < 3.0:
            lost = step(env)["lost"]
        safe = rig.at_rest(since)
        mend(feed)
        back = next_episode(env, 1)
    return Trial(told(bool(lost), f"held, the episode lost as {lost}"), safe, back)


@fault("session's disk full")
def disk_full(rig: Rig) -> Trial:
    rig.arm.close()
    with folder() as journal:
        env = table_at(rig.twin.host, journal)
        with contextlib.closing(env):
            env.reset(seed=0)
            for _ in range(4):
                step(env)
            written = (journal / "steps.log").stat().st_size
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (written + 100, before[1])
            )  # the kernel takes a part of the next step only
            since = time.monotonic()
            try:
                step(env)
                outcome = "FAILED: the step was acknowledged"
            except RobotError:
                outcome = "held, one message, nothing half written"
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            safe = rig.at_rest(since)
            kept = read_steps(journal)
            back = next_episode(env, 1)
        return Trial(told(len(kept.records) == 4 and not kept.torn, outcome), safe, back)


@fault("session's learner killed in an episode")
def learner_killed(rig: Rig) -> Trial:
    rig.arm.close()
    with folder() as made:
        session = short_session(made)
        env = session.arm.env = table_at(rig.twin.host, None)
        env.journal, env.config = session.journal, session.robot.robot.env
        killed: list[float] = []
        keep = env.journal.step

        def step_and_kill(record: Any, images: Any = None) -> None:
            keep(record, images)
            address = made / "run" / "learner.json"
            if record.episode == 2 and record.step == 5 and address.exists():
                os.kill(json.loads(address.read_text())["pid"], signal.SIGKILL)
                killed.append(time.monotonic())

        env.journal.step = step_and_kill  # type: ignore[method-assign]
        with session:
            done = session.play()
        updates = (made / "run" / "metrics.jsonl").read_text().count("\n")
        periods = [one.period for one in read_steps(made / "run" / "session").records if one.episode == 2 and one.step]
        well = done and bool(killed) and updates == 3
        return Trial(told(well, "the episode went on, learner started again, every update made"), max(periods), 0.0)


def short_session(made: Path) -> RobotSession:
    """Three short episodes with an untaught bundle, an update after each."""
    task = TaskConfig("failurebench:FailureBench/FrankaFragilePushWall-v0")
    OfflineBundle.empty(task, Shape(len(TASK.fields), 2)).save(made / "bundle")
    robot = RobotConfig(env=EnvConfig(rules=RulesConfig(max_episode_steps=15)))
    config = RobotSessionConfig(
        task, made / "bundle", made / "run", robot, 3, first_speed=0.0, rollout_steps=15, method="random-gate"
    )
    return RobotSession(config, FrankaTaskEnv(TASK, lambda: None), {"config_hash": "faults"})  # type: ignore[arg-type, return-value]


def play(host: str, journal: Path) -> None:
    """Episodes until killed, a line for every acknowledged step."""
    env, seed = table_at(host, journal), 0
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        env.reset(seed=seed)
        seed += 1
        while True:
            info = step(env)
            print("kept", flush=True)
            if info["lost"] or env.episode is None or env.episode.outcome.truncated:
                break


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play(sys.argv[2], Path(sys.argv[3]))
    else:
        table(
            "a session",
            "python -m experiments.robot_session_faults --only session --output results/robot_session_faults.md",
        )
