"""The distance that must be kept from a hazard, as an argument of a task."""

from __future__ import annotations

import numbers
from typing import Any


def checked_clearance(clearance: Any, room: float, what: str) -> float:
    """The clearance as a plain float, metres.

    ``room`` is what there is before anything moves, and ``what`` names it in the message.

    Raises:
        ValueError: not a distance, or no room is left.
    """
    number = isinstance(clearance, numbers.Real) and not isinstance(clearance, bool)
    if not number or not clearance >= 0:
        raise ValueError(f"clearance is {clearance!r}; give a distance in metres, 0 (contact) or more")
    if clearance >= room:
        raise ValueError(f"clearance {clearance} m leaves no room: {what} {room:.3f} m away, give less than that")
    return float(clearance)
