"""A recorded session, read once: its episodes as they count, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from failurebench.franka.definition import FrankaTask
from robots.errors import RobotError
from robots.session import words
from robots.session.about import back_steps, definition
from robots.session.journal import IMAGES, MANIFEST, read_events, read_manifest, read_steps
from robots.session.labels import judge_records
from robots.session.record import EventRecord, StepRecord

SLOW = 0
"""number of what is played slowly before a session goes to work"""


@dataclass(frozen=True)
class Episode:
    """One episode with its last verdict."""

    number: int
    steps: tuple[StepRecord, ...]
    """failures are those that count: what people said afterwards is in them"""
    outcome: str
    """``success``, ``timeout``, ``failure``, ``lost: `` and why; in other words where nobody wrote how it ended"""

    @property
    def title(self) -> str:
        """In a few words."""
        failing = sum(step.failure for step in self.steps)
        said = f", {failing} violating steps" if failing else ""
        return f"episode {self.number}: {self.outcome}, {len(self.steps)} steps{said}"


@dataclass(frozen=True)
class Recording:
    """Everything that a replay shows."""

    task: FrankaTask
    images: Path
    episodes: tuple[Episode, ...]
    """those with at least one step"""
    cameras: tuple[str, ...]
    notes: tuple[str, ...]
    """what is damaged, a sentence each"""

    def episode(self, number: int) -> Episode:
        """The episode of that number, the last for 0; raises RobotError where there is none."""
        if number == 0:
            return self.episodes[-1]
        found = next((episode for episode in self.episodes if episode.number == number), None)
        if found is None:
            numbers = [episode.number for episode in self.episodes]
            raise RobotError(f"there is no episode {number} in this session; it has {_ranges(numbers)}")
        return found

    def camera(self, wanted: str) -> str:
        """Whose pictures are shown: ``wanted``, by default the first there is, none for ``table``; raises RobotError."""
        if wanted == "table" or (not wanted and not self.cameras):
            return ""
        if wanted and wanted not in self.cameras:
            there = f"it has {', '.join(self.cameras)}" if self.cameras else "it has no pictures"
            raise RobotError(f"this session has no pictures by {wanted!r}; {there}. `table` draws the table alone")
        return wanted or self.cameras[0]


def read_recording(folder: Path) -> Recording:
    """Read the session in ``folder``, a run's or ``session`` in it; raises RobotError where nothing can be shown."""
    folder = _journal(folder)
    manifest = read_manifest(folder)
    try:
        steps, events = read_steps(folder), read_events(folder)
    except (TypeError, ValueError) as error:
        raise RobotError(f"the records in {folder} are of another version of this program: {error}") from error
    if not steps.records:
        raise RobotError(f"no step has been recorded in {folder} yet{'; ' + steps.torn if steps.torn else ''}")
    task, back = definition(manifest), back_steps(manifest)
    groups = [list(group) for _, group in groupby(steps.records, lambda step: step.episode)]
    episodes = tuple(_episode(group, events.records, back) for group in groups if group[0].episode != SLOW)
    if not episodes:
        raise RobotError(f"{folder} holds nothing but a slow first episode, which does not count and is not shown")
    cameras = tuple(dict.fromkeys(camera for step in steps.records for camera in step.images))
    notes = tuple(f"{note}; everything before is shown" for note in (steps.torn, events.torn) if note)
    return Recording(task, folder / IMAGES, episodes, cameras, notes)


def _journal(folder: Path) -> Path:
    """Where the journal lies; a person may give the run, or ``session`` in it."""
    if not folder.is_dir():
        raise RobotError(f"there is no folder {folder}; give the folder of a run by `farl robot session`")
    inner = folder / "session"
    return inner if (inner / MANIFEST).exists() else folder


def _episode(steps: list[StepRecord], events: list[EventRecord], back: int) -> Episode:
    number, last = steps[0].episode, steps[-1]
    verdict = judge_records(steps, events, back)
    ended = [event.detail for event in events if event.episode == number and event.word == words.ENDED]
    judged = (
        replace(step, failure=bool(kind), failure_type=kind) for step, kind in zip(steps, verdict.kinds, strict=True)
    )
    unsaid = (
        f"lost: {last.fault}"
        if last.fault
        else "over"
        if last.truncated or last.terminated
        else "runs, or was interrupted"
    )
    return Episode(number, tuple(judged), ended[-1] if ended else unsaid)


def _ranges(numbers: list[int]) -> str:
    """``1 to 7, 9``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join(" to ".join(map(str, part)) for part in parts)
