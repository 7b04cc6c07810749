"""Write a dataset of ours as a LeRobotDataset v3, load it again through LeRobot, and compare every number.

LeRobot needs another torch than farl does, so this runs in an environment of its own and reads the HDF5 file itself::

    scripts/lerobot_env
    .lerobot-venv/bin/python experiments/export_lerobot.py demos/bounded-push/task.hdf5 lerobot/bounded-push-task

Exit status 0: what LeRobot loads equals the file. 1: it does not, and nothing is left behind. 2: it cannot be done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

# ``next.*`` is what an action led to, as LeRobot's own datasets name it. A frame shows what was seen before the action; the
# last observation of an episode would be lost without ``next.observation.state``.
COLUMNS = {
    "observation.state": "obs/state",
    "next.observation.state": "next_obs/state",
    "action": "actions",
    "next.reward": "rewards",
    "next.done": "dones",
    "next.terminated": "terminated",
    "next.truncated": "truncated",
    "next.failure": "failure",
    "next.margin": "margin",
}
SIDECAR = Path("meta/farl.json")
"""what LeRobot has no place for: seeds, outcomes and who acted, by episode, and the dataset's attributes"""


class Recorded(NamedTuple):
    """One episode as frames: arrays with a row a frame, and what is said once."""

    frames: dict[str, np.ndarray]
    about: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    warnings.filterwarnings("ignore", message="Cannot enable progress bars")
    warnings.filterwarnings(
        "ignore", message="Converting input from bool", category=RuntimeWarning
    )  # its statistics of flags
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_DATASETS_CACHE"] = cache
        try:
            if arguments.check:
                return _report(differences(arguments.file, arguments.out), arguments)
            return export(arguments)
        except (OSError, KeyError, ValueError) as error:
            print(f"export_lerobot: {arguments.file} to {arguments.out}: {error}", file=sys.stderr)
            return 2


def export(arguments: argparse.Namespace) -> int:
    """Write beside ``out``, compare, and only then give it its name."""
    if arguments.out.exists():
        raise ValueError(f"{arguments.out} exists; choose another folder, or --check compares it with {arguments.file}")
    part = arguments.out.with_name(f".{arguments.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write(arguments.file, part, arguments.task, arguments.fps)
        differing = differences(arguments.file, part)
        if not differing:
            part.rename(arguments.out)
        return _report(differing, arguments)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write(file: Path, out: Path, task: str, fps: int) -> None:
    """A LeRobotDataset v3 in ``out`` with a frame for every agent step of ``file``."""
    attrs, env = _attributes(file)
    fps = fps or attrs.get("fps") or 0
    if fps < 1:
        raise ValueError(f"{file} does not say how many agent steps a second has; give --fps, for example --fps 40")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # takes seconds

    episodes = list(read(file))
    out.parent.mkdir(parents=True, exist_ok=True)
    dataset = LeRobotDataset.create(
        out.name, int(fps), _features(episodes), root=out, robot_type=env["env_name"], use_videos=False
    )
    for episode in episodes:
        for row in range(len(episode.frames["action"])):
            frame = {name: values[row] for name, values in episode.frames.items()}
            dataset.add_frame({**frame, "task": task or env["env_name"]})
        dataset.save_episode()
    dataset.finalize()
    sidecar = {"attrs": attrs, "env": env, "episodes": [episode.about for episode in episodes]}
    (out / SIDECAR).write_text(json.dumps(sidecar, indent=2) + "\n")


def differences(file: Path, out: Path) -> list[str]:
    """Where what LeRobot loads from ``out`` is not what ``file`` holds, in words; every number is compared."""
    if not (out / "meta" / "info.json").is_file():
        raise ValueError(f"{out} is no LeRobotDataset: it has no meta/info.json")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset, row, found = LeRobotDataset(out.name, root=out), 0, []
    about = json.loads((out / SIDECAR).read_text())["episodes"]
    episodes = list(read(file))
    frames = sum(len(episode.frames["action"]) for episode in episodes)
    if (len(dataset), dataset.num_episodes) != (frames, len(episodes)):
        return [f"{len(dataset)} frames in {dataset.num_episodes} episodes, not {frames} in {len(episodes)}"]
    for index, episode in enumerate(episodes):
        if about[index] != episode.about:
            found.append(f"episode {index}: {about[index]}, not {episode.about}")
        for step in range(len(episode.frames["action"])):
            item, row = dataset[row], row + 1
            if (int(item["episode_index"]), int(item["frame_index"])) != (index, step):
                found.append(f"row {row - 1} is not step {step} of episode {index}")
            for name, values in episode.frames.items():
                loaded = np.asarray(item[name]).reshape(values[step].shape)
                if not np.array_equal(loaded, values[step], equal_nan=values.dtype.kind == "f"):
                    found.append(
                        f"episode {index}, step {step}, {name}: {loaded.tolist()}, not {values[step].tolist()}"
                    )
    return found


def read(file: Path) -> Iterator[Recorded]:
    """The episodes of ``file`` in the order in which they were collected."""
    with h5py.File(file) as opened:
        for name in sorted(opened["data"], key=lambda name: int(name.rpartition("_")[2])):
            group = opened["data"][name]
            frames = {column: _row_per_frame(group[key][()]) for column, key in COLUMNS.items()}
            frames["next.done"] = frames["next.done"].astype(bool)
            about = {key: group.attrs[key] for key in ("outcome", "behaviour", "task")} | {
                "seed": int(group.attrs["seed"])
            }
            last = np.arange(len(frames["action"])) == len(frames["action"]) - 1
            frames["next.success"] = _row_per_frame(last & (about["outcome"] == "success"))
            for key, array in _extra(group).items():
                if _fits(array):
                    frames["risk" if key == "risk" else f"extra.{key}"] = _row_per_frame(array)
            yield Recorded(frames, about)


def left_out(file: Path) -> list[str]:
    """Further arrays of ``file`` that LeRobot would not give back as they are: it reads 64-bit floats as 32-bit ones."""
    with h5py.File(file) as opened:
        groups = list(opened["data"].values())
        return sorted({key for group in groups for key, array in _extra(group).items() if not _fits(array)})


def _extra(group: h5py.Group) -> dict[str, np.ndarray]:
    return {key: values[()] for key, values in group.get("extra", {}).items()}


def _fits(array: np.ndarray) -> bool:
    return bool(array.size) and array.dtype in (np.float32, np.bool_, np.int64, np.uint8)


def _row_per_frame(array: np.ndarray) -> np.ndarray:
    return array[:, None] if array.ndim == 1 else array


def _features(episodes: list[Recorded]) -> dict[str, dict[str, Any]]:
    frames = episodes[0].frames
    return {name: {"dtype": str(a.dtype), "shape": a.shape[1:], "names": None} for name, a in frames.items()}


def _attributes(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with h5py.File(file) as opened:
        if "data" not in opened or "farl" not in opened["data"].attrs:
            raise ValueError(f"{file} was not written by farl; `farl datasets` lists those that were")
        attrs = opened["data"].attrs
        return json.loads(attrs["farl"])["attrs"], json.loads(attrs["env_args"])


def _report(differing: list[str], arguments: argparse.Namespace) -> int:
    if differing:
        print(*differing[:10], f"{len(differing)} differences", sep="\n", file=sys.stderr)
        return 1
    missing = left_out(arguments.file)
    print(
        f"{arguments.out}: every number equals {arguments.file}"
        + (f"; left out: {', '.join(missing)}" if missing else "")
    )
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="a dataset made by `farl demos` or `farl datasets import`")
    parser.add_argument("out", type=Path, help="folder of the LeRobotDataset; must not exist")
    parser.add_argument("--task", default="", help="the task in words; its id unless given")
    parser.add_argument("--fps", type=int, default=0, help="agent steps a second; what the dataset says unless given")
    parser.add_argument("--check", action="store_true", help="write nothing: compare an earlier export with the file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
