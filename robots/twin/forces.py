"""What the surroundings do to the arm: contact forces of MuJoCo as the controller would estimate them."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from robots.twin.world import FINGER, TIP

FILTER_S = 0.01
"""time constant of the estimate; an impact of a millisecond is not seen whole, nor is it by a robot"""

FORGOTTEN_N = 1e-3
"""what is left of an estimate that nothing feeds is dropped below this"""

Array = NDArray[np.float64]


class External(NamedTuple):
    """Of the surroundings on the arm, N, Nm."""

    wrench: Array
    """``[6]`` force and torque at the finger's tip, in the base's frame"""
    torques: Array
    """``[7]`` what they come to at the joints"""


NOTHING = External(np.zeros(6), np.zeros(7))


class Forces:
    """Reads one simulation after each of its steps.

    Args:
        model, data: of the simulation.
        dofs: addresses of the seven joints' velocities.
    """

    def __init__(self, model: Any, data: Any, dofs: list[int]) -> None:
        self.model, self.data, self._dofs = model, data, dofs
        self._tip, self._finger = model.site(TIP).id, model.geom(FINGER).id
        base = model.body("robot0_base").id
        bodies = [_within(model, body, base) for body in range(model.nbody)]
        self._arm = [bodies[int(model.geom_bodyid[geom])] for geom in range(model.ngeom)]
        self._limbs = [body for body, inside in enumerate(bodies) if inside]
        self._jacobian = np.zeros((3, model.nv))
        self._keep = np.exp(-model.opt.timestep / FILTER_S)
        self.estimate = NOTHING
        self.finger_n = 0.0
        """magnitude of the contact forces at the finger now, unfiltered"""

    def measure(self) -> External:
        """Take the last step's contacts and pushes into the estimate, and return it."""
        wrench, torques, finger = np.zeros(6), np.zeros(7), np.zeros(3)
        data, arm, local = self.data, self._arm, np.empty(6)
        for number, (one, other) in enumerate(data.contact.geom.tolist()):
            if arm[one] == arm[other]:
                continue
            mujoco.mj_contactForce(self.model, data, number, local)
            contact = data.contact[number]
            force = contact.frame.reshape(3, 3).T @ local[:3]
            geom, force = (other, force) if arm[other] else (one, -force)
            if geom == self._finger:
                finger += force
            self._add(wrench, torques, force, contact.pos, int(self.model.geom_bodyid[geom]))
        for body in self._limbs if data.xfrc_applied.any() else ():
            self._add(wrench, torques, data.xfrc_applied[body, :3], data.xipos[body], body)
        self.finger_n = float(np.sqrt(finger @ finger))
        old, keep = self.estimate, self._keep
        if wrench.any() or old is not NOTHING:
            self.estimate = External(keep * old.wrench + (1 - keep) * wrench, keep * old.torques + (1 - keep) * torques)
            if not wrench.any() and np.abs(self.estimate.wrench).max() < FORGOTTEN_N:
                self.estimate = NOTHING
        return self.estimate

    def _add(self, wrench: Array, torques: Array, force: Array, at: Array, body: int) -> None:
        wrench[:3] += force
        wrench[3:] += np.cross(at - self.data.site_xpos[self._tip], force)
        mujoco.mj_jac(self.model, self.data, self._jacobian, None, at, body)
        torques += self._jacobian[:, self._dofs].T @ force


def _within(model: Any, body: int, ancestor: int) -> bool:
    while body not in (0, ancestor):
        body = int(model.body_parentid[body])
    return body == ancestor
