"""The environment around an arm: whose action moves it, when, what a step counts as, and what a reset waits for."""

import math
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import failurebench  # noqa: F401 (registers the twin's ids)
from failurebench.judged import INFO
from robots.actions import GatedAction
from robots.arm.interface import ArmStatus
from robots.operator.interface import Word
from robots.session.journal import read_steps
from tests.robots.paper_table import Table


def test_spaces_and_info_are_those_of_the_robosuite_twin():
    pytest.importorskip("robosuite")
    twin, table = gymnasium.make("FailureBench/FrankaFragilePushWall-v0").unwrapped, Table()
    assert table.env.observation_space == twin.observation_space
    assert table.env.action_space == twin.action_space
    ours, (_, theirs) = table.env.reset(seed=3)[1], twin.reset(seed=3)
    after = table.step(0.5)[4]
    for info in (ours, after):
        assert {key: type(info[key]) for key in INFO} == {key: type(theirs[key]) for key in INFO}
        more = {"source", "executed_action", "clipped", "fault", "lost", "status", "ages"}
        assert set(info) == {*INFO, *more}
    twin.close()


def test_the_first_observation_is_that_of_the_twin_for_the_same_seed():
    pytest.importorskip("robosuite")
    twin, table = gymnasium.make("FailureBench/FrankaFragilePushWall-v0").unwrapped, Table()
    ours, theirs = table.env.reset(seed=5)[0], twin.reset(seed=5)[0]
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    twin.close()


def test_a_permitted_action_is_executed_once_and_nothing_else_is():
    table = Table()
    table.env.reset(seed=0)
    info = table.step(1.0, 0.0)[4]
    assert info["source"] == "task"
    np.testing.assert_allclose(info["executed_action"], [1.0, 0.0], atol=1e-6)
    moved = table.arm.reference
    _, reward, terminated, truncated, info = table.env.step(np.array([1.0, 0.0], np.float32))
    assert (truncated, terminated, reward) == (True, False, 0.0)
    assert info["fault"] == info["lost"] == "no_decision"
    assert not info["failure"]
    assert len(table.arm.commands) == 1
    assert math.dist(table.arm.reference, moved) < 0.015
    with pytest.raises(gymnasium.error.ResetNeeded):
        table.step()


def test_another_action_than_the_permitted_one_holds():
    table = Table()
    table.env.reset(seed=0)
    table.env.permit(table.env.decided((0.1, 0.0), (0.1, 0.0), (0.0, 0.0), 0.0, 0.3, "task"))
    info = table.env.step(np.array([1.0, 0.0], np.float32))[4]
    assert info["fault"] == "no_decision"
    assert table.arm.commands == []


def test_a_risk_that_is_no_number_holds_and_the_episode_goes_on():
    table = Table()
    table.env.reset(seed=0)
    *_, truncated, info = table.step(1.0, risk=float("nan"))
    assert not truncated
    assert info["clipped"] == ("held",)
    assert table.arm.commands == []


def test_commands_come_every_tenth_of_a_second_however_long_decisions_take():
    table = Table()
    table.env.reset(seed=0)
    late = np.random.default_rng(0)
    for _ in range(30):
        table.clock.sleep(float(late.uniform(0.0, 0.029)))
        table.step(0.1)
    periods = np.diff(table.arm.command_times)
    np.testing.assert_allclose(periods, 0.1, atol=0.006)


def test_one_late_decision_delays_its_own_command_only():
    table = Table()
    table.env.reset(seed=0)
    for step in range(6):
        table.clock.sleep(0.07 if step == 3 else 0.01)
        table.step(0.1)
    times = np.array(table.arm.command_times) - table.arm.command_times[0]
    np.testing.assert_allclose(times, [0.0, 0.1, 0.2, 0.34, 0.4, 0.5], atol=0.011)


def test_pushing_the_box_into_the_wall_is_a_failure_and_goes_on():
    table = Table()
    table.env.reset(seed=0)
    infos = []
    for _ in range(14):
        *_, truncated, info = table.step(1.0)
        infos.append(info)
        assert info["failed"] == any(one["failure"] for one in infos)
    failed = [one["failure"] for one in infos]
    first = infos[failed.index(True)]
    assert failed.index(True) > 3
    assert all(failed[failed.index(True) :])
    assert not truncated
    assert [one["failure_onset"] for one in infos].count(True) == 1
    assert (first["failure_type"], first["failure_detail"]) == ("hit_wall", "box")
    assert first["margin"] < 0


FAULTS = {
    "arm_lost": lambda table: setattr(table.arm, "status", ArmStatus.LOST),
    "user_stop": lambda table: setattr(table.arm, "status", ArmStatus.USER_STOP),
    "reflex": lambda table: setattr(table.arm, "status", ArmStatus.REFLEX),
    "reaction_stop": lambda table: setattr(table.arm, "status", ArmStatus.REACTION_STOP),
    "estimate_stale": lambda table: setattr(table.eyes, "blind_since", table.clock.now() - 1.0),
    "estimate_lost": lambda table: setattr(table.eyes, "reason", "lost"),
    "operator_unplugged": lambda table: table.operator.say(Word.UNPLUGGED),
    "aborted": lambda table: table.operator.say(Word.ABORT),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_infrastructure_ends_the_episode_and_is_no_failure(fault):
    table = Table()
    table.env.reset(seed=0)
    seen = table.step(0.2)[0]
    FAULTS[fault](table)
    obs, reward, terminated, truncated, info = table.step(0.2)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["fault"] == info["lost"] == fault
    assert not any(info[key] for key in ("failure", "failed", "success"))
    np.testing.assert_array_equal(obs, seen)
    assert table.arm.holds[-1] == "episode_over"


def test_a_failure_before_a_fault_stays_one():
    table = Table()
    table.env.reset(seed=0)
    while not table.step(1.0)[4]["failure"]:
        pass
    table.arm.status = ArmStatus.LOST
    info = table.step(0.0)[4]
    assert info["lost"] == "arm_lost"
    assert info["failed"]
    assert not info["failure"]


def test_a_reflex_at_the_wall_is_a_failure_and_ends_the_episode():
    table = Table()
    table.env.reset(seed=0)
    while table.step(1.0)[4]["margin"] > 0.008:
        pass
    table.arm.status = ArmStatus.REFLEX
    *_, truncated, info = table.step(0.0)
    assert truncated
    assert info["failure"]
    assert info["lost"] == ""


def test_after_every_fault_the_next_reset_has_the_arm_back():
    table = Table()
    table.env.reset(seed=0)
    table.arm.status = ArmStatus.REFLEX
    table.step(0.0)
    table.env.reset(seed=1)
    assert table.arm.recoveries == 1
    table.arm.status, table.arm.unreachable = ArmStatus.LOST, 2
    table.step(0.0)
    table.env.reset(seed=2)
    assert table.arm.connections == 2
    assert not table.step(0.1)[3]


def test_every_step_is_in_the_journal_before_step_returns(tmp_path):
    table = Table(tmp_path, max_episode_steps=5)
    obs, _ = table.env.reset(seed=0)
    for step in range(5):
        following, reward, _, truncated, info = table.step(0.4, -0.2)
        record = read_steps(tmp_path).records[-1]
        assert (record.episode, record.step, record.source) == (1, step, "task")
        np.testing.assert_array_equal(np.array(record.obs, np.float32), obs)
        np.testing.assert_array_equal(np.array(record.next_obs, np.float32), following)
        assert record.reward == reward
        assert record.margin == info["margin"]
        assert record.truncated == truncated == (step == 4)
        obs = following


def test_a_journal_that_cannot_be_written_stops_the_arm(tmp_path, monkeypatch):
    table = Table(tmp_path)
    table.env.reset(seed=0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(Exception, match="No space left"):
        table.step(1.0)
    assert table.arm.holds[-1] == "journal"


def test_only_a_decision_can_be_handed_in():
    """There is no other way to the arm than ``command``, and it takes nothing but a GatedAction."""
    table = Table()
    table.env.reset(seed=0)
    table.env.permit(GatedAction((0.5, 0.0), (0.5, 0.0), (0.0, 0.0), 0.9, 0.3, "task", 0.0, 0.0))
    table.env.step(np.array([0.5, 0.0], np.float32))
    assert table.arm.commands == []


def test_the_registered_environment_opens_nothing_until_it_is_reset():
    env = gymnasium.make("robots:Robots/FrankaFragilePushWall-v0", clearance=0.01, max_episode_steps=20).unwrapped
    assert env.task.clearance == 0.01
    assert env.station is None
    env.close()


def test_importing_robots_loads_no_library_of_hardware_or_learning():
    heavy = "{'franky', 'franky_sim', 'pyrealsense2', 'cv2', 'sdl2', 'pynput', 'torch', 'mujoco'}"
    code = f"import sys, robots, robots.env, robots.making; print({heavy} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"
