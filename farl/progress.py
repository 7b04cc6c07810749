"""Progress of long work: a line on the terminal, and a small file that another process can follow."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from farl.files import write_text


class Progress:
    """Stages with a count; written to ``progress.json`` at most twice a second."""

    def __init__(self, folder: Path | None, title: str) -> None:
        self._file = folder / "progress.json" if folder else None
        self.title, self._stage, self._total, self._last = title, "", 1, 0.0
        self._tty = sys.stderr.isatty()

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of ``total`` units."""
        self._stage, self._total = name, max(total, 1)
        self.at(0, force=True)

    def at(self, done: int, note: str = "", force: bool = False) -> None:
        """Report that ``done`` units of the stage are finished."""
        now = time.monotonic()
        if not force and now - self._last < 0.5 and done < self._total:
            return
        self._last = now
        if self._file is not None:
            record = {"title": self.title, "stage": self._stage, "done": done, "total": self._total, "note": note}
            write_text(self._file, json.dumps(record) + "\n", durable=False)
        if self._tty:
            sys.stderr.write(f"\r\x1b[K{self.title}: {self._stage} {100 * done // self._total:3d} % {note}")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """Print one lasting line."""
        if self._tty:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        print(text, flush=True)
