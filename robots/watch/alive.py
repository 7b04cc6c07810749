"""Whether the process that writes a session is still there, found out without touching anything of it."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

LOCK, META = ".lock", "meta.json"
LOCKS = Path("/proc/locks")
_HOLDER = re.compile(r"process (\d+) on (\S+)")


def gone(run: Path, locks: Path = LOCKS) -> str:
    """How a session ended whose process is gone: its status in ``meta.json``, ``running`` where it could not say any more.

    Empty while the process is there, and where that cannot be known: it is on another machine or in another container, or the
    system does not list locks. A session holds a lock on ``.lock`` in its run's folder as long as its process lives.
    """
    try:
        holder = _HOLDER.search((run / LOCK).read_text())
        held = {line.split()[-3].rpartition(":")[2] for line in locks.read_text().splitlines() if ":" in line}
        number = (run / LOCK).stat().st_ino
    except (OSError, IndexError):
        return ""
    if holder is None or holder[2] != socket.gethostname() or str(number) in held:
        return ""
    try:
        return str(json.loads((run / META).read_text()).get("status") or "running")
    except (OSError, ValueError, AttributeError):
        return "running"
