"""Everything that a session needs at one table: arm, eyes, operator, cameras, and on a twin a hand that puts things back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from failurebench.franka.definition import Range
from failurebench.franka.scene import Layout
from robots.arm.interface import Arm
from robots.cameras.interface import FrameSource
from robots.operator.interface import Operator
from robots.perception.interface import Estimator


class Stage(Protocol):
    """What stands on a simulated table can be put back without a person."""

    def reset(self, layout_seed: int) -> Layout:
        """Put the objects of an episode on the table and say what was drawn."""
        ...


class Closable(Protocol):
    """Something that has to be closed with the station, such as the process of a twin."""

    def close(self) -> None:
        """Can be called twice."""
        ...


@dataclass
class Station:
    """Opened and closed together; whatever is missing is said before the arm is connected."""

    arm: Arm
    estimator: Estimator
    operator: Operator
    cameras: Mapping[str, FrameSource] = field(default_factory=dict)
    """pictures for the journal, by name; started and closed by the estimator that looks through them"""
    stage: Stage | None = None
    """None on a real table"""
    box: tuple[Range, Range] | None = None
    """x and y that the finger may be brought to; None for the task's workspace"""
    others: tuple[Closable, ...] = ()
    _opened: bool = False

    def open(self) -> None:
        """Start everything, the arm last. Raises RobotError naming what is missing; does nothing the second time."""
        if self._opened:
            return
        try:
            self.operator.start()
            self.estimator.start()
            self.arm.connect()
        except BaseException:
            self.close()
            raise
        self._opened = True

    def close(self) -> None:
        """Stop the arm first, then let go of everything; can be called twice."""
        self.arm.close()
        parts: list[Closable] = [self.estimator, self.operator, *self.others]
        for part in parts:
            part.close()
        self._opened = False
