"""``python -m farl.online.distributed.actor_process``: a remote actor, asked on its input, answering on its output."""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

LENGTH = struct.Struct("<Q")


def main() -> None:
    """Answer until the input ends, which it does with the process that writes to it."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())   # what an environment prints must not get among the answers
    from farl.online.distributed.remote_actor import RemoteActor

    actor = RemoteActor()
    while (message := read_frame(sys.stdin.buffer)) is not None:
        answer = actor.handle(message)
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next message, or None where the stream has ended, in the middle of one too."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(header)
    content = stream.read(size)
    return content if len(content) == size else None


if __name__ == "__main__":
    main()
