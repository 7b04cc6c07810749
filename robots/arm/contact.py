"""What the finger felt when a force stopped it, and which way leads away from that."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from robots.limits import Vec3

REMEMBERED = 30
"""readings that are looked back on"""

FELT_N = 3.0
"""a smaller force says nothing about where the contact is"""

LED_M = 0.001
"""a shorter lead says nothing about which way the finger was pressed"""


class Contact(NamedTuple):
    """One moment of touching something."""

    force: Vec3
    lead: Vec3
    """from the finger to its reference"""


class Felt:
    """The last readings of force, and where the reference was then."""

    def __init__(self) -> None:
        self._contacts: deque[Contact] = deque(maxlen=REMEMBERED)

    def keep(self, force: Vec3, tip: Vec3, reference: Vec3) -> None:
        """One reading more."""
        x, y, z = (r - t for r, t in zip(reference, tip, strict=True))
        self._contacts.append(Contact(force, (x, y, z)))

    def forget(self) -> None:
        """Begin anew, as after a gap."""
        self._contacts.clear()

    def strongest(self) -> Contact | None:
        """The moment of the greatest force; None where there was no reading."""
        return max(self._contacts, key=lambda contact: math.hypot(*contact.force), default=None)


def away(contact: Contact | None) -> Vec3 | None:
    """Unit vector along which to leave a contact: across the table, or straight up; never down. None where none was felt.

    The force gives the axis. Its sign is not trusted, since it is not documented whether a controller reports what acts on the
    hand or what the hand exerts: a reference that is ahead of the finger on one side was pressing to that side. Only where
    the reference was not ahead, the sign is taken to be what people see on real arms: what the hand exerts.
    """
    if contact is None:
        return None
    force, lead = contact
    size, led = math.hypot(*force), math.hypot(*lead)
    if size >= FELT_N:
        x, y, z = (part / size for part in force)
        pressed = x * lead[0] + y * lead[1] + z * lead[2]
        if pressed > -LED_M:
            x, y, z = -x, -y, -z
    elif led > LED_M:
        x, y, z = (-part / led for part in lead)
    else:
        return None
    flat = math.hypot(x, y)
    if abs(z) > flat:
        return 0.0, 0.0, 1.0
    return x / flat, y / flat, 0.0
