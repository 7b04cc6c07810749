"""Episodes that were finished after the last checkpoint and cannot be played again: what a robot did stays counted."""

from __future__ import annotations

from itertools import islice
from typing import Any

from farl.files import read_jsonl
from farl.online.actor import Actor
from farl.online.distributed.many_actors import Actors
from farl.online.recorder import Recorder


def adopt(recorder: Recorder, actor: Actor | Actors) -> int:
    """Count the episodes of the run's files that the checkpoint does not know, and begin after them; how many there were.

    A line says how an episode went, not every step of it: the reliability table, an adapting threshold and the learner do not
    get these. Where a simulator can replay them, ``Recorder.rewind`` alone is right.
    """
    episodes, lost = _unknown(recorder, "episodes"), len(_unknown(recorder, "lost"))
    recorder.lines["episodes"] += len(episodes)
    recorder.lines["lost"] += lost
    recorder.failures += sum(line["failed"] for line in episodes)
    known = {line["episode"] for line in episodes}
    recorder.lines["failures"] += sum(line["episode"] in known for line in _unknown(recorder, "failures"))
    if episodes or lost:
        actor.adopt(episodes, lost)
    return len(episodes)


def _unknown(recorder: Recorder, stream: str) -> list[dict[str, Any]]:
    """Whole lines after those that the checkpoint counted."""
    return list(islice(read_jsonl(recorder.folder / f"{stream}.jsonl"), recorder.lines[stream], None))
