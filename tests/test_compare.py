"""Launching a study: order, what is left alone, failures, and that nothing stays behind."""

from __future__ import annotations

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

from farl.compare import live
from farl.compare.jobs import Job, Work, run_jobs


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
    return {work.job.name: work for work in run_jobs(jobs, limit, lambda works: None, poll_s=0.02, **options)}


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

    run_jobs([job(tmp_path, str(i), "time.sleep(0.1)") for i in range(5)], 2, watch, poll_s=0.01)
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
folder = pathlib.Path({folder!r})
grandchild = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\\n"
stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
wait = "import os; (here / 'pid').write_text(str(os.getpid())); time.sleep(60)"
jobs = [job(folder, "polite", wait), job(folder, "stubborn", stubborn + wait), job(folder, "parent", grandchild + wait)]
run_jobs(jobs, 3, lambda works: None, poll_s=0.05, grace_s=0.6)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
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
    (work.job.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"step": 9')   # the last line is being written
    said = live.line(work)
    for part in ("training 25 %", "step 500", "success 50 %", "failures 7", "recovery 10 %", "250 steps/s", "6 s left"):
        assert part in said


def test_off_a_terminal_a_job_is_a_line_when_it_starts_and_when_it_ends(tmp_path):
    text = io.StringIO()
    with live.Display("study", Console(file=text)) as display:
        run_jobs([job(tmp_path, "a"), job(tmp_path, "b", "raise SystemExit(1)")], 1, display, poll_s=0.02)
    said = [" ".join(line.split()[:2]).rstrip(",") for line in text.getvalue().splitlines()]
    assert said == ["a: running", "a: finished", "b: running", "b: failed"]


def test_on_a_terminal_there_is_a_row_for_every_job(tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with live.Display("study", console) as display:
        run_jobs([job(tmp_path, "first"), job(tmp_path, "second", needs=("first",))], 1, display, poll_s=0.02)
    assert "2 of 2 jobs finished" in text.getvalue()
    assert "second" in text.getvalue()
