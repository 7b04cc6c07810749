"""Counts of a session while it grows: what is kept does not get longer with it, apart from the episode that is running."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from robots.session import words
from robots.session.acting import acting
from robots.session.labels import judge
from robots.session.record import EventRecord, StepRecord


@dataclass(frozen=True)
class Totals:
    """Sums over episodes that count: neither lost nor slow."""

    episodes: int = 0
    successes: int = 0
    failures: int = 0
    """episodes with at least one violating step"""
    violating_steps: int = 0
    recoveries: int = 0
    """times that recovery took over"""
    recovery_steps: int = 0
    takeovers: int = 0
    """times that a person took over"""
    human_steps: int = 0
    lost: int = 0
    """episodes that a fault or a person ended: in no other figure, unless they had failed before"""

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass
class OpenEpisode:
    """The one that is running."""

    number: int
    counted: bool = True
    automatic: list[str] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    reached: bool = False
    over: bool = False
    """its last step was the last one of an episode that counts"""
    sources: list[str] = field(default_factory=list)

    def take(self, record: StepRecord) -> None:
        """One more step."""
        self.automatic.append(record.failure_type or "failure" if record.failure else "")
        self.reached = record.success
        self.over = (record.terminated or record.truncated) and not record.fault
        self.sources.append(record.source)

    def totals(self, back_steps: int) -> Totals:
        """As labels stand now; ``episodes`` is 0, because it is not over."""
        if not self.automatic:
            return Totals()
        verdict = judge(self.automatic, self.reached, self.events, back_steps)
        return Totals(
            successes=int(verdict.success),
            failures=int(verdict.failed),
            violating_steps=verdict.cost,
            **acting(self.sources)._asdict(),
        )


class Tally:
    """Takes steps and events in the order in which they were written, as far as each file tells it.

    Args:
        back_steps: as ``robots.session.labels.judge`` takes it.
    """

    def __init__(self, back_steps: int) -> None:
        self.back_steps = back_steps
        self.ended = Totals()
        self.open: OpenEpisode | None = None
        self.begun = 0
        """episodes that count and have begun, this one included"""

    @property
    def now(self) -> Totals:
        """Everything up to now; success and failure of the running episode as labels stand."""
        current = self.open.totals(self.back_steps) if self.open is not None and self.open.counted else Totals()
        return self.ended + current

    def step(self, record: StepRecord) -> None:
        """Count a step."""
        if self.open is None or self.open.number != record.episode:
            self._begin(record.episode, counted=True)
        assert self.open is not None
        self.open.take(record)

    def event(self, record: EventRecord) -> None:
        """Count what was said."""
        if record.word == words.EPISODE:
            counted = words.layout_of(record.detail)[1] != "slow"
            self._begin(record.episode, counted)
        elif record.word == words.ENDED and self.open is not None:
            self._end(record.detail)
        elif self.open is not None:
            self.open.events.append(record)

    def _begin(self, number: int, counted: bool) -> None:
        if self.open is not None and self.open.number == number:
            self.open.counted = counted
            return
        if self.open is not None:  # nobody wrote that it ended: its process was killed
            self._end("over" if self.open.over else "lost: interrupted")
        self.open = OpenEpisode(number, counted)
        self.begun += counted

    def _end(self, outcome: str) -> None:
        """Lost episodes are in no other figure, unless they had failed: that did happen."""
        assert self.open is not None
        ended, self.open = self.open, None
        if not ended.counted:
            return
        totals, lost = ended.totals(self.back_steps), outcome.startswith("lost")
        if lost:
            self.ended = self.ended + Totals(lost=1)
            self.begun -= not totals.failures
        if not lost or totals.failures:
            self.ended = self.ended + replace(totals, episodes=1, successes=0 if lost else totals.successes)
