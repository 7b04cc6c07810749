"""Writing files so that a crash, a full disk or Ctrl-C leaves either the old content or the new one, never half."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from farl.errors import UserError

LEFTOVER = ".*.part"
"""what a file is called until it is whole"""


def write_atomically(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Let ``write`` fill a temporary neighbour of ``path``, flush it to disk, then rename it into place.

    Once this has returned, a power failure does not undo it either, unless ``durable`` is false: for what is soon out of date.
    Libraries that write files themselves may turn a full disk into an error of their own, or into a crash: serialise to
    memory and use ``write_bytes``.

    Raises UserError if the disk is full or the folder cannot be written; the previous file is then untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)  # mkstemp makes private files; results are meant to be shared
        if durable:
            _flush(temporary)
        temporary.replace(path)
        if durable:
            _flush(path.parent)  # the name is kept in the folder, not in the file
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Nothing was changed; free space or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left half written in ``folder`` and the folders in it."""
    for pattern in (LEFTOVER, f"*/{LEFTOVER}"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    write_atomically(path, lambda temporary: _fill(temporary, content), durable)


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    write_bytes(path, text.encode(), durable)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file; a last line without its newline was never acknowledged and is skipped."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
