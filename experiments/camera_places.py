"""Where a camera sees an arm's work best: the same moments of sessions on the wire twin, drawn from many places.

    farl robot session configs/robot/fragile_push_wall.yaml --twin --bundle BUNDLE     # in another terminal, meanwhile
    python -m experiments.camera_places sample 127.0.0.1 wall.json --seconds 120
    python -m experiments.camera_places look wall.json ... --out results/camera_places.md

A finger that pushes stands between its object and a camera that looks over its shoulder. Per place: how often the object is not
found, the longest stretch in which it is not, and how far from the truth it is found.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import markdown
from failurebench.franka.furniture import OBJECT
from failurebench.franka.scene import Layout
from farl.files import write_text
from farl.online.provenance import git_commit
from farl.progress import Progress
from robots.cameras.interface import Frame
from robots.cameras.software import DEPTH_UNIT_M
from robots.perception.estimator import Eyes
from robots.perception.tasks import usual
from robots.twin.configuration import TwinConfig
from robots.twin.picture import Painter, TwinCameraConfig
from robots.twin.side import Pose, SideChannel

EVERY_S = 0.3
"""between two moments, three control steps"""

MIDDLE = (0.55, 0.0)
"""of the table's used part, m from the robot's base; places are on half circles about it"""

REACHES_M, BEARINGS_DEG, HEIGHTS_M = (0.45, 0.65), (-60, -30, 0, 30, 60), (0.6, 0.9)


@dataclass
class Seen:
    """What one place came to."""

    missed: list[bool] = field(default_factory=list)
    off_mm: list[float] = field(default_factory=list)

    @property
    def longest_s(self) -> float:
        """The longest stretch without the object."""
        worst = run = 0
        for missed in self.missed:
            run = run + 1 if missed else 0
            worst = max(worst, run)
        return worst * EVERY_S

    def cell(self) -> str:
        """For the table."""
        off = f"{np.median(self.off_mm):.1f} / {np.percentile(self.off_mm, 99):.1f} mm" if self.off_mm else "-"
        return f"{100 * np.mean(self.missed):.1f} %, {self.longest_s:.1f} s, {off}"


def sample(host: str, file: Path, seconds: float) -> None:
    """Write down where everything is, again and again."""
    channel, poses = SideChannel(host), []
    config, due = channel.ask("config"), time.monotonic()
    progress, total = Progress(None, str(file)), round(seconds / EVERY_S)
    progress.stage("moments", total)
    for done in range(total):
        progress.at(done)
        poses.append(channel.pose())
        due += EVERY_S
        time.sleep(max(due - time.monotonic(), 0.0))
    write_text(file, json.dumps({"config": config, "poses": poses}))


def read(file: Path) -> tuple[TwinConfig, list[Pose]]:
    """What ``sample`` wrote."""
    content = json.loads(file.read_text())
    poses = [Pose(qpos, mocap, Layout(*map(_tuple, layout)), time) for qpos, mocap, layout, time in content["poses"]]
    return TwinConfig.from_json(content["config"]), poses


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def places() -> list[TwinCameraConfig]:
    """The default first."""
    found = [TwinCameraConfig()]
    for reach in REACHES_M:
        for height in HEIGHTS_M:
            for bearing in map(math.radians, BEARINGS_DEG):
                x, y = MIDDLE[0] + reach * math.cos(bearing), MIDDLE[1] + reach * math.sin(bearing)
                found.append(TwinCameraConfig(eye=(round(x, 2), round(y, 2), height)))
    return list(dict.fromkeys(found))


def look(twin: TwinConfig, poses: Sequence[Pose], camera: TwinCameraConfig) -> Seen:
    """Every moment from one place."""
    painter, eyes, seen = Painter(twin, camera), Eyes(usual(twin.task), camera.table_from_camera), Seen()
    at = painter.model.joint(OBJECT).qposadr[0]
    for number, pose in enumerate(poses):
        color, depth = painter.picture(pose.qpos, pose.mocap, pose.layout)
        frame = Frame(color, depth, DEPTH_UNIT_M, camera.intrinsics, pose.time, number)
        thing = eyes.look(frame).sightings().get("object")
        seen.missed.append(thing is None)
        if thing is not None:
            seen.off_mm.append(1e3 * math.dist((thing.x, thing.y), pose.qpos[at : at + 2]))
    painter.close()
    return seen


def page(files: Sequence[Path]) -> str:
    """The table."""
    told, rows, progress = [read(file) for file in files], [], Progress(None, "cameras")
    progress.stage("places", len(places()))
    for done, camera in enumerate(places()):
        progress.at(done)
        cells = [look(twin, poses, camera).cell() for twin, poses in told]
        rows.append([", ".join(f"{value:g}" for value in camera.eye), *cells])
    return "\n".join(
        [
            "# Where to put the camera",
            "",
            f"`python -m experiments.camera_places look {' '.join(file.name for file in files)}`, commit {git_commit()}; "
            f"{', '.join(str(len(poses)) for _, poses in told)} moments, {EVERY_S} s apart, of sessions on the wire twin.",
            "",
            "The camera stands at x, y, z in the table's frame (x ahead of the robot, y to its left, m) and looks at the table's",
            "middle. In each cell: how often the object is not found, the longest stretch of it, and its distance from the truth",
            "where it is (median / 99th percentile). The first row is the twin's default.",
            "",
            markdown(["camera", *(twin.task.name for twin, _ in told)], rows),
            "",
        ]
    )


def main() -> None:
    """Sample a running twin, or look at what was sampled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    sampling = verbs.add_parser("sample")
    sampling.add_argument("host")
    sampling.add_argument("file", type=Path)
    sampling.add_argument("--seconds", type=float, default=120.0)
    looking = verbs.add_parser("look")
    looking.add_argument("files", type=Path, nargs="+")
    looking.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "sample":
        sample(arguments.host, arguments.file, arguments.seconds)
        return
    text = page(arguments.files)
    print(text)
    if arguments.out:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
