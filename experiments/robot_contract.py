"""One task definition on two backends: the same commands on the robosuite twin and, through the real driver, on the wire twin.

Written by `python -m experiments.robot_contract`.

The finger touches the object and pushes it away from the robot, then, from beside it, across the table. *Apart* is the distance
between the two fingers after the same number of commands, as the observations have them. The wire twin is looked at 30 ms before
the next command is due, robosuite's right then: at 0.15 m/s that alone is 4.5 mm. *In time* says whether every command was
executed and the twin kept up with the clock; on a busy computer neither is sure.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

import failurebench  # noqa: F401 (registers the tasks)
from experiments.tables import markdown
from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.geometry import Vec2
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from farl.files import write_text
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.env import FrankaTaskEnv
from robots.limits import Limits
from robots.operator.scripted import ScriptedOperator
from robots.session.station import Station
from robots.twin.estimator import TwinEstimator
from robots.twin.process import TwinProcess

SEED = 7
TRIES = 3

TASKS: tuple[FrankaTask, ...] = (
    FrankaFragilePushWall(wall_end_y=-0.02),
    FrankaDisturbedPush(person_speed=0.0),
    FrankaBoundedSoccer(),
)
"""the wall as far aside as it goes, and a person who stays away: what the hazards do would tell two paths apart"""

COMMANDS: tuple[tuple[int, Vec2], ...] = (
    (8, (0.6, 0.0)),  # into the object and on
    (3, (0.0, 0.0)),
    (5, (-0.8, 0.0)),  # back from it
    (8, (0.0, 0.8)),  # to its side
    (8, (0.8, 0.0)),
    (10, (0.0, -0.7)),  # into it again, across the table
    (3, (0.0, 0.0)),
)
"""how often which displacement is commanded, in units of the full command"""

ACTIONS = np.concatenate([np.tile(np.array(action, np.float32), (number, 1)) for number, action in COMMANDS])


class Ride(NamedTuple):
    """What one backend made of the commands."""

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    observations: NDArray[np.float32]
    """``[steps + 1, numbers]``"""
    rewards: list[Any]
    infos: list[dict[str, Any]]
    whole: bool = True
    """whether everything that was commanded was executed, in time"""

    @property
    def finger(self) -> NDArray[np.float32]:
        """``[steps + 1, 2]``, m."""
        return self.observations[:, 0:2]

    @property
    def object(self) -> NDArray[np.float32]:
        """``[steps + 1, 2]``, m."""
        return self.observations[:, 5:7]

    @property
    def force(self) -> NDArray[np.float32]:
        """``[steps + 1]``, N."""
        return self.observations[:, 4]


def on_robosuite(task: FrankaTask) -> Ride:
    """In simulated time."""
    options = {name: getattr(task, name) for name in ("wall_end_y", "person_speed") if hasattr(task, name)}
    env = gymnasium.make(f"FailureBench/{task.name}-v0", **options).unwrapped
    return _ridden(env, lambda action: None)


def on_the_wire(task: FrankaTask) -> Ride:
    """In real time, through the driver that a real arm is driven with.

    On a busy computer commands come too late and are not executed, or the twin itself falls behind: such a ride shows nothing and
    is ridden again, a few times; ``whole`` says how it ended.
    """
    for _ in range(TRIES):
        ride = _wire_ride(task)
        if ride.whole:
            break
    return ride


def _wire_ride(task: FrankaTask) -> Ride:
    with TwinProcess(task, SEED) as twin:
        arm = FrankyArm(ArmConfig(twin.host), task, Limits())
        station = Station(arm, TwinEstimator(twin.host), ScriptedOperator(), stage=twin)
        env = FrankaTaskEnv(task, lambda: station)

        def permit(action: Vec2) -> None:
            env.permit(env.decided(action, action, (0.0, 0.0), 0.0, 1.0, "task"))

        try:
            before = twin.status()["late"]
            ride = _ridden(env, permit)
            slowed = twin.status()["late"] > before
        finally:
            env.close()
    refused = any(info["fault"] or "held" in info["clipped"] for info in ride.infos)
    return ride._replace(whole=not refused and not slowed)


def _ridden(env: Any, permit: Any) -> Ride:
    first, info = env.reset(seed=SEED)
    observations, rewards, infos = [first], [], [info]
    for action in ACTIONS:
        permit((float(action[0]), float(action[1])))
        obs, reward, terminated, truncated, info = env.step(action)
        observations.append(obs)
        rewards.append(reward)
        infos.append(info)
        if terminated or truncated:
            break
    return Ride(env.observation_space, env.action_space, np.array(observations), rewards, infos)


def apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """``[steps]``, mm: the distance of two paths after the same number of commands."""
    both = min(len(one), len(other))
    distance: NDArray[np.float64] = 1000.0 * np.hypot(*(one[:both] - other[:both]).T.astype(np.float64))
    return distance


def report(rides: dict[str, tuple[Ride, Ride]]) -> str:
    """The table, with what it was measured with."""
    head = [
        "task",
        "steps",
        "in time",
        "fingers apart, mean",
        "p95",
        "most",
        "objects apart at the end",
        "most force, robosuite",
        "wire",
    ]
    rows = []
    for name, (fast, wire) in rides.items():
        fingers, objects = apart(fast.finger, wire.finger), apart(fast.object, wire.object)
        steps = len(fingers) - 1
        measured = [
            f"{value:.1f} mm" for value in (fingers.mean(), np.percentile(fingers, 95), fingers.max(), objects[-1])
        ]
        rows.append(
            [
                name,
                str(steps),
                "yes" if wire.whole else "no",
                *measured,
                *(f"{ride.force.max():.1f} N" for ride in (fast, wire)),
            ]
        )
    versions = ", ".join(f"{name} {version(name)}" for name in ("franky-control", "franky-sim", "mujoco", "robosuite"))
    return "\n".join(
        [
            "# The wire twin against the robosuite twin",
            "",
            (__doc__ or "").strip(),
            "",
            markdown(head, rows),
            "",
            f"Python {platform.python_version()}, {versions}, {time.strftime('%Y-%m-%d')}; load average {os.getloadavg()[0]:.1f} "
            f"on {os.cpu_count()} processors: the wire twin plays in real time.",
            "",
        ]
    )


def main() -> None:
    """Ride, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/robot_contract.md"))
    options = parser.parse_args()
    rides = {}
    for task in TASKS:
        rides[task.name] = on_robosuite(task), on_the_wire(task)
        fast, wire = rides[task.name]
        fingers = apart(fast.finger, wire.finger)
        print(
            f"{task.name}: {len(fingers) - 1} steps, {fingers.mean():.1f} mm apart, at most {fingers.max():.1f}",
            flush=True,
        )
    write_text(options.output, report(rides))


if __name__ == "__main__":
    main()
