"""What of this machine makes a 1 kHz loop unreliable, told before anything moves."""

from __future__ import annotations

import os
from pathlib import Path

REALTIME = Path("/sys/kernel/realtime")
"""holds 1 under a PREEMPT_RT kernel"""


def warnings(realtime: Path = REALTIME) -> list[str]:
    """One sentence for each thing that is missing, with what it means."""
    return [told for told in (_kernel(realtime), _cores()) if told]


def _kernel(realtime: Path) -> str:
    if realtime.exists() and realtime.read_text().strip() == "1":
        return ""
    return (
        "no real-time kernel: under load the arm's controller may miss packets and abort the motion "
        "(communication_constraints_violation), which ends the episode; boot a PREEMPT_RT kernel for unattended sessions"
    )


def _cores() -> str:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return (
            "this process may use one core only: the 1 kHz control thread shares it with everything else, and motions may not "
            "even start; give it two or more (taskset, cgroup)"
        )
    busy = os.getloadavg()[0]
    if busy > cores - 1:
        return (
            f"no free core: {busy:.1f} of {cores} are busy, and the 1 kHz control thread needs one to itself; end other "
            "programs, or expect aborted motions"
        )
    return ""
