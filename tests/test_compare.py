"""Launching a study: order, what is left alone, failures, and that nothing stays behind."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from study_folder import make_run

from farl import configuration, methods
from farl.compare import live, study
from farl.compare.jobs import Job, Work, run_jobs
from farl.compare.launchers.local_pool import LocalPool
from farl.compare.study import StudyConfig
from farl.errors import UserError
from farl.online.run import OnlineConfig


def job(folder: Path, name: str, code: str = "", needs: tuple[str, ...] = ()) -> Job:
    """A tiny job: runs ``code`` and then leaves ``done`` in its folder, with the time it started and ended."""
    place = folder / name
    script = f"""
import pathlib, time
here, start = pathlib.Path({str(place)!r}), time.time()
{textwrap.dedent(code)}
(here / "done").write_text(f"{{start}} {{time.time()}}")
"""
    return Job(name, place, (sys.executable, "-c", script), lambda: (place / "done").exists(), needs)


def times(folder: Path, name: str) -> tuple[float, float]:
    start, end = (folder / name / "done").read_text().split()
    return float(start), float(end)


def run(jobs: list[Job], limit: int = 2, **options: float) -> dict[str, Work]:
    pool = LocalPool(limit, **options)
    return {work.job.name: work for work in run_jobs(jobs, pool, lambda works: None, poll_s=0.02)}


def test_a_job_starts_as_soon_as_what_it_needs_is_there_and_not_before(tmp_path):
    works = run(
        [
            job(tmp_path, "demos"),
            job(tmp_path, "offline-0", needs=("demos",)),
            job(tmp_path, "offline-1", "time.sleep(1.0)", needs=("demos",)),
            job(tmp_path, "online-0", needs=("offline-0",)),
            job(tmp_path, "online-1", needs=("offline-1",)),
        ]
    )
    assert {work.status for work in works.values()} == {"finished"}
    assert times(tmp_path, "demos")[1] <= times(tmp_path, "offline-0")[0]
    assert times(tmp_path, "offline-1")[1] <= times(tmp_path, "online-1")[0]
    assert times(tmp_path, "online-0")[1] < times(tmp_path, "offline-1")[1], "a run waited for another seed's bundle"


def test_no_more_jobs_than_allowed_run_side_by_side(tmp_path):
    most = 0

    def watch(works: list[Work]) -> None:
        nonlocal most
        most = max(most, sum(work.status == "running" for work in works))

    run_jobs([job(tmp_path, str(i), "time.sleep(0.1)") for i in range(5)], LocalPool(2), watch, poll_s=0.01)
    assert most == 2


def test_a_second_command_leaves_finished_jobs_alone_and_starts_the_others_again(tmp_path):
    crash = "import sys; (here / 'tried').exists() or ((here / 'tried').touch(), sys.exit(1))"
    jobs = [job(tmp_path, "a"), job(tmp_path, "b", crash)]
    assert run(jobs)["b"].status == "failed"
    before = (tmp_path / "a" / "done").read_text()
    works = run(jobs)
    assert works["a"].left_alone
    assert (tmp_path / "a" / "done").read_text() == before
    assert works["b"].status == "finished"


def test_a_failing_job_blocks_what_needs_it_and_nothing_else(tmp_path):
    works = run(
        [
            job(tmp_path, "bad", "raise SystemExit('out of plutonium')"),
            job(tmp_path, "good"),
            job(tmp_path, "after-bad", needs=("bad",)),
            job(tmp_path, "after-after-bad", needs=("after-bad",)),
            job(tmp_path, "after-good", needs=("good",)),
        ]
    )
    assert {name: work.status for name, work in works.items()} == {
        "bad": "failed", "good": "finished", "after-bad": "blocked", "after-after-bad": "blocked", "after-good": "finished",
    }   # fmt: skip
    assert "out of plutonium" in works["bad"].job.log_tail()


def test_a_job_that_ends_well_without_its_result_has_failed(tmp_path):
    silent = Job("silent", tmp_path / "silent", (sys.executable, "-c", "pass"), lambda: False)
    assert run([silent])["silent"].status == "failed"


STUDY_OF_SLEEPERS = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from test_compare import job
from farl.compare.jobs import run_jobs
from farl.compare.launchers.local_pool import LocalPool
folder = pathlib.Path({folder!r})
grandchild = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\\n"
stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
wait = "import os; (here / 'pid').write_text(str(os.getpid())); time.sleep(60)"
jobs = [job(folder, "polite", wait), job(folder, "stubborn", stubborn + wait), job(folder, "parent", grandchild + wait)]
run_jobs(jobs, LocalPool(3, grace_s=0.6), lambda works: None, poll_s=0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stopping_a_study_leaves_no_process_behind(tmp_path, number):
    code = STUDY_OF_SLEEPERS.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    study = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    pids = [tmp_path / name / "pid" for name in ("polite", "stubborn", "parent")]
    wait_until(lambda: all(pid.exists() and pid.read_text() for pid in pids), 20)
    family = psutil.Process(study.pid).children(recursive=True)
    assert len(family) == 4
    os.kill(study.pid, number)
    study.wait(15)
    own = [process for process in family if process.pid in {int(pid.read_text()) for pid in pids}]
    # killed outright, it can stop nobody; the kernel then ends its jobs, though not what these have started themselves
    gone = own if number == signal.SIGKILL else family
    wait_until(lambda: not any(alive(process) for process in gone), 5)
    if number != signal.SIGKILL:
        assert b"KeyboardInterrupt" in study.stderr.read()
    for process in filter(alive, family):
        process.kill()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_the_display_says_what_a_run_has_reached(tmp_path):
    work = Work(job(tmp_path, "farl seed 0"), "running", started=time.monotonic())
    work.job.folder.mkdir()
    (work.job.folder / "progress.json").write_text(json.dumps({"stage": "training", "done": 500, "total": 2000}))
    row = {"step": 500, "wall_s": 2.0, "success_rate": 0.5, "failures": 7, "gated_fraction": 0.1}
    (work.job.folder / "metrics.jsonl").write_text(
        json.dumps(row) + "\n" + '{"step": 9'
    )   # the last line is being written
    said = live.line(work)
    for part in ("training 25 %", "step 500", "success 50 %", "failures 7", "recovery 10 %", "250 steps/s", "6 s left"):
        assert part in said


def test_off_a_terminal_a_job_is_a_line_when_it_starts_and_when_it_ends(tmp_path):
    text = io.StringIO()
    with live.Display("study", Console(file=text)) as display:
        run_jobs([job(tmp_path, "a"), job(tmp_path, "b", "raise SystemExit(1)")], LocalPool(1), display, poll_s=0.02)
    said = [" ".join(line.split()[:2]).rstrip(",") for line in text.getvalue().splitlines()]
    assert said == ["a: running", "a: finished", "b: running", "b: failed"]


def test_on_a_terminal_there_is_a_row_for_every_job(tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with live.Display("study", console) as display:
        run_jobs([job(tmp_path, "first"), job(tmp_path, "second", needs=("first",))], LocalPool(1), display, poll_s=0.02)
    assert "2 of 2 jobs finished" in text.getvalue()
    assert "second" in text.getvalue()


# ---------------------------------------------------------------- the study itself


CONFIGS = Path(__file__).parent.parent / "configs"
STUDIES = [CONFIGS / "quickstart.yaml", *sorted(CONFIGS.glob("paper/*.yaml"))]


@pytest.fixture
def config(tmp_path) -> StudyConfig:
    return StudyConfig(out=tmp_path / "study", methods=("uni-o4", "farl"), seeds=(0, 3))


@pytest.fixture
def pretended(monkeypatch):
    """Jobs that only pretend: what compare() would have run, without running it. Returns the names it was asked for."""
    asked: list[str] = []

    def pretend(jobs, launcher, watch, **_):
        asked[:] = [job.name for job in jobs if not job.done()]
        works = [Work(job, "finished") for job in jobs]
        for job in jobs:
            if "runs" in job.folder.parts and not job.done():
                method, seed = job.folder.parent.name, int(job.folder.name.removeprefix("seed-"))
                make_run(job.folder.parents[3], method, seed, steps=4000)
        return works

    monkeypatch.setattr(study, "run_jobs", pretend)
    monkeypatch.setattr("farl.compare.report.figures", lambda comparison, colours: {})
    return asked


def test_every_run_needs_the_bundle_of_its_seed_and_every_bundle_the_demonstrations(config):
    needs = {job.name: job.needs for job in study.study_jobs(config)}
    assert needs == {
        "demos": (), "offline seed 0": ("demos",), "offline seed 3": ("demos",),
        "uni-o4 seed 0": ("offline seed 0",), "farl seed 0": ("offline seed 0",),
        "uni-o4 seed 3": ("offline seed 3",), "farl seed 3": ("offline seed 3",),
    }   # fmt: skip


def test_a_job_reads_a_configuration_file_that_says_all(config):
    jobs = {job.name: job for job in study.study_jobs(config)}
    *program, verb, file = jobs["farl seed 3"].command
    assert (program, verb) == ([sys.executable, "-m", "farl"], "online")
    settings = configuration.read(OnlineConfig, Path(file))
    assert (settings.method, settings.seed, settings.task) == ("farl", 3, config.task)
    assert settings.bundle == jobs["offline seed 3"].folder == config.out / "bundles" / "BoundedPush-v0" / "seed-3"
    assert settings.out == jobs["farl seed 3"].folder == config.out / "runs" / "BoundedPush-v0" / "farl" / "seed-3"


def test_a_run_finished_for_a_smaller_budget_is_continued(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"status": "finished", "steps": 10_240}))
    assert study.run_finished(tmp_path, 10_000)
    assert not study.run_finished(tmp_path, 20_000)
    (tmp_path / "meta.json").write_text(json.dumps({"status": "interrupted", "steps": 10_240}))
    assert not study.run_finished(tmp_path, 10_000)


def test_a_study_takes_further_methods_and_seeds_and_remembers_them(config, pretended):
    assert study.compare(config) == config.out / "report.html"
    assert len(pretended) == 7
    study.compare(dataclasses.replace(config, methods=("farl", "random-gate"), seeds=(3,)))
    assert "random-gate seed 3" in pretended
    recorded = configuration.read(StudyConfig, config.out / "config.yaml")
    assert (recorded.methods, recorded.seeds) == (("uni-o4", "farl", "random-gate"), (0, 3))


def test_a_folder_of_another_study_is_refused_with_the_difference(config, pretended):
    study.compare(config)
    other = dataclasses.replace(config, online=dataclasses.replace(config.online, rollout_steps=64))
    with pytest.raises(UserError, match=r"online\.rollout_steps: 128 there, 64 now.*--out"):
        study.compare(other)
    study.compare(dataclasses.replace(config, jobs=1, online=dataclasses.replace(config.online, steps=200_000)))


def test_an_unknown_method_is_answered_with_the_nearest(config):
    with pytest.raises(UserError, match="perhaps you meant 'farl'"):
        study.compare(dataclasses.replace(config, methods=("frl",)))
    assert not config.out.exists()


@pytest.mark.parametrize("field", [{"methods": ()}, {"seeds": (1, 1)}, {"jobs": -1}])
def test_a_study_that_makes_no_sense_is_refused(field):
    with pytest.raises(ValueError, match="give"):
        StudyConfig(**field)


def test_two_commands_cannot_work_on_one_study(config, pretended):
    study.compare(config)
    with study.locked(config.out), pytest.raises(UserError, match="wait for it, stop it, or choose another --out"):
        study.compare(config)


def test_after_a_failure_the_others_are_reported_and_the_log_is_named(config, pretended, monkeypatch):
    succeed = study.run_jobs

    def one_fails(jobs, launcher, watch, **options):
        works = succeed(jobs, launcher, watch, **options)
        works[-1].status = "failed"
        works[-1].job.log.write_text("Traceback\nMemoryError: too little\n")
        return works

    monkeypatch.setattr(study, "run_jobs", one_fails)
    with pytest.raises(
        UserError, match=r"job 'farl seed 3' failed; its log is .*log\.txt.*(?s:.*)MemoryError: too little"
    ) as caught:
        study.compare(config)
    assert "report.html" in str(caught.value)
    assert (config.out / "report.html").exists()


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_shipped_studies_can_be_read(file):
    loaded = configuration.read(StudyConfig, file)
    for method in loaded.methods:
        methods.find(method)
