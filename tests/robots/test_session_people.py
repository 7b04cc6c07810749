"""What people do to an episode: pause, take over, label, change their mind."""

import numpy as np

from robots.operator.interface import Word
from robots.session.journal import read_events, read_steps
from robots.session.labels import judge_records
from tests.robots.paper_table import PUSH, Table, later


def test_pause_holds_and_what_is_seen_afterwards_is_decided_on(tmp_path):
    table = Table(tmp_path)
    table.env.reset(seed=0)
    table.step(0.3)
    table.operator.say(Word.PAUSE)
    moved = (0.45, -0.2)

    def move_the_box():
        table.arm.object = moved
        table.operator.say(Word.RESUME)

    until = later(table, 6.0, move_the_box)
    obs, *_, truncated, info = table.step(0.3)
    assert table.clock.now() >= until
    assert (truncated, info["lost"]) == (False, "")
    assert "paused" in table.arm.holds
    np.testing.assert_allclose(obs[5:7], moved, atol=1e-6)


def test_a_person_who_takes_over_moves_the_arm_through_the_same_limits(tmp_path):
    table = Table(tmp_path)
    table.env.reset(seed=0)
    table.operator.hold((0.0, 1.0))
    for _ in range(40):
        table.step(*table.env.takeover(), source="human", risk=0.9)
    assert table.arm.reference[1] <= PUSH.workspace[1][1]
    records = read_steps(tmp_path).records
    assert {one.source for one in records} == {"human"}
    assert records[-1].clipped == ["box"]
    table.operator.hold(None)
    assert table.env.takeover() is None


def test_a_spoken_failure_reaches_back_and_can_be_retracted(tmp_path):
    table = Table(tmp_path, label_back_steps=2)
    table.env.reset(seed=0)
    for step in range(8):
        if step == 5:
            table.operator.say(Word.FAILURE, "vase")
        info = table.step(0.0, 0.1)[4]
        assert info["failure"] == (step == 5)
    assert info["failed"]
    assert table.env.verdict.kinds == ["", "", "", "vase", "vase", "vase", "", ""]
    table.operator.say(Word.RETRACT)
    assert not table.step(0.0, 0.1)[4]["failed"]
    before = (tmp_path / "steps.log").read_bytes()
    records, events = read_steps(tmp_path).records, read_events(tmp_path).records
    assert judge_records(records, events, 2) == table.env.verdict
    assert [event.word for event in events].count("failure") == 1
    assert (tmp_path / "steps.log").read_bytes() == before


def test_what_is_judged_automatically_can_be_retracted_too():
    table = Table()
    table.env.reset(seed=0)
    while not table.step(1.0)[4]["failure"]:
        pass
    table.operator.say(Word.RETRACT)
    assert not table.step(0.0)[4]["failed"]


def test_a_spoken_success_ends_the_episode_and_labels_are_taken_for_a_moment_longer(tmp_path):
    table = Table(tmp_path, verdict_s=1.0)
    table.env.reset(seed=0)
    table.operator.say(Word.SUCCESS)
    later(table, 0.6, lambda: table.operator.say(Word.FAILURE, "tipped"))
    _, reward, terminated, truncated, info = table.step(0.1)
    assert (reward, terminated, truncated, info["success"]) == (1.0, False, True, True)
    assert table.env.verdict == (["tipped"], True)
    assert read_events(tmp_path).records[-1].detail == "success"
