"""How a study scales from one worker to two, and what can be expected beyond.

    python -m experiments.benchmark_launchers [--config configs/quickstart.yaml] [--steps 20000] [--rounds 3]
        [--launchers local ray] [--output results/benchmark_launchers.md]

The same study is run again and again from nothing, with one worker and with two in turn, so that whatever else the machine
does falls on both. Beyond two workers nothing is measured here: what the table says of them follows from how long each job
took alone and from what needs what, as if workers did not hinder each other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

from experiments.tables import markdown
from farl import configuration
from farl.compare.jobs import Work, run_jobs
from farl.compare.launchers.choice import opened
from farl.compare.report import write_report
from farl.compare.study import StudyConfig, study_jobs
from farl.errors import UserError

WORKERS = (1, 2, 4, 8, 16, 32)
SEEDS = (2, 5, 10)


@dataclass(frozen=True)
class Timing:
    """One study from nothing to its report, in seconds of the wall's clock."""

    launcher: str
    workers: int
    whole: float
    start: float
    """until the launcher was ready"""
    report: float
    jobs: Mapping[str, float]
    load: float
    """load average over the minute at its end"""


def measure(config: StudyConfig, launcher: str, workers: int, folder: Path) -> Timing:
    """Run the whole study once; raises UserError where a job failed."""
    config = replace(config, out=folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begin = time.perf_counter()
    modules = ("farl", config.task.id.partition(":")[0])
    with opened(launcher, workers, "", config.ray, config.slurm, folder, modules) as pool:  # type: ignore[arg-type]
        ready = time.perf_counter()
        works = run_jobs(study_jobs(config), pool, _silent)
        if failed := [work for work in works if work.status != "finished"]:
            raise UserError(f"'{failed[0].job.name}' failed: {failed[0].job.log_tail()}")
    reporting = time.perf_counter()
    with suppress(UserError):  # such as a machine that cannot draw
        (folder / "config.yaml").write_text(configuration.dump(config))
        write_report(folder)
    end = time.perf_counter()
    seconds = {work.job.name: work.seconds for work in works}
    return Timing(launcher, workers, end - begin, ready - begin, end - reporting, seconds, os.getloadavg()[0])


def _silent(works: list[Work]) -> None:
    """Nothing is shown while the clock runs."""


def makespan(seconds: Mapping[str, float], needs: Mapping[str, Sequence[str]], workers: int) -> float:
    """When the last job ends if jobs start in their order as soon as a worker is free and what they need is there."""
    ends: dict[str, float] = {}
    waiting, free = list(seconds), [0.0] * workers
    while waiting:
        ready = [
            (max((ends[need] for need in needs[name]), default=0.0), name)
            for name in waiting
            if ends.keys() >= set(needs[name])
        ]
        worker = min(range(workers), key=lambda index: free[index])
        soonest = min(max(at, free[worker]) for at, _ in ready)
        name = next(name for at, name in ready if max(at, free[worker]) == soonest)
        free[worker] = ends[name] = soonest + seconds[name]
        waiting.remove(name)
    return max(ends.values())


def study_of(
    seconds: Mapping[str, float], methods: Sequence[str], seeds: int
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Typical durations and needs of a study of that many seeds, from the durations of one that was measured."""
    typical = {
        kind: median(s for name, s in seconds.items() if name.startswith(f"{kind} ")) for kind in ("offline", *methods)
    }
    durations, needs = {"demos": seconds["demos"]}, {"demos": list[str]()}
    for kind in ("offline", *methods):
        for seed in range(seeds):
            durations[f"{kind} seed {seed}"] = typical[kind]
            needs[f"{kind} seed {seed}"] = ["demos"] if kind == "offline" else [f"offline seed {seed}"]
    return durations, needs


def report(timings: Sequence[Timing], config: StudyConfig, command: str) -> str:
    """The page."""
    loads = [timing.load for timing in timings]
    seeds = ", ".join(map(str, config.seeds))
    parts = [
        "# How a study scales with workers\n",
        f"`{command}`\n",
        f"{config.task.name}, methods {', '.join(config.methods)}, seeds {seeds}, {config.online.steps:,} agent steps a run, "
        f"each job with one thread. torch {version('torch')}, ray {version('ray')}; {os.cpu_count()} cores, load averages at "
        f"the ends of the studies {min(loads):.1f} to {max(loads):.1f} (one or two are the studies' own).\n",
        "## Measured: one worker and two\n",
        "Seconds of the wall's clock from nothing to the report, medians over rounds in which both took turns; the ratio is "
        "the median of the rounds' ratios (smallest to largest). *Expected* is what the order of jobs allows if two workers do "
        "not hinder each other.\n",
        _measured(timings, config),
        "## Of one worker's time\n",
        _stages(timings, config),
        "## Expected beyond\n",
        _expected(timings, config),
    ]
    return "\n".join(parts)


def _measured(timings: Sequence[Timing], config: StudyConfig) -> str:
    rows = []
    for launcher in dict.fromkeys(t.launcher for t in timings):
        one, two = ([t for t in timings if (t.launcher, t.workers) == (launcher, workers)] for workers in (1, 2))
        ratios = [a.whole / b.whole for a, b in zip(one, two, strict=True)]
        durations, needs = study_of(_alone(one), config.methods, len(config.seeds))
        fixed = median(t.start + t.report for t in one)
        ideal = (makespan(durations, needs, 1) + fixed) / (makespan(durations, needs, 2) + fixed)
        rows.append([
            launcher, f"{median(t.start for t in one + two):.1f}", f"{median(t.whole for t in one):.0f}",
            f"{median(t.whole for t in two):.0f}", f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})", f"{ideal:.2f}",
        ])  # fmt: skip
    return (
        markdown(["launcher", "until ready, s", "one worker, s", "two workers, s", "one / two", "expected"], rows) + "\n"
    )


def _alone(timings: Sequence[Timing]) -> dict[str, float]:
    """The median duration of every job in studies of one worker."""
    return {name: median(t.jobs[name] for t in timings) for name in timings[0].jobs}


def _stages(timings: Sequence[Timing], config: StudyConfig) -> str:
    one = [t for t in timings if t.workers == 1 and t.launcher == timings[0].launcher]
    alone, whole = _alone(one), median(t.whole for t in one)
    shares = {
        "demonstrations: once for all seeds": alone["demos"],
        "offline stage: once a seed": sum(s for name, s in alone.items() if name.startswith("offline ")),
        "runs: once a method and seed": sum(
            s for name, s in alone.items() if not name.startswith(("offline ", "demos"))
        ),
        "report: once, after everything": median(t.report for t in one),
    }
    rows = [[name, f"{seconds:.1f}", f"{100 * seconds / whole:.0f} %"] for name, seconds in shares.items()]
    return markdown(["part", "seconds", "of the whole"], rows) + "\n"


def _expected(timings: Sequence[Timing], config: StudyConfig) -> str:
    one = [t for t in timings if t.workers == 1 and t.launcher == timings[0].launcher]
    alone, fixed = _alone(one), median(t.report for t in one)
    rows = []
    for seeds in SEEDS:
        durations, needs = study_of(alone, config.methods, seeds)
        single = makespan(durations, needs, 1) + fixed
        rows.append(
            [f"{seeds}", *(f"{single / (makespan(durations, needs, workers) + fixed):.1f}" for workers in WORKERS)]
        )
    chain = alone["demos"] + max(s for n, s in alone.items() if n.startswith("offline ")) + max(alone.values()) + fixed
    return (
        "Times faster than one worker, by number of seeds; computed, not measured.\n\n"
        + markdown(["seeds", *(f"{workers} workers" for workers in WORKERS)], rows)
        + f"\nDemonstrations, one offline stage, the longest job after it and the report follow one after another: {chain:.0f} s "
        "that no number of workers shortens. Longer runs move the study towards the part that scales. Workers of one machine share "
        "memory bandwidth and its report; workers of several also send bundles and collect run directories (a few megabytes each), "
        "which none of these figures contains.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"))
    parser.add_argument("--steps", type=int, help="agent steps of each run, in place of the configuration's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launchers", nargs="+", default=["local", "ray"], choices=["local", "ray"])
    parser.add_argument("--output", type=Path, default=Path("results/benchmark_launchers.md"))
    arguments = parser.parse_args()
    config = configuration.read(StudyConfig, arguments.config)
    if arguments.steps:
        config = replace(config, online=replace(config.online, steps=arguments.steps))
    timings = []
    with tempfile.TemporaryDirectory(prefix="farl-scaling-") as folder:
        for number in range(arguments.rounds):
            for launcher in arguments.launchers:
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    timings.append(measure(config, launcher, workers, Path(folder, "study")))
                    print(
                        f"round {number + 1}, {launcher}, {workers}: {timings[-1].whole:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
    given = " ".join(sys.argv[1:])
    arguments.output.write_text(report(timings, config, f"python -m experiments.benchmark_launchers {given}".strip()))
    print(arguments.output)


if __name__ == "__main__":
    main()
