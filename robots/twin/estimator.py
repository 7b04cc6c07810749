"""The twin's own knowledge of its table as an estimate: exact, or as late, noisy and patchy as eyes are."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from failurebench.franka.scene import Scene
from robots.errors import RobotError
from robots.perception.interface import Estimate
from robots.perception.tracker import Sighting, Track, Tracker, TrackerConfig
from robots.twin.side import SideChannel

MARKER_M = 0.03
"""half the width over which a yaw is measured: an error of position over this is one of angle"""

ANSWER_S = 0.1
"""that the twin may take to answer; asked a few times, it is lost after half a second"""

KEPT_S = 5.0
"""longer than any latency"""


@dataclass(frozen=True)
class TwinEyesConfig:
    """How well the table is seen."""

    rate_hz: float = 30.0
    noise_m: float = 0.0
    """standard deviation of positions, each axis; of a yaw it is this over 3 cm"""
    latency_s: float = 0.0
    """from the exposure until the estimate can be read"""
    dropout: float = 0.0
    """probability at every look that nothing is seen"""
    seed: int = 0
    """of noise and drop-outs"""
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    """what makes velocities of positions, as with real eyes"""

    def __post_init__(self) -> None:
        bounds = {"rate_hz": (1.0, 200.0), "noise_m": (0.0, 0.05), "latency_s": (0.0, 1.0), "dropout": (0.0, 0.95)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise RobotError(f"the twin's eyes: {name} is {getattr(self, name)!r}; give {low:g} to {high:g}")


class TwinEstimator:
    """Asks a twin for the truth in a thread of its own. An ``Estimator``.

    Args:
        host: the twin's address.
        config: how well it sees.
    """

    def __init__(self, host: str, config: TwinEyesConfig | None = None) -> None:
        self.config = config or TwinEyesConfig()
        self._channel = SideChannel(host, ANSWER_S)
        self._rng = np.random.default_rng(self.config.seed)
        self._object, self._obstacle = Tracker(self.config.tracker), Tracker(self.config.tracker)
        self._ready: deque[Estimate] = deque(maxlen=math.ceil(KEPT_S * self.config.rate_hz))
        self._fault = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="twin-eyes", daemon=True)

    def start(self) -> None:
        """Begin to look; raises RobotError where no twin answers."""
        self._look()
        self._thread.start()

    def newest(self) -> Estimate | None:
        """The newest one that is old enough to have come through."""
        until = time.monotonic() - self.config.latency_s
        return next((estimate for estimate in reversed(tuple(self._ready)) if estimate.seen <= until), None)

    def fault(self) -> str:
        """``lost`` while no twin answers."""
        return self._fault

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10 * ANSWER_S)
        self._channel.close()

    def _look_on(self) -> None:
        period = 1.0 / self.config.rate_hz
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + period, time.monotonic())
            try:
                self._look()
                self._fault = ""
            except RobotError:
                self._fault = "lost"

    def _look(self) -> None:
        answer = self._channel.look()
        if self._rng.random() < self.config.dropout:
            return
        scene, seen = self._noisy(answer.scene), answer.time
        self._object.add(Sighting(*scene.object, scene.yaw, 1.0, seen))
        self._obstacle.add(Sighting(*scene.obstacle, 0.0, 1.0, seen))
        object, obstacle = self._object.track, self._obstacle.track
        if object is not None and obstacle is not None:
            self._ready.append(_estimate(object, obstacle, answer.layout.hazard))

    def _noisy(self, scene: Scene) -> Scene:
        dx, dy, px, py, turn = (self.config.noise_m * self._rng.standard_normal(5)).tolist()
        (x, y), (u, v) = scene.object, scene.obstacle
        return scene._replace(object=(x + dx, y + dy), obstacle=(u + px, v + py), yaw=scene.yaw + turn / MARKER_M)


def _estimate(object: Track, obstacle: Track, hazard: tuple[float, ...]) -> Estimate:
    return Estimate(
        (object.last.x, object.last.y),
        object.last.yaw,
        object.velocity,
        (obstacle.last.x, obstacle.last.y),
        obstacle.velocity,
        1.0,
        object.last.taken,
        hazard,
    )
