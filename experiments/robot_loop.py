"""The 10 Hz loop on the wire twin: how exactly commands come, and how long decisions take.

    python -m experiments.robot_loop BUNDLE --minutes 10 --out results/robot_loop.md

Real gate, policy and driver; the twin's camera goes through librealsense where a case has one; the learner is a process of its own
that does nothing but PPO updates of a session's size. Every case is played in turn in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from experiments.tables import markdown
from farl.algorithms.rollout import Rollout
from farl.algorithms.router import Router, Ungated
from farl.methods import find
from farl.offline.bundle import OfflineBundle
from farl.online.config import OnlineConfig, learner_of, parts_of
from farl.online.distributed.learner_process import step_back
from farl.online.provenance import git_commit, versions
from farl.robot.config import RobotSessionConfig
from farl.robot.launching import played, yield_often
from robots.env import FrankaTaskEnv
from robots.operator.choice import OperatorConfig
from robots.session.opening import station_of

CASES = {
    "gate and policy": (False, False),
    "gate, policy, camera": (True, False),
    "gate, policy, busy learner": (False, True),
    "gate, policy, camera, busy learner": (True, True),
}
"""what there is, by name: whether a camera, whether a learner"""

PERIOD_MS, DECISION_MS = 105.0, 30.0
"""what the last case is to reach at its 99th percentiles"""


@dataclass
class Measured:
    """Of every step, milliseconds."""

    period: list[float] = field(default_factory=list)
    decision: list[float] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def row(self, name: str) -> list[str]:
        """For the table."""
        cells = [name, str(len(self.period))]
        for values in (self.period, self.decision):
            p50, p99 = np.percentile(values, [50, 99])
            cells.append(f"{p50:.1f} / {p99:.1f} / {max(values):.1f}")
        return [*cells, told(self.held), told(self.lost)]


def told(reasons: list[str]) -> str:
    """How often which."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reasons).items()) or "0"


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the last case; the others get a fifth of it")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--learn", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    yield_often()
    config = OnlineConfig(task=OfflineBundle.load(arguments.bundle).task, bundle=arguments.bundle)
    if arguments.learn:
        learn(config)
    load, rows = os.getloadavg()[0], []
    for name, (camera, learner) in CASES.items():
        minutes = arguments.minutes / (1 if camera and learner else 5)
        with busy(arguments.bundle) if learner else contextlib.nullcontext():
            rows.append(measure(config, camera, 60.0 * minutes).row(name))
        print(" | ".join(rows[-1]), flush=True)
    text = report(arguments, rows, load)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def measure(config: OnlineConfig, camera: bool, seconds: float) -> Measured:
    """Play episodes for that long, with the bundle's policy exploring and its gate on."""
    bundle = OfflineBundle.load(config.bundle)
    task, robot = played(RobotSessionConfig(task=config.task, bundle=config.bundle))
    robot = replace(robot, twin_eyes="camera" if camera else "truth", operator=OperatorConfig("nobody"))
    router = find("farl").router(parts_of(config, bundle, SimpleNamespace(num_envs=1, envs=[]), torch.Generator()))
    env, measured = FrankaTaskEnv(task, lambda: station_of(robot, task), robot.env), Measured()
    noise, seed, until = torch.Generator().manual_seed(0), 0, None
    try:
        while until is None or time.monotonic() < until:
            env.reset(seed=seed)
            until = until or time.monotonic() + seconds
            router.reset(torch.ones(1, dtype=torch.bool))
            episode(env, bundle, router, noise, measured, until)
            seed += 1
    finally:
        env.close()
    return measured


@torch.no_grad()
def episode(
    env: FrankaTaskEnv,
    bundle: OfflineBundle,
    router: Router | Ungated,
    noise: torch.Generator,
    measured: Measured,
    until: float,
) -> None:
    """One of them; its first step has no period yet."""
    obs, over, gate = env.look_again(), False, router.gate
    while not over and time.monotonic() < until:
        seen = torch.from_numpy(obs)[None]
        decision = router.decide(seen, bundle.policy.sample(bundle.policy.act(seen), noise))
        executed, proposed, recovery = (
            tuple(one[0].clamp(-1, 1).tolist()) for one in (decision.executed, decision.proposed, decision.recovery)
        )
        threshold = float("inf") if gate is None else gate.threshold
        source = "recovery" if decision.gated[0] else "task"
        gated = env.decided(executed, proposed, recovery, float(decision.risk[0]), threshold, source)
        env.permit(gated)
        begun = env.episode is not None and env.episode.steps > 0
        obs, _, terminated, truncated, info = env.step(np.array(executed, np.float32))
        over = terminated or truncated
        if begun:
            measured.period.append(1e3 * env.pace.period)
        measured.decision.append(1e3 * (gated.decided_at - gated.observed_at))
        if "held" in info["clipped"]:
            measured.held.append(", ".join(word for word in info["clipped"] if word != "held"))
        if info["lost"]:
            measured.lost.append(info["lost"])


@contextlib.contextmanager
def busy(bundle: Path) -> Iterator[None]:
    """A process that learns meanwhile."""
    command = [sys.executable, "-m", "experiments.robot_loop", str(bundle), "--learn"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield
        finally:
            process.kill()


def learn(config: OnlineConfig) -> None:
    """One update after another on a session's 256 steps, for ever."""
    bundle = OfflineBundle.load(config.bundle)
    ours = RobotSessionConfig(task=config.task, bundle=config.bundle).online()
    if ours.link.spare:
        step_back()
    learner, shape = learner_of(ours, bundle), bundle.shape
    generator = torch.Generator().manual_seed(0)
    rollout = Rollout.empty(ours.rollout_steps, 1, shape.obs_dim, shape.act_dim)
    for name in ("obs", "next_obs", "proposed", "executed", "reward"):
        getattr(rollout, name).normal_(generator=generator)
    rollout.truncated[149::150] = True
    print("learning", flush=True)
    while True:
        learner.learn(rollout, 0.5)


def report(arguments: argparse.Namespace, rows: list[list[str]], load: float) -> str:
    """The page."""
    head = ["case", "steps", "period, ms", "decision, ms", "held", "lost episodes"]
    found = versions()
    command = f"python -m experiments.robot_loop {arguments.bundle.name} --minutes {arguments.minutes:g}"
    made = f"commit {git_commit()}, Python {found['python']}, torch {found['torch']}, {os.cpu_count()} cores"
    lines = [
        "# The 10 Hz loop on the wire twin",
        "",
        f"`{command}`, {made}. The load was {load:.1f} before it began; session, twin, camera and learner come on top of it.",
        "",
        "Each cell: median / 99th percentile / largest. The period is between two commands; a decision is policy, gate and",
        "recovery, from the observation on. The last case is to stay within "
        f"{PERIOD_MS:g} and {DECISION_MS:g} ms at its 99th percentiles.",
        "",
        markdown(head, rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
