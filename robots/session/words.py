"""What a session writes into its journal's events beside what people say (``robots.operator.interface.Word``)."""

from __future__ import annotations

import json

from failurebench.franka.scene import Layout

SESSION = "session"
"""a process goes to work; the detail says which and with what"""
EPISODE = "episode"
"""one begins; the detail is its layout (``layout_detail``)"""
ENDED = "ended"
"""one is over; the detail is ``success``, ``timeout``, ``failure``, or ``lost: `` and why"""
NEEDS_RESET = "needs_reset"
"""nothing goes on until a person says ``reset_done``; the detail says why"""
STOP_PRESSED = "the stop is pressed"
"""begins the detail of a ``needs_reset`` that waits for its release"""
RESET = "reset"
"""how the table was put back"""
FAULT = "fault"
"""of the infrastructure; the detail names it"""
RECOVERED = "recovered"
"""the arm left a fault; the detail names which"""
CHECKPOINT = "checkpoint"
"""written; the detail is JSON: agent steps, episodes and the hash of everything that learns"""
RESUMED = "resumed"
"""from a checkpoint; the detail as of ``checkpoint``"""
STOPPED = "stopped"
"""the session ends; the detail says why"""


def layout_detail(layout: Layout, kind: str) -> str:
    """An episode's layout as an event's detail; ``kind`` is ``counted``, or ``slow`` for one that is not."""
    return json.dumps({**layout._asdict(), "kind": kind})


def layout_of(detail: str) -> tuple[Layout, str]:
    """What ``layout_detail`` wrote."""
    fields = json.loads(detail)
    kind = str(fields.pop("kind"))
    (x, y), (goal_x, goal_y) = fields["object"], fields["goal"]
    return Layout((x, y), fields["yaw"], (goal_x, goal_y), tuple(fields["hazard"]), fields["script"]), kind
