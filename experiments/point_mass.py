"""A bundle of the point mass, made in half a minute: what the reliability experiments run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farl.algorithms.behaviour_cloning import BCConfig
from farl.algorithms.iql import IQLConfig
from farl.algorithms.offline_ppo import OfflinePPOConfig
from farl.algorithms.q_risk import QRiskConfig
from farl.algorithms.state_model_training import StateModelConfig
from farl.environments import TaskConfig
from farl.offline.acceptance import AcceptanceConfig
from farl.offline.demos import DemosConfig, collect
from farl.offline.pipeline import OfflineConfig, train
from farl.offline.recoveries import RecoveriesConfig
from farl.offline.threshold_search import ThresholdSearchConfig
from farl.online.run import OnlineConfig

TASK = TaskConfig(id="failurebench:FailureBench/PointMassCliff-v0")
STD = 0.5
"""exploration std: enough for a hasty policy to fall over the cliff now and then"""


def make_bundle(folder: Path) -> Path:
    """Demonstrations and a bundle below ``folder``; what is there already is kept."""
    data, bundle = folder / "demos", folder / "bundle"
    collect(_demos(data))
    return train(_offline(data, bundle))


def run_config(bundle: Path, out: Path, **changes: Any) -> OnlineConfig:
    """A run of the method farl from that bundle."""
    return OnlineConfig(task=TASK, bundle=bundle, out=out, method="farl", **changes)


def _demos(out: Path) -> DemosConfig:
    short = BCConfig(updates=300, lr=1e-3)
    return DemosConfig(
        task=TASK,
        out=out,
        num_envs=8,
        expert_steps=300,
        clumsy_steps=2700,
        failure_steps=3000,
        clone_steps=800,
        recovery=RecoveriesConfig(episodes=40, steps=12, rounds=1, round_episodes=24, round_steps=20, bc=short),
        calibration_episodes=24,
        exploration_std=STD,
        bc=short,
    )


def _offline(data: Path, out: Path) -> OfflineConfig:
    short = BCConfig(updates=300, lr=1e-3)
    return OfflineConfig(
        task=TASK,
        data=data,
        out=out,
        exploration_std=STD,
        bc=short,
        recovery_bc=short,
        iql=IQLConfig(updates=300, gamma=0.95, lr=1e-3, batch=128),
        offline_ppo=OfflinePPOConfig(updates=0),
        state_model=StateModelConfig(updates=250, hidden=(64, 64), lr=2e-3, batch=48),
        q_risk=QRiskConfig(updates=600, value_updates=100, lr=1e-3, batch=128, tau=0.02),
        search=ThresholdSearchConfig(episodes=0),
        acceptance=AcceptanceConfig(rescues=8, episodes=16, num_envs=16),
    )
