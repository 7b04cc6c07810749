"""How a reference becomes motion: through the impedance controller, or through velocities. Nothing else moves an arm."""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

import numpy as np

from robots.arm.connection import DOWN, Connection, load_franky
from robots.limits import PERIOD_S, Limits, Vec3
from robots.permit import Permit


class Tracker(Protocol):
    """One motion of the arm from its beginning to its end; a new one is made for every motion."""

    reference: Vec3
    """where the finger is asked to be now"""

    def begin(self, permit: Permit) -> None:
        """Start the motion, standing."""
        ...

    def follow(self, permit: Permit, tip: Vec3, now: float) -> None:
        """Go there within one control period; a held permit is obeyed at once. ``tip`` is where the finger is."""
        ...

    def pulse(self, force_n: float, now: float) -> None:
        """Called a hundred times a second while the motion lasts, with the size of the external force."""
        ...

    def stop(self) -> None:
        """Bring the arm to rest and end the motion; returns at once."""
        ...

    def runs_out(self, now: float) -> bool:
        """Whether the motion ends by itself about now, for want of commands."""
        ...


def make_tracker(connection: Connection, limits: Limits, reaction_force_n: float) -> Tracker:
    """The backend that the configuration asks for."""
    kinds: dict[str, type[ImpedanceTracker] | type[VelocityTracker]] = {
        "impedance": ImpedanceTracker,
        "velocity": VelocityTracker,
    }
    return kinds[connection.config.backend](connection, limits, reaction_force_n)


class ImpedanceTracker:
    """The finger as a mass on a spring, in torques, with an error that is clipped: it never presses harder than spring times clip.

    Between two commands the reference runs from one to the next in a straight line, with its velocity as feed-forward, and
    then stands: an arm whose commands end comes to rest by itself, wherever this process hangs.
    """

    def __init__(self, connection: Connection, limits: Limits, reaction_force_n: float) -> None:
        self._connection, self._robot, self._franky = connection, connection.robot, load_franky()
        config = connection.config
        self._motion = self._franky.CartesianImpedanceTrackingMotion(
            translational_stiffness=config.stiffness_npm,
            rotational_stiffness=config.turning_stiffness_nmprad,
            translational_error_clip=np.full(3, limits.error_clip_m),
        )
        reaction = self._franky.TorqueReaction(
            _pressed(self._franky, reaction_force_n), self._franky.TorqueStopMotion()
        )
        self._motion.add_reaction(reaction)
        self._reach_m, self._soft_force_n = limits.reach_m, limits.soft_force_n
        self.reference: Vec3 = (0.0, 0.0, 0.0)
        self._ramp = _Ramp((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0)

    def begin(self, permit: Permit) -> None:
        """Start the motion, standing."""
        _demand(permit)
        self.reference = permit.reference
        self._ramp = _Ramp(permit.reference, permit.reference, 0.0)
        self._publish(permit.reference, (0.0, 0.0, 0.0))
        self._robot.move(self._motion, asynchronous=True)

    def follow(self, permit: Permit, tip: Vec3, now: float) -> None:
        """Go there within one control period; a held permit is obeyed at once."""
        _demand(permit)
        reach = 0.0 if "held" in permit.clipped else self._reach_m
        # A reference that was re-anchored to a pushed finger jumps: what is more than one step's way is not fed forward.
        begin = _within_reach(self._ramp.at(now)[0], permit.reference, reach)
        self.reference = permit.reference
        self._ramp = _Ramp(begin, permit.reference, now)
        if reach == 0.0:
            self._publish(permit.reference, (0.0, 0.0, 0.0))

    def pulse(self, force_n: float, now: float) -> None:
        """Move the controller's target along the line.

        The feed-forward fades as the finger presses on something: spring and damping together then press no harder than
        the spring alone does at its clip.
        """
        point, velocity = self._ramp.at(now)
        share = max(1.0 - force_n / self._soft_force_n, 0.0)
        self._publish(point, (share * velocity[0], share * velocity[1], share * velocity[2]))

    def stop(self) -> None:
        """Damp the arm to rest and end the motion; returns at once."""
        self._robot.move(self._franky.TorqueStopMotion(), asynchronous=True)

    def runs_out(self, now: float) -> bool:
        """Never: the last reference is held."""
        return False

    def _publish(self, point: Vec3, velocity: Vec3) -> None:
        target = self._franky.Affine(np.array(self._connection.in_base(point)), np.array(DOWN))
        twist = self._franky.Twist(np.array(velocity))
        self._motion.set_reference(self._franky.CartesianReference(target=target, target_twist=twist))


class VelocityTracker:
    """Velocities with a tail of zero: the arm stops by itself when commands end. Stiff: contact is for the reaction to notice."""

    HOLD_MS = 250
    """a velocity lasts this long if no other comes"""

    RETURN = 1.0
    """1/s, of the distance between finger and reference"""

    DYNAMICS = (0.1, 0.05, 0.05)
    """shares of the arm's greatest velocity, acceleration and jerk; gentle enough for a controller that checks them"""

    def __init__(self, connection: Connection, limits: Limits, reaction_force_n: float) -> None:
        self._connection, self._robot, self._franky = connection, connection.robot, load_franky()
        self._limits, self._reaction_force_n = limits, reaction_force_n
        self.reference: Vec3 = (0.0, 0.0, 0.0)
        self._sent = 0.0

    def begin(self, permit: Permit) -> None:
        """Start the motion, standing."""
        _demand(permit)
        self.reference = permit.reference
        self._send((0.0, 0.0, 0.0), time.monotonic())

    def follow(self, permit: Permit, tip: Vec3, now: float) -> None:
        """Go there within one control period; a held permit is obeyed at once."""
        _demand(permit)
        if "held" in permit.clipped:
            self.reference = permit.reference
            self._send((0.0, 0.0, 0.0), now)
            return
        moved = zip(permit.reference, self.reference, tip, strict=True)
        velocity = [(new - old) / PERIOD_S + self.RETURN * (old - at) for new, old, at in moved]
        self.reference = permit.reference
        share = min(self._limits.speed_mps / max(math.hypot(*velocity), 1e-9), 1.0)
        self._send((velocity[0] * share, velocity[1] * share, velocity[2] * share), now)

    def pulse(self, force_n: float, now: float) -> None:
        """Nothing: the controller's own motion runs out."""

    def stop(self) -> None:
        """Brake and end the motion; returns at once."""
        self._robot.move(self._franky.CartesianVelocityStopMotion(), asynchronous=True)

    def runs_out(self, now: float) -> bool:
        """Some time after the last command."""
        return now - self._sent > self.HOLD_MS / 1000

    def _send(self, velocity: Vec3, now: float) -> None:
        self._sent, franky = now, self._franky
        factor = franky.RelativeDynamicsFactor(*self.DYNAMICS)
        waypoints = [
            franky.CartesianVelocityWaypoint(
                franky.RobotVelocity(franky.Twist(np.array(velocity))),
                hold_target_duration=franky.Duration(self.HOLD_MS),
            ),
            franky.CartesianVelocityWaypoint(franky.RobotVelocity(franky.Twist(np.zeros(3)))),
        ]
        motion = franky.CartesianVelocityWaypointMotion(waypoints, relative_dynamics_factor=factor)
        stop = franky.CartesianVelocityStopMotion()
        motion.add_reaction(franky.CartesianVelocityReaction(_pressed(franky, self._reaction_force_n), stop))
        self._robot.move(motion, asynchronous=True)


class _Ramp:
    """From one reference to the next in one control period."""

    def __init__(self, begin: Vec3, end: Vec3, since: float) -> None:
        self._begin, self._end, self._since = begin, end, since

    def at(self, now: float) -> tuple[Vec3, Vec3]:
        """Point and velocity."""
        share = min(max((now - self._since) / PERIOD_S, 0.0), 1.0)
        way = [b - a for a, b in zip(self._begin, self._end, strict=True)]
        x, y, z = (a + share * w for a, w in zip(self._begin, way, strict=True))
        rate = 1.0 / PERIOD_S if share < 1.0 else 0.0
        return (x, y, z), (way[0] * rate, way[1] * rate, way[2] * rate)


def _within_reach(begin: Vec3, end: Vec3, reach_m: float) -> Vec3:
    """The point nearest to ``begin`` that is no further than ``reach_m`` from ``end``."""
    way = math.dist(begin, end)
    if way <= reach_m:
        return begin
    x, y, z = (e + reach_m / way * (b - e) for b, e in zip(begin, end, strict=True))
    return x, y, z


def _demand(permit: Permit) -> None:
    """Trackers follow what the limits made, and nothing that merely looks like it."""
    if type(permit) is not Permit:
        raise TypeError(f"a tracker follows a Permit that the limits made, not {type(permit).__name__}")


def _pressed(franky: Any, force_n: float) -> Any:
    """The condition that the external force at the finger exceeds ``force_n``."""
    measure = franky.Measure
    squares = measure.FORCE_X**2 + measure.FORCE_Y**2 + measure.FORCE_Z**2
    return squares > force_n**2
