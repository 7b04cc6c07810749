"""Watching a study: one row per job while it runs, on a terminal as a table and elsewhere as a line now and then."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farl.compare.jobs import Work

LINE_EVERY_S = 30.0
_STYLES = {"waiting": "dim", "running": "cyan", "finished": "green", "failed": "bold red", "blocked": "yellow"}


@dataclass(frozen=True)
class Standing:
    """How far a running job is, from the files in its folder."""

    progress: dict[str, Any]
    """``progress.json``, empty if there is none"""
    metrics: dict[str, Any]
    """the last line of ``metrics.jsonl``, empty if there is none"""

    @classmethod
    def of(cls, folder: Path) -> Standing:
        return cls(_json(_read(folder / "progress.json")), _json(_last_line(folder / "metrics.jsonl")))

    @property
    def share(self) -> float | None:
        if not self.progress.get("total"):
            return None
        return min(1.0, float(self.progress["done"]) / float(self.progress["total"]))

    def stage(self) -> str:
        """``training 45 %``."""
        if not self.progress:
            return ""
        return f"{self.progress.get('stage', '')} {100 * (self.share or 0):.0f} %"

    def learning(self) -> tuple[str, str, str, str, str, str]:
        """Step, success, failures, gated, steps/s, time left; empty where a job is not a run."""
        row = self.metrics
        if not row:
            return ("",) * 6
        speed = row["step"] / row["wall_s"] if row.get("wall_s") else 0.0
        total = self.progress.get("total", 0)
        left = (total - row["step"]) / speed if speed and total > row["step"] else 0.0
        return (
            f"{row['step']:,}", _percent(row.get("success_rate")), f"{row.get('failures', 0)}", _percent(row.get("gated_fraction")),
            f"{speed:,.0f}", duration(left) if left else "",
        )   # fmt: skip


class Display:
    """Called with all jobs again and again; a context manager, because a live table must be taken down."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title, self.console = title, console or Console(file=sys.stderr)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._seen: dict[str, str] = {}
        self._shown = 0.0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, works: list[Work]) -> None:
        if self._live is not None:
            self._live.update(table(self.title, works), refresh=True)
            return
        due = time.monotonic() - self._shown > LINE_EVERY_S
        for work in works:
            changed = self._seen.get(work.job.name) != work.status and work.status != "waiting"
            if changed or (due and work.status == "running"):
                print(line(work), file=self.console.file, flush=True)
                self._shown = time.monotonic()
            self._seen[work.job.name] = work.status


def line(work: Work) -> str:
    """A job in one plain line."""
    text = f"{work.job.name}: {_word(work)}"
    if work.status != "running":
        return text
    standing = Standing.of(work.job.folder)
    step, success, failures, gated, speed, left = standing.learning()
    parts = [standing.stage(), work.note]
    if step:
        parts += [f"step {step}", f"success {success}", f"failures {failures}", f"recovery {gated}", f"{speed} steps/s"]
    parts += [f"{left} left"] if left else []
    return ", ".join(part for part in (text, *parts) if part)


def table(title: str, works: list[Work]) -> Table:
    """All jobs, a row each."""
    ended = sum(work.status == "finished" for work in works)
    view = Table(
        title=f"{title} \u2013 {ended} of {len(works)} jobs finished",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    view.add_column("job")   # on a narrow terminal these two wrap, and no figure is cut
    view.add_column("state")
    for name in ("step", "success", "failures", "recovery", "steps/s", "left"):
        view.add_column(name, justify="right", no_wrap=True)
    for work in works:
        running = work.status == "running"
        standing = Standing.of(work.job.folder) if running or work.status == "finished" else Standing({}, {})
        state = ", ".join(filter(None, (standing.stage() or "starting", work.note))) if running else _word(work)
        view.add_row(work.job.name, Text(state, style=_STYLES[work.status]), *standing.learning())
    return view


def duration(seconds: float) -> str:
    """``4 min``, ``1 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _word(work: Work) -> str:
    if work.status == "finished":
        return "finished before" if work.left_alone else f"finished in {duration(work.seconds)}"
    if work.status == "failed":
        return f"failed, see {work.job.log}"
    return {"waiting": "waiting", "running": "running", "blocked": "not started: what it needs has failed"}[work.status]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _last_line(path: Path, block: int = 8192) -> str:
    """The last complete line, reading only the end of the file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - block))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return ""
    return lines[-1].decode("utf-8", errors="replace") if lines else ""


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return {}   # caught between two writes; the next look succeeds
    return value if isinstance(value, dict) else {}
