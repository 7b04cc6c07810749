"""Backing off from what stopped the arm: how often, and in which order. Never without a limit on how often."""

from __future__ import annotations

import time
from collections.abc import Callable

from robots.arm.body import Body
from robots.arm.config import RecoveryConfig
from robots.arm.contact import away
from robots.limits import Vec3


class Budget:
    """Stops by force that may be recovered from without a person."""

    def __init__(self, config: RecoveryConfig) -> None:
        self.config, self.episode, self.session = config, 0, 0

    def new_episode(self) -> None:
        """Count the episode's anew."""
        self.episode = 0

    def spend(self) -> bool:
        """Count one more; False where a person is needed instead."""
        if self.episode >= self.config.per_episode or self.session >= self.config.per_session:
            return False
        self.episode, self.session = self.episode + 1, self.session + 1
        return True


def back_off(body: Body, config: RecoveryConfig, drive: Callable[[Vec3, float], bool]) -> bool:
    """Leave a reflex or a reaction: wait, clear, raise the thresholds, go away from the contact, restore them.

    Args:
        drive: brings the finger to a point of the table's frame at a speed, through the limits.

    Returns:
        Whether the arm stands free with its usual thresholds.
    """
    direction = away(body.contact)
    time.sleep(config.wait_s)
    try:
        if body.reading.report.mode != "Idle" or body.reading.report.errors:
            body.clear_errors()
        if not body.cleared(config.patience_s):
            return False
        body.set_raised(config.raised)
        freed = direction is None or drive(_beyond(body.reading.tip, direction, config.retreat_m), config.retreat_mps)
        body.stop("recovered")
        resting = body.wait_for(lambda: not body.moving, config.patience_s)
        body.set_raised(1.0)
        return freed and resting and body.able
    except Exception:  # the controller refused or fell silent in the middle of it: a person has to look
        body.distrust_settings()
        return False


def _beyond(point: Vec3, direction: Vec3, way_m: float) -> Vec3:
    x, y, z = (a + way_m * b for a, b in zip(point, direction, strict=True))
    return x, y, z
