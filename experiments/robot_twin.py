"""How evenly the wire twin keeps its thousand rounds a second, and how fast its camera is.

Written by `python -m experiments.robot_twin`. *Busy* is the processor time of the twin's process in each millisecond, *late* how
long after its due time a round begins, over ten seconds. A round that is late is made up for; what is more than 50 ms late is not,
and counted. The camera's *age* is from the moment a picture shows until it has been received. What is *found* in its pictures, by
markers or colour, is compared with the truth: the object at the start of so many episodes of the full range, nobody moving.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import markdown
from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from farl.files import write_text
from robots.cameras.interface import Frame
from robots.cameras.software import DEPTH_UNIT_M
from robots.perception.estimator import Eyes
from robots.perception.tasks import usual
from robots.twin.camera import TwinCamera
from robots.twin.estimator import TwinEstimator
from robots.twin.process import TwinProcess

TASKS: tuple[FrankaTask, ...] = (FrankaFragilePushWall(), FrankaDisturbedPush(), FrankaBoundedSoccer())


@contextlib.contextmanager
def client(host: str) -> Iterator[None]:
    """A real one that holds the arm by its impedance: a torque command every millisecond."""
    import franky

    robot = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
    robot.move(franky.CartesianImpedanceTrackingMotion(translational_stiffness=800.0), asynchronous=True)
    try:
        yield
    finally:
        with contextlib.suppress(franky.ControlException):
            robot.stop()
            robot.join_motion()


def measure(task: FrankaTask, driven: bool, seen: bool, seconds: float) -> list[str]:
    """A row of the table."""
    with contextlib.ExitStack() as stack:
        twin = stack.enter_context(TwinProcess(task))
        if driven:
            stack.enter_context(client(twin.host))
        pictures, ages = 0, [float("nan")]
        begun = time.monotonic()
        if seen:
            eyes = TwinEstimator(twin.host)
            stack.callback(eyes.close)
            eyes.start()
            camera = stack.enter_context(TwinCamera(twin.host))
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                picture = camera.picture(1.0)
                if picture is not None:
                    ages.append(time.monotonic() - picture.taken)
                    pictures += 1
        else:
            time.sleep(seconds)
        status, rate = twin.status(), pictures / (time.monotonic() - begun)
    middle, most, worst = status["lateness_ms"]
    filmed = f"{rate:.1f} Hz, {1000 * np.nanmedian(ages):.0f} ms" if seen else "-"
    load = " + ".join(["client in motion"] * driven + ["estimator, camera"] * seen) or "nobody"
    late = f"{middle:.2f} / {most:.2f} / {worst:.1f} ms"
    return [
        task.name,
        load,
        f"{status['rate_hz']:.0f} Hz",
        f"{status['busy_ms']:.2f} ms",
        late,
        str(status["late"]),
        filmed,
    ]


def found(task: FrankaTask, episodes: int) -> list[str]:
    """A row of the second table."""
    still: dict[str, Any] = {"person_speed": 0.0} if isinstance(task, FrankaDisturbedPush) else {}
    task = replace(task, start_range="full", **still)
    errors: dict[str, list[float]] = {}
    with TwinProcess(task) as twin, TwinCamera(twin.host) as camera:
        eyes = Eyes(usual(task), camera.table_from_camera)
        for seed in range(episodes):
            twin.reset(seed)
            time.sleep(0.1)
            picture, truth = camera.picture(5.0), twin.look()
            assert picture is not None
            frame = Frame(picture.color, picture.depth, DEPTH_UNIT_M, camera.intrinsics(), picture.taken, seed)
            scene, layout = truth.scene, truth.layout
            places = {"object": scene.object, "obstacle": scene.obstacle, "hazard": layout.hazard[:2]}
            for name, seen in eyes.look(frame).sightings().items():
                errors.setdefault(name, []).append(1000 * math.dist((seen.x, seen.y), places[name]))
    told = (
        f"{name} {len(of)} times, {np.mean(of):.2f} mm, at most {max(of):.2f}" for name, of in sorted(errors.items())
    )
    return [task.name, str(episodes), "; ".join(told)]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("results/robot_twin.md"))
    options = parser.parse_args()
    rows = []
    for task in TASKS:
        for driven, seen in ((False, False), (True, False), (True, True)):
            rows.append(measure(task, driven, seen, options.seconds))
            print(" | ".join(rows[-1]), flush=True)
    sights = [found(task, options.episodes) for task in TASKS]
    print(*(" | ".join(row) for row in sights), sep="\n")
    head = ["task", "connected", "rate", "busy", "late: median / p99 / most", "over 50 ms", "camera: rate, age"]
    versions = ", ".join(f"{name} {version(name)}" for name in ("franky-control", "franky-sim", "mujoco"))
    measured = (
        f"Python {platform.python_version()}, {versions}, {time.strftime('%Y-%m-%d')}; {options.seconds:g} s a row, load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, no real-time kernel."
    )
    text = ["# The wire twin's rates", "", (__doc__ or "").strip(), "", markdown(head, rows), ""]
    text += [
        markdown(["task", "episodes", "found in the camera's pictures: distance from the truth"], sights),
        "",
        measured,
        "",
    ]
    write_text(options.output, "\n".join(text))


if __name__ == "__main__":
    main()
