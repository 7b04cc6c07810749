"""What a simulated camera makes of the table: estimates with noise, missed now and then, velocities from their differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from failurebench.franka.definition import CONTROL_HZ
from failurebench.franka.geometry import Vec2
from failurebench.franka.scene import Scene

ESTIMATE = 9
"""numbers in ``Camera.get_state``: object 2, yaw, object velocity 2, obstacle 2, obstacle velocity 2"""

_MARKER_M = 0.03
"""half the width over which a yaw is measured: an error of position over this is one of angle"""


class Camera:
    """Looks once per control step. What it draws depends on ``script`` and the step only, never on what was drawn before.

    Args:
        noise_m: standard deviation of positions, each axis.
        dropout: probability that a look sees nothing; then the last estimate stays and ages.
        script: the episode's seed of everything drawn after its start.
    """

    def __init__(self, noise_m: float, dropout: float, script: int) -> None:
        self.noise_m, self.dropout, self.script = noise_m, dropout, script
        self.looks, self.age = 0, 0
        self._last: Scene | None = None

    def look(self, scene: Scene) -> Scene:
        """The estimate of ``scene``: the arm's own numbers as they are, the rest as seen."""
        self.looks += 1
        seen, lost = self._glance(scene)
        if self._last is None or not lost:
            self._last = self._tracked(seen)
            self.age = 0
        else:
            self.age += 1
        return self.again(scene)

    def again(self, scene: Scene) -> Scene:
        """The last estimate beside the arm's own numbers of ``scene``, without another look."""
        assert self._last is not None
        return self._last._replace(
            tcp=scene.tcp, tcp_velocity=scene.tcp_velocity, force_n=scene.force_n, age_s=self.age / CONTROL_HZ
        )

    def get_state(self) -> NDArray[np.float64]:
        """Everything that ``look`` reads: looks, age, the last estimate."""
        last = self._last
        assert last is not None
        moving = [*last.object, last.yaw, *last.object_velocity, *last.obstacle, *last.obstacle_velocity]
        return np.array([self.looks, self.age, *moving])

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Go on from ``state``."""
        self.looks, self.age = int(state[0]), int(state[1])
        ox, oy, yaw, ovx, ovy, px, py, pvx, pvy = state[2:].tolist()
        self._last = Scene((0.0, 0.0), (0.0, 0.0), (ox, oy), yaw, (ovx, ovy), (px, py), (pvx, pvy))

    def _glance(self, scene: Scene) -> tuple[Scene, bool]:
        """The scene with this look's noise, and whether the look saw nothing."""
        if self.noise_m == 0.0 and self.dropout == 0.0:
            return scene, False
        rng = np.random.default_rng([self.script, self.looks])
        lost = bool(rng.random() < self.dropout)
        dx, dy, px, py, turn = (self.noise_m * rng.standard_normal(5)).tolist()
        (x, y), (u, v) = scene.object, scene.obstacle
        noisy: dict[str, Any] = {"object": (x + dx, y + dy), "obstacle": (u + px, v + py)}
        return scene._replace(yaw=scene.yaw + turn / _MARKER_M, **noisy), lost

    def _tracked(self, seen: Scene) -> Scene:
        """With velocities from this estimate and the one before; at the first there is none."""
        if self._last is None:
            return seen._replace(object_velocity=(0.0, 0.0), obstacle_velocity=(0.0, 0.0))
        period = (self.age + 1) / CONTROL_HZ
        return seen._replace(
            object_velocity=_rate(self._last.object, seen.object, period),
            obstacle_velocity=_rate(self._last.obstacle, seen.obstacle, period),
        )


def _rate(before: Vec2, after: Vec2, period: float) -> Vec2:
    return (after[0] - before[0]) / period, (after[1] - before[1]) / period


def planar_yaw(quaternion: list[float]) -> float:
    """Rotation about the vertical of a unit quaternion w, x, y, z, rad."""
    w, x, y, z = quaternion
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
