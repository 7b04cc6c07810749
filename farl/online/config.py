"""The configuration of an online run, and what is made from it alone."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from farl.algorithms.credit import CreditMode
from farl.algorithms.failure_cost import ConstraintConfig
from farl.algorithms.gate import GateConfig
from farl.algorithms.mppi import MPPIConfig
from farl.algorithms.ppo import PPO, PPOConfig
from farl.environments import TaskConfig
from farl.methods import ControlsConfig, Parts, find
from farl.offline.bundle import OfflineBundle
from farl.online.distributed.other_process import LinkConfig
from farl.online.finite import FiniteGuard
from farl.online.learner import Learner
from farl.watchdog import WatchdogConfig

EXTENDABLE = (
    "out",
    "steps",
    "checkpoint_every",
    "checkpoints_kept",
    "mode",
    "launcher",
    "address",
    *(f"link.{setting.name}" for setting in fields(LinkConfig)),
    *(f"watchdog.{setting.name}" for setting in fields(WatchdogConfig)),
)
"""settings that may differ when a run is continued: where it lies, how long it is, where its learner is (docs/actor_learner.md)"""


@dataclass(frozen=True)
class OnlineConfig:
    """An online run: which method continues from which bundle, and for how long."""

    task: TaskConfig = field(default_factory=TaskConfig)
    bundle: Path = Path("bundles/bounded-push")
    """folder made by `farl offline`"""
    out: Path = Path("runs/bounded-push")
    method: str = "farl"
    """`farl list` shows them"""
    seed: int = 0
    steps: int = 100_000
    """agent steps, all environments together; a larger number continues a finished run"""
    num_envs: int = 16
    rollout_steps: int = 128
    """agent steps of each environment between two updates"""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    credit: CreditMode | None = None
    """how gated steps are credited; None takes the method's own"""
    handover_price: float = 1.0
    """share of what was still to come that the policy is charged when recovery takes over: 1 ends the episode for it, 0 charges
    nothing"""
    constraint: ConstraintConfig = field(default_factory=ConstraintConfig)
    mppi: MPPIConfig = field(default_factory=MPPIConfig)
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    evaluate_every: int = 20_000
    """agent steps between two evaluations"""
    evaluation_episodes: int = 16
    checkpoint_every: int = 10
    """iterations between two checkpoints"""
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    checkpoints_kept: int = 2
    """newest ones that stay; should one turn out to be damaged, the run goes on from the one before"""
    mode: Literal["single", "async"] = "single"
    """`async`: the learner has a process of its own, and the actor goes on while it learns"""
    link: LinkConfig = field(default_factory=LinkConfig)
    actors: int = 1
    """processes that collect the run's episodes, with num_envs environments each (docs/cluster.md)"""
    launcher: Literal["local", "ray"] = "local"
    """where several actors are: processes of this machine, or a Ray cluster"""
    address: str = ""
    """of that Ray cluster, such as 10.0.0.1:6379; empty starts one on this machine for the run"""

    def __post_init__(self) -> None:
        for name in ("actors", "num_envs", "rollout_steps", "evaluate_every", "checkpoint_every", "checkpoints_kept", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0 <= self.handover_price <= 1:
            raise ValueError(f"handover_price is {self.handover_price}; it is a share of the future: give 0 to 1")
        if self.link.swap == "episode" and self.num_envs > 1:
            raise ValueError(f"link.swap is episode, but {self.num_envs} environments (num_envs) do not end together; give rollout")
        if self.address and self.launcher != "ray":
            raise ValueError(f"address is {self.address}, but launcher is {self.launcher}; an address is for launcher ray")
        if self.remote and (self.link.swap == "episode" or self.gate.adapt > 0):
            raise ValueError("link.swap episode and gate.adapt are for one actor beside the learner; give rollout and 0")

    @property
    def remote(self) -> bool:
        """Whether actors have processes of their own."""
        return self.actors > 1 or self.launcher == "ray"

    @property
    def swap(self) -> Literal["rollout", "episode"]:
        """Where the actor takes a new version of the policy."""
        alone = self.mode == "async" and self.link.ahead > 0 and self.num_envs == 1 and not self.remote
        return self.link.swap or ("episode" if alone else "rollout")


def parts_of(config: OnlineConfig, bundle: OfflineBundle, envs: Any, generator: torch.Generator) -> Parts:
    """What a method is built from in a run of ``config``; ``generator`` is the gate's."""
    return Parts(
        bundle,
        bundle.policy,
        envs,
        config.gate,
        config.controls,
        generator,
        config.handover_price,
        config.constraint,
        config.mppi,
    )


def learner_of(config: OnlineConfig, bundle: OfflineBundle) -> Learner:
    """What learns in a run of ``config``: ``bundle``'s policy and value. It needs no environments."""
    method, order = find(config.method), torch.Generator().manual_seed(config.seed + 1)
    objective = method.objective(parts_of(config, bundle, None, torch.Generator()))
    ppo = PPO(bundle.policy, bundle.value, config.ppo, config.credit or method.credit, order, objective)
    return Learner(ppo, FiniteGuard(bundle.networks(), config.out))
