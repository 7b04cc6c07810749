"""Predicted risk against what came of it, counted while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EDGES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""between bins of risk: thresholds lie anywhere from a thousandth to a half, and most steps below all of them"""
HORIZON = 10
"""agent steps within which a failure counts as the one that was predicted"""
COLUMNS = ("steps", "failed", "taken_over", "risk")
"""per bin: steps of the task policy; those that failed within the horizon; those after which recovery acted within it, so that
nobody knows; the sum of their risks"""


class RiskHistogram:
    """Counts of the task policy's steps by predicted risk, up to each episode's first failure."""

    def __init__(self) -> None:
        self.counts: NDArray[np.float64] = np.zeros((len(EDGES) + 1, len(COLUMNS)))

    def add(self, risks: Sequence[float], gated: Sequence[bool], first_failure: int | None) -> None:
        """Count an episode: the risk of every step, who acted, and when it first failed."""
        stop = len(risks) if first_failure is None else first_failure + 1
        risk, acted = np.asarray(risks[:stop], dtype=np.float64), np.asarray(gated[:stop], dtype=bool)
        steps = np.arange(stop)
        acted_before = np.r_[0, np.cumsum(acted)]
        taken_over = acted_before[np.minimum(steps + HORIZON + 1, stop)] > acted_before[steps + 1]
        failed = np.zeros(stop, dtype=bool) if first_failure is None else steps >= first_failure - HORIZON
        counted = ~acted & np.isfinite(risk)
        rows = np.stack([np.ones(stop), failed & ~taken_over, taken_over, risk], axis=1)[counted]
        np.add.at(self.counts, np.digitize(risk[counted], EDGES, right=True), rows)

    def rows(self) -> list[list[float]]:
        """The counts so far, a row per bin, for ``metrics.jsonl``."""
        table: list[list[float]] = self.counts.round(6).tolist()
        return table
