"""The beat of the control loop: deadlines on an absolute grid, so that a late step delays no other."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> float:
        """``time.monotonic()``, or a test's."""
        ...

    def sleep(self, seconds: float) -> None:
        """At least so long."""
        ...


class MonotonicClock:
    """The computer's."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Pace:
    """Commands one period apart; each is decided on an observation made ``lead_s`` before it.

    That much may a decision take. A longer one makes its own command late and nothing else; one that is more than a period
    late begins the grid anew.
    """

    def __init__(self, period_s: float, lead_s: float, clock: Clock) -> None:
        self.period_s, self.lead_s, self.clock = period_s, lead_s, clock
        self.command_due = self.commanded_at = clock.now()
        self.period = period_s
        """between the last two commands, s"""

    def begin(self) -> None:
        """An observation is made now: the first command is due after the lead."""
        self.command_due = self.clock.now() + self.lead_s
        self.commanded_at = self.command_due - self.period_s

    def wait_for_command(self) -> None:
        """Until the next command is due."""
        self.wait(self.command_due)
        now = self.clock.now()
        self.period, self.commanded_at = now - self.commanded_at, now
        if now > self.command_due + self.period_s:
            self.command_due = now
        self.command_due += self.period_s

    @property
    def observation_due(self) -> float:
        """When to look for the next decision."""
        return self.command_due - self.lead_s

    def wait(self, until: float) -> None:
        """Until a moment of the clock."""
        ahead = until - self.clock.now()
        if ahead > 0:
            self.clock.sleep(ahead)
