"""How fast Bounded Push steps: beside stock MetaWorld and bare MuJoCo, interleaved in one process, one core.

    OMP_NUM_THREADS=1 python experiments/benchmark_env.py

All of them drive the same random actions through 12.5 ms simulator steps; resets are included where there are any.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import gymnasium
import metaworld  # noqa: F401  (registers the stock ids)
import mujoco
import numpy as np

import failurebench

TASK = "FailureBench/BoundedPush-v0"
VECTOR_ENVS = 16
RESULT = Path("results/benchmark_env.md")

Stepper = Callable[[int], None]
"""drive that many steps"""


def single(env: gymnasium.Env, rng: np.random.Generator) -> Stepper:
    """Step an environment with random actions, resetting when its episode ends."""
    env.reset(seed=0)

    def run(steps: int) -> None:
        for action in rng.uniform(-1, 1, (steps, 4)).astype(np.float32):
            *_, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return run


def bare(rng: np.random.Generator) -> Stepper:
    """Only the physics: move the mocap body and call ``mj_step``."""
    env = gymnasium.make(TASK).unwrapped
    env.reset(seed=0)
    model, data = env._episode.sawyer.model, env._episode.sawyer.data
    start = env.get_state()
    left = 0

    def run(steps: int) -> None:
        nonlocal left
        for dx, dy, dz, grip in rng.uniform(-1, 1, (steps, 4)):
            if left == 0:  # as often as the stock environment resets
                env.set_state(start)
                left = 500
            left -= 1
            data.mocap_pos[0] = np.clip(data.mocap_pos[0] + (0.01 * dx, 0.01 * dy, 0.01 * dz), (-0.5, 0.4, 0.05), 1.0)
            data.ctrl[:] = grip, -grip
            mujoco.mj_step(model, data, nstep=5)

    return run


def vector(rng: np.random.Generator) -> Stepper:
    """Agent steps (two simulator steps each) of the vector environment."""
    env = failurebench.make_vec(TASK, VECTOR_ENVS)
    env.reset(seed=0)

    def run(steps: int) -> None:
        for actions in rng.uniform(-1, 1, (steps // VECTOR_ENVS, VECTOR_ENVS, 4)).astype(np.float32):
            env.step(actions)

    return run


def measure(steppers: dict[str, Stepper], rounds: int, steps: int) -> dict[str, list[float]]:
    """Steps per second of each, round by round, so that a busy moment touches all of them."""
    rates: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, run in steppers.items():
            began = time.perf_counter()
            run(steps)
            rates[name].append(steps / (time.perf_counter() - began))
    return rates


def report(rates: dict[str, list[float]], command: str) -> str:
    """A markdown table of medians, and of the ratios to stock taken round by round."""
    stock = rates["stock"]
    lines = ["# Speed of the environment", "", f"`{command}`", "", versions(), ""]
    lines += ["| | steps/s | x stock, median of rounds (range) |", "|---|---|---|"]
    for name, values in rates.items():
        ratios = [value / reference for value, reference in zip(values, stock, strict=True)]
        lines.append(
            f"| {LABELS[name]} | {median(values):,.0f} | {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
        )
    return "\n".join(lines) + "\n"


LABELS = {
    "stock": '`gymnasium.make("Meta-World/MT1", env_name="push-v3")`, resets included',
    "single": f"`gymnasium.make({TASK!r}, action_repeat=1)`, resets included",
    "bare": "bare `mj_step(nstep=5)`",
    "vector": f"`failurebench.make_vec({TASK!r}, {VECTOR_ENVS})`, agent steps (2 simulator steps each)",
}


def versions() -> str:
    """What was measured on what."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "metaworld", "gymnasium", "numpy"))
    return f"{packages}; Python {platform.python_version()}, {platform.machine()}, one process, one thread"


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2000, help="steps per round and contestant")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    steppers = {
        "stock": single(gymnasium.make("Meta-World/MT1", env_name="push-v3"), rng),
        "single": single(gymnasium.make(TASK, action_repeat=1), rng),
        "bare": bare(rng),
        "vector": vector(rng),
    }
    measure(steppers, 1, 500)  # warm up
    command = f"python experiments/benchmark_env.py --rounds {arguments.rounds} --steps {arguments.steps}"
    table = report(measure(steppers, arguments.rounds, arguments.steps), command)
    print(table)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(table)


if __name__ == "__main__":
    main()
