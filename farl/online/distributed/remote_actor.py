"""An actor away from its learner: environments, gate and a snapshot of the policy of its own, driven by messages."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from farl import configuration
from farl.cluster.code_versions import code_versions, difference
from farl.cluster.trees import unpack
from farl.environments import make_vector
from farl.errors import UserError
from farl.methods import find
from farl.offline.bundle import OfflineBundle
from farl.online.accounting import EpisodeRecord
from farl.online.actor import Actor
from farl.online.checkpoint import from_tensors, to_tensors
from farl.online.config import OnlineConfig, parts_of
from farl.online.distributed import wire
from farl.online.finite import FiniteGuard
from farl.watchdog import Watchdog

FAR = 1_000_003
"""between the generators of two actors; more than there are runs, so that no two of any runs are the same"""


class RemoteActor:
    """Answers ``begin`` and ``collect``; every answer holds the whole state, so that another can go on from it."""

    def __init__(self) -> None:
        self._actor: Actor | None = None
        self._ended: list[dict[str, Any]] = []
        self._lost: list[dict[str, Any]] = []

    def handle(self, message: bytes) -> bytes:
        """The answer to a message; ``failed`` with a reason where the user must act."""
        kind, content = wire.decode(message)
        try:
            return wire.encode(kind, self._begin(content) if kind == "begin" else self._collect(content))
        except UserError as error:
            return wire.encode("failed", {"why": str(error)})

    def _begin(self, content: dict[str, Any]) -> dict[str, Any]:
        """Everything that acts, from the run's configuration and bundle; begin anew, or from a state."""
        found = code_versions(content["modules"]) if content["versions"] else {}
        if problem := difference(content["versions"], found, f"of actor {content['number']}"):
            raise UserError(problem)
        with tempfile.TemporaryDirectory(prefix="farl-actor-") as folder:
            file, bundle_folder = Path(folder, "config.yaml"), Path(folder, "bundle")
            file.write_text(content["configuration"], encoding="utf-8")
            config = configuration.read(OnlineConfig, file)
            unpack(content["bundle"].numpy().tobytes(), bundle_folder)
            self._actor = self._made(config, OfflineBundle.load(bundle_folder, config.task), content["number"])
        if content["state"] is not None:
            self._actor.load_state_dict(from_tensors(content["state"]))
        return {"state": to_tensors(self._actor.state_dict())}

    def _made(self, config: OnlineConfig, bundle: OfflineBundle, number: int) -> Actor:
        """As ``farl.online.run`` makes the only one, but for seeds of its own."""
        torch.manual_seed(config.seed + FAR * number)
        watchdog = Watchdog(config.watchdog)
        watchdog.start()
        envs = make_vector(config.task, config.num_envs, watchdog)
        gate_noise = torch.Generator().manual_seed(config.seed + 2 + FAR * number)
        router = find(config.method).router(parts_of(config, bundle, envs, gate_noise))
        actor = Actor(
            envs,
            config.task,
            bundle.policy,
            router,
            bundle.reward_scale,
            config.seed,
            self._episode,
            FiniteGuard(bundle.networks(), config.out).decided,
            lambda line: self._lost.append({"line": line}),
            lane=(number, config.actors),
        )
        actor.explore.manual_seed(config.seed + FAR * number)
        return actor

    def _episode(self, record: EpisodeRecord, line: dict[str, Any]) -> None:
        self._ended.append({"line": line, "record": to_tensors(record.state_dict())})

    def _collect(self, content: dict[str, Any]) -> dict[str, Any]:
        assert self._actor is not None
        self._ended, self._lost = [], []
        self._actor.swap(content["policy"], content["version"])
        rollout = self._actor.collect(content["steps"])
        return {
            "rollout": vars(rollout),
            "ended": self._ended,
            "lost": self._lost,
            "gate_s": self._actor.router.seconds,
            "state": to_tensors(self._actor.state_dict()),
        }
