"""What an arm is told before it is connected to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from robots.errors import RobotError
from robots.limits import Limits


@dataclass(frozen=True)
class RecoveryConfig:
    """How the arm backs off from what stopped it, and how often it may."""

    wait_s: float = 0.5
    """after a reflex, until anything is tried: the arm is still settling into its hold"""

    retreat_m: float = 0.03
    """along the contact, away from it"""

    retreat_mps: float = 0.05

    raised: float = 2.0
    """reaction and reflex thresholds are multiplied by this while the arm backs off: it still touches what stopped it"""

    patience_s: float = 3.0
    """until an error that does not clear is a person's business"""

    per_episode: int = 2
    """stops by force that are recovered from in one episode; the next one needs a person"""

    per_session: int = 10

    def __post_init__(self) -> None:
        if self.raised < 1.0:
            raise RobotError(f"recovery.raised is {self.raised:g}; give 1 or more, or backing off would trip at once")
        if self.per_episode > self.per_session:
            raise RobotError(
                f"recovery.per_episode {self.per_episode} is above recovery.per_session {self.per_session}; lower it"
            )


@dataclass(frozen=True)
class ArmConfig:
    """Address, controller gains and checks of one arm."""

    host: str
    """address of the robot's control interface, such as 172.16.0.2; a loopback address is a twin"""

    robot_type: str = "fr3"
    """what the controller's own model must be called"""

    base_height_m: float = 0.112
    """of the arm's base over the table's top"""

    backend: Literal["impedance", "velocity"] = "impedance"
    """``impedance`` tracks the reference with bounded force; ``velocity`` stops by itself when commands end, but does not yield"""

    stiffness_npm: float = 800.0
    """of the impedance, N/m; times the error clip it is the most that the arm presses with"""

    turning_stiffness_nmprad: float = 50.0
    """of the impedance about each axis, Nm/rad"""

    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)

    connect_timeout_s: float = 4.0

    realtime: Literal["warn", "enforce"] = "warn"
    """what a missing real-time kernel is: a warning, or an error of the library"""

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise RobotError("host is empty; give the address of the robot's control interface, such as 172.16.0.2")
        if not 10.0 <= self.stiffness_npm <= 3000.0:
            raise RobotError(f"stiffness_npm is {self.stiffness_npm:g}; give 10 to 3000 N/m")

    def check(self, limits: Limits) -> None:
        """Raise RobotError where the controller alone could press hard enough to stop itself."""
        press = self.stiffness_npm * limits.error_clip_m
        if press >= limits.reaction_force_n:
            raise RobotError(
                f"the impedance presses with up to {press:g} N (stiffness_npm {self.stiffness_npm:g} times error_clip_m "
                f"{limits.error_clip_m:g}), but the reaction comes at {limits.reaction_force_n:g} N: lower one or raise the other"
            )
