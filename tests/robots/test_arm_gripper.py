"""The gripper never holds up whoever asks it."""

from __future__ import annotations

import time

import pytest

from robots.arm.gripper import Gripper
from robots.errors import RobotError

pytest.importorskip("franky", reason="the driver is franky-control (extra 'robot')")


def test_orders_are_carried_out_in_their_order_while_the_caller_goes_on(twin):
    gripper = Gripper(twin.host)
    try:
        asked = time.monotonic()
        moved, width = gripper.move(0.02), gripper.width()
        assert time.monotonic() - asked < 0.1
        assert moved.result(10.0)
        assert width.result(10.0) == pytest.approx(0.02, abs=0.005)
    finally:
        gripper.close()


def test_a_gripper_that_hangs_is_told_and_the_next_order_connects_anew(start_twin):
    twin = start_twin()
    gripper = Gripper(twin.host, timeout_s=1.0)
    try:
        assert gripper.move(0.06).result(10.0)
        twin.freeze()
        hung, unread = gripper.move(0.01), gripper.width()
        with pytest.raises(RobotError, match=r"did not finish within 1 s"):
            hung.result(5.0)
        with pytest.raises(RobotError):
            unread.result(5.0)
    finally:
        twin.thaw()
        gripper.close()


def test_an_address_without_a_gripper_is_told():
    gripper = Gripper("127.9.8.7", timeout_s=2.0)
    try:
        with pytest.raises(RobotError, match=r"127\.9\.8\.7"):
            gripper.home().result(5.0)
    finally:
        gripper.close()
