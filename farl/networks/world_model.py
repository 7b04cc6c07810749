"""What every world model offers to the gate, the planner and off-policy evaluation."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class WorldModel(Protocol):
    """Dynamics with failure heads, rolled out in a state ``z`` of its own choosing.

    Observations are standardised (``x``); actions are those the environment executes, clipped to -1..1.
    """

    def encode(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b z"]:
        """The model's state for an observation."""
        ...

    def decode(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b obs"]:
        """The observation a policy would see in ``z``."""
        ...

    def step(
        self, z: Float[Tensor, "b z"], action: Float[Tensor, "b act"]
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, "k b"]]:
        """The next state, and every head's logit that this very step violates (judged on the state it leads to)."""
        ...

    def reward(self, z: Float[Tensor, "b z"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        """Expected scaled reward of the step."""
        ...


@runtime_checkable
class ObservedModel(WorldModel, Protocol):
    """A world model whose state is an observation's features, and whose heads read nothing but the observation.

    Its rollouts are cheaper: the policy reads the state as it is, and the heads judge all steps in one product.
    """

    def follow(self, z: Float[Tensor, "b z"], action: Float[Tensor, "b act"]) -> Float[Tensor, "b z"]:
        """The next state alone."""
        ...

    def failure_logits(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "k b"]:
        """Every head's logit that a step which led to ``x`` violated."""
        ...
