"""The journal of a session: every acknowledged control step and every event on disk, checksummed, appended, never rewritten.

The folder ``session/`` of a run holds ``manifest.json``, ``steps.log`` and ``events.log`` (frames: length, CRC-32, UTF-8 JSON;
``robots/session/framing.py``) and ``images/EPISODE/STEP-CAMERA.jpg``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robots.errors import RobotError
from robots.session.framing import AppendedFrames, FrameFile
from robots.session.record import EventRecord, StepRecord

STEPS, EVENTS, MANIFEST, IMAGES = "steps.log", "events.log", "manifest.json", "images"


class Journal:
    """Writes one session's journal. One process at a time; others may read and follow meanwhile.

    What a writer that was killed left half written at the end is cut off when the journal is opened: nobody was told that it
    had been kept. Anything else stays as it is.

    Args:
        folder: ``session/`` of the run, made where it is missing.
        manifest: what the session is, for ``manifest.json``; one that is there already stays, and ``config_hash`` must agree.

    Raises:
        RobotError: the folder cannot be written, is of another configuration, or a log is damaged before its end.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        self.manifest = _agreed(folder / MANIFEST, manifest)
        self._steps = AppendedFrames(folder / STEPS)
        self._events = AppendedFrames(folder / EVENTS)
        self.torn = [note for note in (self._steps.torn, self._events.torn) if note]
        """what was cut off on opening, a sentence each"""

    def step(self, record: StepRecord, images: Mapping[str, bytes] | None = None) -> None:
        """Keep a step and its pictures (JPEG, by the names in ``record.images``); on disk when this returns.

        Raises RobotError where that is not possible, such as on a full disk: the step is not acknowledged then.
        """
        for name, content in (images or {}).items():
            self._picture(self.folder / IMAGES / name, content)
        self._append(self._steps, record.as_dict())

    def event(self, record: EventRecord) -> None:
        """Keep an event; on disk when this returns."""
        self._append(self._events, record.as_dict())

    def close(self) -> None:
        """Let go of the files; can be called twice."""
        self._steps.close()
        self._events.close()

    def _append(self, file: AppendedFrames, content: Mapping[str, Any]) -> None:
        try:
            file.append(json.dumps(content, separators=(",", ":")).encode())
        except OSError as error:
            raise _unwritable(file.path, error) from error

    def _picture(self, path: Path, content: bytes) -> None:
        try:
            if fresh := not path.parent.exists():
                path.parent.mkdir(parents=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fdatasync(file.fileno())
            _keep_names(path.parent)
            if fresh:
                _keep_names(path.parent.parent)
        except OSError as error:
            raise _unwritable(path, error) from error


class Steps(NamedTuple):
    """What ``steps.log`` holds."""

    records: list[StepRecord]
    torn: str
    """what could not be read at the end, a sentence; empty where all could"""


class Events(NamedTuple):
    """What ``events.log`` holds."""

    records: list[EventRecord]
    torn: str


class News(NamedTuple):
    """What came since the last look."""

    steps: list[StepRecord]
    events: list[EventRecord]


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the session in ``folder`` (a ``session/``) is; raises RobotError where there is none or it cannot be read."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise RobotError(f"there is no session in {folder} (no {MANIFEST}); give the folder `session` of a run") from None
    except (OSError, ValueError) as error:
        raise RobotError(f"{path} cannot be read ({error}); it is written once and never changed: put it back") from error
    if not isinstance(content, dict):
        raise RobotError(f"{path} holds no manifest; it is written once and never changed: put it back")
    return content


def read_steps(folder: Path) -> Steps:
    """Every whole record of ``steps.log`` in ``folder``, oldest first, up to the first that is torn or damaged."""
    file = FrameFile(folder / STEPS)
    return Steps([_step(content) for content in file.new()], file.torn())


def read_events(folder: Path) -> Events:
    """Every whole record of ``events.log`` in ``folder``, oldest first, up to the first that is torn or damaged."""
    file = FrameFile(folder / EVENTS)
    return Events([_event(content) for content in file.new()], file.torn())


class Follower:
    """Gives what is new in a journal that another process writes; a record that is half written comes with a later call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps, self._events = FrameFile(folder / STEPS), FrameFile(folder / EVENTS)

    def new(self) -> News:
        """What came since the last call; never waits."""
        return News([_step(c) for c in self._steps.new()], [_event(c) for c in self._events.new()])


def _step(content: bytes) -> StepRecord:
    return StepRecord(**json.loads(content))


def _event(content: bytes) -> EventRecord:
    return EventRecord(**json.loads(content))


def _agreed(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest that is there, or the one given, written and synced."""
    if path.exists():
        there = read_manifest(path.parent)
        if there.get("config_hash") != manifest.get("config_hash"):
            raise RobotError(
                f"{path.parent} belongs to another configuration (hash {str(there.get('config_hash'))[:12]} there, "
                f"{str(manifest.get('config_hash'))[:12]} now); give another folder, or the configuration it was begun with"
            )
        return there
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("w") as file:
            file.write(json.dumps(dict(manifest), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _keep_names(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    return dict(manifest)


def _keep_names(folder: Path) -> None:
    """A file's name is kept in its folder, and that has to reach the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> RobotError:
    return RobotError(
        f"cannot write {path}: {error.strerror or error}. The step is not acknowledged; everything before it is kept. Free "
        "space, or choose another --out, and run the same command again"
    )
