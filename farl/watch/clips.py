"""Clips on demand: drawn one after the other in a process of their own, and kept outside the run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farl.following.lines import read_line
from farl.following.run import RunView

TIME_LIMIT_S = 600.0
"""for one clip, on a machine whose cores are taken by the runs"""


@dataclass(eq=False)
class Clip:
    """An episode that can be seen, or is being drawn."""

    view: RunView
    episode: int
    video: Path
    working: bool = False
    """whether it waits for its turn or is being drawn"""
    drawing: bool = False
    error: str = ""
    """why it could not be drawn, one line"""

    @property
    def ready(self) -> bool:
        return self.video.exists()

    @property
    def matches(self) -> bool:
        """Whether the episode failed at the recorded steps when it was played again."""
        try:
            return bool(json.loads(self.video.with_suffix(".json").read_text(encoding="utf-8"))["matches"])
        except (OSError, ValueError, KeyError):
            return True


class Clips:
    """All clips that somebody has asked for; shared by all pages, so that nothing is drawn twice."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()
        self._clips: dict[Path, Clip] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._process: asyncio.subprocess.Process | None = None

    def of(self, view: RunView, episode: int) -> Clip:
        """The clip of an episode as far as it has got."""
        video = self.folder / f"{_key(view, episode)}.mp4"
        return self._clips.setdefault(video, Clip(view, episode, video))

    def ask(self, clip: Clip) -> None:
        """Have it drawn when its turn comes; ``clip`` then is ready, or says why it cannot be."""
        if not clip.ready and not clip.working:
            clip.working, clip.error = True, ""
            task = asyncio.get_running_loop().create_task(self._in_turn(clip))
            self._tasks.add(task)   # asyncio itself does not keep them
            task.add_done_callback(self._tasks.discard)

    async def _in_turn(self, clip: Clip) -> None:
        try:
            async with self._turn:
                clip.drawing = True
                clip.error = await self._draw(clip)
        finally:
            clip.working = clip.drawing = False

    async def _draw(self, clip: Clip) -> str:
        where = (str(clip.view.folder), str(clip.episode), str(clip.view.kept.get(clip.episode, 0)), str(clip.video))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "farl.watch.render", *where,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )   # fmt: skip
        try:
            _, said = await asyncio.wait_for(self._process.communicate(), TIME_LIMIT_S)
        except TimeoutError:
            return f"drawing took longer than {TIME_LIMIT_S:.0f} s and was given up"
        finally:
            self.stop()
        if self._process.returncode == 0 and clip.ready:
            return ""
        lines = said.decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the renderer ended with status {self._process.returncode}"

    def stop(self) -> None:
        """End the renderer and what it started."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def newest(view: RunView, most: int) -> list[int]:
    """The latest failing episodes that can be drawn, newest first."""
    failing = {int(number) for number in view.episodes["episode"][view.episodes["failed"] == 1].tolist()}
    return sorted(failing & (view.kept.keys() | set(view.clips)), reverse=True)[:most]


def cache_folder() -> Path:
    """Where drawn clips stay for the next time; a temporary folder where there is no home to write to."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "farl" / "clips"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="farl-clips-"))


def _key(view: RunView, episode: int) -> str:
    """The same for the same recording: a run that was wound back may give the number to another episode."""
    facts = json.dumps([str(view.folder.resolve()), episode]).encode()
    return hashlib.sha256(facts + _recorded(view, episode)).hexdigest()[:24]


def _recorded(view: RunView, episode: int) -> bytes:
    try:
        if episode in view.clips:
            return (view.folder / "clips" / f"{episode}.npz").read_bytes()
        return json.dumps(read_line(view.folder / "failures.jsonl", view.kept.get(episode, 0))).encode()
    except OSError:
        return b""
