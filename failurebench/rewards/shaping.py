"""What MetaWorld's dense rewards are made of: smooth degrees of "near enough", and their conjunction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from failurebench.sawyer import Sawyer

Reward = Callable[[Sawyer, float], float]
"""(world after the step, grip command) -> reward of one simulator step"""

Degree = Any
"""a number in [0, 1], float or NumPy scalar"""


def long_tail(x: float, low: float, high: float, margin: float) -> float:
    """1 inside [low, high], falling hyperbolically outside to 0.1 at ``margin`` from the interval."""
    if low <= x <= high:
        return 1.0
    if margin == 0.0:
        return 0.0
    distance = (low - x if x < low else x - high) / margin
    return 1.0 / (9.0 * distance * distance + 1.0)  # 9 = 1 / 0.1 - 1


def both(a: Degree, b: Degree) -> Degree:
    """Hamacher product: a smooth "and" of two degrees in [0, 1]."""
    total = a + b - a * b
    return a * b / total if total > 0.0 else 0.0
