"""What being reliable costs: seconds spent on checkpoints against all seconds of the same run, and the watchdog.

    python -m experiments.benchmark_checkpoint RUN [RUN ...] [--out results/benchmark_checkpoint.md]

The runs say it themselves (``checkpoint_s`` and ``wall_s`` of ``metrics.jsonl``): the ratio is within one run, so a busy machine
slows both sides of it. Beside it, in turns within this process, what a watchdog costs the steps of an environment.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.tables import markdown
from farl import configuration
from farl.environments import TaskConfig, make_vector, reset_where
from farl.errors import UserError
from farl.files import read_jsonl, write_text
from farl.online.run import OnlineConfig
from farl.watchdog import Watchdog, WatchdogConfig

NUM_ENVS, BLOCK, BLOCKS = 16, 20, 25
"""of the watchdog's cost: environments, steps of all of them in a turn, turns; 20 steps are too few for an episode to end"""


def share(run: Path) -> list[str]:
    """A row: the run, how often it saved, and what that cost."""
    lines = [line for line in read_jsonl(run / "metrics.jsonl") if "checkpoint_s" in line]
    if not lines or not lines[-1]["checkpoint_s"]:
        raise UserError(
            f"{run} has no checkpoint that it measured; give a run of this version that has saved at least once"
        )
    config, last = configuration.read(OnlineConfig, run / "config.yaml"), lines[-1]
    saved = (last["iteration"] - 1) // config.checkpoint_every  # the one after the last line is in none
    seconds = last["checkpoint_s"]
    return [
        config.task.name,
        config.method,
        f"{last['step']:,}",
        str(saved),
        f"{1000 * seconds / max(saved, 1):.1f}",
        f"{last['wall_s'] / max(saved, 1):.1f}",
        f"**{seconds / last['wall_s']:.2%}**",
    ]


def watched(task: TaskConfig) -> list[str]:
    """A row: processor time of a step of all environments, with and without a watchdog, in turns within this process."""
    watchdog = Watchdog(WatchdogConfig())
    watchdog.start()
    kinds = [make_vector(task, NUM_ENVS), make_vector(task, NUM_ENVS, watchdog)]
    taken: list[list[float]] = [[], []]
    everyone, rng = np.ones(NUM_ENVS, bool), np.random.default_rng(0)
    for _ in range(BLOCKS):
        actions = rng.uniform(-0.3, 0.3, (BLOCK, NUM_ENVS, *kinds[0].single_action_space.shape)).astype(np.float32)
        for envs, seconds in zip(kinds, taken, strict=True):
            reset_where(envs, everyone, list(range(NUM_ENVS)))
            start = time.process_time()
            for action in actions:
                envs.step(action)
            seconds.append((time.process_time() - start) / BLOCK)
    watchdog.close()
    without, with_one = (1e6 * float(np.median(seconds)) for seconds in taken)
    ratio = np.array(taken[1]) / np.array(taken[0])
    low, mid, high = np.quantile(ratio, [0.25, 0.5, 0.75])
    return [task.name, f"{without:.0f}", f"{with_one:.0f}", f"{mid:.3f} ({low:.3f} to {high:.3f})"]


def page(runs: Sequence[Path]) -> str:
    ratio = (
        "task",
        "method",
        "agent steps",
        "checkpoints",
        "ms each",
        "seconds between two",
        "share of the run's time",
    )
    tasks = dict.fromkeys(configuration.read(OnlineConfig, run / "config.yaml").task.id for run in runs)
    return "\n".join(
        [
            "# What checkpoints cost",
            "",
            "`python -m experiments.benchmark_checkpoint RUN ...`: within each run, seconds in `save` (the line files are",
            "flushed to disk, the state of every part is gathered, serialised, hashed, written) over all of its seconds.",
            "",
            markdown(ratio, [share(run) for run in runs]),
            "",
            f"The watchdog: microseconds of processor time for a step of {NUM_ENVS} environments, in turns of {BLOCK} steps",
            "within one process, median of the turns and quartiles of their ratio:",
            "",
            markdown(("task", "without", "with", "ratio"), [watched(TaskConfig(task)) for task in tasks]),
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_checkpoint.md"))
    asked = parser.parse_args(argv)
    try:
        write_text(asked.out, page(asked.runs))
    except UserError as error:
        parser.error(str(error))
    print(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
