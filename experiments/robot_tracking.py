"""How well the arm follows ten commands a second, and how regular they are: the tracking table.

    python -m experiments.robot_tracking [--seconds 60] [--busy 1] [--output results/robot_tracking.md]

The real driver on the wire twin over loopback, along a rectangle beside the object. Every command is decided by a task policy, a
recovery policy and a gate with a world model, all of the method's default sizes and untrained: what they say is logged as a
decision is and does not steer, how long they take is what counts. ``--busy`` adds processes that train a network meanwhile.
The *error* is the distance of finger and reference just before each command, when the reference has stood still the longest.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from experiments.tables import markdown
from failurebench.franka.geometry import Vec2
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.scene import Layout, Scene
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.risk import ImaginedRisk, RiskConfig
from farl.algorithms.router import Router
from farl.files import write_text
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.state_model import StateModel
from robots.actions import GatedAction
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.arm.interface import ArmState
from robots.limits import PERIOD_S, Limits
from robots.twin.process import TwinProcess

TASK = FrankaFragilePushWall()
CORNERS: tuple[Vec2, ...] = ((0.355, -0.16), (0.385, -0.16), (0.385, 0.16), (0.355, 0.16))
"""of the way, m; the box stands beyond it"""

LEAD_S = 0.03
"""from an observation to the command that is decided on it"""


THRESHOLD = 0.3


class Step(NamedTuple):
    """What was measured of one command; metres and seconds."""

    error: float
    period: float
    decision: float
    call: float
    fault: str


class Decider:
    """Policy, recovery and gate of the default sizes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        normalizer = Normalizer(len(TASK.fields))
        policy, recovery = (GaussianPolicy(normalizer, 2, std=0.1) for _ in range(2))
        self.policy = policy
        critic = ImaginedRisk(StateModel(normalizer, 2), policy, RiskConfig())
        self.router = Router(recovery, critic, Gate(GateConfig(), THRESHOLD, 1))

    @torch.no_grad()
    def decide(self, state: ArmState, layout: Layout, executed: Vec2) -> GatedAction:
        """A decision about what is seen now; what is executed is somebody else's."""
        observed = time.monotonic()
        scene = Scene(state.tip[:2], state.tip_velocity[:2], layout.object, force_n=math.hypot(*state.force))
        obs = torch.from_numpy(TASK.observation(scene, layout))[None]
        proposed = self.policy.act(obs)
        decision = self.router.decide(obs, proposed)
        x, y = decision.recovery[0].tolist()
        risk = float(decision.risk[0])
        return GatedAction(executed, executed, (x, y), risk, THRESHOLD, "human", observed, time.monotonic())


def follow(arm: FrankyArm, decider: Decider, layout: Layout, share: float, seconds: float) -> list[Step]:
    """Go round for so long with ``share`` of the full command."""
    steps, corner = [], 0
    due = commanded = time.monotonic() + PERIOD_S
    while len(steps) < seconds / PERIOD_S:
        time.sleep(max(due - LEAD_S - time.monotonic(), 0.0))
        state = arm.state()
        if math.dist(state.reference, CORNERS[corner]) < 1e-3:
            corner = (corner + 1) % len(CORNERS)
        action = decider.decide(state, layout, towards(state.reference, CORNERS[corner], share))
        decided = time.monotonic()
        time.sleep(max(due - decided, 0.0))
        now, state = time.monotonic(), arm.state()
        error = math.dist(state.tip[:2], state.reference)
        told = arm.command(action)
        steps.append(Step(error, now - commanded, decided - action.observed_at, time.monotonic() - now, told.fault))
        commanded, due = now, max(due + PERIOD_S, now)
    return steps[1:]


def towards(reference: Vec2, corner: Vec2, share: float) -> Vec2:
    """The command that brings the reference nearer to the corner, or there."""
    way = corner[0] - reference[0], corner[1] - reference[1]
    full = math.hypot(*way) / TASK.step_m
    scale = min(share, full) / (full * TASK.step_m) if full else 0.0
    return way[0] * scale, way[1] * scale


def train() -> None:
    """A process that is as busy as a learner, until it is killed."""
    torch.set_num_threads(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 256), torch.nn.SiLU(), torch.nn.Linear(256, 256), torch.nn.Linear(256, 1)
    )
    optimizer = torch.optim.Adam(network.parameters())
    while True:
        loss = network(torch.randn(256, 64)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(backend: str, share: float, busy: int, seconds: float) -> list[str]:
    """One row."""
    context = multiprocessing.get_context("spawn")
    learners = [context.Process(target=train, daemon=True) for _ in range(busy)]
    with TwinProcess(TASK, seed=3) as twin:
        arm = FrankyArm(ArmConfig(twin.host, backend=backend), TASK, Limits())  # type: ignore[arg-type]
        arm.connect()
        for learner in learners:
            learner.start()
        try:
            arm.move_to(CORNERS[0], 0.15)
            steps = follow(arm, Decider(), twin.layout(), share, seconds)
        finally:
            for learner in learners:
                learner.kill()
            arm.close()
    return [backend, f"{share:g}", str(busy), *summary(steps)]


def summary(steps: Sequence[Step]) -> list[str]:
    """Millimetres of error, then milliseconds."""
    error, period, decision, call = (1000.0 * np.array(column) for column in list(zip(*steps, strict=True))[:4])
    return [
        str(len(steps)),
        f"{np.median(error):.1f} / {np.percentile(error, 95):.1f} / {error.max():.1f}",
        f"{np.median(period):.1f} / {np.percentile(period, 99):.1f} / {period.max():.1f}",
        f"{np.median(decision):.1f} / {np.percentile(decision, 99):.1f}",
        f"{np.median(call):.2f} / {np.percentile(call, 99):.2f}",
        told(steps),
    ]


def told(steps: Sequence[Step]) -> str:
    """How many commands were refused, and why."""
    faults = sorted({step.fault for step in steps if step.fault})
    return str(sum(bool(step.fault) for step in steps)) + (f" ({', '.join(faults)})" if faults else "")


HEAD = [
    "backend",
    "share of full command",
    "busy processes",
    "commands",
    "error, mm: median / p95 / max",
    "period, ms: median / p99 / max",
    "decision, ms: median / p99",
    "call of `command`, ms: median / p99",
    "refused",
]


def report(rows: list[list[str]], loads: list[float]) -> str:
    """The page."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("franky-control", "franky-sim", "mujoco", "torch"))
    return "\n".join(
        [
            "# How the arm follows its commands",
            "",
            f"`python -m experiments.robot_tracking {' '.join(sys.argv[1:])}`, {packages}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores. Load averages while it ran: {min(loads):.1f} to {max(loads):.1f}.",
            "",
            "Loopback: driver, simulated controller and what keeps the cores busy share the machine. A full command is 0.15 m/s. "
            "The decision is by networks of the default sizes; its time is from the observation to the decision.",
            "",
            markdown(HEAD, rows),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each row")
    parser.add_argument(
        "--busy", type=int, default=1, help="processes that train meanwhile, in the rows that have them"
    )
    parser.add_argument("--output", type=Path, default=Path("results/robot_tracking.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, loads = [], []
    for backend, share, busy in (
        ("impedance", 0.5, 0),
        ("impedance", 1.0, 0),
        ("impedance", 1.0, options.busy),
        ("velocity", 0.5, 0),
    ):
        rows.append(measure(backend, share, busy, options.seconds))
        loads.append(os.getloadavg()[0])
        print(rows[-1], flush=True)
    write_text(options.output, report(rows, loads))


if __name__ == "__main__":
    main()
