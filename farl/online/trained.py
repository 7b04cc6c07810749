"""A run as something to act with: its task policy as the newest checkpoint holds it, and the gate it was trained behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from farl import configuration, methods
from farl.algorithms.router import Router, Ungated
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.online import checkpoint
from farl.online.config import OnlineConfig, parts_of


@dataclass(frozen=True)
class Trained:
    """What a run has come to."""

    config: OnlineConfig
    bundle: OfflineBundle
    """with the run's own task policy in it; recovery, models and calibration are those it was made with"""
    steps: int
    """agent steps behind the policy, 0 before the first update"""
    threshold: float | None = None
    """of its gate at that moment, which may have adapted; None where the configuration says it all"""

    @property
    def gates(self) -> bool:
        """Whether its method has a gate."""
        return methods.find(self.config.method).critic is not None

    def router(self, envs: VectorEnv[Any, Any, Any], gate: bool = True) -> Router | Ungated:
        """Who acts in ``envs``: the run's method, or the task policy alone. Its randomness begins anew with every call."""
        if not gate:
            return Ungated()
        generator = torch.Generator().manual_seed(self.config.seed + 3)
        router = methods.find(self.config.method).router(parts_of(self.config, self.bundle, envs, generator))
        if router.gate is not None and self.threshold is not None:
            router.gate.threshold = self.threshold
        return router


def load_trained(folder: Path, start: bool = False) -> Trained:
    """A run at its newest checkpoint, or with ``start`` as it began; raises UserError where there is neither."""
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run directory (no config.yaml)")
    config = configuration.read(OnlineConfig, folder / "config.yaml")
    bundle = OfflineBundle.load(config.bundle, config.task)
    if start:
        return Trained(config, bundle, 0)
    state = checkpoint.load_latest(folder / "checkpoints")
    if state is None:
        raise UserError(f"{folder} has no checkpoint yet; let the run reach its first one")
    bundle.policy.load_state_dict(state["learner"]["policy"])
    gate = state["actor"]["router"].get("gate", {})
    return Trained(config, bundle, int(state["actor"]["steps"]), gate.get("threshold"))


def load_agent(folder: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The task policy of a run's newest checkpoint: observation in, mean action out."""
    policy = load_trained(folder).bundle.policy

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        action: NDArray[Any] = policy.act(torch.from_numpy(obs).float()[None])[0].clamp(-1, 1).numpy()
        return action

    return act
