"""Memory of a run of two million agent steps: a run of the method farl on the point mass, looked at every few seconds.

    python -m experiments.long_run [--steps 2000000] [--work FOLDER] [--out results/long_run.md]

The same command continues one that was interrupted. Beside the page: every look in a CSV, and a figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.point_mass import make_bundle, run_config
from experiments.tables import Row, cell, markdown, read_table
from farl import configuration
from farl.algorithms.ppo import PPOConfig
from farl.files import write_text
from farl.online.provenance import is_finished, versions

EVERY_S = 5.0
COLUMNS = ("start", "step", "seconds", "resident_mb", "own_mb")
"""number of the process, agent steps of the run, seconds of the process, memory in MiB: all that is resident, and what of it is
the process's own (anonymous: not mapped from a file, which the kernel may drop and read again)"""
WARM = 400_000
"""agent steps after which memory has to be flat: until then the allocator's heap finds its size"""


def look(process: subprocess.Popen[bytes], metrics: Path, started: float, start: int) -> Row:
    """Where the run is and what its process holds now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    held = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if line.endswith(" kB")}
    step = int(_last(metrics).get("step", 0))
    return {
        "start": start,
        "step": step,
        "seconds": round(time.monotonic() - started),
        "resident_mb": round(held["VmRSS"], 1),
        "own_mb": round(held["RssAnon"], 1),
    }


def _last(metrics: Path) -> Row:
    """The newest line, read from the end of the file."""
    if not metrics.exists():
        return {}
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 20_000))
        whole = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{") and line.endswith(b"}")]
    return dict(json.loads(whole[-1])) if whole else {}


def watch(config: Path, run: Path, table: Path) -> None:
    """Run it, or what is left of it, and note what is seen."""
    known = read_table(table)
    start = 1 + max((int(row["start"]) for row in known), default=0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "farl", "online", str(config)], env=environment)
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not known:
            writer.writeheader()
        try:
            while process.poll() is None:
                row = look(process, run / "metrics.jsonl", started, start)
                if row["step"]:
                    writer.writerow(row)
                    file.flush()
                time.sleep(EVERY_S)
        except (FileNotFoundError, KeyError):  # it ended between two looks
            process.wait()
    if process.returncode:
        raise SystemExit(process.returncode)


def tenths(rows: Sequence[Row], steps: int, column: str) -> list[float]:
    """Median memory in each tenth of ``steps``, NaN where nothing was seen."""
    parts: list[list[float]] = [[] for _ in range(10)]
    for row in rows:
        parts[min(9, int(10 * int(row["step"]) / steps))].append(float(row[column]))
    return [float(np.median(part)) if part else float("nan") for part in parts]


def warm_growth(rows: Sequence[Row], column: str) -> tuple[float, float]:
    """Change of the median from the first to the last fifth of the looks after ``WARM``, and the range of all, as shares."""
    seen = np.array([float(row[column]) for row in rows if int(row["step"]) >= WARM])
    fifth = max(1, len(seen) // 5)
    first, last = np.median(seen[:fifth]), np.median(seen[-fifth:])
    return float(last / first - 1), float(np.ptp(seen) / np.median(seen))


def figure(rows: Sequence[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axis = plt.subplots(figsize=(7, 3))
    for column, label in (("resident_mb", "resident"), ("own_mb", "of it the process's own")):
        axis.plot([int(row["step"]) / 1e6 for row in rows], [float(row[column]) for row in rows], label=label)
    axis.set(xlabel="million agent steps", ylabel="memory (MiB)", ylim=(0, None))
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    drawn.tight_layout()
    drawn.savefig(path, dpi=130)
    plt.close(drawn)


def page(rows: Sequence[Row], steps: int, run: Path, command: str) -> str:
    last, table = _last(run / "metrics.jsonl"), []
    for column, name in (("resident_mb", "resident, MiB"), ("own_mb", "of it the process's own, MiB")):
        table.append([name, *(f"{median:.0f}" for median in tenths(rows, last["step"], column))])
    (own, spread), (resident, _) = warm_growth(rows, "own_mb"), warm_growth(rows, "resident_mb")
    reached = "" if last["step"] >= steps else f" of {steps / 1e6:g} planned"
    return "\n".join(
        [
            f"# Memory over {last['step'] / 1e6:.1f} million agent steps{reached}",
            "",
            f"`{command}`, one run of the method farl on the point mass: {last['step']:,} agent steps,",
            f"{last['episodes']:,} episodes, {last['iteration']:,} updates, {last['wall_s'] / 60:.0f} minutes beside other work.",
            "",
            f"After the first {WARM:,} steps the process's own memory changed by **{own:+.1%}** (first fifth of the",
            f"looks to the last; largest difference between any two {spread:.1%}), all that was resident by {resident:+.1%}.",
            f"Checkpoints took {last['checkpoint_s'] / last['wall_s']:.2%} of the time.",
            "",
            markdown(["median in a tenth of the run", *(str(n) for n in range(1, 11))], table),
            "",
            "![memory over agent steps](long_run.png)",
            "",
            f"Every look: [long_run.csv](long_run.csv). torch {versions()['torch']}, Python {versions()['python']}; "
            f"{cell(EVERY_S)} s between looks.",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--work", type=Path, default=Path("runs/long-run"))
    parser.add_argument("--out", type=Path, default=Path("results/long_run.md"))
    parser.add_argument("--so-far", action="store_true", help="only write the page, on what there is")
    asked = parser.parse_args(argv)
    run = asked.work / "run"
    bundle = asked.work / "bundle" if asked.so_far else make_bundle(asked.work)
    config = run_config(bundle, run, steps=asked.steps, num_envs=64, rollout_steps=32, ppo=PPOConfig(epochs=3))
    write_text(asked.work / "run.yaml", configuration.dump(config))
    table = asked.out.with_suffix(".csv")
    while not (asked.so_far or is_finished(run, asked.steps)):
        watch(asked.work / "run.yaml", run, table)
    rows = read_table(table)
    figure(rows, asked.out.with_suffix(".png"))
    command = f"python -m experiments.long_run --steps {asked.steps}{' --so-far' if asked.so_far else ''}"
    write_text(asked.out, page(rows, asked.steps, run, command))
    print(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
