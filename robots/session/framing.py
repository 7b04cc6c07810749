"""Frames in a file that only grows: 4 bytes of length and 4 of CRC-32 (little-endian), then the content."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from robots.errors import RobotError

HEADER = struct.Struct("<II")
LARGEST = 1 << 24
"""bytes of content; whatever says it is longer is no frame"""


def frame(content: bytes) -> bytes:
    """``content`` as it lies on disk."""
    if not 0 < len(content) <= LARGEST:
        raise ValueError(f"a frame holds 1 to {LARGEST} bytes, not {len(content)}")
    return HEADER.pack(len(content), zlib.crc32(content)) + content


def frames(data: bytes, start: int = 0) -> Iterator[bytes]:
    """The contents of whole, undamaged frames one after another from ``start``."""
    while (content := _at(data, start)) is not None:
        yield content
        start += HEADER.size + len(content)


def _at(data: bytes, start: int) -> bytes | None:
    """The content of the frame that begins at ``start``, None where there is no whole one."""
    if start + HEADER.size > len(data):
        return None
    size, code = HEADER.unpack_from(data, start)
    content = data[start + HEADER.size : start + HEADER.size + size]
    # A length of 0 is what a disk that lost its power may leave, with a checksum that would even be right.
    whole = 0 < size <= LARGEST and len(content) == size and zlib.crc32(content) == code
    return content if whole else None


class FrameFile:
    """Reads a file of frames that somebody else may be appending to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        """bytes read so far: all of them whole frames"""

    def new(self) -> list[bytes]:
        """The whole frames since the last call; a half one waits. A file that is not there yet has none."""
        found = list(frames(self._rest()))
        self.offset += sum(HEADER.size + len(content) for content in found)
        return found

    def torn(self) -> str:
        """What follows the last whole frame, in a sentence; empty where nothing does."""
        rest = self._rest()
        return f"{self.path} ends with {len(rest)} bytes that are no whole record" if rest else ""

    def _rest(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read()
        except FileNotFoundError:
            return b""


class AppendedFrames:
    """Appends to a file of frames; each is on disk before ``append`` returns.

    Raises RobotError where the file cannot be opened, or is damaged before its end: cutting that off would lose what follows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        reader = FrameFile(path)
        reader.new()
        self.torn = reader.torn()
        rest = path.read_bytes()[reader.offset :] if self.torn else b""
        if any(_at(rest, start) is not None for start in range(len(rest))):
            raise RobotError(
                f"{path} is damaged at byte {reader.offset}, and whole records follow: it was changed, or its disk is failing. "
                "Copy the folder, then choose another --out"
            )
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(self._file, reader.offset)
            os.fsync(self._file)
        except OSError as error:
            why = error.strerror or error
            raise RobotError(f"cannot write {path}: {why}; make it writable, or choose another --out") from error
        self._end, self._open = reader.offset, True

    def append(self, content: bytes) -> None:
        """Raises OSError where it does not get to disk; the file then ends where it did before."""
        whole = frame(content)
        try:
            written = 0
            while written < len(whole):
                written += os.pwrite(self._file, whole[written:], self._end + written)
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(whole)

    def close(self) -> None:
        """Can be called twice."""
        if self._open:
            os.close(self._file)
            self._open = False
