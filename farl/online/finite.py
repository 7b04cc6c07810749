"""A run in which something is no number any more stops at once, and says what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from farl.errors import UserError
from farl.types import Decision

LEARNED = ("policy", "value")
PATIENCE = 10
"""agent steps on which no environment's risk is a number before a run stops for it"""


class NotFinite(UserError):
    """A tensor of a run has NaN or infinite entries; the message names it."""


class FiniteGuard:
    """Looks at what is decided and learned, and raises ``NotFinite`` before it reaches an environment or a checkpoint."""

    def __init__(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        self.networks, self.folder = networks, folder
        self._unknown = 0

    def decided(self, obs: Tensor, decision: Decision) -> None:
        """Check a decision before it is executed. A single NaN risk stops nothing: the gate answers it."""
        if not (obs.isfinite().all() and decision.proposed.isfinite().all() and decision.executed.isfinite().all()):
            self._refuse(self._culprit() or _first(obs=obs, proposed=decision.proposed, recovery=decision.executed))
        unknown = decision.risk.isnan()
        if unknown.any() and (culprit := self._culprit()):
            self._refuse(culprit)
        self._unknown = self._unknown + 1 if unknown.all() else 0
        if self._unknown >= PATIENCE:
            self._refuse(f"risk (every environment's, for {PATIENCE} steps)")

    def learned(self, losses: Mapping[str, float]) -> None:
        """Check an update before anything acts on it or is saved."""
        if culprit := self._culprit(LEARNED):
            self._refuse(culprit)
        for name, value in losses.items():
            if not torch.tensor(value).isfinite():
                self._refuse(name)

    def state_dict(self) -> dict[str, Any]:
        return {"unknown": self._unknown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._unknown = state["unknown"]

    def _culprit(self, names: tuple[str, ...] | None = None) -> str | None:
        """The first weight that is not finite, as ``network.parameter``."""
        for name in names or self.networks:
            for key, tensor in self.networks[name].state_dict().items():
                if not tensor.isfinite().all():
                    return f"{name}.{key}"
        return None

    def _refuse(self, culprit: str) -> None:
        part = culprit.partition(".")[0]
        if part in self.networks and part not in LEARNED:
            cure = "it comes from the bundle and does not learn: make the bundle again with `farl offline`"
        elif culprit.startswith("obs"):
            cure = "it comes from the environment: check that with `farl check`"
        else:
            cure = "try a lower --ppo.lr and --ppo.value-lr with another --out"
        raise NotFinite(
            f"{culprit} is not finite (NaN or infinity), so the run stopped before anything was done or saved with it. Its last "
            f"checkpoint in {self.folder / 'checkpoints'} is from before; {cure}"
        )


def _first(**tensors: Tensor) -> str:
    """``name[environment, entry]`` of the first entry that is not finite."""
    for name, tensor in tensors.items():
        if len(where := (~tensor.isfinite()).nonzero()):
            return f"{name}{where[0].tolist()}"
    raise AssertionError("asked for what is not there")
