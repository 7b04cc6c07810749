"""A session's folder with episodes in it, as ``robots.session.journal`` writes it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorded_episodes import PERIOD_S, TASKS, episode, photograph

from failurebench.franka.definition import FrankaTask
from failurebench.franka.scene import Layout
from robots.session import words
from robots.session.framing import frame
from robots.session.journal import EVENTS, IMAGES, MANIFEST, STEPS
from robots.session.record import EventRecord, StepRecord

CAMERA = "scene"
OUTCOMES = {True: "success", False: "timeout"}


class Written:
    """A session that grows when told to; nothing is synced, the files are what a journal leaves."""

    def __init__(self, run: Path, task: FrankaTask, episodes: int = 50, **manifest: Any) -> None:
        self.run, self.folder, self.task = run, run / "session", task
        (self.folder / IMAGES).mkdir(parents=True)
        said = {"config_hash": "0" * 64, "task": f"{task.name}-v0", "method": "farl", "episodes": episodes, **manifest}
        (self.folder / MANIFEST).write_text(json.dumps(said))
        self.clock = time.time()
        self.log: list[tuple[str, bytes]] = []
        """what was appended to which file, in this order"""
        self.at = (0, 0)
        """the episode, and the next step of it"""

    def say(self, word: str, detail: str = "", at: float | None = None) -> None:
        """An event."""
        self.clock = self.clock if at is None else at
        self._append(EVENTS, [EventRecord(self.clock, *self.at, word, detail).as_dict()])

    def begin(self, number: int, kind: str = "counted") -> None:
        """An episode begins."""
        self.at = (number, 0)
        layout = Layout((0.44, 0.0), 0.0, (0.66, 0.0), ())
        self.say(words.EPISODE, words.layout_detail(layout, kind))

    def steps(self, records: Iterable[StepRecord], pictures: bool = False) -> list[StepRecord]:
        """Steps of the episode that has begun, with a camera's pictures if wanted; gives them as they were kept."""
        kept = [self._with_picture(record) if pictures else record for record in records]
        self._append(STEPS, [record.as_dict() for record in kept])
        if kept:
            self.at, self.clock = (kept[-1].episode, kept[-1].step + 1), kept[-1].time
        return kept

    def end(self, outcome: str) -> None:
        """The episode is over, a period after its last command."""
        self.say(words.ENDED, outcome, self.clock + PERIOD_S)

    def play(self, number: int, pictures: bool = False, **options: Any) -> list[StepRecord]:
        """A whole episode."""
        self.begin(number)
        kept = self.steps(episode(self.task, number, begin=self.clock, **options), pictures)
        self.end(f"lost: {kept[-1].fault}" if kept[-1].fault else OUTCOMES[kept[-1].success])
        return kept

    def _with_picture(self, record: StepRecord) -> StepRecord:
        name = f"{record.episode}/{record.step}-{CAMERA}.jpg"
        path = self.folder / IMAGES / name
        path.parent.mkdir(exist_ok=True)
        content = io.BytesIO()
        photograph(record).save(content, "JPEG")
        path.write_bytes(content.getvalue())
        return replace(record, images={CAMERA: name})

    def _append(self, name: str, contents: Sequence[dict[str, Any]]) -> None:
        whole = [frame(json.dumps(content).encode()) for content in contents]
        self.log += [(name, one) for one in whole]
        with (self.folder / name).open("ab") as file:
            file.write(b"".join(whole))


def session(run: Path, name: str = "FrankaBoundedSoccer", count: int = 6, **manifest: Any) -> Written:
    """A session of ``count`` finished episodes whose last step is now, with pictures of the last one."""
    written = Written(run, TASKS[name](), **manifest)
    written.clock -= 60.0 * count
    written.say(words.SESSION, "task policy of a test")
    for number in range(1, count + 1):
        if number == count:
            written.clock = time.time() - 80 * PERIOD_S
        written.play(number, pictures=number == count, human=range(12, 16) if number == 3 else range(0))
    return written
