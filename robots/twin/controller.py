"""The robot's controller: franky-sim's server, with the faults that a real one has."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    GetRobotModelCommand,
    MoveCommand,
    MoveStatus,
    RobotCommand,
    RobotMode,
    SetCollisionBehaviorCommand,
)
from franky_sim.franka_robot_server import FrankaRobotServer
from franky_sim.franka_server import BaseCommand, Command, ConnectCommand, ConnectStatus, MessageHeader
from franky_sim.urdf import FR3_URDF

from robots.twin.configuration import ControllerConfig
from robots.twin.forces import NOTHING, External
from robots.twin.world import Arm

SOFT = 0.05
"""share of stiffness and damping that holds the arm after a reflex"""

TICK_S = 0.001
RECENT_TICKS = 100
"""over which the share of commands that came in time is reported"""

ERRORS = 41
"""flags in a state"""


class Error(IntEnum):
    """Positions of the flags that this controller raises."""

    JOINT_REFLEX = 6
    CARTESIAN_REFLEX = 7
    COMMUNICATION_CONSTRAINTS_VIOLATION = 25


class Controller(FrankaRobotServer):  # type: ignore[misc]
    """Serves one arm; everything happens in the caller's thread, a tick at a time.

    Args:
        arm: of a simulation that has started.
        hosts: addresses to try, in their order.
        config: how it behaves.
    """

    def __init__(self, arm: Arm, hosts: Iterable[str], config: ControllerConfig) -> None:
        self.config = config
        self.stopped = False
        """whether the user stop is pressed"""
        self.errors: frozenset[int] = frozenset()
        self.force_limits = np.full((2, 6), 60.0)
        """lower and upper, N and Nm: contact is reported above the first, motion ends above the second"""
        self.torque_limits = np.full((2, 7), 60.0)
        self.external = NOTHING
        """as it is reported"""
        self._gains = arm.kp.copy(), arm.kv.copy()
        self._recovery: tuple[Any, int] | None = None
        self._silent = 0
        self._came = [True] * RECENT_TICKS
        self._ticks = 0
        super().__init__(arm, hosts)
        handlers = self._FrankaServer__command_class_map
        handlers[Command.kConnect] = _Connect
        handlers[RobotCommand.kMove] = _Move
        handlers[RobotCommand.kSetCollisionBehavior] = _SetCollisionBehavior
        handlers[RobotCommand.kAutomaticErrorRecovery] = _Recover
        handlers[RobotCommand.kGetRobotModel] = _GetRobotModel

    def watch(self, external: External) -> None:
        """After each step of the physics: compare with the thresholds, notice silence, go on with a recovery."""
        sign = self.config.force_sign
        self.external = external if external is NOTHING else External(sign * external.wrench, sign * external.torques)
        self._ticks += 1
        if self.current_motion_id and external is not NOTHING:
            beyond = np.abs(external.wrench) > self.force_limits[1]
            strained = np.abs(external.torques) > self.torque_limits[1]
            bits = [
                bit
                for bit, tripped in ((Error.CARTESIAN_REFLEX, beyond), (Error.JOINT_REFLEX, strained))
                if tripped.any()
            ]
            if bits:
                self._abort(MoveStatus.kReflexAborted, bits)
        self._listen()
        self._recover_on()

    def press_stop(self, pressed: bool) -> None:
        """Press or release the user stop: pressed, motion ends and nothing is accepted."""
        if pressed and not self.stopped:
            self._abort(MoveStatus.kPreemptedDueToActivatedSafetyFunctions, [])
        self.stopped = pressed

    def refusal(self) -> MoveStatus | None:
        """Why a motion may not start."""
        if self.stopped:
            return MoveStatus.kCommandRejectedDueToActivatedSafetyFunctions
        if self.errors or self._recovery:
            return MoveStatus.kCommandNotPossibleRejected
        return None

    def recover(self, command: Any) -> None:
        """Begin an automatic error recovery; ``command`` is answered when it is over."""
        if self.stopped:
            command.reply(AutomaticErrorRecoveryStatus.kCommandRejectedDueToActivatedSafetyFunctions)
        elif self.current_motion_id:
            command.reply(AutomaticErrorRecoveryStatus.kCommandNotPossibleRejected)
        elif self.errors:
            self._recovery = (command, self._ticks + round(self.config.recovery_s / TICK_S))
        else:
            command.reply(AutomaticErrorRecoveryStatus.kSuccess)

    @property
    def mode(self) -> RobotMode:
        """What the robot's lights would say."""
        if self.stopped:
            return RobotMode.kUserStopped
        if self._recovery:
            return RobotMode.kAutomaticErrorRecovery
        if self.errors:
            return RobotMode.kReflex
        return RobotMode.kMove if self.current_motion_id else RobotMode.kIdle

    @property
    def robot_state(self) -> Any:
        """Franky-sim's, with what the surroundings do and what is wrong."""
        state: Any = super().robot_state
        wrench, torques = self.external
        changed: dict[str, Any] = {
            "robot_mode": self.mode,
            "control_command_success_rate": sum(self._came) / RECENT_TICKS if self.current_motion_id else 0.0,
        }
        if self.errors:
            flags = tuple(bit in self.errors for bit in range(ERRORS))
            changed.update(errors=flags, reflex_reason=flags)
        if self.external is not NOTHING:
            turn = np.reshape(state.O_T_EE, (4, 4), order="F")[:3, :3]
            forces, strains = np.abs(wrench), np.abs(torques)
            changed.update(
                O_F_ext_hat_K=tuple(wrench.tolist()),
                K_F_ext_hat_K=(*(turn.T @ wrench[:3]).tolist(), *(turn.T @ wrench[3:]).tolist()),
                cartesian_contact=tuple((forces > self.force_limits[0]).tolist()),
                cartesian_collision=tuple((forces > self.force_limits[1]).tolist()),
                joint_contact=tuple((strains > self.torque_limits[0]).tolist()),
                joint_collision=tuple((strains > self.torque_limits[1]).tolist()),
            )
        changed["tau_ext_hat_filtered"] = tuple(torques.tolist())
        vars(state).update(
            changed
        )  # made a moment ago, and nobody else's: replacing it takes longer than stepping the physics
        return state

    def start_motion(self, *arguments: Any) -> None:
        """A client's."""
        self._silent, self._came = 0, [True] * RECENT_TICKS
        super().start_motion(*arguments)

    def _setup_udp_connection(self, network_udp_port: int) -> None:
        """Commands are taken from the client alone; the base class listens to every network."""
        super()._setup_udp_connection(network_udp_port)
        self._FrankaServer__udp_socket.connect((self._FrankaServer__client_address, network_udp_port))

    def send_state(self) -> None:
        """To the client, if it still listens."""
        with contextlib.suppress(ConnectionRefusedError):
            super().send_state()

    def _process_udp_commands(self) -> bool:
        """Those of the client; that it no longer listens is told by its silence."""
        try:
            return bool(super()._process_udp_commands())
        except ConnectionRefusedError:
            return False

    def _listen(self) -> None:
        """Abort a motion whose client has fallen silent: a frozen one would push on with its last torque."""
        if not self.current_motion_id:
            return
        came = bool(self._FrankaRobotServer__has_new_command)
        self._came[self._ticks % RECENT_TICKS] = came
        self._silent = 0 if came else self._silent + 1
        if self._silent * TICK_S > self.config.silence_s:
            self._abort(MoveStatus.kReflexAborted, [Error.COMMUNICATION_CONSTRAINTS_VIOLATION])

    def _abort(self, status: MoveStatus, bits: list[Error]) -> None:
        """End the motion, say so to its client, and hold the arm where it is: softly if it ran into something."""
        motion = self.current_motion_id
        self.errors |= set(bits)
        self.stop_motion(send_preemption_signal=False)
        self._hold_here(SOFT if bits else 1.0)
        if motion:
            BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, status)
            self.reset_current_motion_id()

    def _hold_here(self, share: float) -> None:
        self._FrankaRobotServer__holding_q = tuple(self.robot.inner_state.q)
        self.robot.kp, self.robot.kv = share * self._gains[0], share * self._gains[1]

    def _recover_on(self) -> None:
        if self._recovery is None:
            return
        command, until = self._recovery
        if self.stopped:
            self._recovery = None
            command.reply(AutomaticErrorRecoveryStatus.kCommandRejectedDueToActivatedSafetyFunctions)
        elif self._ticks >= until:
            if self.errors:  # the client looks at the state as soon as it has the answer: let the state go first
                self.errors = frozenset()
                self._hold_here(1.0)
                self._recovery = (command, self._ticks + RECENT_TICKS // 10)
                return
            self._recovery = None
            command.reply(AutomaticErrorRecoveryStatus.kSuccess)

    def _reset_state(self) -> None:
        """A client came or went; one that went in motion leaves a reflex behind, and reflexes stay."""
        self._recovery = None
        left = self.current_motion_id
        super()._reset_state()
        if left:
            self.errors |= {Error.COMMUNICATION_CONSTRAINTS_VIOLATION}
            self._hold_here(SOFT)


class _Connect(ConnectCommand):  # type: ignore[misc]
    """Refuses a client of another protocol version, as a robot does."""

    def handle(self, server: Controller, command_type_struct: str = "I") -> None:
        """Answer."""
        spoken = server.config.server_version
        if self.version == spoken:
            super().handle(server, command_type_struct)
            return
        header = MessageHeader(self.command_type, self.command_id, 8).to_bytes(command_type_struct=command_type_struct)
        refused = struct.pack("<BH5x", ConnectStatus.kIncompatibleLibraryVersion.value, spoken)
        self.client_socket.sendall(header + refused)


class _Move(MoveCommand):  # type: ignore[misc]
    def handle(self, server: Controller) -> None:
        """Start, unless something stands against it."""
        refusal = server.refusal()
        if refusal is None:
            super().handle(server)
        else:
            self.reply(refusal)


class _SetCollisionBehavior(SetCollisionBehaviorCommand):  # type: ignore[misc]
    def handle(self, server: Controller) -> None:
        """Keep the thresholds for constant velocity; those for acceleration are not simulated."""
        forces = np.array([self.lower_force_thresholds_nominal, self.upper_force_thresholds_nominal])
        torques = np.array([self.lower_torque_thresholds_nominal, self.upper_torque_thresholds_nominal])
        if server.current_motion_id:
            self.reply(1)  # not possible in motion
        elif not (np.isfinite(forces).all() and np.isfinite(torques).all() and (forces >= 0).all()):
            self.reply(2)  # invalid argument
        else:
            server.force_limits, server.torque_limits = forces, torques
            self.reply(0)


class _Recover(AutomaticErrorRecoveryCommand):  # type: ignore[misc]
    def handle(self, server: Controller) -> None:
        """Answered when the recovery is over."""
        server.recover(self)


class _GetRobotModel(GetRobotModelCommand):  # type: ignore[misc]
    def handle(self, server: Controller) -> None:
        """The arm's description, under the configured type's name."""
        described = FR3_URDF.replace('name="fr3"', f'name="{server.config.robot_type}"', 1)
        self.reply(0, payload=described.encode("ascii"))
