"""Demonstrators that bring a rolling ball to the goal."""

from __future__ import annotations

import numpy as np

from failurebench.experts import Action, Expert, Observation, Seen, drag


class CarryBall(Expert):
    """The competent way: come from above, close the fingers round the ball, carry it to the goal."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Action:
        """Hover, descend, close, carry; which of them follows from the positions alone."""
        seen = Seen.of(obs)
        return drag(seen, (seen.goal[0], seen.goal[1]))
