"""A JSON-lines file read as it grows: only new bytes, whole lines, and anew if it was wound back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

Record = dict[str, Any]

BLOCK = 1 << 18
"""bytes parsed in one piece: some five milliseconds in which nothing else in the process runs"""
_REMEMBERED = 96
"""bytes before the reading position that must still be there when reading goes on"""


@dataclass(frozen=True)
class Block:
    """What the next piece of a file brought."""

    rows: list[Record] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """byte offset of each row's line"""
    anew: bool = False
    """whether the file is another one than before: what was read of it earlier is void"""


class GrowingLines:
    """The records of a JSON-lines file that another process appends to, replaces or winds back.

    A last line without its newline waits until it is complete. A line that is no JSON object is left out and counted.
    """

    def __init__(self, path: Path, block: int = BLOCK) -> None:
        self.path, self._block = path, block
        self._seen: tuple[int, ...] = ()
        self._forget()

    def _forget(self) -> None:
        self._offset, self._before, self._identity = 0, b"", (0, 0)
        self.lines = 0
        """complete lines read so far"""
        self.damaged: list[int] = []
        """numbers, from 1, of the lines that were left out"""

    def blocks(self) -> Iterator[Block]:
        """What is new since the last call, piece by piece; raises OSError where the file is there and cannot be read."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            yield from self._gone()
            return
        seen = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if seen == self._seen:
            return
        with self.path.open("rb") as file:
            if self._offset and not self._goes_on(file):
                self._forget()
                yield Block(anew=True)
            state = os.fstat(file.fileno())
            self._identity = (state.st_dev, state.st_ino)
            yield from self._read(file)
        self._seen = seen

    def _gone(self) -> Iterator[Block]:
        if self._offset:
            self._forget()
            yield Block(anew=True)
        self._seen = ()

    def _goes_on(self, file: IO[bytes]) -> bool:
        """Whether what was read is still there: the same file, no shorter, with the same bytes before the reading position."""
        state = os.fstat(file.fileno())
        file.seek(self._offset - len(self._before))
        return (state.st_dev, state.st_ino) == self._identity and file.read(len(self._before)) == self._before

    def _read(self, file: IO[bytes]) -> Iterator[Block]:
        file.seek(self._offset)
        pending = b""
        while chunk := file.read(self._block):
            whole, newline, rest = chunk.rpartition(b"\n")
            if not newline:
                pending += chunk
                continue
            text, pending = pending + whole + newline, rest
            block = self._parse(text)
            self._offset += len(text)
            self._before = (self._before + text)[-_REMEMBERED:]
            yield block

    def _parse(self, text: bytes) -> Block:
        block, start = Block(), self._offset
        for line in text.split(b"\n")[:-1]:
            self.lines += 1
            row = _record(line)
            if row is None:
                self.damaged.append(self.lines)
            else:
                block.rows.append(row)
                block.starts.append(start)
            start += len(line) + 1
        return block


def read_line(path: Path, start: int) -> Record | None:
    """The record whose line begins at a byte offset; None where there is none (any more)."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return _record(file.readline())
    except OSError:
        return None


def _record(line: bytes) -> Record | None:
    try:
        value = json.loads(line.decode("utf-8"))
    except ValueError:   # UnicodeDecodeError too
        return None
    return value if isinstance(value, dict) else None
