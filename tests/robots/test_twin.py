"""The wire twin seen by the real client: kinematics, forces, rate."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from failurebench.franka.definition import FINGER_HEIGHT_M
from failurebench.franka.push_wall import FrankaFragilePushWall

franky = pytest.importorskip("franky", reason="the client is franky-control (extra 'robot')")


def moved(robot, *way: float) -> object:
    """A motion to where the tool would be, displaced in the base's frame."""
    pose = robot.state.O_T_EE
    return franky.CartesianMotion(franky.Affine(np.array(pose.translation) + way, pose.quaternion))


def track(robot, stiffness=800.0, clip=0.04):
    return franky.CartesianImpedanceTracker(
        robot,
        translational_stiffness=stiffness,
        rotational_stiffness=50,
        translational_error_clip=np.full(3, clip),
    )


def steps(tracker, robot, displacement, number, period=0.1):
    """Move the reference that often; yields after each period."""
    pose = robot.state.O_T_EE
    reference = np.array(pose.translation)
    for _ in range(number):
        reference = reference + displacement
        tracker.set_target(franky.Affine(reference, pose.quaternion))
        time.sleep(period)
        yield reference


def test_the_finger_stands_over_the_start_as_the_robot_sees_it(twin, client):
    tip = client.state.O_T_EE.translation
    scene, _ = twin.scene()
    expected = [*scene.tcp, FINGER_HEIGHT_M - twin.config.base_height_m]
    np.testing.assert_allclose(tip, expected, atol=2e-3)
    np.testing.assert_allclose(client.state.O_T_EE.matrix[:3, 2], [0, 0, -1], atol=1e-2)


def test_the_streamed_pose_is_the_measured_one_while_the_hand_is_held_back(twin, client):
    """Against forward kinematics of the streamed joints, in contact with the wall, where desired and measured poses differ."""
    twin.reset(3)
    with track(client, stiffness=1500.0, clip=0.03) as tracker:
        for asked in steps(tracker, client, np.array([0.012, 0.0, 0.0]), 16):
            reference, state = asked, client.state
            kinematics = client.model.pose(franky.Frame.EndEffector, state)
            np.testing.assert_allclose(state.O_T_EE.translation, kinematics.translation, atol=1e-5)
        held = reference[0] - state.O_T_EE.translation[0]
    assert held > 0.04, "the wall did not hold the hand back: the test shows nothing"
    client.move(moved(client, -0.12, 0.0, 0.0))


def test_a_motion_arrives(twin, client):
    before = np.array(client.state.O_T_EE.translation)
    client.move(moved(client, 0.0, 0.05, 0.0))
    time.sleep(0.6)  # the joints' springs follow the end of the motion with a time constant of 0.1 s
    np.testing.assert_allclose(np.array(client.state.O_T_EE.translation) - before, [0.0, 0.05, 0.0], atol=3e-3)
    client.move(moved(client, 0.0, -0.05, 0.0))


def test_pushing_a_box_costs_its_friction_with_the_table(twin, client):
    """Coulomb: a light box that slides steadily presses back with mu m g along the way."""
    task = FrankaFragilePushWall()
    expected = 1.0 * task.box_density * (2 * task.box_half_m) ** 3 * 9.81
    twin.reset(3)
    forces = []
    with track(client, stiffness=1500.0) as tracker:
        for _ in steps(tracker, client, np.array([0.008, 0.0, 0.0]), 17):
            moving = math.hypot(*twin.scene()[0].object_velocity) > 0.02
            if moving:
                forces.append(client.state.O_F_ext_hat_K[:3])
    assert len(forces) > 3
    along = np.median(np.array(forces)[:, 0])
    assert 0.5 * expected < along < 2.0 * expected, "what the hand presses with"
    client.move(moved(client, -0.1, 0.0, 0.0))


def test_a_push_bends_the_impedance_like_a_spring(twin, client):
    """Hooke: 12 N against 500 N/m is 24 mm; the joints' own friction holds some of it back."""
    push, stiffness, friction_n = np.array([0.0, 12.0, 0.0]), 500.0, 5.0
    with track(client, stiffness=stiffness, clip=0.1):
        time.sleep(0.5)
        before = np.array(client.state.O_T_EE.translation)
        twin.push("finger", tuple(push), 1.5)
        time.sleep(1.2)
        state = client.state
        moved = np.array(state.O_T_EE.translation) - before
    np.testing.assert_allclose(state.O_F_ext_hat_K[:3], -push, atol=0.3)
    assert 12.0 - friction_n < stiffness * moved[1] < 12.5
    assert abs(moved[0]) < 0.01
    time.sleep(0.6)
    assert np.abs(client.state.O_F_ext_hat_K).max() < 0.3, "the push is over"


def test_a_thousand_rounds_a_second_with_a_client_in_motion(twin, client):
    """In processor time, which other programs cannot take away; in real time with room for a busy computer."""
    with track(client):
        time.sleep(2.0)
        status = twin.status()
    assert 0.0 < status["busy_ms"] < 0.8
    assert 250 < status["rate_hz"] < 1100
    median, _, most = status["lateness_ms"]
    assert 0.0 <= median <= most


def test_nothing_listens_to_another_computer(twin, client):
    """On a laboratory's network a robot that anybody can command is no toy."""
    psutil = pytest.importorskip("psutil", reason="lists the sockets of the twin's process")
    sockets = psutil.Process(twin.process.pid).net_connections("inet")
    assert {one.laddr.port for one in sockets} >= {1337, 1338, 1339}
    for one in sockets:
        assert one.laddr.ip == twin.host or one.raddr.ip == "127.0.0.1", one
