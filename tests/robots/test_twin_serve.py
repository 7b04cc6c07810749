"""A twin in a terminal, as its commands start it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest

from robots.errors import RobotError
from robots.twin import version
from robots.twin.serve import ServeConfig, line, main
from robots.twin.side import SideChannel

COMMANDS = [["-m", "robots.twin"], ["-m", "farl", "robot", "twin", "serve"]]


def test_it_says_where_it_is_and_how_it_does_until_ctrl_c():
    command = [sys.executable, "-u", *COMMANDS[0], "--task", "FailureBench/FrankaBoundedSoccer-v0", "--seed", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            host = re.search(r"127\.\d+\.\d+\.\d+", first)
            assert host is not None
            assert "FrankaBoundedSoccer, episode 4" in first
            assert re.search(r"\d+ Hz · \d+\.\d\d ms of each busy · Idle · no client · force +0\.0 N", second)
            assert SideChannel(host.group()).look().layout.hazard[3] == 0.07
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
    with pytest.raises(RobotError, match="no twin answers"):
        SideChannel(host.group(), 0.05).look()


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "verb"])
def test_wrong_input_is_one_message(command, twin):
    for flags, message in [
        (["--task", "FrankaJuggling"], "no twin for the task"),
        (["--host", twin.host], "is in use"),
    ]:
        done = subprocess.run(
            [sys.executable, *command, *flags], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_another_franky_sim_or_none_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(version, "KNOWN_VERSION", "0.9.9")
    with pytest.raises(
        RobotError, match=r"works with franky-sim 0\.9\.9 only and found 1\.0\.4: pip install franky-sim==0\.9\.9"
    ):
        main(ServeConfig())

    def missing(name):
        raise version.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(version.importlib.metadata, "version", missing)
    with pytest.raises(RobotError, match="needs franky-sim, which is not installed: pip install"):
        main(ServeConfig())


def test_a_twin_that_dies_is_told(monkeypatch, capsys):
    import robots.twin.serve as serving

    monkeypatch.setattr(serving, "FILE_S", 0.2)
    kept = []

    class Dying(serving.TwinProcess):
        def status(self):
            kept.append(time.monotonic())
            if len(kept) == 2:
                self.kill()
                raise RobotError("no answer")
            return super().status()

    monkeypatch.setattr(serving, "TwinProcess", Dying)
    with pytest.raises(RobotError, match="ended by itself"):
        main(ServeConfig())
    assert "does not answer" in capsys.readouterr().out


def test_the_line_names_what_is_wrong():
    status = {
        "rate_hz": 998.7,
        "busy_ms": 0.421,
        "mode": "kReflex",
        "connected": True,
        "wrench": [3.0, -4.0, 0.0, 9.0, 9.0, 9.0],
        "errors": ["cartesian_reflex"],
        "late": 2,
    }
    assert line(status) == (
        "  999 Hz · 0.42 ms of each busy · Reflex · a client · force  5.0 N · errors cartesian_reflex · 2 times behind"
    )
