"""The nouns of the method: what flows between environment, gate, buffer and disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from farl.observations import Layout

Outcome = Literal["success", "timeout", "failure", "unfinished"]
Cause = Literal["ungated", "late", "during_recovery"]
SHOWN = "shown"
"""the name in ``Episode.extra`` of the actions a demonstrator would have taken where another policy acted"""

State = dict[str, Any]
"""a simulator state: name -> array, number or string (see docs/design.md)"""


@runtime_checkable
class Policy(Protocol):
    """Anything that acts: task, recovery, scripted and random policies."""

    def act(self, obs: Float[Tensor, "b obs"]) -> Float[Tensor, "b act"]:
        """The action for each row of raw observations, unclipped."""
        ...


@runtime_checkable
class FailureCritic(Protocol):
    """How likely an action is to lead to a failure soon."""

    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        """Risk of ``action`` taken in ``obs``, with the task policy acting afterwards; a NaN means "not known to be safe"."""
        ...


@dataclass(frozen=True)
class Decision:
    """What the router decided for every environment at one step; all tensors have a leading batch axis."""

    executed: Float[Tensor, "b act"]
    """the action sent to the environment, before the environment clips it"""
    proposed: Float[Tensor, "b act"]
    """the task policy's own action"""
    recovery: Float[Tensor, "b act"]
    """the recovery policy's action (also where it did not act)"""
    risk: Float[Tensor, " b"]
    gated: Bool[Tensor, " b"]
    """whether recovery acted"""


@dataclass
class Episode:
    """Stacked transitions of one episode, the unit on disk.

    ``T`` steps; ``obs`` has ``T + 1`` rows, the last one is the true final observation.
    """

    obs: NDArray[np.float32]
    actions: NDArray[np.float32]
    """executed actions ``[T, act]``"""
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    failure: NDArray[np.bool_]
    margin: NDArray[np.float32]
    """metres to failure after each step, ``nan`` where unknown"""
    outcome: Outcome
    seed: int
    task: str = ""
    behaviour: str = ""
    """who acted: the expert's kind, or ``clone`` / ``policy``"""
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    """further per-step arrays ``[T, ...]`` by name, kept on disk as they are"""
    layout: Layout | None = None
    """which numbers of ``obs`` are what; None for a plain vector"""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def failed(self) -> bool:
        return bool(self.failure.any())

    @property
    def onset(self) -> int | None:
        """Index of the first violating step, or None."""
        return int(self.failure.argmax()) if self.failed else None
