"""What an arm is to everything else: a state to read, a reference to move, and ways to stop."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from failurebench.franka.definition import FINGER_HEIGHT_M
from failurebench.franka.geometry import Vec2
from robots.actions import GatedAction

Vec3 = tuple[float, float, float]


class ArmStatus(Enum):
    """The state machine of the connection and the arm behind it."""

    IDLE = "idle"
    """connected, no motion"""
    RUNNING = "running"
    """tracks the reference"""
    HOLD = "hold"
    """tracks a reference that stands still until the next permitted command"""
    REACTION_STOP = "reaction_stop"
    """the 1 kHz force reaction ended the motion; the arm stands"""
    REFLEX = "reflex"
    """the controller's own reflex; it must be recovered from, backing off along the contact"""
    USER_STOP = "user_stop"
    """a person pressed the stop; only its release ends this, nothing here tries to"""
    LOST = "lost"
    """no controller answers; the connection is built anew"""
    CLOSED = "closed"


class ArmState(NamedTuple):
    """A reading of the arm. Metres, radians, newtons, seconds; the frame is the table's (``failurebench.franka.scene``)."""

    status: ArmStatus
    time: float
    """``time.monotonic()`` of the reading"""
    joints: tuple[float, ...]
    tip: Vec3
    """the finger's, from the joints by forward kinematics, never the controller's desired pose"""
    tip_velocity: Vec3
    force: Vec3
    """external force at the finger as the controller estimates it"""
    reference: Vec2
    """where the finger is asked to be"""
    errors: tuple[str, ...] = ()
    """the controller's own names of what is wrong"""


class Commanded(NamedTuple):
    """What became of a command."""

    reference: Vec2
    executed: Vec2
    """the displacement that was really commanded, in units of the task's full command"""
    clipped: tuple[str, ...]
    """the limits that changed it, such as ``box`` or ``step``; ``held`` alone where it was refused"""
    fault: str = ""
    """why the arm does not follow, such as ``reflex``; empty where it does"""


class Arm(Protocol):
    """Real, or a twin: the same class with another address."""

    def connect(self) -> None:
        """Reach the controller and check it; raises RobotError with what is wrong, within seconds."""
        ...

    def state(self) -> ArmState:
        """The newest reading; blocks for no longer than a millisecond or two and never raises for a fault: the status says it."""
        ...

    def command(self, action: GatedAction) -> Commanded:
        """Move the reference by one control step, through every limit; a decision that is late, missing or NaN holds instead."""
        ...

    def hold(self, reason: str) -> None:
        """Stand where the finger is now."""
        ...

    def move_to(self, target: Vec2, speed_mps: float, height_m: float = FINGER_HEIGHT_M) -> bool:
        """Bring the finger to ``target`` in a straight line, inside the same limits; whether it arrived. It holds there."""
        ...

    def recover(self) -> bool:
        """Leave REACTION_STOP or REFLEX by backing off along the contact; False where a person is needed."""
        ...

    def new_episode(self) -> None:
        """Stops by force are counted anew, towards the episode's allowance."""
        ...

    def close(self) -> None:
        """Stop and let go; can be called twice."""
        ...
