"""What the steps of an episode count as, from what was judged on the spot and what a person said meanwhile."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from robots.operator.interface import Word
from robots.session.record import EventRecord, StepRecord
from robots.session.words import ENDED

SPOKEN = "spoken"
"""kind of a failure that a person named no kind of"""


class Verdict(NamedTuple):
    """An episode, judged."""

    kinds: list[str]
    """of failure, per step; empty where the step did not fail"""
    success: bool

    @property
    def failed(self) -> bool:
        """Whether a person would have had to step in at any step."""
        return any(self.kinds)

    @property
    def cost(self) -> int:
        """Failing steps."""
        return sum(map(bool, self.kinds))


class _Label(NamedTuple):
    first: int
    last: int
    kind: str
    """of failure; empty for a success"""


def judge(automatic: Sequence[str], reached: bool, events: Sequence[EventRecord], back_steps: int) -> Verdict:
    """The verdict on an episode.

    People are late: a failure that is said during a step is one of that step and of up to ``back_steps`` before it. A retraction
    takes back the latest label there is, spoken or judged automatically, whichever came last; what is judged automatically is one
    label from its first failing step to its last. Nothing is ever changed on disk: whoever needs the verdict asks again.

    Args:
        automatic: kind of failure of every step as the task's definition judged it, empty where there was none.
        reached: whether the definition saw success at the last step.
        events: of this episode, in their order; what comes after its end, and what is no label, is passed over.
        back_steps: 0 or more.
    """
    last = len(automatic) - 1
    said = defaultdict(list)
    for event in itertools.takewhile(lambda event: event.word != ENDED, events):
        said[min(event.step, last)].append(event)
    labels: list[_Label] = []
    for step, kind in enumerate(automatic):
        early, late = _split(said[step], step, last)
        for event in early:
            _hear(labels, event, step, back_steps)
        if kind and not (step and automatic[step - 1]):
            labels.append(_Label(step, _end(automatic, step), kind))
        if step == last and reached:
            labels.append(_Label(step, step, ""))
        for event in late:
            _hear(labels, event, step, back_steps)
    kinds = [""] * len(automatic)
    for label in labels:
        for step in range(label.first, label.last + 1):
            kinds[step] = kinds[step] or label.kind
    return Verdict(kinds, any(not label.kind for label in labels))


def judge_records(records: Sequence[StepRecord], events: Sequence[EventRecord], back_steps: int) -> Verdict:
    """The verdict on one episode of a journal; ``events`` may be of the whole session."""
    episode = records[0].episode
    own = [event for event in events if event.episode == episode]
    automatic = [record.failure_type if record.failure else "" for record in records]
    return judge(automatic, records[-1].success, own, back_steps)


def _split(events: list[EventRecord], step: int, last: int) -> tuple[list[EventRecord], list[EventRecord]]:
    """Those said while the step was under way, and those said after the episode's last one."""
    return [event for event in events if event.step <= last], [event for event in events if event.step > last == step]


def _hear(labels: list[_Label], event: EventRecord, step: int, back_steps: int) -> None:
    if event.word == Word.FAILURE.value:
        labels.append(_Label(max(0, step - back_steps), step, event.detail or SPOKEN))
    elif event.word == Word.SUCCESS.value:
        labels.append(_Label(step, step, ""))
    elif event.word == Word.RETRACT.value and labels:
        labels.pop()


def _end(automatic: Sequence[str], first: int) -> int:
    """The last step of the failing stretch that begins at ``first``."""
    step = first
    while step + 1 < len(automatic) and automatic[step + 1]:
        step += 1
    return step
