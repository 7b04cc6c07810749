"""From a stick to a displacement: dead zone, and a take-over that does not flicker."""

from __future__ import annotations

import math
from dataclasses import dataclass

from failurebench.franka.geometry import Vec2


@dataclass(frozen=True)
class HandConfig:
    """How a person's stick becomes the arm's motion."""

    dead_zone: float = 0.15
    """of the stick's way, that counts as its middle"""
    gain: float = 1.0
    """share of the task's full command at the stick's end"""
    linger_steps: int = 1
    """control steps that a person keeps the arm, standing still, after letting go"""
    facing: bool = False
    """the operator faces the robot: its ahead is their towards"""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_zone < 1.0:
            raise ValueError(f"dead_zone is {self.dead_zone}; give a share of the stick's way from 0 up to, not including, 1")
        if not 0.0 < self.gain <= 1.0:
            raise ValueError(f"gain is {self.gain}; give a share of the full command above 0, up to 1")
        if self.linger_steps < 0:
            raise ValueError(f"linger_steps is {self.linger_steps}; give 0 or more")


class Hand:
    """Asked once per control step."""

    def __init__(self, config: HandConfig) -> None:
        self.config = config
        self._left = 0

    def ask(self, held: bool, ahead: float, left: float) -> Vec2 | None:
        """The displacement a person wants, None where the arm is not theirs.

        Args:
            held: whether the take-over is held.
            ahead, left: the stick, each -1 to 1, as the operator sees it.
        """
        if held:
            self._left = self.config.linger_steps
            return self._shaped(ahead, left)
        if self._left:
            self._left -= 1
            return 0.0, 0.0
        return None

    def release(self) -> None:
        """The device is gone: nobody has the arm."""
        self._left = 0

    def _shaped(self, ahead: float, left: float) -> Vec2:
        """Nothing within the dead zone, then growing from zero, the direction kept."""
        way = math.hypot(ahead, left)
        if not way > self.config.dead_zone:   # a stick that is no number moves nothing
            return 0.0, 0.0
        reach = min((way - self.config.dead_zone) / (1.0 - self.config.dead_zone), 1.0)
        share = self.config.gain * reach / way * (-1.0 if self.config.facing else 1.0)
        return share * ahead, share * left
