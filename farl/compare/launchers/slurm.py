"""Jobs on a Slurm cluster, through submitit: submitted, watched, continued after a time-out, a preemption or a lost node.

Slurm's machines share files, so nothing is copied: a job works in its folder of the study, from the head's folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farl.compare.jobs import Job, Launched, worth_another_try
from farl.compare.launchers.local_pool import SINGLE_THREADED, stop_groups
from farl.configuration import Options
from farl.errors import UserError
from farl.files import write_text

INSTALL = 'pip install -e ".[slurm]"'
QUEUE_EVERY_S = 5.0
GONE_AFTER_S = 20.0
"""how long a job may be in no queue and without a result before it counts as lost: shared files arrive late"""


@dataclass(frozen=True)
class SlurmConfig:
    """What a job asks of Slurm."""

    partition: str = ""
    """empty: the cluster's default"""
    time_min: int = 240
    """minutes after which a job is stopped, and continued as another submission"""
    cpus: int = 1
    memory_gb: float = 4.0
    gpus: int = 1
    """GPUs of a job that uses one, which is an offline stage with device cuda"""
    resubmissions: int = 10
    """how often a job is continued after a time-out, a preemption or a lost node"""
    signal_delay_s: int = 90
    """seconds before the time-out at which the job is told to stop"""
    setup: tuple[str, ...] = ()
    """shell lines before the command, such as "module load cuda" """
    extra: Options = field(default_factory=dict)
    """further options of sbatch, such as account=robots"""

    def __post_init__(self) -> None:
        for name in ("time_min", "cpus", "memory_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give more than 0")
        for name in ("gpus", "resubmissions", "signal_delay_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        if 60 * self.time_min <= self.signal_delay_s:
            raise ValueError(f"time_min is {self.time_min}, which is over before signal_delay_s = {self.signal_delay_s}")


@dataclass
class Task:
    """What a submission runs: the job's command, from the folder that the study was started in."""

    command: tuple[str, ...]
    folder: str
    log: str
    left: int
    """how often it may still be continued"""

    def __call__(self) -> int:
        with Path(self.folder, self.log).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "farl.compare.launchers.tied", str(os.getpid()), *self.command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **SINGLE_THREADED, "PYTHONUNBUFFERED": "1"},
                process_group=0,
            )
        while (code := self._process.poll()) is None:
            time.sleep(0.2)   # not wait(): a signal's handler could then not see it end
        return code

    def checkpoint(self) -> Any:
        """Called by submitit when time is nearly up or the node is wanted: what is to be submitted next, None for nothing."""
        from submitit.helpers import DelayedSubmission

        stop_groups([self._process], 20.0)
        if self.left == 0:
            return None
        return DelayedSubmission(Task(self.command, self.folder, self.log, self.left - 1))


class SlurmPool:
    """Jobs as submissions; ``limit`` of them at a time, or all. Ids are kept in the study, so that none is left running unseen."""

    def __init__(
        self,
        config: SlurmConfig,
        study: Path,
        limit: int = 0,
        executor: Any = None,
        queue: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self.config, self.folder, self.limit = config, (study / "slurm").absolute(), limit or 1_000_000
        self.executor = executor if executor is not None else slurm_executor(config, self.folder)
        self._queue, self._states, self._asked = queue or squeue, dict[str, str](), float("-inf")

    def start(self, job: Job) -> SlurmJob:
        job.folder.mkdir(parents=True, exist_ok=True)
        self._end_left_over(job)
        return SlurmJob(self, job)

    def stop(self, launched: Sequence[Launched]) -> None:
        jobs = [one for one in launched if isinstance(one, SlurmJob)]
        for one in jobs:
            one.submission.cancel(check=False)
        deadline = time.monotonic() + 60.0
        with suppress(KeyboardInterrupt):
            while time.monotonic() < deadline and any(self.state(one.submission, fresh=True) for one in jobs):
                time.sleep(0.5)
        for one in jobs:
            self.id_file(one.job).unlink(missing_ok=True)

    def submit(self, job: Job, left: int) -> Any:
        """A submission of ``job``; raises UserError with what Slurm said where it is refused."""
        task = Task((sys.executable, *job.command[1:]), str(Path.cwd()), str(job.log), left)
        self.executor.parameters.pop("gpus_per_node", None)
        self.executor.update_parameters(**self._asked_for(job))
        try:
            submission = self.executor.submit(task)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            raise UserError(f"Slurm refused the job '{job.name}': {error}") from error
        write_text(self.id_file(job), f"{submission.job_id}\n")
        return submission

    def _asked_for(self, job: Job) -> dict[str, Any]:
        return {"job_name": job.name.replace(" ", "-"), **({"gpus_per_node": self.config.gpus} if job.wants_gpu else {})}

    def id_file(self, job: Job) -> Path:
        return self.folder / f"{job.name.replace(' ', '-')}.id"

    def state(self, submission: Any, fresh: bool = False) -> str:
        """Slurm's word for where a submission is, empty once it is in no queue."""
        if fresh or time.monotonic() - self._asked > QUEUE_EVERY_S:
            self._states, self._asked = self._queue(), time.monotonic()
        return self._states.get(str(submission.job_id), "")

    def _end_left_over(self, job: Job) -> None:
        """A submission of an earlier command that was killed: two must not work on one run."""
        file = self.id_file(job)
        if file.exists():
            earlier = self.executor.job_class(self.folder, file.read_text().strip())
            earlier.cancel(check=False)
            deadline = time.monotonic() + 60.0
            while self.state(earlier, fresh=True) and time.monotonic() < deadline:
                time.sleep(0.5)


class SlurmJob:
    """A job and its newest submission."""

    def __init__(self, pool: SlurmPool, job: Job) -> None:
        self.pool, self.job, self.left = pool, job, pool.config.resubmissions
        self.submission = pool.submit(job, self.left)
        self._seen = time.monotonic()

    @property
    def note(self) -> str:
        state = self.pool.state(self.submission).lower()
        return "" if state == "running" else f"Slurm: {state or 'submitted'}"

    def poll(self) -> int | None:
        if self.submission.paths.result_pickle.exists():
            return self._ended()
        if self.pool.state(self.submission):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > GONE_AFTER_S:
            return self._again("it left the queue without a result")
        return None

    def _ended(self) -> int | None:
        if (error := self.submission.exception()) is not None:
            lines = [line.strip() for line in str(error).splitlines() if "Error" in line]
            self._note(f"the submission failed: {lines[-1] if lines else error}")
            return self._over(1)
        code = int(self.submission.result())
        return self._again(f"its process ended with status {code}") if worth_another_try(code) else self._over(code)

    def _again(self, reason: str) -> int | None:
        if self.left == 0:
            self._note(f"{reason}; it was given up after {self.pool.config.resubmissions} resubmissions")
            return self._over(1)
        self.left -= 1
        self._note(f"{reason}; it is continued by another submission")
        self.submission, self._seen = self.pool.submit(self.job, self.left), time.monotonic()
        return None

    def _over(self, code: int) -> int:
        self.pool.id_file(self.job).unlink(missing_ok=True)
        return code

    def _note(self, text: str) -> None:
        with self.job.log.open("a", encoding="utf-8") as log:
            log.write(f"farl: Slurm job {self.submission.job_id}: {text}\n")


def slurm_executor(config: SlurmConfig, folder: Path) -> Any:
    """A submitit executor for ``config``; raises UserError where submitit or Slurm is missing."""
    try:
        from submitit import SlurmExecutor
    except ModuleNotFoundError as error:
        raise UserError(f"--launcher slurm needs submitit, which is not installed here ({error}); install it: {INSTALL}") from error
    try:
        executor = SlurmExecutor(folder=folder, max_num_timeout=config.resubmissions)
    except RuntimeError as error:
        raise UserError(f"--launcher slurm: {error}. Run this on a machine from which `sbatch` works.") from error
    executor.update_parameters(**sbatch_parameters(config))
    return executor


def sbatch_parameters(config: SlurmConfig) -> dict[str, Any]:
    """The configuration in submitit's words."""
    return {
        "time": config.time_min,
        "cpus_per_task": config.cpus,
        "mem": f"{round(1024 * config.memory_gb)}MB",
        "signal_delay_s": config.signal_delay_s,
        **({"partition": config.partition} if config.partition else {}),
        **({"setup": list(config.setup)} if config.setup else {}),
        **({"additional_parameters": dict(config.extra)} if config.extra else {}),
    }


def squeue() -> dict[str, str]:
    """Every job of this user that is in Slurm's queue, with its state; raises UserError where Slurm does not answer."""
    command = ["squeue", "--noheader", "--me", "--format=%i %T"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        raise UserError(f"Slurm does not answer `squeue`: {reason.strip()}") from error
    return {words[0]: words[1] for line in said.stdout.splitlines() if len(words := line.split()) == 2}
