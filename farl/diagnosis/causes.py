"""Which part let a failure happen: critic, gate or recovery, or none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["no_gate", "critic_miss", "late_gate", "handed_back", "recovery_failing", "unavoidable"]

WORDS: dict[Part, str] = {
    "no_gate": "no gate",
    "critic_miss": "critic missed it",
    "late_gate": "gate too late",
    "handed_back": "handed back too early",
    "recovery_failing": "recovery failed",
    "unavoidable": "unavoidable",
}
"""every part that a failure can be put down to, as tables and figures name it"""


@dataclass(frozen=True)
class Verdict:
    """What the simulator says about one failure: from which states something that was tried avoids it."""

    from_takeover: bool | None
    """from where recovery took over, or after it; None where it did not take over"""
    ever: bool
    """from any state that was examined"""


def part_of(line: Mapping[str, Any], needed: int, gated: bool, verdict: Verdict | None = None) -> Part:
    """The part that a failing episode is put down to.

    By its line in ``episodes.jsonl`` alone: recovery had not acted within the look-back (critic missed it), it took over with less
    than ``needed`` agent steps left (too late), it had let go again (handed back), or it acted in time and until the failure
    (recovery failed). The simulator corrects this: what nothing avoids is unavoidable; what nothing avoids from the takeover on,
    but something does from before it, came too late after all.

    Args:
        line: one of a failing episode. Where it is older than ``lead``, bursts count as in time.
        needed: agent steps that recovery needs.
        gated: whether the run had a gate that could have acted.
    """
    if verdict is not None and not verdict.ever:
        return "unavoidable"
    if not gated:
        return "no_gate"
    cause, lead = line["cause"] or "ungated", line.get("lead")
    if cause == "ungated":
        return "critic_miss"
    if lead is None:
        return "late_gate" if cause == "late" else "recovery_failing"
    if lead < needed or (verdict is not None and verdict.from_takeover is False):
        return "late_gate"
    return "handed_back" if cause == "late" else "recovery_failing"
