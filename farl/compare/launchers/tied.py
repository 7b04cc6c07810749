"""``python -m farl.compare.launchers.tied PARENT COMMAND ...``: a command that does not outlive process ``PARENT``.

For parents that run threads, in which nothing may be prepared between fork and exec: the command prepares itself. It also
listens to signals again, which Ray's workers block and hand down.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)   # Slurm tells everyone that time is up; the parent acts on it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:   # it died before we asked to be told
        raise SystemExit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
