"""Jobs on a Ray cluster: each in a worker, perhaps on another machine, its folder collected here, continued where a worker dies."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farl.cluster.ray_cluster import RayCluster
from farl.cluster.trees import pack, unpack
from farl.compare.jobs import Job, Launched, worth_another_try
from farl.compare.launchers.ray_worker import Order, Report, Worker
from farl.compare.launchers.relocation import OUT, Relocation
from farl.errors import UserError
from farl.files import write_bytes

FIT_EVERY_S = 10.0
"""how often a job that waits for a worker is compared with what the nodes have"""


@dataclass(frozen=True)
class RayConfig:
    """What a job asks of a Ray cluster."""

    cpus: float = 1.0
    """CPUs of a job; with 0.5, two share one"""
    gpus: float = 1.0
    """GPUs of a job that uses one, which is an offline stage with device cuda; with 0.25, four share one"""
    retries: int = 3
    """how often a job is continued after its worker died, was killed for memory, or was lost with its machine"""
    shared_files: bool = False
    """whether workers see this machine's files at the same paths; otherwise files are sent and collected"""
    collect_every_s: float = 30.0
    """seconds between two collections of a running job's folder: what a lost machine can cost"""
    grace_s: float = 15.0
    """seconds that a job is given to stop cleanly on Ctrl-C"""

    def __post_init__(self) -> None:
        for name in ("cpus", "collect_every_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give more than 0")
        for name in ("gpus", "retries", "grace_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")


class RayPool:
    """As many jobs side by side as the cluster has room for, and at most ``limit``."""

    def __init__(self, cluster: RayCluster, config: RayConfig, limit: int = 0) -> None:
        self.cluster, self.config, self.limit = cluster, config, limit or 1_000_000
        self.shared = config.shared_files or cluster.own
        self.worker = cluster.ray.remote(Worker)
        self._trees: dict[Path, Any] = {}

    def start(self, job: Job) -> RayJob:
        self.cluster.check_fit(*self.asked(job))
        return RayJob(self, job)

    def stop(self, launched: Sequence[Launched]) -> None:
        jobs = [one for one in launched if isinstance(one, RayJob)]
        try:
            stopping = [(job, job.ask_to_stop()) for job in jobs]
            for job, answer in stopping:
                job.collect_last(answer, 2 * self.config.grace_s)
        except KeyboardInterrupt:
            pass
        for job in jobs:
            job.end()

    def asked(self, job: Job) -> tuple[float, float]:
        """CPUs and GPUs of a job."""
        return self.config.cpus, self.config.gpus if job.wants_gpu else 0.0

    def tree(self, path: Path, relocation: Relocation) -> Any:
        """An input in Ray's store, put there once for all jobs that read it."""
        if path.is_file():
            return self.cluster.ray.put(pack(path, edit=relocation.outward))
        if path not in self._trees:
            self._trees[path] = self.cluster.ray.put(pack(path, edit=relocation.outward))
        return self._trees[path]


class RayJob:
    """A job on a worker, or waiting for one."""

    def __init__(self, pool: RayPool, job: Job) -> None:
        self.pool, self.job, self.tries, self.node = pool, job, 0, ""
        self._ray = pool.cluster.ray
        self._relocation = Relocation(job)
        self._code: int | None = None
        self._answer: Any = None
        self._look_again = 0.0
        self._begin()

    @property
    def note(self) -> str:
        place = f"on {self.node}" if self.node else "waiting for a worker"
        return place if self.tries == 1 else f"{place}, try {self.tries}"

    def poll(self) -> int | None:
        if self._code is None and self._ray.wait([self._answer], timeout=0)[0]:
            try:
                self._take(self._ray.get(self._answer))
            except self._ray.exceptions.RayTaskError as error:
                raise _cause(error) from error
            except self._ray.exceptions.RayError as error:
                self._lost(str(error).strip().splitlines()[0])
        elif self._code is None and not self.node and time.monotonic() > self._look_again:
            self._look_again = time.monotonic() + FIT_EVERY_S
            self.pool.cluster.check_fit(*self.pool.asked(self.job))
        return self._code

    def ask_to_stop(self) -> Any:
        return None if self._code is not None else self._actor.stop.remote(self.pool.config.grace_s)

    def collect_last(self, answer: Any, patience_s: float) -> None:
        """What the job reached; nothing, where its worker is gone or never began."""
        if answer is None or not self.node:
            return
        try:
            for earlier_then_last in (self._answer, answer):
                self._put(self._ray.get(earlier_then_last, timeout=patience_s))
            self._ray.get(self._actor.leave.remote(), timeout=patience_s)
        except self._ray.exceptions.RayError:
            return

    def end(self) -> None:
        self._ray.kill(self._actor)

    def _begin(self) -> None:
        """A worker is asked for; the job's folder goes along, so that it continues where it was."""
        pool, cpus_gpus = self.pool, self.pool.asked(self.job)
        self.tries, self.node = self.tries + 1, ""
        self._look_again = time.monotonic() + FIT_EVERY_S
        self.job.folder.mkdir(parents=True, exist_ok=True)
        self._actor = pool.worker.options(num_cpus=cpus_gpus[0], num_gpus=cpus_gpus[1], max_restarts=0).remote()
        trees = [] if pool.shared else self._sent()
        self._answer = self._actor.start.remote(self._order(), *trees)

    def _order(self) -> Order:
        pool, cluster = self.pool, self.pool.cluster
        versions = {} if cluster.own else cluster.versions
        if not pool.shared:
            places = tuple(self._relocation.place(path) for path in self.job.inputs)
            command = self._relocation.command("")
            return Order(command, OUT, versions, cluster.modules, (OUT, *places), pool.config.collect_every_s)
        digest = hashlib.sha256(Path(self.job.command[-1]).read_bytes()).hexdigest()
        command, here = ("", *self.job.command[1:]), str(Path.cwd())
        return Order(command, str(self.job.folder), versions, cluster.modules, (), 0.0, (here, digest))

    def _sent(self) -> list[Any]:
        folder = pack(self.job.folder, edit=self._relocation.outward)
        return [folder, *(self.pool.tree(path, self._relocation) for path in self.job.inputs)]

    def _take(self, report: Report) -> None:
        self.node = report.node
        self._put(report)
        if report.code is None:
            self._answer = self._actor.report.remote()
            return
        self._ray.get(self._actor.leave.remote())
        if worth_another_try(report.code):
            self._lost(f"its process ended with status {report.code}")
        else:
            self._code = report.code
            self.end()

    def _put(self, report: Report) -> None:
        """What came back, into the job's folder."""
        if report.progress:
            write_bytes(self.job.folder / "progress.json", report.progress)
        if report.tree is not None:
            unpack(report.tree, self.job.folder, self._relocation.homeward, report.gone)

    def _lost(self, reason: str) -> None:
        """Another worker continues from what was collected; too often is a failure."""
        self.end()
        again = self.tries <= self.pool.config.retries
        where = f"on {self.node} " if self.node else ""
        then = "it is continued elsewhere" if again else f"it was given up after {self.tries} tries"
        with self.job.log.open("a", encoding="utf-8") as log:
            log.write(f"farl: the worker {where}was lost ({reason}); {then}\n")
        if again:
            self._begin()
        else:
            self._code = 1


def _cause(error: Any) -> Exception:
    """What a worker raised, as the message it is where it is meant for the user."""
    cause = error.cause
    if isinstance(cause, UserError):
        return UserError(str(cause))
    return UserError(f"a worker stopped with an error of its own: {json.dumps(str(cause))}. Its traceback:\n{error}")
