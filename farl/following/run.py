"""One run directory, followed: its files as tables, and what state the run is in."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from farl.following.columns import Columns, Table
from farl.following.lines import Block, GrowingLines, Record

Status = Literal["starting", "running", "stalled", "interrupted", "failed", "finished"]

PATIENCE_S = 60.0
"""without a new line for this long, or for ten iterations, a running run counts as stalled"""
_WORDS = ("outcome", "cause", "failure_type", "failure_detail", "gate")
_COUNTED = ("bursts",)


@dataclass(frozen=True)
class RunView:
    """A run as it stood at one look; never changes afterwards."""

    folder: Path
    config: Record = field(default_factory=dict)
    meta: Record = field(default_factory=dict)
    metrics: Table = field(default_factory=Table)
    episodes: Table = field(default_factory=Table)
    evaluations: Table = field(default_factory=Table)
    kept: dict[int, int] = field(default_factory=dict)
    """failing episodes in ``failures.jsonl``: where their lines begin"""
    clips: tuple[int, ...] = ()
    """episodes in ``clips/``"""
    problems: tuple[str, ...] = ()
    """what could not be read, a sentence each"""
    changed: float = 0.0
    """when a line last came, seconds since the epoch"""
    version: int = 0
    """grows with every change"""

    @property
    def task(self) -> str:
        """The short name of the task, ``BoundedPush-v0``."""
        named = self.config.get("task")
        task = str((named.get("id") if isinstance(named, dict) else "") or self.meta.get("task") or "")
        return task.rpartition("/")[2].rpartition(":")[2]

    @property
    def method(self) -> str:
        return str(self.config.get("method") or self.meta.get("method") or self.folder.name)

    @property
    def seed(self) -> int:
        return int(_number(self.config.get("seed")) or _number(self.meta.get("seed")))

    @property
    def steps(self) -> int:
        """Agent steps on record, all environments together."""
        ends = (_last(self.metrics, "step"), _last(self.episodes, "end_step"))
        return int(max(ends))

    @property
    def target(self) -> int:
        """Agent steps that the run was asked for, 0 where nobody said."""
        return int(_number(self.config.get("steps")))

    @property
    def threshold(self) -> float | None:
        """The gate's threshold as it is now; None without a gate, or with one that never closes."""
        values = (self.metrics.last.get("threshold"), self.meta.get("threshold"))
        return next((float(value) for value in values if isinstance(value, int | float)), None)

    @property
    def failures(self) -> int:
        """Episodes with at least one failure."""
        return int(np.nansum(self.episodes["failed"]))

    def iteration_s(self) -> float:
        """Seconds that an iteration takes, of the last twenty; 0 before there are two."""
        seconds = np.diff(self.metrics["wall_s"][-21:])
        known = seconds[np.isfinite(seconds) & (seconds >= 0)]
        return float(np.median(known)) if len(known) else 0.0

    def seconds_left(self) -> float | None:
        """Until the target at the speed of the last twenty iterations; None where that is not known."""
        steps, seconds = self.metrics["step"][-21:], self.metrics["wall_s"][-21:]
        if len(steps) < 2 or not self.target or not (seconds[-1] > seconds[0] and steps[-1] > steps[0]):
            return None
        return float(max(0.0, (self.target - steps[-1]) * (seconds[-1] - seconds[0]) / (steps[-1] - steps[0])))

    def status(self, now: float | None = None) -> Status:
        """What the run says of itself, and ``stalled`` where it says that it runs and nothing has come for a while."""
        said = self.meta.get("status")
        if said in ("finished", "interrupted", "failed"):
            return said   # type: ignore[no-any-return]
        quiet = (time.time() if now is None else now) - self.changed
        if quiet > max(PATIENCE_S, 10 * self.iteration_s()):
            return "stalled"
        return "running" if said == "running" else "starting"


class FollowedRun:
    """Keeps ``view`` up to date with a run directory; may look from one thread while others use the views."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.view = RunView(folder)
        self._lines = {name: GrowingLines(folder / f"{name}.jsonl") for name in ("metrics", "episodes", "evaluations", "failures")}
        self._columns = {name: _columns() for name in ("metrics", "episodes", "evaluations")}
        self._kept: dict[int, int] = {}
        self._small: dict[str, tuple[tuple[int, ...], Record]] = {}

    def look(self) -> bool:
        """Read what is new; False if nothing was."""
        problems: list[str] = []
        grown = {name for name in self._lines if self._follow(name, problems)}
        tables = {name: columns.view() for name, columns in self._columns.items() if name in grown}
        view = dataclasses.replace(
            self.view,
            config=self._file("config.yaml", yaml.safe_load, problems),
            meta=self._file("meta.json", json.loads, problems),
            metrics=tables.get("metrics", self.view.metrics),
            episodes=tables.get("episodes", self.view.episodes),
            evaluations=tables.get("evaluations", self.view.evaluations),
            kept=dict(self._kept) if "failures" in grown else self.view.kept,
            clips=_clips(self.folder / "clips"),
            problems=(*problems, *self._damages()),
            changed=self._latest(),
        )
        if not grown and view == self.view:
            return False
        self.view = dataclasses.replace(view, version=view.version + 1)
        return True

    def _follow(self, name: str, problems: list[str]) -> bool:
        changed = False
        try:
            for block in self._lines[name].blocks():
                self._take(name, block)
                changed = True
        except OSError as error:
            problems.append(f"cannot read {self._lines[name].path}: {error.strerror or error}")
        return changed

    def _take(self, name: str, block: Block) -> None:
        if name == "failures":
            if block.anew:
                self._kept = {}
            for row, start in zip(block.rows, block.starts, strict=True):
                if isinstance(row.get("episode"), int):
                    self._kept[row["episode"]] = start
            return
        if block.anew:
            self._columns[name] = _columns()
        self._columns[name].append(block.rows)

    def _damages(self) -> list[str]:
        """A sentence for every file with damaged lines."""
        said = []
        for lines in self._lines.values():
            if lines.damaged:
                several = f"{len(lines.damaged)} damaged lines, the first" if len(lines.damaged) > 1 else "a damaged line"
                said.append(f"{lines.path} has {several} at {lines.damaged[0]}; left out")
        return said

    def _file(self, name: str, parse: Callable[[str], Any], problems: list[str]) -> Record:
        """A small file that is always replaced as a whole; what it said before where it cannot be read now."""
        path = self.folder / name
        before, value = self._small.get(name, ((), Record()))
        try:
            state = path.stat()
            now = (state.st_ino, state.st_size, state.st_mtime_ns)
            if now != before:
                read = parse(path.read_text(encoding="utf-8"))
                value = read if isinstance(read, dict) else {}
                self._small[name] = now, value
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"cannot read {path}: {str(error).splitlines()[0]}")
        return value

    def _latest(self) -> float:
        """When a line or a word of progress last came."""
        files = [*(lines.path for lines in self._lines.values()), self.folder / "progress.json", self.folder / "meta.json"]
        return max((_written(path) for path in files), default=0.0)


def _columns() -> Columns:
    return Columns(_WORDS, _COUNTED)


def _clips(folder: Path) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(path.stem) for path in folder.glob("*.npz") if path.stem.isdigit()))
    except OSError:
        return ()


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _last(table: Table, name: str) -> float:
    return _number(float(table[name][-1])) if len(table) else 0.0


def _number(value: Any) -> float:
    """A finite number, 0 for anything else."""
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else 0.0
