"""Small configurations of the whole pipeline on the point mass, and how to read what a run wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from farl.algorithms.behaviour_cloning import BCConfig
from farl.algorithms.iql import IQLConfig
from farl.algorithms.latent_model_training import LatentModelConfig
from farl.algorithms.offline_ppo import OfflinePPOConfig
from farl.algorithms.ppo import PPOConfig
from farl.algorithms.q_risk import QRiskConfig
from farl.algorithms.state_model_training import StateModelConfig
from farl.environments import TaskConfig
from farl.offline.acceptance import AcceptanceConfig
from farl.offline.demos import DemosConfig
from farl.offline.pipeline import OfflineConfig
from farl.offline.recoveries import RecoveriesConfig
from farl.offline.threshold_search import ThresholdSearchConfig
from farl.online import checkpoint
from farl.online.run import OnlineConfig

TASK = TaskConfig(id="failurebench:FailureBench/PointMassCliff-v0")
STD = 0.5
"""exploration std: enough for a hasty policy to fall over the cliff every second or third time"""
CLOCKS = ("wall_s", "env_s", "policy_s", "gate_s", "update_s", "checkpoint_s")
"""columns of metrics.jsonl that no two runs share"""


def demos(out: Path, **changes: Any) -> DemosConfig:
    """Mostly hasty demonstrations: the clone passes close to the cliff, and exploring it falls in."""
    config = DemosConfig(
        task=TASK,
        out=out,
        num_envs=8,
        expert_steps=300,
        clumsy_steps=2700,
        failure_steps=3000,
        clone_steps=800,
        recovery=RecoveriesConfig(
            episodes=40,
            steps=12,
            rounds=1,
            round_episodes=24,
            ordinary=0.0,  # so few episodes as these are needed where recovery acts
            round_steps=20,
            interruptions=0.0,
            bc=BCConfig(updates=150, lr=1e-3),
        ),
        calibration_episodes=24,
        exploration_std=STD,
        bc=BCConfig(updates=300, lr=1e-3),
    )
    return replace(config, **changes)


def few(out: Path, **changes: Any) -> DemosConfig:
    """Just enough of each set for every stage to run."""
    sizes = {"expert_steps": 160, "clumsy_steps": 240, "failure_steps": 600, "clone_steps": 100}
    short = BCConfig(updates=40, lr=1e-3)
    recovery = RecoveriesConfig(episodes=12, steps=12, rounds=1, round_episodes=8, round_steps=10, bc=short)
    return demos(out, **{**sizes, "recovery": recovery, "calibration_episodes": 3, "bc": short, **changes})


def offline(data: Path, out: Path, **changes: Any) -> OfflineConfig:
    """Enough updates for a gate that works."""
    config = OfflineConfig(
        task=TASK,
        data=data,
        out=out,
        exploration_std=STD,
        bc=BCConfig(updates=400, lr=1e-3),
        recovery_bc=BCConfig(updates=200, lr=1e-3, batch=128),
        iql=IQLConfig(updates=500, gamma=0.95, lr=1e-3, batch=128, tau=0.03),
        offline_ppo=OfflinePPOConfig(updates=40, check_every=20, batch=128),
        state_model=StateModelConfig(updates=250, hidden=(64, 64), lr=2e-3, batch=48),
        paper_model=True,
        latent_model=LatentModelConfig(
            updates=100, batch=24, lr=2e-3, encoder_lr_scale=1.0, latent=32, width=64, heads=2
        ),
        q_risk=QRiskConfig(updates=900, value_updates=150, lr=1e-3, batch=128, tau=0.02),
        search=ThresholdSearchConfig(episodes=0),  # what calibration promises is tested as it stands
        acceptance=AcceptanceConfig(rescues=8, episodes=16, num_envs=16),
    )
    return replace(config, **changes)


def hurried(data: Path, out: Path, **changes: Any) -> OfflineConfig:
    """Every stage, but hardly any learning: for tests of the machinery."""
    short = BCConfig(updates=12, check_every=6)
    config = offline(
        data,
        out,
        bc=short,
        recovery_bc=short,
        iql=IQLConfig(updates=8, gamma=0.95),
        offline_ppo=OfflinePPOConfig(updates=6, check_every=3, batch=64),
        state_model=StateModelConfig(updates=8, hidden=(16,), batch=16),
        paper_model=False,
        q_risk=QRiskConfig(updates=8, value_updates=4, batch=32),
        search=ThresholdSearchConfig(episodes=8, num_envs=8),
        acceptance=AcceptanceConfig(rescues=2, episodes=8, num_envs=8, limit=200),
    )
    return replace(config, **changes)


def online(bundle: Path, out: Path, **changes: Any) -> OnlineConfig:
    """A run of eight short iterations with checkpoints (384, 768, 1024) and evaluations in between."""
    config = OnlineConfig(
        task=TASK,
        bundle=bundle,
        out=out,
        method="uni-o4",
        steps=1024,
        num_envs=8,
        rollout_steps=16,
        ppo=PPOConfig(warmup=2, epochs=2, batch=64, gamma=0.95),
        evaluate_every=300,
        evaluation_episodes=4,
        checkpoint_every=3,
    )
    return replace(config, **changes)


def lines(folder: Path, stream: str, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The records of one of a run's files, without some of their keys."""
    text = (folder / f"{stream}.jsonl").read_text()
    assert text.endswith("\n")
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in text.splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Policy and value weights of a run's newest checkpoint."""
    state = checkpoint.load_latest(folder / "checkpoints")
    assert state is not None
    return {
        f"{network}.{name}": tensor
        for network in ("policy", "value")
        for name, tensor in state["learner"][network].items()
    }


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
