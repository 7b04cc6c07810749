"""The environment on the wire twin: the real driver, people's resets and a person's stop. Nothing is exact to the millisecond."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.config import ArmConfig
from robots.config import RobotConfig
from robots.env import EnvConfig, FrankaTaskEnv
from robots.operator.choice import OperatorConfig
from robots.operator.interface import Word
from robots.session.episode import RulesConfig
from robots.session.journal import Journal, read_events, read_steps
from robots.session.opening import station_of

pytest.importorskip("franky")
pytest.importorskip("franky_sim")

TASK = FrankaFragilePushWall()


@pytest.fixture
def wire(tmp_path):
    """A twin's station that only a person can put back: its stage is in the test's hands."""
    robot = RobotConfig(ArmConfig("twin"), operator=OperatorConfig("nobody"))
    station = station_of(robot, TASK)
    stage, station = station.stage, dataclasses.replace(station, stage=None)
    rules = EnvConfig(rules=RulesConfig(max_episode_steps=40))
    env = FrankaTaskEnv(TASK, lambda: station, rules, Journal(tmp_path, {"config_hash": "x"}))
    yield env, station, stage, tmp_path
    env.close()


def step(env, x, y):
    executed = (float(np.float32(x)), float(np.float32(y)))
    env.permit(env.decided(executed, executed, (0.0, 0.0), 0.0, 0.3, "task"))
    return env.step(np.array(executed, np.float32))


def in_a_moment(seconds, do):
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def words(folder):
    return [event.word for event in read_events(folder).records]


@pytest.mark.realtime
def test_a_person_resets_stops_and_releases(wire):
    env, station, stage, folder = wire
    operator = station.operator
    in_a_moment(1.5, lambda: operator.say(Word.RESET_DONE))
    begun = time.monotonic()
    obs, _ = env.reset(seed=0)
    assert time.monotonic() - begun > 1.4
    np.testing.assert_allclose(obs[:2], TASK.hand_start, atol=0.015)
    truncated = False
    while not truncated:
        *_, truncated, info = step(env, -0.2, 1.0)
    assert info["lost"] == ""
    assert station.arm.state().tip[1] > 0.1

    in_a_moment(1.0, lambda: operator.say(Word.RESET_DONE))
    obs, _ = env.reset(seed=1)
    np.testing.assert_allclose(obs[:2], TASK.hand_start, atol=0.015)
    step(env, 0.0, 0.5)
    stage.user_stop(True)
    *_, truncated, info = step(env, 0.0, 0.5)
    if not truncated:  # the controller's report may come a step later
        *_, truncated, info = step(env, 0.0, 0.5)
    assert truncated
    assert info["lost"] == "user_stop"
    assert not info["failure"]

    in_a_moment(0.8, lambda: operator.say(Word.RESET_DONE))  # too early: the stop is still pressed
    in_a_moment(1.6, lambda: stage.user_stop(False))
    in_a_moment(2.4, lambda: operator.say(Word.RESET_DONE))
    in_a_moment(4.0, lambda: operator.say(Word.RESET_DONE))  # and once more for the table
    begun = time.monotonic()
    env.reset(seed=2)
    assert time.monotonic() - begun > 3.9
    stopped = words(folder)[-8:]
    assert stopped == [*["needs_reset", "reset_done"] * 3, "reset", "episode"]
    assert not step(env, 0.0, 0.5)[3]
    assert {one.fault for one in read_steps(folder).records} == {"", "user_stop"}
