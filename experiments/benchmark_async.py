"""What a learner in a process of its own is worth, and what it costs the actor's control period.

    python -m experiments.benchmark_async BUNDLE    # writes results/benchmark_async.md

Both sides of every comparison take turns, each in a fresh process. *Wall-clock*: the same run in one process and in two.
*Control period*: one environment that answers at 10 Hz, as a robot does, the learner kept busy by many epochs; against the same
loop that nothing learns from. Both need a core for each process, so the machine has to be quiet; processor time, of which the
first table has the actor's and the learner's share, tells what to expect where it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch

from farl import configuration
from farl.algorithms.ppo import PPOConfig
from farl.environments import TaskConfig
from farl.offline.bundle import OfflineBundle
from farl.online.learner import Learner
from farl.online.run import OnlineConfig, Session, train

HERE = "experiments.benchmark_async"
SIDES = ("one process", "two processes")


# --- an environment that takes its time -------------------------------------------------------------------------------


class Paced(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Answers on the ticks of a clock, and notes when each command came."""

    def __init__(self, env: gymnasium.Env[Any, Any], hertz: float) -> None:
        super().__init__(env)
        self.period_s, self.tick = 1 / hertz, 0.0
        self.episodes: list[list[float]] = []
        """moments at which the commands of each episode came, and at which the observations before them were given"""

    def reset(self, **options: Any) -> Any:
        answer = self.env.reset(**options)
        self.tick = time.perf_counter()
        self.episodes.append([])
        return answer

    def step(self, action: Any) -> Any:
        self.episodes[-1].append(time.perf_counter())
        answer = self.env.step(action)
        self.tick += self.period_s
        if (left := self.tick - time.perf_counter()) > 0:
            time.sleep(left)
        else:
            self.tick -= left
        return answer


def make_paced(task: str, hertz: float, **options: Any) -> Paced:
    """A task by its id, slowed down."""
    module, _, name = task.rpartition(":")
    __import__(module)
    return Paced(gymnasium.make(name, **options), hertz)


gymnasium.register("Benchmark/Paced-v0", make_paced)


# --- what runs in a process of its own --------------------------------------------------------------------------------


def whole_run(config: OnlineConfig) -> dict[str, float]:
    """A run from its first step to its end: seconds on the wall and of the processor, and how many of them were updates'."""
    updates, learn = [0.0], Learner.learn

    def timed(self: Learner, *arguments: Any) -> Any:
        begun = time.process_time()
        result = learn(self, *arguments)
        updates[0] += time.process_time() - begun
        return result

    Learner.learn = timed  # type: ignore[method-assign]
    with Session(config) as session:
        wall, processor = time.perf_counter(), time.process_time()
        train(session, config.steps)
        spent = {"wall": time.perf_counter() - wall, "actor": time.process_time() - processor}
        spent["checkpoints"], spent["updates"] = session.checkpoint_seconds, session.update_seconds
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent["learner"] = updates[0] or children.ru_utime + children.ru_stime
    spent["actor"] -= updates[0]
    return spent


def control(config: OnlineConfig) -> dict[str, Any]:
    """Periods and reaction times of a paced loop in seconds; in a ``single`` configuration nothing is learned."""
    with Session(config) as session:
        begun = time.perf_counter()
        if config.mode == "async":
            train(session, config.steps)
        else:
            while session.actor.steps < config.steps:
                session.collect()
                session.save()  # between episodes, as the other side does
        wall = time.perf_counter() - begun
        episodes = session.envs.envs[0].get_wrapper_attr("episodes")  # type: ignore[attr-defined]
        busy = session.update_seconds / wall
    periods = [float(period) for moments in episodes for period in np.diff(moments)]
    return {"periods": periods, "busy": busy, "episodes": len(episodes)}


def apart(job: Callable[[OnlineConfig], dict[str, Any]], config: OnlineConfig) -> dict[str, Any]:
    """The job's result, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(configuration.dump(replace(config, out=Path(folder) / "run")))
        call = f"import {HERE} as b; b.child('{job.__name__}', '{file}')"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", call], env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))


def child(job: str, file: str) -> None:
    """The other end of ``apart``."""
    torch.set_num_threads(1)
    config = configuration.read(OnlineConfig, Path(file))
    print(json.dumps({"whole_run": whole_run, "control": control}[job](config)))


# --- comparisons ------------------------------------------------------------------------------------------------------


def wall_clock(config: OnlineConfig, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The run in one process and in two, in turn."""
    spent: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, mode in zip(SIDES, ("single", "async"), strict=True):
            spent[side].append(apart(whole_run, replace(config, mode=mode)))  # type: ignore[arg-type]
            print(side, {name: round(value, 1) for name, value in spent[side][-1].items()}, flush=True)
    return spent


def control_periods(config: OnlineConfig, seconds: float, hertz: float, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """A paced loop with a learner that is always busy and with none, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = OfflineBundle.load(config.bundle)
        task = TaskConfig(f"{HERE}:Benchmark/Paced-v0", {"task": bundle.task.id, "hertz": hertz, **bundle.task.options})
        replace(bundle, task=task).save(Path(folder) / "bundle")
        # Nothing is to be learned: a small rate keeps the policy, so that both sides do the same.
        ppo = replace(config.ppo, epochs=800, target_kl=float("inf"), warmup=0, lr=1e-9)
        paced = replace(config, task=task, bundle=Path(folder) / "bundle", num_envs=1, rollout_steps=100, ppo=ppo)
        paced = replace(
            paced, steps=int(seconds * hertz), evaluation_episodes=0, link=replace(config.link, swap="episode")
        )
        found: dict[str, list[dict[str, Any]]] = {"no learner": [], "busy learner": []}
        for _ in range(rounds):
            for side, mode in zip(found, ("single", "async"), strict=True):
                found[side].append(apart(control, replace(paced, mode=mode)))  # type: ignore[arg-type]
                print(side, summary(found[side][-1:]), f"busy {found[side][-1]['busy']:.0%}", flush=True)
    return found


def summary(blocks: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds of all periods of some blocks."""
    periods = 1e3 * np.concatenate([block["periods"] for block in blocks])
    quantiles = {f"p{q:g}": round(float(np.percentile(periods, q)), 2) for q in (50, 95, 99, 99.9)}
    return {**quantiles, "max": round(float(periods.max()), 2), "count": len(periods)}


# --- the report -------------------------------------------------------------------------------------------------------


def wall_table(spent: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Medians, ratios round by round, and what processor time alone would have it be."""
    columns = ("wall", "actor", "learner", "checkpoints")
    lines = [
        "| | wall-clock, s | actor's processor time, s | learner's, s | checkpoints, s |",
        "|---|---|---|---|---|",
        *(
            f"| {side} | {' | '.join(f'{median(row[name] for row in rows):.1f}' for name in columns)} |"
            for side, rows in spent.items()
        ),
    ]
    one, two = spent.values()
    ratios = [a["wall"] / b["wall"] for a, b in zip(one, two, strict=True)]
    expected = [(a["actor"] + a["learner"]) / max(b["actor"], b["learner"]) for a, b in zip(one, two, strict=True)]
    return [
        *lines,
        "",
        f"One process / two processes: **{median(ratios):.2f}** on the wall ({', '.join(f'{r:.2f}' for r in ratios)}; target 1.3), "
        f"{median(expected):.2f} by processor time, which is what two free cores would give. The learner's processor time in two "
        "processes includes its start.",
    ]


def control_table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Quantiles of the control period with and without a learner."""
    rows = {side: summary(blocks) for side, blocks in found.items()}
    names = list(next(iter(rows.values())))
    none, busy = rows.values()
    share = median(block["busy"] for block in list(found.values())[1])
    return [
        f"| control period, ms | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
        *(f"| {side} | {' | '.join(f'{row[name]:g}' for name in names)} |" for side, row in rows.items()),
        "",
        f"The 99th percentile grows by **{busy['p99'] - none['p99']:.2f} ms** (target: less than 1). The learner was at work "
        f"{share:.0%} of the time.",
    ]


def report(config: OnlineConfig, wall: list[str], periods: list[str], hertz: float) -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mujoco", "numpy"))
    return "\n".join(
        [
            "# Actor and learner in two processes",
            "",
            f"`python -m experiments.benchmark_async BUNDLE`, with a bundle of {config.task.id}",
            "",
            f"{packages}; Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, one thread a process; "
            f"load averages over the last 1, 5 and 15 minutes {load}.",
            "",
            "## Wall-clock",
            "",
            f"A run of {config.steps:,} agent steps of `{config.method}` at its default settings, evaluations and checkpoints "
            "included; the two take turns, medians.",
            "",
            *wall,
            "",
            "## Control period",
            "",
            f"One environment that answers at {hertz:g} Hz, the gate on; from command to command within episodes, the two taking "
            "turns.",
            "",
            *periods,
            "",
        ]
    )


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder made by `farl offline`")
    parser.add_argument("--steps", type=int, default=OnlineConfig.steps, help="agent steps of a run")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the paced loop, each round and side")
    parser.add_argument("--hertz", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark_async.md"))
    asked = parser.parse_args()
    bundle = OfflineBundle.load(asked.bundle)
    config = OnlineConfig(task=bundle.task, bundle=asked.bundle, steps=asked.steps, ppo=PPOConfig())
    wall = wall_table(wall_clock(config, asked.rounds))
    periods = control_table(control_periods(config, asked.seconds, asked.hertz, asked.rounds))
    text = report(config, wall, periods, asked.hertz)
    print(text)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(text)


if __name__ == "__main__":
    main()
