"""A connection to a robot's control interface, made under supervision and read in the table's frame."""

from __future__ import annotations

import re
import socket
import time
from typing import Any, NamedTuple

import numpy as np

from failurebench.franka.definition import FINGER_LENGTH_M
from robots.arm.config import ArmConfig
from robots.arm.states import Report
from robots.arm.supervised import TookTooLongError, supervised
from robots.errors import RobotError
from robots.limits import Limits, Vec3

PORT = 1337
"""of the control interface"""

DOWN = (1.0, 0.0, 0.0, 0.0)
"""orientation of the upright finger, quaternion x, y, z, w"""

HAND_YAW_RAD = -np.pi / 4
"""the hand is mounted turned by this about the flange's axis"""

FRAME_S = 0.5
"""until a frame that was set must show"""

FRAME_M = 0.005
"""what controller and joints may differ by about where the finger's tip is, in a robot at rest"""

COMMAND_S = 2.0
"""until a command that the controller does not answer is given up"""


class Reading(NamedTuple):
    """One state of the controller. Metres, radians, newtons; the table's frame."""

    time: float
    """``time.monotonic()``"""
    clock_s: float
    """the controller's own"""
    joints: tuple[float, ...]
    tip: Vec3
    tip_velocity: Vec3
    tilt_rad: float
    """by which the finger is turned away from upright"""
    force: Vec3
    misplaced_m: float
    """from the tip by the joints to the controller's own idea of it"""
    report: Report


def load_franky() -> Any:
    """The driver library."""
    try:
        import franky
    except ImportError as error:
        raise RobotError(
            f"franky cannot be imported ({error}); install it with pip install 'failure-aware-rl[robot]'"
        ) from error
    return franky


class Connection:
    """One connection to one arm; dead for good when the controller falls silent.

    Only one thread may read; commands come from any.
    """

    def __init__(self, robot: Any, config: ArmConfig) -> None:
        self.robot, self.config = robot, config
        self._franky = load_franky()
        # Views of the library's own types: building them at every reading costs more than the reading.
        half = HAND_YAW_RAD / 2
        self._tool = self._franky.Affine(
            np.array([0.0, 0.0, FINGER_LENGTH_M]), np.array([0.0, 0.0, np.sin(half), np.cos(half)])
        )
        self._same = self._franky.Affine()
        self._nominal = np.array(robot.state.F_T_NE.matrix)

    def prepare(self, limits: Limits) -> None:
        """Put the end effector's frame at the finger's tip and set the thresholds; the arm must not be moving."""
        frame = np.linalg.inv(self._nominal) @ np.array(self._tool.matrix)
        self._answered(lambda: self.robot.set_ee(frame.flatten(order="F").tolist()))
        self.set_thresholds(limits.reflex_force_n, limits.reflex_torque_nm)

    def check_frame(self) -> None:
        """Raise RobotError where the controller has another idea of where the finger is than the joints give.

        The controller's own idea is what the library steers by: a wrong one would drive the finger somewhere else.
        """
        ends = time.monotonic() + FRAME_S
        while (off_m := self.read(finished=True).misplaced_m) > FRAME_M:
            if time.monotonic() > ends:
                raise RobotError(
                    f"the controller at {self.config.host} places the finger's tip {1000 * off_m:.0f} mm from where its joints "
                    "do: its end effector's frame is not what was set; check the end effector in Desk and the robot's model"
                )

    def set_thresholds(self, force_n: float, torque_nm: float) -> None:
        """When the controller's own reflex stops the arm; the arm must not be moving."""
        self._answered(lambda: self.robot.set_collision_behavior(torque_nm, force_n))

    def clear_errors(self) -> None:
        """Ask for the controller's error recovery. Later readings say whether it worked; its own answer is not reliable."""
        self._answered(self.robot.recover_from_errors)

    def read(self, finished: bool) -> Reading:
        """The newest state. Without a motion it waits for the next one, and raises when the controller is silent for a second."""
        state = self.robot.state
        model, joints = self.robot.model, state.q
        frame = self._franky.Frame.EndEffector
        pose = model.pose(frame, joints, self._tool, self._same)
        x, y, z = pose.translation.ravel().tolist()
        velocity = (model.zero_jacobian(frame, joints, self._tool, self._same) @ state.dq.ravel())[:3].tolist()
        force = state.O_F_ext_hat_K.ravel()[:3].tolist()
        report = Report(state.robot_mode.name, _flags(state.current_errors), finished)
        return Reading(
            time.monotonic(),
            state.time.to_sec(),
            tuple(joints.ravel().tolist()),
            (x, y, z + self.config.base_height_m),
            (velocity[0], velocity[1], velocity[2]),
            _turned(pose.quaternion.ravel()),
            (force[0], force[1], force[2]),
            float(np.linalg.norm(state.O_T_EE.translation - pose.translation)),
            report,
        )

    def in_base(self, point: Vec3) -> Vec3:
        """A point of the table's frame in the arm's own."""
        return point[0], point[1], point[2] - self.config.base_height_m

    def _answered(self, call: Any) -> None:
        """A command, given up when the controller does not answer it."""
        try:
            supervised(call, COMMAND_S)
        except TookTooLongError:
            raise ConnectionError(f"the controller at {self.config.host} does not answer a command") from None


def connect(config: ArmConfig) -> Connection:
    """Reach the controller and check what it is.

    Raises:
        RobotError: it cannot be reached, does not answer, speaks another version, or is another robot; within
            ``connect_timeout_s`` and a little.
    """
    franky = load_franky()
    _reach(config)
    enforce = franky.RealtimeConfig.Enforce if config.realtime == "enforce" else franky.RealtimeConfig.Ignore
    try:
        robot = supervised(
            lambda: franky.Robot(config.host, realtime_config=enforce), config.connect_timeout_s, _let_go
        )
    except TookTooLongError:
        raise RobotError(
            f"the controller at {config.host} accepts connections but does not answer within {config.connect_timeout_s:g} s: "
            "another program holds it, or it hangs; end that program, or restart the controller"
        ) from None
    except franky.IncompatibleVersionException as error:
        versions = ", ".join(re.findall(r"(?:server|library) version: \d+", str(error)))
        raise RobotError(
            f"the controller at {config.host} speaks another version of the robot's protocol ({versions}); install the wheel "
            "of franky-control for that server version, or update the robot's system"
        ) from error
    except franky.RealtimeException as error:
        raise RobotError(
            "this machine's kernel is not real-time and realtime is 'enforce'; boot a PREEMPT_RT kernel, or set realtime to "
            "'warn' and expect aborted motions under load"
        ) from error
    except (franky.NetworkException, franky.ModelException, franky.ProtocolException, RuntimeError) as error:
        raise RobotError(f"the controller at {config.host} cannot be used: {error}") from error
    kind = _type_of(robot)
    if kind != config.robot_type:
        raise RobotError(
            f"the robot at {config.host} calls itself {kind!r}, but robot_type is {config.robot_type!r}; give the address of "
            "the right robot, or its type"
        )
    return Connection(robot, config)


def _reach(config: ArmConfig) -> None:
    """Refuse an address that nothing listens at before the library waits for it."""
    try:
        socket.create_connection((config.host, PORT), config.connect_timeout_s).close()
    except socket.gaierror:
        raise RobotError(
            f"there is no host {config.host!r}; give the address of the robot's control interface"
        ) from None
    except ConnectionRefusedError:
        raise RobotError(
            f"{config.host} refuses connections on port {PORT}: it is not a Franka controller, or its FCI is not activated "
            "in Desk"
        ) from None
    except OSError as error:
        raise RobotError(
            f"{config.host} cannot be reached ({error or 'no answer'}); check the cable, this machine's address in the "
            "robot's network, and host"
        ) from None


def _type_of(robot: Any) -> str:
    found = re.search(r'<robot[^>]*\bname="([^"]*)"', robot.model_urdf)
    return found.group(1) if found else "unknown"


def _let_go(robot: Any) -> None:
    """Drop a connection that came too late: the call that made it no longer keeps it, so it closes and lets others in."""


def _flags(errors: Any) -> tuple[str, ...]:
    if repr(errors) == "[]":
        return ()
    return tuple(name for name in dir(errors) if not name.startswith("_") and getattr(errors, name) is True)


def _turned(quaternion: Any) -> float:
    """Angle between a unit quaternion and ``DOWN``, rad."""
    return float(2.0 * np.arccos(min(abs(float(np.dot(quaternion, DOWN))), 1.0)))
