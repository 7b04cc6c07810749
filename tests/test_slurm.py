"""Studies through submitit: what is asked of Slurm, and that a job that is stopped goes on where it was.

The mechanism is tested with submitit's own executor for one machine, which tells a job that its time is up as Slurm does; where
a Slurm cluster answers, a job also goes through it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_launchers import job

from farl.compare.jobs import Job, Work, run_jobs
from farl.compare.launchers import slurm
from farl.compare.launchers.slurm import SlurmConfig, SlurmPool
from farl.errors import UserError

submitit = pytest.importorskip("submitit")

WAIT = "(out / 'tries').open('a').write('x'); n = len((out / 'tries').read_text())\nif n < 3: time.sleep(60)"
"""a job that only ends when it is continued for the second time"""


def one_machine(tmp_path: Path, resubmissions: int, seconds: int = 20) -> SlurmPool:
    """A pool on this machine, whose jobs are told four seconds after their start that time is up."""
    executor = submitit.LocalExecutor(tmp_path / "slurm", max_num_timeout=resubmissions)
    executor.update_parameters(timeout_min=seconds / 60, signal_delay_s=seconds - 4)
    started: list = []
    submit = executor.submit
    executor.submit = lambda task: started.append(submit(task)) or started[-1]
    queue = lambda: {one.job_id: "RUNNING" for one in started if not one.done()}  # noqa: E731
    return SlurmPool(SlurmConfig(resubmissions=resubmissions), tmp_path, executor=executor, queue=queue)


def run(jobs: list[Job], pool: SlurmPool, watch: Callable[[list[Work]], None] = lambda works: None) -> dict[str, Work]:
    return {work.job.name: work for work in run_jobs(jobs, pool, watch, poll_s=0.05)}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "QUEUE_EVERY_S", 0.1)
    monkeypatch.setattr(slurm, "GONE_AFTER_S", 2.0)
    return tmp_path


def test_jobs_run_in_order_and_a_user_error_is_final(here):
    crash = "(out / 'tries').open('a').write('x'); print('out of plutonium'); sys.exit(2)"
    jobs = [job(here, "a"), job(here, "b", crash), job(here, "c", needs=("b",)), job(here, "d", needs=("a",))]
    works = run(jobs, one_machine(here, 2))
    assert {n: w.status for n, w in works.items()} == {"a": "finished", "b": "failed", "c": "blocked", "d": "finished"}
    assert "out of plutonium" in works["b"].job.log_tail()
    assert (here / "b" / "tries").read_text() == "x"


def test_a_job_whose_time_is_up_is_continued_as_often_as_allowed(here):
    assert run([job(here, "a", WAIT)], one_machine(here, 2))["a"].status == "finished"
    assert (here / "a" / "tries").read_text() == "xxx"


def test_a_job_whose_time_is_up_too_often_has_failed_and_its_log_says_why(here):
    work = run([job(here, "a", WAIT)], one_machine(here, 1))["a"]
    assert work.status == "failed"
    assert (here / "a" / "tries").read_text() == "xx"
    assert "not requeued" in work.job.log_tail()


def test_a_job_that_is_killed_is_submitted_again_as_often_as_allowed(here):
    code = "(out / 'tries').open('a').write('x'); os.kill(os.getpid(), 9)"
    work = run([job(here, "a", code)], one_machine(here, 2))["a"]
    assert work.status == "failed"
    assert (here / "a" / "tries").read_text() == "xxx"
    assert "given up after 2 resubmissions" in work.job.log_tail()


def test_a_submission_that_vanishes_is_submitted_again(here):
    """As of a node that lost power: it leaves the queue, and no result ever comes."""
    code = "(out / 'tries').open('a').write('x')\nif (out / 'tries').read_text() == 'x': time.sleep(60)"
    pool, one = one_machine(here, 1), job(here, "a", code)
    lost: list[str] = []

    def lose(works: list[Work]) -> None:
        if not lost and (here / "a" / "tries").exists():
            submission = works[0].launched.submission
            lost.append(submission.job_id)
            subprocess.run(["pkill", "-9", "-P", submission.job_id], check=True)
            submission._process.kill()

    assert run([one], pool, lose)["a"].status == "finished"
    assert lost
    assert "left the queue without a result" in one.log.read_text()


def test_stopping_a_study_ends_its_submissions(here):
    def interrupt(works: list[Work]) -> None:
        if (here / "a" / "tries").exists():
            raise KeyboardInterrupt

    pool, start = one_machine(here, 2, seconds=60), time.monotonic()
    one = job(here, "a", "(out / 'tries').write_text('x'); time.sleep(58)")
    with pytest.raises(KeyboardInterrupt):
        run([one], pool, interrupt)
    assert time.monotonic() - start < 30
    assert not pool.id_file(one).exists()


def test_what_is_asked_of_slurm_is_what_the_configuration_says(tmp_path, monkeypatch):
    """The very file that is handed to sbatch."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    config = SlurmConfig(
        partition="gpu",
        time_min=90,
        cpus=3,
        memory_gb=1.5,
        gpus=2,
        setup=("module load cuda",),
        extra={"account": "robots"},
    )
    executor = slurm.slurm_executor(config, tmp_path)
    pool = SlurmPool(config, tmp_path, executor=executor, queue=dict)
    one = job(tmp_path, "offline seed 0")
    executor.update_parameters(**pool._asked_for(Job(**{**vars(one), "wants_gpu": True})))
    text = executor._make_submission_file_text("COMMAND", "0")
    for line in ("partition=gpu", "time=90", "cpus-per-task=3", "mem=1536MB", "gpus-per-node=2", "account=robots",
                 "signal=USR2@90", "job-name=offline-seed-0"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in text
    assert "\nmodule load cuda\n" in text


def test_a_machine_without_slurm_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"srun.*Run this on a machine from which `sbatch` works"):
        slurm.slurm_executor(SlurmConfig(), tmp_path)


@pytest.mark.parametrize("changes", [{"time_min": 0}, {"cpus": 0}, {"resubmissions": -1}, {"time_min": 1}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=r"give|over before"):
        SlurmConfig(**changes)


def slurm_answers() -> bool:
    if shutil.which("squeue") is None:
        return False
    try:
        return subprocess.run(["squeue", "--me"], capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


# Not an omission: a cluster is a machine's own, with daemons that no test should start as root. The tests above run the same
# code through submitit's executor for one machine; this one adds what only a controller does, where one answers.
@pytest.mark.slow
@pytest.mark.skipif("not slurm_answers()", reason="no Slurm cluster answers `squeue` here (docs/cluster.md)")
def test_on_a_real_slurm_a_job_that_is_requeued_goes_on_where_it_was(here):
    """Slurm lets a requeued job wait for two minutes."""
    pool = SlurmPool(SlurmConfig(memory_gb=0.5, time_min=10, resubmissions=2), here)
    told: list[str] = []

    def time_is_up(works: list[Work]) -> None:
        if not told and (here / "a" / "tries").exists():
            told.append(works[0].launched.submission.job_id)
            subprocess.run(["scancel", "--signal=USR2", *told], check=True)

    work = run([job(here, "a", WAIT.replace("3", "2"))], pool, time_is_up)["a"]
    assert work.status == "finished", work.job.log.read_text()
    assert (here / "a" / "tries").read_text() == "xx"
