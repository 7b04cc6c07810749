"""What is known of a session at a moment: counts against the whole journal, the word over everything, the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded_episodes import TASKS, THRESHOLD, episode
from recorded_session import Written, session
from rich.console import Console
from served_pages import tree

from robots.arm.interface import ArmStatus
from robots.errors import RobotError
from robots.replay.player import ReplayConfig
from robots.session import words
from robots.session.journal import EVENTS, MANIFEST, STEPS, read_steps
from robots.session.record import StepRecord
from robots.watch.alive import gone
from robots.watch.banner import Light
from robots.watch.facts import CURVE, Facts, Session
from robots.watch.server import WatchConfig, main
from robots.watch.sheet import sheet
from robots.watch.tally import Totals
from robots.watch.terminal import view


def known(written: Written, now: float | None = None) -> Facts:
    """The facts after one look."""
    watched = Session(written.run)
    watched.look()
    return watched.facts(written.clock if now is None else now)


def lines(facts: Facts) -> dict[str, str]:
    return {line.key: line.value for line in sheet(facts)}


# ---- counts


@pytest.mark.parametrize("task", TASKS)
def test_counts_are_those_of_the_whole_journal(tmp_path: Path, task: str) -> None:
    written = session(tmp_path / "run", task, count=8)
    totals, records = known(written).totals, read_steps(written.folder).records
    by_episode = [[record for record in records if record.episode == number] for number in range(1, 9)]
    changes = [
        (after.source, before is None or before.source != after.source)
        for steps in by_episode
        for before, after in zip([None, *steps], steps, strict=False)
    ]
    assert totals == Totals(
        episodes=8,
        successes=sum(steps[-1].success for steps in by_episode),
        failures=sum(any(step.failure for step in steps) for steps in by_episode),
        violating_steps=sum(record.failure for record in records),
        recoveries=changes.count(("recovery", True)),
        recovery_steps=sum(record.source == "recovery" for record in records),
        takeovers=1,
        human_steps=4,
    )
    assert totals.recoveries > 0


def test_some_episodes_of_the_fixture_fail(tmp_path: Path) -> None:
    totals = known(session(tmp_path / "run", "FrankaBoundedSoccer", count=6)).totals
    assert 0 < totals.failures < totals.episodes
    assert totals.violating_steps > totals.failures


def test_a_person_may_add_and_take_back_failures_until_the_episode_is_over(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    written.begin(1)
    steps = list(episode(written.task, 1, begin=written.clock, steps=40))
    assert not any(step.failure for step in steps)
    written.steps(steps[:20])
    written.say("failure", "knocked over")
    assert known(written).totals.violating_steps == 4  # the step it was said in, and three before
    written.say("retract")
    assert known(written).totals == Totals()
    written.say("failure", "knocked over")
    written.steps(steps[20:])
    written.end("timeout")
    written.say("retract")  # too late
    totals = known(written).totals
    assert (totals.failures, totals.violating_steps, totals.episodes) == (1, 4, 1)


def test_lost_slow_and_interrupted_episodes_do_not_count_unless_they_had_failed(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaBoundedSoccer"]())
    written.begin(0, "slow")
    written.steps(episode(written.task, 0, begin=written.clock, steps=5))
    assert known(written).slow
    written.end("timeout")
    written.play(1)
    written.play(2, steps=9, fault="camera_stale")
    written.begin(3)
    written.steps(list(episode(written.task, 3, begin=written.clock, steps=9))[:6])  # its process is killed here
    written.say(words.SESSION)
    written.begin(4)
    facts = known(written)
    assert (facts.episode, facts.totals.episodes, facts.totals.lost) == (2, 1, 2)
    failing = (
        dataclasses.replace(step, failure=True) for step in episode(written.task, 4, begin=written.clock, steps=9)
    )
    written.steps(failing)
    written.end("lost: user_stop")
    facts = known(written)
    assert (facts.episode, facts.totals.episodes, facts.totals.lost, facts.totals.failures) == (2, 2, 3, 1)


@pytest.mark.parametrize("seed", range(3))
def test_following_piece_by_piece_gives_what_reading_at_once_gives(tmp_path: Path, seed: int) -> None:
    """Looks at any moment, a record half written; what was said while steps were being read may be there before the steps."""
    written = session(tmp_path / "whole", "FrankaDisturbedPush", count=5)
    written.say(words.NEEDS_RESET, "put the object back")
    rng = np.random.default_rng(seed)
    growing = tmp_path / "growing"
    growing.mkdir()
    (growing / MANIFEST).write_bytes((written.folder / MANIFEST).read_bytes())
    watched = Session(growing)
    moments = sorted(rng.integers(0, len(written.log), 60).tolist())
    for moment, following in zip(moments, [*moments[1:], len(written.log)], strict=True):
        seen = {STEPS: moment, EVENTS: int(rng.integers(moment, following + 1))}
        for name, count in seen.items():
            whole, rest = (
                b"".join(one for where, one in part if where == name) for part in _parted(written.log, count)
            )
            (growing / name).write_bytes(whole + rest[: int(rng.integers(0, 40))])
        watched.look()
    for name in (STEPS, EVENTS):
        (growing / name).write_bytes((written.folder / name).read_bytes())
    watched.look()
    once, pieces = known(written), watched.facts(written.clock)
    assert (pieces.totals, pieces.episode) == (once.totals, 5)
    assert (pieces.banner, pieces.said, pieces.curve) == (once.banner, once.said, once.curve)


def _parted(log: list[tuple[str, bytes]], count: int) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    return log[:count], log[count:]


def test_an_event_waits_for_the_steps_that_it_came_after_but_not_for_ever(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaBoundedSoccer"]())
    written.begin(1)
    steps = list(episode(written.task, 1, begin=written.clock, steps=9))
    written.steps(steps[:4])
    watched = Session(written.run)
    watched.look()
    written.at, written.clock = (1, 9), steps[8].time
    written.end("timeout")  # its step 8 is not there yet
    watched.look()
    assert watched.facts(written.clock).totals.episodes == 0
    watched.look()
    assert watched.facts(written.clock).totals.episodes == 1


def test_a_look_costs_the_same_however_long_the_session_is(tmp_path: Path) -> None:
    task = TASKS["FrankaBoundedSoccer"]()
    one = list(episode(task, 1, begin=0.0, steps=30))

    def grown(name: str, episodes: int) -> tuple[Written, Session]:
        written = Written(tmp_path / name, task)
        for number in range(1, episodes + 1):
            written.begin(number)
            written.steps(dataclasses.replace(step, episode=number, time=100.0 * number + step.time) for step in one)
            written.end("timeout")
        watched = Session(written.run)
        watched.look()
        return written, watched

    pair = [grown("short", 3), grown("long", 150)]
    spent = [0.0, 0.0]
    for turn in range(60):
        for place, (written, watched) in enumerate(pair):
            written.steps([dataclasses.replace(one[0], episode=1000, step=turn, time=1e5 + turn)])
            start = time.process_time()
            assert watched.look()
            sheet(watched.facts(1e5 + turn))
            spent[place] += time.process_time() - start
    assert spent[1] < 2.5 * spent[0]
    assert len(pair[1][1].facts(0.0).curve) <= CURVE


# ---- the word over everything


def running(written: Written) -> None:
    written.begin(1)
    written.steps(episode(written.task, 1, begin=written.clock, steps=5))


def then(*sayings: tuple[str, str]) -> Callable[[Written], None]:
    def act(written: Written) -> None:
        running(written)
        for word, detail in sayings:
            written.say(word, detail)

    return act


def ended_by(fault: str, status: str, *sayings: tuple[str, str]) -> Callable[[Written], None]:
    def act(written: Written) -> None:
        written.begin(1)
        *before, last = episode(written.task, 1, begin=written.clock, steps=5)
        written.steps([*before, dataclasses.replace(last, fault=fault, status=status)])
        written.end(f"lost: {fault}")
        for word, detail in sayings:
            written.say(word, detail)

    return act


ASKED = (words.NEEDS_RESET, "put the object where episodes begin")
PRESSED = (words.NEEDS_RESET, f"{words.STOP_PRESSED}: release it when everything is clear")


@pytest.mark.parametrize(
    ("act", "quiet_s", "word", "light", "advice"),
    [
        (lambda written: None, 0, "WAITING", Light.ASKS, "nothing yet"),
        (then(), 0.2, "RUNNING", Light.MOVES, "hands off"),
        (then(), 9, "NOT WRITING", Light.TROUBLE, "9 s"),
        (then((words.ENDED, "timeout")), 5, "RESETTING", Light.MOVES, "hands off"),
        (then((words.ENDED, "timeout")), 150, "NOT WRITING", Light.TROUBLE, "user stop"),
        (then((words.ENDED, "timeout"), ASKED), 900, "NEEDS RESET", Light.ASKS, "where episodes begin"),
        (then((words.ENDED, "timeout"), ASKED, ("reset_done", "")), 1, "RESETTING", Light.MOVES, "hands off"),
        (lambda written: written.begin(1), 15, "RUNNING", Light.MOVES, "episode begins"),
        (lambda written: written.begin(1), 30, "NOT WRITING", Light.TROUBLE, "30 s"),
        (then(("pause", "")), 600, "SAFE", Light.STILL, "resume"),
        (then(("pause", ""), ("resume", "")), 0.2, "RUNNING", Light.MOVES, "hands off"),
        (then(("pause", ""), (words.ENDED, "lost: aborted")), 5, "RESETTING", Light.MOVES, "hands off"),
        (then((words.ENDED, "timeout"), ("pause", "")), 5, "RESETTING", Light.MOVES, "hands off"),
        (ended_by("user_stop", "user_stop"), 0.2, "USER STOP", Light.ASKS, "release"),
        (ended_by("user_stop", "user_stop", PRESSED), 600, "USER STOP", Light.ASKS, "release"),
        (ended_by("user_stop", "user_stop", PRESSED, ("reset_done", ""), ASKED), 9, "NEEDS RESET", Light.ASKS, "begin"),
        (ended_by("arm_lost", "lost"), 1, "LOST", Light.TROUBLE, "reconnected"),
        (ended_by("arm_lost", "lost", (words.FAULT, "no answer from 172.16.0.2")), 1, "LOST", Light.TROUBLE, "user stop"),
        (ended_by("arm_lost", "lost", (words.RECOVERED, "lost")), 1, "RESETTING", Light.MOVES, "hands off"),
        (ended_by("reflex", "reflex"), 1, "STOPPED", Light.MOVES, "backs off"),
        (ended_by("reaction_stop", "reaction_stop"), 1, "STOPPED", Light.MOVES, "backs off"),
        (ended_by("camera_stale", "hold"), 1, "FAULT", Light.MOVES, "not counted"),
        (then((words.STOPPED, "50 episodes are done")), 9000, "FINISHED", Light.OVER, "50 episodes"),
        (then((words.STOPPED, "quit"), (words.SESSION, "")), 1, "RESETTING", Light.MOVES, "hands off"),
    ],
)  # fmt: skip
def test_one_word_says_what_the_arm_does_and_what_to_do(
    tmp_path: Path, act: Callable[[Written], None], quiet_s: float, word: str, light: Light, advice: str
) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    act(written)
    banner = known(written, written.clock + quiet_s).banner
    assert (banner.word, banner.light) == (word, light), banner
    assert advice in banner.advice


@pytest.mark.parametrize("status", list(ArmStatus))
def test_no_state_of_the_arm_but_running_is_called_running(tmp_path: Path, status: ArmStatus) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    written.begin(1)
    written.steps(episode(written.task, 1, begin=written.clock, steps=3, status=status.value))
    word = known(written, written.clock + 0.1).banner.word
    assert (word == "RUNNING") == (status in (ArmStatus.RUNNING, ArmStatus.IDLE))


# ---- what is marked


def marked(written: Written) -> set[str]:
    return {line.key for line in sheet(known(written)) if line.marked}


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, set()),
        ({"risk": 0.29}, set()),
        ({"risk": 0.31}, {"risk"}),
        ({"risk": math.nan}, {"risk"}),
        ({"risk": math.nan, "threshold": math.inf}, set()),
        ({"source": "recovery"}, {"acts"}),
        ({"source": "human"}, {"acts"}),
        ({"force": [0.0, 30.0, 0.0]}, {"force"}),
        ({"force": [math.nan, 0.0, 0.0]}, {"force"}),
        ({"status": "reflex"}, {"arm"}),
        ({"ages": {"estimate": 0.7}}, {"sight"}),
        ({"ages": {"estimate": 0.1, "camera_scene": 1.4}}, {"sight"}),
        ({"period": 0.14}, {"period"}),
        ({"decision": 0.05}, {"decision"}),
        ({"failure": True}, {"failures"}),
    ],
)
def test_what_is_worth_a_look_is_marked(tmp_path: Path, changes: dict[str, object], keys: set[str]) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    written.begin(1)
    calm = {"risk": 0.01, "source": "task", "force": [0.0, 1.0, 0.0], "failure": False, "clipped": [], "period": 0.1}
    written.steps(episode(written.task, 1, begin=written.clock, steps=4, **{**calm, **changes}))
    assert marked(written) == keys


def test_values_are_those_of_the_newest_step(tmp_path: Path) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"](), episodes=20)
    written.begin(1)
    *_, last = written.steps(episode(written.task, 1, begin=written.clock, steps=30))
    said = lines(known(written))
    assert said["episode"] == "1 of 20"
    assert said["risk"] == f"{last.risk:.2f}"
    assert said["force"] == f"{np.linalg.norm(last.force):.1f} N"
    assert said["decision"] == f"{1000 * last.decision:.0f} ms"
    assert last.threshold == THRESHOLD


# ---- the terminal


def test_the_terminal_has_the_same_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = session(tmp_path / "run", count=3)
    written.say(words.NEEDS_RESET, "put the ball back")
    main(written.run, WatchConfig(once=True))
    printed = capsys.readouterr().out
    facts = known(written)
    assert facts.banner.word in printed
    assert "Put the ball back" in printed
    for line in sheet(facts):
        assert line.label in printed
        assert line.value in printed or line.key == "written"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_value_is_cut_in_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    facts = known(session(tmp_path / "run", count=2))
    console = Console(width=width, record=True, file=(tmp_path / "out").open("w"))
    console.print(view(facts, width))
    text = console.export_text()
    assert all(line.value in text for line in sheet(facts))
    assert max(map(len, text.splitlines())) <= width


def test_looking_changes_nothing_in_the_session(tmp_path: Path) -> None:
    written = session(tmp_path / "run", count=2)

    before = tree(written.run)
    main(written.folder, WatchConfig(once=True))
    assert tree(written.run) == before


# ---- bad input


def test_what_cannot_be_watched_gets_one_message(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match=r"no session in .*give the folder"):
        main(tmp_path, WatchConfig(once=True))
    (tmp_path / MANIFEST).write_text("[1]")
    with pytest.raises(RobotError, match="holds no manifest"):
        main(tmp_path, WatchConfig(once=True))
    with pytest.raises(ValueError, match="port is 70000; give a number up to 65535"):
        WatchConfig(port=70000)


def test_a_damaged_tail_does_not_stop_the_view(tmp_path: Path) -> None:
    written = session(tmp_path / "run", count=2)
    steps: list[StepRecord] = read_steps(written.folder).records
    with (written.folder / STEPS).open("ab") as file:
        file.write(b"\x40\x00\x00\x00half")
    facts = known(written)
    assert facts.step == steps[-1]


# ---- whether its process is there


LIVE = """
import sys, time
from pathlib import Path
from farl.outputs import Claim
with Claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("status", "word"), [(None, "KILLED"), ("running", "KILLED"), ("interrupted", "ENDED")])
def test_a_session_whose_process_is_gone_is_said_to_be(tmp_path: Path, status: str | None, word: str) -> None:
    written = Written(tmp_path / "run", TASKS["FrankaFragilePushWall"]())
    running(written)
    written.say(*ASKED)
    if status is not None:
        (written.run / "meta.json").write_text(json.dumps({"status": status}))
    with subprocess.Popen([sys.executable, "-c", LIVE, str(written.run)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert known(written, written.clock + 600).banner.word == "NEEDS RESET"
        finally:
            process.kill()
    assert known(written, written.clock + 600).banner.word == word
    written.say(words.STOPPED, "the budget is used up")
    assert known(written, written.clock + 600).banner.word == "FINISHED"


def test_of_a_process_elsewhere_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 7 on another-machine.example\n")
    assert gone(tmp_path) == ""
    (tmp_path / ".lock").write_text(f"process 7 on {socket.gethostname()}\n")
    assert gone(tmp_path) == "running"
    assert gone(tmp_path, tmp_path / "no-such-list") == ""
    assert gone(tmp_path / "nothing") == ""


def test_the_guides_explain_every_word_and_flag() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/robots/watch.md").read_text()
    said = set(re.findall(r'Banner\(\s*"([A-Z ]+)"', (root / "robots/watch/banner.py").read_text()))
    explained = set(re.findall(r"^\| ([A-Z ]+) \|", page, re.MULTILINE))
    assert said == explained
    assert len(said) > 10
    for config, text in ((WatchConfig, page), (ReplayConfig, (root / "docs/robots/replay.md").read_text())):
        flags = dict(re.findall(r"^\| `--(\w+)` \| (\S*) *\|", text, re.MULTILINE))
        assert flags == {
            field.name: "" if field.default is None else str(field.default) for field in dataclasses.fields(config)
        }
