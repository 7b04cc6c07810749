"""A study: methods by seeds on one task, from demonstrations to the report, with one command that can be stopped and repeated."""

from __future__ import annotations

import dataclasses
import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farl import configuration, methods
from farl.compare.jobs import Job, Launcher, Work, run_jobs
from farl.compare.launchers.choice import PLACES, LauncherName, opened
from farl.compare.launchers.ray_pool import RayConfig
from farl.compare.launchers.slurm import SlurmConfig
from farl.compare.live import Display
from farl.compare.records import read_json, read_yaml
from farl.compare.report import write_report
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.files import write_text
from farl.offline.demos import DemosConfig
from farl.offline.pipeline import OfflineConfig
from farl.online.config import OnlineConfig
from farl.outputs import claim

EXTENDABLE = ("methods", "seeds", "out", "online.steps", *PLACES)
"""what may differ when a study is continued; everything else would mix results that cannot be compared"""


@dataclass(frozen=True)
class StudyConfig:
    """Compare methods on a task over seeds: the same demonstrations for all, one offline bundle a seed shared by all methods."""

    task: TaskConfig = field(default_factory=TaskConfig)
    methods: tuple[str, ...] = ("uni-o4", "farl")
    """methods to compare; `farl list` shows them. uni-o4 is the baseline, else the first one"""
    seeds: tuple[int, ...] = (0, 1)
    """one bundle and one run of every method for each; intervals over seeds need three"""
    out: Path = Path("studies/quickstart")
    """the study's folder; the same command again continues it"""
    jobs: int = 0
    """jobs side by side; 0: one per core, or as many as a cluster has room for"""
    launcher: LauncherName = "local"
    """where jobs run: processes of this machine, a Ray cluster, a Slurm cluster"""
    address: str = ""
    """of a Ray cluster, such as 10.0.0.1:6379; empty starts one on this machine for the study"""
    ray: RayConfig = field(default_factory=RayConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    demos: DemosConfig = field(default_factory=DemosConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)

    def __post_init__(self) -> None:
        for name in ("methods", "seeds"):
            values: tuple[Any, ...] = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}; give at least one, and each only once")
        if self.jobs < 0:
            raise ValueError(f"jobs is {self.jobs}; give 0 for one per core, or more")
        if self.address and self.launcher != "ray":
            raise ValueError(f"address is {self.address}, but launcher is {self.launcher}; an address is for launcher ray")


def compare(config: StudyConfig) -> Path:
    """Run what is missing of the study and write its report; returns the path of ``report.html``.

    Raises UserError for an unknown method, a folder that holds another study, and, after everything else has run, for failed jobs.
    """
    for method in config.methods:
        methods.find(method)
    claim(config.out, recorded(config), EXTENDABLE)
    with locked(config.out):
        jobs = study_jobs(config)
        with _launcher(config) as launcher, Display(f"{config.task.name}: {', '.join(config.methods)}") as display:
            works = run_jobs(jobs, launcher, display)
    failed = [work for work in works if work.status == "failed"]
    if failed and not (config.out / "runs").is_dir():
        raise UserError(_failures(failed))
    report = write_report(config.out)
    if failed:
        raise UserError(f"{_failures(failed)}\nThe report on what is there: {report}")
    return report


def _launcher(config: StudyConfig) -> AbstractContextManager[Launcher]:
    modules = ("farl", config.task.id.partition(":")[0])
    return opened(config.launcher, config.jobs, config.address, config.ray, config.slurm, config.out, modules)


def study_jobs(config: StudyConfig) -> list[Job]:
    """Demonstrations, then a bundle per seed, then a run per method and seed: each needs only its own seed's bundle."""
    folders = Folders(config.out, config.task.name)
    jobs = [_demos_job(config, folders)]
    jobs += [_offline_job(config, folders, seed) for seed in config.seeds]
    jobs += [_online_job(config, folders, method, seed) for seed in config.seeds for method in config.methods]
    return jobs


@dataclass(frozen=True)
class Folders:
    """Where a study keeps its parts (docs/design.md, files)."""

    study: Path
    task: str

    @property
    def data(self) -> Path:
        return self.study / "data" / self.task

    def bundle(self, seed: int) -> Path:
        return self.study / "bundles" / self.task / f"seed-{seed}"

    def run(self, method: str, seed: int) -> Path:
        return self.study / "runs" / self.task / method / f"seed-{seed}"


def _demos_job(config: StudyConfig, folders: Folders) -> Job:
    settings = dataclasses.replace(config.demos, task=config.task, out=folders.data)
    return job(config, "demos", "demos", settings, (), lambda: (folders.data / "demos.json").exists())


def _offline_job(config: StudyConfig, folders: Folders, seed: int) -> Job:
    bundle = folders.bundle(seed)
    settings = dataclasses.replace(config.offline, task=config.task, data=folders.data, out=bundle, seed=seed)
    return job(
        config, f"offline seed {seed}", "offline", settings, ("demos",), lambda: (bundle / "manifest.json").exists()
    )


def _online_job(config: StudyConfig, folders: Folders, method: str, seed: int) -> Job:
    out, steps = folders.run(method, seed), config.online.steps
    settings = dataclasses.replace(
        config.online, task=config.task, bundle=folders.bundle(seed), out=out, seed=seed, method=method
    )
    return job(
        config, f"{method} seed {seed}", "online", settings, (f"offline seed {seed}",), lambda: run_finished(out, steps)
    )


def run_finished(run: Path, steps: int) -> bool:
    """Whether the run is finished, and not for a smaller budget than ``steps``."""
    meta = read_json(run / "meta.json")
    return meta.get("status") == "finished" and int(meta.get("steps", 0)) >= steps


def job(
    config: StudyConfig, name: str, verb: str, settings: Any, needs: tuple[str, ...], done: Callable[[], bool]
) -> Job:
    """A resolved configuration file, below the study's folder, and the verb of `farl` that takes it."""
    file = config.out / "jobs" / f"{name.replace(' ', '-')}.yaml"
    write_text(file, configuration.dump(settings))
    command = (sys.executable, "-m", "farl", verb, str(file))
    inputs = (file, *(path for path in _paths(settings) if path != settings.out))
    return Job(name, settings.out, command, done, needs, inputs, getattr(settings, "device", "cpu") != "cpu")


def _paths(settings: Any) -> Iterator[Path]:
    """Every path that a configuration names."""
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, Path):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _paths(value)


# ---------------------------------------------------------------- checks


def recorded(config: StudyConfig) -> StudyConfig:
    """The study as its ``config.yaml`` records it: with the methods and seeds of earlier commands too."""
    before = read_yaml(config.out / "config.yaml")
    return dataclasses.replace(
        config,
        methods=tuple(dict.fromkeys([*(before.get("methods") or ()), *config.methods])),
        seeds=tuple(dict.fromkeys([*(before.get("seeds") or ()), *config.seeds])),
        demos=dataclasses.replace(config.demos, task=config.task),
        offline=dataclasses.replace(config.offline, task=config.task),
        online=dataclasses.replace(config.online, task=config.task, method=OnlineConfig.method),
    )


@contextmanager
def locked(study: Path) -> Iterator[None]:
    """Two commands must not run the same study at once."""
    with (study / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another `farl compare` is working on {study}; wait for it, stop it, or choose another --out"
            ) from None
        yield


def _failures(failed: list[Work]) -> str:
    """Every failed job with its log and what it said last."""
    texts = []
    for work in failed:
        tail = "\n".join(f"    {line}" for line in work.job.log_tail().splitlines())
        texts.append(f"job '{work.job.name}' failed; its log is {work.job.log}, which ends with\n{tail}")
    return (
        "\n".join(texts) + "\nThe other jobs were carried on with; the same command again starts the failed ones anew."
    )
