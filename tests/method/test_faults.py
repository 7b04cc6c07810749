"""What goes wrong around a run, each time with the real thing: it is said in one message, and the same command continues."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.run_equality import differences
from farl import configuration
from farl.errors import UserError
from farl.offline.demos import collect
from farl.offline.pipeline import train
from farl.online.run import OnlineConfig, run
from farl.outputs import Claim
from method import cliff
from method.forked import Forked


@pytest.mark.parametrize(
    ("work", "config"),
    [
        (run, lambda few, bundle, out: cliff.online(bundle, out)),
        (collect, lambda few, bundle, out: cliff.few(out)),
        (train, lambda few, bundle, out: cliff.hurried(few, out)),
    ],
)
def test_a_second_process_is_refused_by_name_and_changes_nothing(work, config, few, bundle_folder, tmp_path):
    out = tmp_path / "out"
    with Claim(out):
        before = cliff.contents(out)
        with pytest.raises(
            UserError, match=rf"process {os.getpid()} on .* is working in .*out; .*another --out"
        ) as caught:
            work(config(few, bundle_folder, out))
        assert cliff.contents(out) == before
    assert "\n" not in str(caught.value)


def test_the_lock_goes_with_the_process_that_held_it(bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", steps=100_000)
    first = Forked(run, config)
    wait_until(lambda: (config.out / "episodes.jsonl").exists())
    with pytest.raises(UserError, match=f"process {first.process.pid} on"):
        run(config)
    first.kill()
    first.wait()
    Claim(config.out).release()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


# ---------------------------------------------------------------- disks


def in_namespace(script: str, *arguments: Any, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount file systems which only it sees."""
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **changes}
    return subprocess.run(shell, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture
def mounting() -> None:
    # Not an omission: whether a user may mount is the kernel's to say (some forbid user namespaces), and nothing but a mount of
    # one's own fills a disk, or makes it read-only for root, without touching the machine's.
    if shutil.which("unshare") is None or in_namespace("true").returncode:
        pytest.skip("mounting a file system of one's own is not permitted here (unshare --user --mount)")


def written(config: OnlineConfig, path: Path) -> Path:
    path.write_text(configuration.dump(config))
    return path


def test_a_run_on_a_full_disk_says_so_and_continues_when_there_is_room(mounting, bundle_folder, tmp_path):
    """A real file system of 4 MiB: the first checkpoint fits, the second does not."""
    whole = run(cliff.online(bundle_folder, tmp_path / "whole"))
    (tmp_path / "disk").mkdir()
    config = written(cliff.online(bundle_folder, tmp_path / "disk" / "run"), tmp_path / "run.yaml")
    ended = in_namespace(
        """
        mount -t tmpfs -o size=4m full "$1" || exit 99
        "$PYTHON" -m farl online "$2"; echo "first: $?"
        ls -A "$1/run/checkpoints"
        mount -o remount,size=64m "$1"
        "$PYTHON" -m farl online "$2"; echo "second: $?"
        cp -r "$1/run" "$3"
        """,
        tmp_path / "disk",
        config,
        tmp_path / "saved",
    )
    assert "first: 2" in ended.stdout
    assert "second: 0" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "No space left" in ended.stderr or "disk is full" in ended.stderr
    assert "free space" in ended.stderr
    assert ".part" not in ended.stdout
    assert differences(whole, tmp_path / "saved") == []


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
"$PYTHON" -m farl online "$2"
"""


def test_a_read_only_run_directory_is_one_message(mounting, bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "disk" / "run", steps=128)
    (tmp_path / "disk").mkdir()
    ended = in_namespace(READ_ONLY, tmp_path / "disk", written(config, tmp_path / "run.yaml"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "Read-only file system" in ended.stderr
    run(config)
    before = cliff.contents(config.out)
    finished = in_namespace(READ_ONLY, tmp_path / "disk", tmp_path / "run.yaml")  # such as an archive
    assert finished.returncode == 0
    assert "is finished" in finished.stdout
    assert cliff.contents(config.out) == before


# ---------------------------------------------------------------- memory


def test_a_run_without_memory_says_so_in_one_line(bundle_folder, tmp_path):
    """A real limit on the address space, which so long a rollout exceeds."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
        "from farl.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    config = cliff.online(bundle_folder, tmp_path / "run", rollout_steps=2**22)
    command = [sys.executable, "-c", limited, "online", str(written(config, tmp_path / "run.yaml"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "the memory is full" in ended.stderr


def test_a_job_that_is_killed_for_memory_is_said_in_its_log(tmp_path):
    """SIGKILL is what the kernel sends; the process cannot say anything any more."""
    from farl.compare.jobs import Job, run_jobs
    from farl.compare.launchers.local_pool import LocalPool

    code = "import os, signal; print('hard at work', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    job = Job("greedy", tmp_path / "greedy", (sys.executable, "-c", code), lambda: False)
    (work,) = run_jobs([job], LocalPool(1), lambda works: None, poll_s=0.05)
    assert work.status == "failed"
    assert "hard at work" in job.log_tail()
    assert "ended from outside by SIGKILL, mostly because memory ran out" in job.log_tail()
