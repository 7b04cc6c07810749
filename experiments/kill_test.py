"""A run that is killed at fifty moments and started again each time, against the same run left alone.

    python -m experiments.kill_test [--kills 50] [--seed 0] [--work FOLDER] [--out results/kill_test.md]

The run is `farl online` with the method farl on the point mass, every start a process of its own that ends by SIGKILL. Half of
the moments are drawn at random; the others are aimed at a checkpoint being written, at a line being appended (which is then
torn in the middle) and at an update. What the process was doing when it died it has noted in a page of shared memory.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from experiments.point_mass import make_bundle, run_config
from experiments.run_equality import differences
from experiments.tables import markdown
from farl import configuration
from farl.algorithms.ppo import PPOConfig
from farl.files import read_jsonl, write_text
from farl.online.run import OnlineConfig

Aim = Literal["start", "moment", "checkpoint", "append", "update"]
SHARES: dict[Aim, float] = {"start": 0.08, "moment": 0.44, "checkpoint": 0.16, "append": 0.16, "update": 0.16}
"""how often the kills are aimed at what"""
STREAMS = ("episodes", "metrics", "failures", "evaluations")
STEPS = 40_960


@dataclass(frozen=True)
class Kill:
    """When a process is to die."""

    aim: Aim
    step: int
    """agent steps of the run after which the aim is taken"""
    fraction: float
    """from 0 to 1: how far into the moment that is aimed at"""
    stream: str = "episodes"
    """whose line is torn, if that is the aim"""


def plan(kills: int, steps: int, seed: int) -> list[Kill]:
    """Kills in the order of the run, spread evenly over it, at random within their part of it."""
    rng = np.random.default_rng(seed)
    aims = [aim for aim, share in SHARES.items() for _ in range(round(share * kills))]
    aims = [*aims, *["moment"] * kills][:kills]
    rng.shuffle(aims)  # type: ignore[arg-type]
    streams = [*STREAMS[:3], "episodes"]  # an evaluation comes too seldom to wait for its line
    places = (np.arange(kills) + rng.random(kills)) / kills * 0.95 * steps
    return [
        Kill(aim, int(place), float(rng.random()), streams[int(rng.integers(4))])  # type: ignore[arg-type]
        for aim, place in zip(aims, places, strict=True)
    ]


class Notes:
    """A page of shared memory: how far the run is and what it is doing. It outlives the process that writes it."""

    SIZE = 8 + 32

    def __init__(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size != self.SIZE:
            path.write_bytes(bytes(self.SIZE))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), self.SIZE)

    def reset(self) -> None:
        self._page[:] = bytes(self.SIZE)

    @property
    def steps(self) -> int:
        return int(struct.unpack_from("q", self._page)[0])

    @steps.setter
    def steps(self, value: int) -> None:
        struct.pack_into("q", self._page, 0, value)

    @property
    def doing(self) -> str:
        return self._page[8:].rstrip(b"\0").decode()

    @doing.setter
    def doing(self, value: str) -> None:
        self._page[8:] = value.encode().ljust(32, b"\0")

    @contextmanager
    def during(self, what: str) -> Any:
        before, self.doing = self.doing, what
        try:
            yield
        finally:
            self.doing = before


# ---------------------------------------------------------------- the process that is killed


def victim(config: Path, page: Path, tear: str = "", at: int = 0, fraction: float = 0.0) -> int:
    """`farl online CONFIG`, which notes what it does; with ``tear`` it dies while it appends to that stream."""
    from farl import cli
    from farl.algorithms.ppo import PPO
    from farl.offline import evaluation
    from farl.online import checkpoint
    from farl.online.actor import Actor
    from farl.online.recorder import Recorder

    notes = Notes(page)
    notes.doing = "starting"
    execute, write = Actor._execute, Recorder.write

    def step(self: Actor, *arguments: Any) -> None:
        notes.steps = self.steps
        execute(self, *arguments)

    def append(self: Recorder, stream: str, record: dict[str, Any]) -> None:
        if stream == tear and notes.steps >= at:
            _tear(self.folder / f"{stream}.jsonl", record, fraction, notes)
        with notes.during(f"appending to {stream}"):
            write(self, stream, record)

    Actor._execute, Recorder.write = step, append  # type: ignore[method-assign]
    Actor.collect = _noted(Actor.collect, "collecting", notes)  # type: ignore[method-assign]
    PPO.update = _noted(PPO.update, "updating", notes)  # type: ignore[method-assign]
    checkpoint.save = _noted(checkpoint.save, "writing a checkpoint", notes)
    evaluation._round = _noted(evaluation._round, "evaluating", notes)
    return cli.main(["online", str(config)])


def _noted(function: Callable[..., Any], what: str, notes: Notes) -> Callable[..., Any]:
    @wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        with notes.during(what):
            return function(*arguments, **options)

    return noted


def _tear(path: Path, record: dict[str, Any], fraction: float, notes: Notes) -> None:
    """Append the beginning of the line, and die."""
    import json

    line = json.dumps(record).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        file.write(line[: int(fraction * len(line))])
    notes.doing = f"appending to {path.stem}"
    os.kill(os.getpid(), signal.SIGKILL)


# ---------------------------------------------------------------- the process that kills


@dataclass(frozen=True)
class Death:
    """What became of one start."""

    kill: Kill
    step: int
    doing: str
    left: str
    """what lay in the run directory afterwards that the next start had to put right"""


class Started(Protocol):
    """A process, as ``subprocess.Popen`` has it."""

    returncode: int | Any

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...
    def communicate(self) -> tuple[Any, bytes]: ...


Begin = Callable[..., Started]


def start(config: Path, page: Path, *arguments: str) -> Started:
    """The run, or what is left of it."""
    command = [sys.executable, "-m", "experiments.kill_test", "victim", str(config), str(page), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def carry_out(kill: Kill, config: Path, page: Path, folder: Path, begin: Begin) -> Death:
    """Start the run and kill it; raises RuntimeError if it ended by itself."""
    notes = Notes(page)
    notes.reset()
    tear = (kill.stream, str(kill.step), str(kill.fraction)) if kill.aim == "append" else ()
    process = begin(config, page, *tear)
    try:
        _await(kill, notes, process)
    finally:
        process.kill()
        _, said = process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the run ended before it could be killed ({kill}): {said.decode()}")
    return Death(kill, notes.steps, notes.doing, left_behind(folder))


def _await(kill: Kill, notes: Notes, process: Started) -> None:
    """Return at the moment at which the process is to be killed, or when it has ended."""
    if kill.aim == "start":
        _wait(lambda: notes.doing == "starting", process)
        time.sleep(3.0 * kill.fraction)
        return
    if kill.aim == "append":
        process.wait()  # it kills itself, because the moment is too short to be met from outside
        return
    _wait(lambda: notes.steps >= kill.step, process)
    longest = {"moment": 0.2, "checkpoint": 0.015, "update": 0.06}[kill.aim]
    wanted = {"checkpoint": "writing a checkpoint", "update": "updating"}.get(kill.aim)
    if wanted is not None:
        _wait(lambda: notes.doing == wanted, process)
    time.sleep(longest * kill.fraction)


def _wait(until: Callable[[], bool], process: Started) -> None:
    while not until() and process.poll() is None:
        time.sleep(0.0002)


def left_behind(folder: Path) -> str:
    """Half-written files, torn lines, and what was written after the newest checkpoint."""
    from farl.online import checkpoint

    found = [f"{path.stat().st_size} bytes of a {path.parent.name[:-1]}" for path in folder.glob("checkpoints/.*.part")]
    state = checkpoint.load_latest(folder / "checkpoints")
    counted = {} if state is None else state["recorder"]["lines"]
    for stream in STREAMS:
        path = folder / f"{stream}.jsonl"
        content = path.read_bytes() if path.exists() else b""
        if later := content.count(b"\n") - counted.get(stream, 0):
            found.append(f"{later} {stream}")
        if torn := len(content.rpartition(b"\n")[2]):
            found.append(f"{torn} bytes of a line of {stream}")
    return ", ".join(found) or "nothing"


def run_to_the_end(config: Path, page: Path, begin: Begin) -> None:
    process = begin(config, page)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said.decode())


def small_run(bundle: Path, out: Path, steps: int = STEPS) -> OnlineConfig:
    """Short iterations, with a checkpoint after every other one."""
    return run_config(
        bundle,
        out,
        steps=steps,
        num_envs=8,
        rollout_steps=32,
        checkpoint_every=2,
        evaluate_every=steps // 8,
        evaluation_episodes=8,
        ppo=PPOConfig(warmup=2, epochs=2, batch=64, gamma=0.95),
    )


def trial(
    bundle: Path, work: Path, kills: Sequence[Kill], steps: int = STEPS, begin: Begin = start
) -> tuple[list[Death], list[str]]:
    """The deaths, and in what the run that died them differs from the one that was left alone."""
    runs = {name: work / name for name in ("alone", "killed")}
    for name, out in runs.items():
        shutil.rmtree(out, ignore_errors=True)
        write_text(work / f"{name}.yaml", configuration.dump(small_run(bundle, out, steps)))
    page = work / "page"
    run_to_the_end(work / "alone.yaml", page, begin)
    deaths = []
    for kill in kills:
        deaths.append(carry_out(kill, work / "killed.yaml", page, runs["killed"], begin))
        print(f"{len(deaths):3d}  {_row(deaths[-1])}", flush=True)
    run_to_the_end(work / "killed.yaml", page, begin)
    return deaths, differences(runs["alone"], runs["killed"])


def _row(death: Death) -> list[str]:
    aim = "at random" if death.kill.aim == "moment" else death.kill.aim
    return [aim, f"{death.step:,}", death.doing or "starting", death.left]


def report(deaths: Sequence[Death], differing: Sequence[str], work: Path, command: str) -> str:
    """The page."""
    episodes = list(read_jsonl(work / "killed" / "episodes.jsonl"))
    once = [line["episode"] for line in episodes] == list(range(len(episodes)))
    rows = [[str(number), *_row(death)] for number, death in enumerate(deaths, 1)]
    verdict = "none" if not differing else "; ".join(differing)
    return "\n".join(
        [
            f"# Killed {len(deaths)} times",
            "",
            f"`{command}`: one run of the method farl on the point mass ({STEPS:,} agent steps, a checkpoint every 512),",
            "ended by SIGKILL and started again with the same command until it was finished, beside the same run left alone.",
            "*At random*: any moment of the run; *start*: up to 3 s after the process began; *append*: the line is torn at",
            "a random place; *checkpoint* and *update*: at a random moment of one.",
            "",
            f"- Differences between the two runs: **{verdict}** (episodes, metrics but for their clocks, evaluations, failures,",
            "  clips, curves in TensorBoard and every part of the last checkpoint, the weights among them, bit for bit).",
            f"- Episodes: {len(episodes):,}, each listed **{'exactly once' if once else 'NOT exactly once'}**.",
            "",
            markdown(
                ["kill", "aimed at", "agent steps", "what it was doing", "what it left after its last checkpoint"], rows
            ),
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["victim"]:
        config, page, *tear = given[1:]
        return victim(Path(config), Path(page), *((tear[0], int(tear[1]), float(tear[2])) if tear else ()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work", type=Path, default=Path("runs/kill-test"), help="folder of the runs; made anew")
    parser.add_argument("--out", type=Path, default=Path("results/kill_test.md"))
    asked = parser.parse_args(given)
    bundle = make_bundle(asked.work)
    deaths, differing = trial(bundle, asked.work, plan(asked.kills, STEPS, asked.seed))
    command = f"python -m experiments.kill_test --kills {asked.kills} --seed {asked.seed}"
    write_text(asked.out, report(deaths, differing, asked.work, command))
    print(f"{asked.out}: {'; '.join(differing) or 'no difference'}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
