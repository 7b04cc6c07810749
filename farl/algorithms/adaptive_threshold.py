"""A threshold that follows the failures it misses (adaptive conformal inference, Gibbs and Candès 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from farl.algorithms.calibration import MIN_THRESHOLD, Calibration, conformal_low, just_below
from farl.algorithms.gate import Gate
from farl.errors import UserError


class AdaptiveThreshold:
    """Lowers a gate's threshold when failures come unannounced, and lets it return to where calibration put it.

    What moves is the level ``a`` of the conformal bound, after every finished episode::

        a <- clip(a + eta * (alpha * b - missed), 0, alpha)

    with ``alpha`` the promised rate, ``b`` the share of failing calibration episodes and ``missed`` 1 if the episode failed
    without a warning in time. While ``a`` is inside its range this steers the share of episodes with a missed failure to
    ``alpha * b``, what the promise came to on the calibration episodes, whatever became of the policy. Only misses are asked
    for: a hand-over hides whether it was needed. The level never exceeds ``alpha``, since a looser gate would spend failures to
    save hand-overs.
    """

    def __init__(self, gate: Gate, calibration: Calibration, miss_rate: float, confidence: float, step: float) -> None:
        if not calibration.warned:
            raise UserError(
                "gate.adapt needs the warning scores of held-out failures and the bundle has none; make it again with "
                "`farl offline` and failing calibration episodes, or leave gate.adapt at 0"
            )
        self.gate, self.calibration, self.step = gate, calibration, step
        self.promise, self.confidence = miss_rate, confidence
        episodes = calibration.failing_episodes + calibration.clean_episodes
        self.target = self.promise * calibration.failing_episodes / episodes
        """share of episodes that may end in a missed failure"""
        self.level = self.promise
        self.highest = gate.threshold
        self._warned = np.array(calibration.warned)

    def close(self, risks: Sequence[float], onset: int | None) -> None:
        """Account for a finished episode: its risks, and the step that first failed."""
        step = self.step * (self.target - float(self.missed(risks, onset)))
        self.level = min(max(self.level + step, 0.0), self.promise)
        self.gate.threshold = self._threshold()

    def missed(self, risks: Sequence[float], onset: int | None) -> bool:
        """Whether the episode failed and no risk told of it early enough; a risk that is no number tells."""
        first, last = self.calibration.max_lead, self.calibration.min_lead
        if onset is None or onset < last:
            return False
        return all(risk <= self.gate.threshold for risk in risks[max(0, onset - first) : onset - last + 1])

    def _threshold(self) -> float:
        bound = just_below(conformal_low(self._warned, self.level, self.confidence)) if self.level else -math.inf
        return min(max(bound, MIN_THRESHOLD), self.highest)

    def state_dict(self) -> dict[str, Any]:
        return {"level": self.level, "highest": self.highest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.level, self.highest = state["level"], state["highest"]
