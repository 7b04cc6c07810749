"""Resets: what is seen to, what a person is asked for, and that nothing moves before they have answered."""

import numpy as np
import pytest

from robots.arm.interface import ArmStatus
from robots.errors import RobotError
from robots.operator.interface import Word
from robots.session.journal import read_events
from robots.session.resetting import SessionEnded
from tests.robots.paper_table import PUSH, Table, later


def test_an_arm_that_cannot_free_itself_waits_for_a_person_and_then_tries_again(tmp_path):
    table = Table(tmp_path, staged=False, by="scripted")
    table.env.reset(seed=0)
    table.arm.status, table.arm.stuck = ArmStatus.REFLEX, 2
    table.env.step(np.zeros(2, np.float32))
    freed = later(table, 3.0, lambda: table.operator.say(Word.RESET_DONE))
    later(table, 5.0, lambda: table.operator.say(Word.RESET_DONE))
    table.env.reset(seed=1)
    assert table.clock.now() > freed
    asked = [event.detail for event in read_events(tmp_path).records if event.word == "needs_reset"]
    assert "cannot leave reflex by itself" in asked[0]
    assert table.arm.recoveries == 2


def test_a_twin_that_nobody_can_free_ends_the_session_with_a_message():
    table = Table()
    table.env.reset(seed=0)
    table.arm.status, table.arm.stuck = ArmStatus.REFLEX, 100
    table.env.step(np.zeros(2, np.float32))
    with pytest.raises(RobotError, match="cannot leave reflex"):
        table.env.reset(seed=1)


def test_the_stop_button_is_never_answered_by_motion_before_a_person_says_so():
    table = Table()
    table.env.reset(seed=0)
    table.arm.status = ArmStatus.USER_STOP
    table.step(0.0)
    asked = later(table, 3.0, lambda: setattr(table.arm, "status", ArmStatus.IDLE))
    done = later(table, 5.0, lambda: table.operator.say(Word.RESET_DONE))
    table.env.reset(seed=1)
    assert table.clock.now() >= max(asked, done)
    assert not table.step(0.1)[3]


def test_without_a_stage_nothing_moves_until_a_person_has_put_things_back(tmp_path):
    table = Table(tmp_path, staged=False)
    done = later(table, 4.0, lambda: table.operator.say(Word.RESET_DONE))
    table.env.reset(seed=0)
    assert table.clock.now() >= done
    said = [event.word for event in read_events(tmp_path).records]
    assert said == ["needs_reset", "reset_done", "reset", "episode"]


def test_a_box_left_at_the_goal_is_noticed_and_asked_for_again(tmp_path):
    table = Table(tmp_path, staged=False)
    start, table.arm.object = table.arm.object, (0.66, -0.02)
    later(table, 1.0, lambda: table.operator.say(Word.RESET_DONE))

    def put_back():
        table.arm.object = start
        table.operator.say(Word.RESET_DONE)

    later(table, 3.0, put_back)
    obs, _ = table.env.reset(seed=0)
    asked = [event.detail for event in read_events(tmp_path).records if event.word == "needs_reset"]
    assert len(asked) == 2
    assert "seen at (0.660, -0.020)" in asked[1]
    np.testing.assert_allclose(obs[5:7], start, atol=1e-6)


def test_scripted_resets_ask_only_after_trouble():
    table = Table(staged=False, by="scripted")
    table.env.reset(seed=0)
    assert table.clock.now() < 1003.0
    table.operator.say(Word.ABORT)
    table.env.step(np.zeros(2, np.float32))
    table.operator.say(Word.QUIT)
    with pytest.raises(SessionEnded):
        table.env.reset(seed=1)


def test_the_way_back_to_the_start_leads_over_wall_and_box():
    table = Table(staged=False)
    later(table, 0.5, lambda: table.operator.say(Word.RESET_DONE))
    table.env.reset(seed=0)
    table.arm.tip = table.arm.reference = (0.66, -0.08, 0.02)
    box, heights = table.arm.object, []

    def look():
        scene = table.env.eyes.scene(table.env.eyes.look(table.env.episode.layout))
        if PUSH.margin(scene, table.env.episode.layout) < 0.01 or np.hypot(*np.subtract(scene.tcp, box)) < 0.06:
            heights.append(table.arm.tip[2])

    table.operator.say(Word.ABORT)
    table.env.step(np.zeros(2, np.float32))
    table.clock.everyone.append(look)
    later(table, 0.5, lambda: table.operator.say(Word.RESET_DONE))
    table.env.reset(seed=1)
    assert min(heights) > PUSH.wall_height_m
    assert table.arm.object == box
    assert np.hypot(*np.subtract(table.arm.tip[:2], PUSH.hand_start)) < 0.01


def test_the_finger_does_not_come_down_on_the_object():
    table = Table(staged=False)
    table.arm.tip = table.arm.reference = (0.6, 0.1, 0.02)
    table.arm.object = (0.37, 0.0)
    later(table, 0.5, lambda: table.operator.say(Word.RESET_DONE))

    def put_back():
        assert table.arm.tip[2] > 0.15
        table.arm.object = (0.44, 0.0)
        table.operator.say(Word.RESET_DONE)

    later(table, 3.0, put_back)
    table.env.reset(seed=0)
    assert table.arm.object == (0.44, 0.0)
