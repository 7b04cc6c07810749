"""The journal: what was acknowledged is there, whatever happened to whoever wrote it."""

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from robots.errors import RobotError
from robots.session.framing import HEADER, frame
from robots.session.journal import Follower, Journal, read_events, read_manifest, read_steps
from robots.session.record import EventRecord, StepRecord

MANIFEST = {"config_hash": "abc", "task": "FrankaFragilePushWall"}


def record(step: int = 0, episode: int = 1, **changes) -> StepRecord:
    """A step with numbers that are hard to write: not a number, the smallest float, a third."""
    plain = StepRecord(
        episode=episode,
        step=step,
        time=1.5 + step,
        obs=[1 / 3, 5e-324, float(step)],
        next_obs=[0.1, 0.2, 0.3],
        proposed=[0.1, -1.0],
        recovery=[0.0, 0.0],
        executed=[0.1, -1.0],
        risk=math.nan,
        threshold=0.3,
        source="task",
        reward=0.25,
        failure=False,
        failure_type="",
        success=False,
        margin=0.05,
        terminated=False,
        truncated=False,
        fault="",
        clipped=["box"],
        status="running",
        tip=[0.4, 0.0, 0.02],
        force=[0.0, 0.0, 1.0],
        reference=[0.4, 0.0],
        ages={"estimate": 0.01},
        period=0.1,
        decision=0.01,
        policy_version=3,
        images={},
    )
    return dataclasses.replace(plain, **changes)


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path):
    journal = Journal(tmp_path, MANIFEST)
    journal.event(EventRecord(1.0, 1, 0, "reset_done"))
    journal.step(record(0, images={"front": "1/0-front.jpg"}), {"1/0-front.jpg": b"picture"})
    journal.step(record(1, risk=0.2))
    journal.close()
    first, second = read_steps(tmp_path).records
    assert math.isnan(first.risk)
    assert dataclasses.replace(first, risk=0.0) == record(0, risk=0.0, images={"front": "1/0-front.jpg"})
    assert second == record(1, risk=0.2)
    assert read_events(tmp_path).records == [EventRecord(1.0, 1, 0, "reset_done")]
    assert (tmp_path / "images/1/0-front.jpg").read_bytes() == b"picture"
    assert read_manifest(tmp_path) == MANIFEST


@pytest.mark.parametrize("tail", [b"\x07", frame(b"{}")[:-1], bytes(64), frame(b"{}")[:-1] + b"x", b"\xff" * 40])
def test_a_torn_tail_is_reported_and_cut_off_when_writing_goes_on(tmp_path, tail):
    journal = Journal(tmp_path, MANIFEST)
    journal.step(record(0, risk=0.1))
    journal.close()
    whole = (tmp_path / "steps.log").read_bytes()
    (tmp_path / "steps.log").write_bytes(whole + tail)
    steps = read_steps(tmp_path)
    assert len(steps.records) == 1
    assert f"{len(tail)} bytes" in steps.torn
    again = Journal(tmp_path, MANIFEST)
    assert len(again.torn) == 1
    assert (tmp_path / "steps.log").read_bytes() == whole
    again.step(record(1, risk=0.1))
    assert [one.step for one in read_steps(tmp_path).records] == [0, 1]
    assert read_steps(tmp_path).torn == ""


def test_damage_before_the_end_is_refused_and_nothing_is_changed(tmp_path):
    journal = Journal(tmp_path, MANIFEST)
    for step in range(3):
        journal.step(record(step))
    journal.close()
    path = tmp_path / "steps.log"
    spoilt = bytearray(path.read_bytes())
    spoilt[HEADER.size + 5] ^= 1
    path.write_bytes(bytes(spoilt))
    with pytest.raises(RobotError, match="damaged at byte 0"):
        Journal(tmp_path, MANIFEST)
    assert path.read_bytes() == bytes(spoilt)


def test_a_journal_of_another_configuration_is_refused(tmp_path):
    Journal(tmp_path, MANIFEST).close()
    with pytest.raises(RobotError, match="another configuration"):
        Journal(tmp_path, {**MANIFEST, "config_hash": "other"})
    assert read_manifest(tmp_path) == MANIFEST


def test_no_manifest_is_one_message(tmp_path):
    with pytest.raises(RobotError, match="no session"):
        read_manifest(tmp_path)


def test_a_step_that_does_not_get_to_disk_is_not_acknowledged_and_leaves_no_trace(tmp_path, monkeypatch):
    journal = Journal(tmp_path, MANIFEST)
    journal.step(record(0, risk=0.1))
    before = (tmp_path / "steps.log").read_bytes()
    real = os.pwrite

    def full(handle, content, offset):
        real(handle, content[:9], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RobotError, match="No space left"):
        journal.step(record(1))
    assert (tmp_path / "steps.log").read_bytes() == before
    monkeypatch.undo()
    journal.step(record(1, risk=0.1))
    assert len(read_steps(tmp_path).records) == 2


def test_a_follower_gives_every_record_once_and_waits_for_half_ones(tmp_path):
    follower = Follower(tmp_path)
    assert follower.new() == ([], [])
    journal = Journal(tmp_path, MANIFEST)
    journal.step(record(0, risk=0.1))
    journal.event(EventRecord(1.0, 1, 1, "pause"))
    news = follower.new()
    assert [one.step for one in news.steps] == [0]
    assert [one.word for one in news.events] == ["pause"]
    content = frame(json.dumps(record(1, risk=0.1).as_dict()).encode())
    with (tmp_path / "steps.log").open("ab") as file:
        file.write(content[:50])
        file.flush()
        assert follower.new() == ([], [])
        file.write(content[50:])
    assert [one.step for one in follower.new().steps] == [1]
    assert follower.new() == ([], [])


WRITER = """
import sys
from pathlib import Path
from robots.session.journal import Journal
from tests.robots.test_journal import MANIFEST, record
journal = Journal(Path(sys.argv[1]), MANIFEST)
for step in range(int(sys.argv[2]), 100000):
    name = f"1/{step}-front.jpg"
    journal.step(record(step, images={"front": name}), {name: bytes([step % 256]) * 5000})
    print(step, flush=True)
"""


def test_kill_9_at_any_moment_loses_no_acknowledged_step(tmp_path):
    moments = random.Random(0)
    acknowledged = -1
    for _ in range(6):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path / "session"), str(acknowledged + 1)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.15))
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split()
        steps = read_steps(tmp_path / "session").records
        acknowledged = max(acknowledged + 1, *map(int, said)) if said else acknowledged + 1
        assert [one.step for one in steps] == list(range(len(steps)))
        assert len(steps) - 1 >= acknowledged
        acknowledged = len(steps) - 1
        for one in steps:
            picture = (tmp_path / "session/images" / one.images["front"]).read_bytes()
            assert picture == bytes([one.step % 256]) * 5000
    assert acknowledged > 12
