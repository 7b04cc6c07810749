"""What a gate is worth before any learning: the exploring task policy of a bundle behind it, in closed loop.

    python -m experiments.gate_trials BUNDLE --thresholds 0.2 0.3 --caps 20 100 --recovery learned scripted

Every row plays the same episodes with the same exploration noise; the first is without a gate, the last lets recovery alone act.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.tables import markdown
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.router import Router, Ungated
from farl.environments import make_experts, make_vector
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import model_critic
from farl.offline.threshold_search import play
from farl.types import FailureCritic, Policy

FIRST_EPISODE = 700_000_000
"""apart from the episodes that a bundle is examined on, and its threshold chosen"""

FIELDS = ("recovery", "threshold", "cap", "failures", "successes", "gated")
"""shares of episodes, and of steps"""


class Scripted:
    """The task's scripted recovery as a policy."""

    def __init__(self, bundle: OfflineBundle, count: int) -> None:
        self.experts = make_experts(bundle.task, "recovery", count)
        for env, expert in enumerate(self.experts):
            expert.reset(np.random.default_rng(env))

    def act(self, obs: torch.Tensor) -> torch.Tensor:
        actions = [expert.act(row) for expert, row in zip(self.experts, obs.numpy(), strict=True)]
        return torch.from_numpy(np.stack(actions)).float()


class Always:
    """A critic to which nothing is safe."""

    def risk(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.full((len(obs),), math.inf)


def trials(
    bundle: OfflineBundle, episodes: int, thresholds: list[float], caps: list[int], recoveries: list[str]
) -> Iterator[dict[str, Any]]:
    """A row for every combination."""
    envs = make_vector(bundle.task, 64)

    def row(router: Router | Ungated, **settings: Any) -> dict[str, Any]:
        return settings | {
            k: v for k, v in asdict(play(bundle, envs, router, episodes, FIRST_EPISODE)).items() if k in FIELDS
        }

    yield row(Ungated(), recovery="none")
    policies: dict[str, Policy] = {"learned": bundle.recovery, "scripted": Scripted(bundle, envs.num_envs)}
    critic: FailureCritic = model_critic(bundle, bundle.policy)
    for name, threshold, cap in itertools.product(recoveries, thresholds, caps):
        gate = Gate(GateConfig(max_dwell=cap), threshold, envs.num_envs)
        yield row(Router(policies[name], critic, gate), recovery=name, cap=cap)
    for name in recoveries:
        gate = Gate(GateConfig(max_dwell=10**9), 0.5, envs.num_envs)
        yield row(Router(policies[name], Always(), gate), recovery=f"{name}, alone")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--episodes", type=int, default=128)
    parser.add_argument("--thresholds", type=float, nargs="+", help="default: the bundle's own")
    parser.add_argument("--caps", type=int, nargs="+", default=[GateConfig.max_dwell])
    parser.add_argument("--recovery", nargs="+", choices=("learned", "scripted"), default=["learned", "scripted"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    bundle = OfflineBundle.load(given.bundle)
    thresholds = given.thresholds or ([bundle.calibration.threshold] if bundle.calibration else [])
    rows = []
    for row in trials(bundle, given.episodes, thresholds, given.caps, given.recovery):
        rows.append([_shown(row.get(name, "")) for name in FIELDS])
        print("  ".join(rows[-1]), flush=True)
    print(markdown(FIELDS, rows))
    return 0


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
