"""Where the table stands in front of the arm."""

from __future__ import annotations

BASE_HEIGHT_M = 0.112
"""of the arm's base over the table's top, the robosuite twin's"""

TABLE_CENTRE_M = 0.56
"""from the arm's base to the table's middle"""

TABLE_HALF_M = (0.4, 0.4, 0.025)
