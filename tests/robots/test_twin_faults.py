"""What goes wrong at a robot, at the twin, seen by the real client."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest

from failurebench.franka.definition import FINGER_LENGTH_M, FINGER_RADIUS_M
from robots.twin.configuration import ControllerConfig

franky = pytest.importorskip("franky", reason="the client is franky-control (extra 'robot')")

MODE = franky.RobotMode


def moved(robot, *way: float) -> object:
    """A motion to where the tool would be, displaced in the base's frame."""
    pose = robot.state.O_T_EE
    return franky.CartesianMotion(franky.Affine(np.array(pose.translation) + way, pose.quaternion))


def connected(process):
    robot = franky.Robot(process.host, realtime_config=franky.RealtimeConfig.Ignore)
    robot.relative_dynamics_factor = 0.2
    return robot


def wait_for(condition, seconds=3.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


def running(robot, process):
    """An impedance motion that holds the arm where it is; the client's own state would still be the last motion's."""
    robot.move(franky.CartesianImpedanceTrackingMotion(translational_stiffness=800.0), asynchronous=True)
    assert wait_for(lambda: process.status()["mode"] == "kMove")


def raised_by_polling(robot, seconds=4.0):
    """The first exception that polling the motion raises, and after how long."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            if robot.poll_motion():
                return None, time.monotonic() - begun
        except Exception as error:  # whatever it is, is what is asked for
            return error.with_traceback(None), time.monotonic() - begun  # its frames would keep the connection open
        time.sleep(0.005)
    return None, seconds


def test_more_than_the_threshold_is_a_reflex_that_only_recovery_ends(start_twin):
    twin = start_twin()
    client = connected(twin)
    client.set_collision_behavior(60.0, 15.0)
    running(client, twin)
    twin.push("finger", (0.0, 10.0, 0.0), 0.3)
    time.sleep(0.5)
    assert client.state.robot_mode == MODE.Move, "10 N are below the threshold of 15"
    twin.push("finger", (0.0, 25.0, 0.0), 0.3)
    error, _ = raised_by_polling(client)
    assert isinstance(error, franky.ControlException)
    assert "cartesian_reflex" in str(error)
    assert wait_for(lambda: client.state.robot_mode == MODE.Reflex)
    assert client.state.current_errors.cartesian_reflex
    with pytest.raises(franky.CommandException, match="not possible in the current mode"):
        client.move(moved(client, 0.0, 0.0, 0.01))

    del client
    time.sleep(0.1)
    again = connected(twin)
    assert again.state.robot_mode == MODE.Reflex, "a new connection does not heal"
    begun = time.monotonic()
    again.recover_from_errors()
    assert time.monotonic() - begun > 0.25, "recovery takes its time"
    assert wait_for(lambda: not again.has_errors)
    again.move(moved(again, 0.0, 0.0, 0.01))
    again.move(moved(again, 0.0, 0.0, -0.01))
    twin.close()


def test_torques_have_thresholds_of_their_own(twin, client):
    client.set_collision_behavior(4.0, 200.0)
    running(client, twin)
    twin.push("finger", (0.0, 25.0, 0.0), 0.3)
    error, _ = raised_by_polling(client)
    assert "joint_reflex" in str(error)
    assert client.state.current_errors.joint_reflex


def test_the_arm_is_soft_after_a_reflex_and_stiff_after_recovery(twin, client):
    def given_way():
        before = client.state.O_T_EE.translation[2]
        twin.push("finger", (0.0, 0.0, 20.0), 0.5)  # upwards, where nothing is in the way
        time.sleep(0.4)
        risen = client.state.O_T_EE.translation[2] - before
        time.sleep(0.3)
        return risen

    stiff = given_way()
    client.set_collision_behavior(60.0, 15.0)
    running(client, twin)
    twin.push("finger", (0.0, 25.0, 0.0), 0.2)
    raised_by_polling(client)
    time.sleep(0.5)
    soft = given_way()
    client.recover_from_errors()
    assert soft > 3 * stiff
    assert given_way() < 2 * stiff + 1e-3


def test_thresholds_cannot_be_set_in_motion_nor_be_nonsense(twin, client):
    with pytest.raises(franky.CommandException):
        client.set_collision_behavior(20.0, float("nan"))
    running(client, twin)
    with pytest.raises(franky.CommandException, match="not possible"):
        client.set_collision_behavior(20.0, 20.0)


def test_the_user_stop_ends_motion_and_nothing_but_its_release_helps(twin, client):
    running(client, twin)
    twin.user_stop(True)
    error, _ = raised_by_polling(client)
    assert isinstance(error, franky.ControlException)
    assert "safety function" in str(error)
    assert wait_for(lambda: client.state.robot_mode == MODE.UserStopped)
    for attempt in (lambda: client.move(moved(client, 0.0, 0.0, 0.01)), client.recover_from_errors):
        with pytest.raises(franky.CommandException, match="safety function"):
            attempt()
    twin.user_stop(False)
    assert wait_for(lambda: client.state.robot_mode == MODE.Idle)
    client.move(moved(client, 0.0, 0.0, 0.01))
    client.move(moved(client, 0.0, 0.0, -0.01))


def test_a_user_stop_during_recovery_refuses_it(start_twin):
    process = start_twin(controller=ControllerConfig(recovery_s=1.0))
    robot = connected(process)
    robot.set_collision_behavior(60.0, 10.0)
    running(robot, process)
    process.push("finger", (0.0, 25.0, 0.0), 0.2)
    raised_by_polling(robot)
    with ThreadPool(1) as pool:
        recovery = pool.apply_async(robot.recover_from_errors)
        assert wait_for(lambda: process.status()["mode"] == "kAutomaticErrorRecovery")
        process.user_stop(True)
        with pytest.raises(franky.CommandException, match="safety function"):
            recovery.get(5.0)
    process.user_stop(False)
    assert wait_for(lambda: robot.state.robot_mode == MODE.Reflex), "what was not recovered from is still there"
    process.close()


CLIENT = """
import sys, time, franky
robot = franky.Robot(sys.argv[1], realtime_config=franky.RealtimeConfig.Ignore)
robot.move(franky.CartesianImpedanceTrackingMotion(), asynchronous=True)
while "Move" not in str(robot.state.robot_mode):
    time.sleep(0.01)
print("moving", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_or_hangs_in_motion_leaves_a_reflex(start_twin, how):
    """The last torque is not applied forever: a robot gives up on a silent client."""
    twin = start_twin()
    with subprocess.Popen([sys.executable, "-c", CLIENT, twin.host], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "moving\n"
            os.kill(process.pid, how)
            assert wait_for(lambda: twin.status()["mode"] == "kReflex")
        finally:
            process.kill()
    assert twin.status()["errors"] == ["communication_constraints_violation"]
    assert wait_for(lambda: not twin.status()["connected"])
    robot = connected(twin)
    assert robot.state.current_errors.communication_constraints_violation
    robot.recover_from_errors()
    assert wait_for(lambda: not robot.has_errors)
    twin.close()


def test_a_client_that_only_stops_listening_does_no_harm(start_twin):
    """By hand: a connection whose datagrams nobody takes any more."""
    twin = start_twin()
    with socket.create_connection((twin.host, 1337)) as commands:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states:
            states.bind(("127.0.0.1", 0))
            states.settimeout(5.0)
            connect, number, size, version = 0, 1, 16, 10
            commands.sendall(struct.pack("<IIIHH", connect, number, size, version, states.getsockname()[1]))
            assert len(states.recv(65536)) > 1000
        time.sleep(0.3)
        assert twin.process.running()
        assert twin.status()["connected"]
    assert wait_for(lambda: not twin.status()["connected"])
    twin.close()


def test_a_second_client_waits_and_does_not_disturb_the_first(twin, client):
    running(client, twin)
    with subprocess.Popen([sys.executable, "-c", CLIENT, twin.host], stdout=subprocess.PIPE, text=True) as second:
        time.sleep(2.0)
        assert second.poll() is None, "it neither connects nor gives up"
        second.kill()
    assert client.state.robot_mode == MODE.Move


@pytest.mark.parametrize("end", ["freeze", "kill"])
def test_the_client_notices_a_controller_that_freezes_or_dies(start_twin, end):
    process = start_twin()
    robot = connected(process)
    running(robot, process)
    getattr(process, end)()
    error, after = raised_by_polling(robot)
    assert isinstance(error, franky.NetworkException)
    assert after < 1.5 * 3, "measured at 1.0 s; three times that on a busy computer"
    process.close()


def test_a_frozen_controller_thaws_and_serves_a_new_client(start_twin):
    process = start_twin()
    robot = connected(process)
    process.freeze()
    time.sleep(0.5)
    process.thaw()
    assert wait_for(lambda: process.status()["rate_hz"] > 0)
    del robot
    assert wait_for(lambda: not process.status()["connected"])
    robot = connected(process)
    robot.move(moved(robot, 0.0, 0.0, 0.01))
    process.close()


def test_a_robot_of_another_protocol_version_refuses_the_client(start_twin):
    process = start_twin(controller=ControllerConfig(server_version=5))
    with pytest.raises(franky.IncompatibleVersionException, match="server version: 5"):
        connected(process)
    process.close()


def test_a_robot_of_another_type_says_so_in_its_model(twin, start_twin, client):
    assert 'robot name="fr3"' in client.model_urdf
    process = start_twin(controller=ControllerConfig(robot_type="panda"))
    assert 'robot name="panda"' in connected(process).model_urdf
    process.close()


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_estimate_of_forces_reaches_every_field(start_twin, sign):
    twin = start_twin(controller=ControllerConfig(force_sign=sign))
    client = connected(twin)
    push = np.array([3.0, -4.0, 2.0])
    twin.push("finger", tuple(push), 0.8)
    time.sleep(0.5)
    state = client.state
    np.testing.assert_allclose(state.O_F_ext_hat_K[:3], sign * push, atol=0.2)
    np.testing.assert_allclose(twin.status()["wrench"][:3], push, atol=0.2)
    turn = state.O_T_EE.matrix[:3, :3]
    np.testing.assert_allclose(state.K_F_ext_hat_K[:3], sign * turn.T @ push, atol=0.2)
    # pressed at the capsule's middle, above the tip: the moment about the tip is r x F
    middle = FINGER_LENGTH_M - (FINGER_LENGTH_M - FINGER_RADIUS_M) / 2
    np.testing.assert_allclose(state.O_F_ext_hat_K[3:], sign * np.cross([0, 0, middle], push), atol=0.05)
    jacobian = np.reshape(client.model.zero_jacobian(franky.Frame.EndEffector, state), (6, 7))
    np.testing.assert_allclose(state.tau_ext_hat_filtered, jacobian.T @ np.array(state.O_F_ext_hat_K), atol=0.1)
    twin.close()
