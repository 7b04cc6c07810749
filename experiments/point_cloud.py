"""What the gate is worth where it has to see for itself: a depth camera in place of estimates, on the Franka twin.

    python -m experiments.point_cloud runs/point_cloud results/point_cloud.md

Demonstrations, a bundle and two short online runs of Fragile Push Wall observed as points, at reduced sizes (``DEMOS``,
``OFFLINE``, ``STEPS``); then critics that learned from the same episodes, told where things are or not, on the same held-out ones.
What is finished is kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from experiments.tables import markdown
from failurebench.franka import points
from failurebench.franka.push_wall import FrankaFragilePushWall
from farl.algorithms.behaviour_cloning import BCConfig, clone
from farl.algorithms.calibration import (
    CalibrationConfig,
    ScoredEpisode,
    calibrate,
    missed,
    safe_risks,
    score,
    warnings,
)
from farl.algorithms.encoder_training import EncoderConfig
from farl.algorithms.iql import IQLConfig
from farl.algorithms.offline_ppo import OfflinePPOConfig
from farl.algorithms.ppo import PPOConfig
from farl.algorithms.q_risk import QRisk, QRiskConfig, train_q_risk
from farl.algorithms.risk import ImaginedRisk
from farl.algorithms.state_model_training import StateModelConfig, train_state_model
from farl.data.batches import WindowSampler, transitions
from farl.data.episode_store import read_episodes
from farl.environments import TaskConfig, make
from farl.files import write_bytes, write_text
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.state_model import StateModel
from farl.networks.value import DoubleQ
from farl.offline.acceptance import AcceptanceConfig
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import model_critic
from farl.offline.demos import DemosConfig, collect
from farl.offline.pipeline import OfflineConfig, train
from farl.offline.recoveries import RecoveriesConfig
from farl.offline.threshold_search import ThresholdSearchConfig
from farl.online.config import OnlineConfig
from farl.online.run import run
from farl.progress import Progress
from farl.types import Episode, FailureCritic

ID = "failurebench:FailureBench/FrankaFragilePushWall-v0"
TASK = TaskConfig(ID, {"observe": "points", "depth_noise_m": 0.001})
ENCODER = EncoderConfig(updates=2000)
DEMOS = DemosConfig(
    task=TASK,
    clumsy_steps=6000,
    failure_steps=8000,
    clone_steps=5000,
    recovery=RecoveriesConfig(episodes=40, rounds=1, round_episodes=48, round_steps=60, bc=BCConfig(updates=1000)),
    calibration_episodes=30,
    bc=BCConfig(updates=1500),
    encoder=ENCODER,
)
OFFLINE = OfflineConfig(
    task=TASK,
    model_data=("task", "failure"),
    bc=BCConfig(updates=1500),
    recovery_bc=BCConfig(updates=3000, lr=1e-3, decay=True),
    iql=IQLConfig(updates=1500),
    offline_ppo=OfflinePPOConfig(updates=0, starts=64),
    state_model=StateModelConfig(updates=1000, horizon=6),
    q_risk=QRiskConfig(updates=1500, value_updates=100),
    encoder=ENCODER,
    search=ThresholdSearchConfig(episodes=0),
    acceptance=AcceptanceConfig(rescues=1, episodes=2, num_envs=2, limit=1),
)
STEPS, METHODS = 2048, ("uni-o4", "farl")
LEADS = ((4, 10), (10, 20))
SAFE_FOR, GATED = 30, 0.1
DECISIONS = 300


class Stale(StateModel):
    """Predicts the plain numbers only; the code stays what it was when the gate was asked: context, not state."""

    def predict(self, z: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        plain = len(self.scale) - OFFLINE.encoder.code
        return torch.cat([super().predict(z, action)[:, :plain], self.decode(z)[:, plain:]], dim=-1)


def told(episodes: Sequence[Episode]) -> list[Episode]:
    """The same episodes as estimates show them: played again from their seeds."""
    env = gym.make(ID.rpartition(":")[2])
    replayed = []
    for episode in episodes:
        obs = [env.reset(seed=episode.seed)[0]]
        for action, reward in zip(episode.actions, episode.rewards, strict=True):
            following, again, *_ = env.step(action)
            assert np.float32(again) == reward
            obs.append(following)
        replayed.append(replace(episode, obs=np.stack(obs), layout=None))
    return replayed


def told_critics(data: Path, folder: Path, progress: Progress) -> dict[str, FailureCritic]:
    """Learned from estimates of where things are, with the bundle's settings."""
    torch.manual_seed(0)
    normalizer = Normalizer(len(FrankaFragilePushWall.fields))
    policy, q_risk = GaussianPolicy(normalizer, 2, OFFLINE.exploration_std), DoubleQ(normalizer, 2)
    model = StateModel(normalizer, 2, OFFLINE.state_model.hidden, OFFLINE.state_model.heads)
    networks = nn.ModuleDict({"normalizer": normalizer, "policy": policy, "q_risk": q_risk, "model": model})

    def learn() -> None:
        task, failure = (told(read_episodes(data / f"{name}.hdf5", "train")) for name in ("task", "failure"))
        held, episodes, generator = told(read_episodes(data / "task.hdf5", "valid")), [*task, *failure], torch.Generator()
        normalizer.fit(transitions(episodes, 1.0).obs)
        sets = transitions(task, 1.0), transitions(held, 1.0)
        clone(policy, *sets, OFFLINE.bc, generator.manual_seed(0), progress, "clone, told")
        train_q_risk(q_risk, policy, episodes, OFFLINE.q_risk, generator.manual_seed(0), progress, "Q-risk, told")
        fit(model, normalizer, episodes, progress)

    keep(folder / "told.pt", networks, learn)
    return {
        "estimates: world model, then Q-risk": ImaginedRisk(model, policy, OFFLINE.risk, later=q_risk),
        "estimates: Q-risk alone": QRisk(q_risk, normalizer),
    }


def seen_critics(data: Path, bundle: OfflineBundle, folder: Path, progress: Progress) -> dict[str, FailureCritic]:
    """The bundle's, and one whose model does not predict what the camera will see."""
    assert bundle.q_risk is not None
    torch.manual_seed(0)
    stale = Stale(bundle.normalizer, 2, OFFLINE.state_model.hidden, OFFLINE.state_model.heads)

    def learn() -> None:
        episodes = [e for name in ("task", "failure") for e in read_episodes(data / f"{name}.hdf5", "train")]
        fit(stale, bundle.normalizer, episodes, progress)

    keep(folder / "stale.pt", stale, learn)
    return {
        "points: world model, then Q-risk": ImaginedRisk(bundle.model, bundle.policy, bundle.risk, later=bundle.q_risk),
        "points: the code as context only": ImaginedRisk(stale, bundle.policy, bundle.risk, later=bundle.q_risk),
        "points: Q-risk alone": QRisk(bundle.q_risk, bundle.normalizer),
    }


def fit(model: StateModel, normalizer: Normalizer, episodes: list[Episode], progress: Progress) -> None:
    """A world model with the bundle's settings, in place."""
    cfg, scale = OFFLINE.state_model, OFFLINE.reward_scale
    sampler = WindowSampler(episodes, cfg.horizon, scale, cfg.onset_fraction, encode=normalizer.encode)
    data, generator = transitions(episodes, scale), torch.Generator().manual_seed(0)
    train_state_model(model, normalizer, sampler, data, cfg, generator, progress)


def keep(path: Path, networks: nn.Module, learn: Callable[[], None]) -> None:
    """Fill networks with what was kept of them, or learn and keep it."""
    if path.exists():
        networks.load_state_dict(torch.load(path, weights_only=True))
        return
    learn()
    buffer = io.BytesIO()
    torch.save(networks.state_dict(), buffer)
    write_bytes(path, buffer.getvalue())


def judged(name: str, scored: list[ScoredEpisode]) -> list[str]:
    """One line of the table."""
    rng = np.random.default_rng(0)
    whole = calibrate(scored, CalibrationConfig())
    drawn = [[scored[i] for i in rng.integers(len(scored), size=len(scored))] for _ in range(200)]
    low, high = np.nanquantile([calibrate(some, CalibrationConfig()).auroc for some in drawn], [0.05, 0.95])
    threshold = float(np.quantile(safe_risks(scored, SAFE_FOR), 1 - GATED))
    recalls = [1 - missed(warnings(scored, *leads), threshold) for leads in LEADS]
    return [name, f"{whole.auroc:.3f} ({low:.3f} to {high:.3f})", *(f"{100 * share:.0f} %" for share in recalls)]


def decision_times(critics: dict[str, tuple[FailureCritic, GaussianPolicy, torch.Tensor]]) -> list[list[str]]:
    """Processor time of one decision: propose, judge, recover; the critics in turn, one row at a time."""
    spent: dict[str, list[float]] = {name: [] for name in critics}
    for step in range(DECISIONS + 20):
        for name, (critic, policy, obs) in critics.items():
            at = step % len(obs)
            row, start = obs[at : at + 1], time.process_time()
            action = policy.act(row)
            critic.risk(row, action)
            policy.act(row)
            spent[name].append(1e3 * (time.process_time() - start))
    return [[name, *(f"{np.quantile(ms[20:], q):.1f}" for q in (0.5, 0.99))] for name, ms in spent.items()]


def look_times() -> list[str]:
    """Processor time of the camera's picture and of what makes points of it."""
    env = make(TASK)
    env.reset(seed=0)
    episode, ms = env.unwrapped._episode, []  # type: ignore[attr-defined]
    for step in range(DECISIONS):
        start = time.process_time()
        points.look(episode.model, episode.data, 0.001, [step])
        ms.append(1e3 * (time.process_time() - start))
    return ["render 128x96 pixels, crop, thin out", *(f"{np.quantile(ms, q):.1f}" for q in (0.5, 0.99))]


def sizes(folder: Path) -> str:
    """What the demonstrations take on disk."""
    counts = json.loads((folder / "demos.json").read_text())
    steps = sum(one["transitions"] for one in counts.values())
    megabytes = sum((folder / f"{name}.hdf5").stat().st_size for name in counts) / 1e6
    kept = "; ".join(f"{name} {one['transitions']:,} steps, {one['failures']} failures" for name, one in counts.items())
    return f"{kept}. Together {steps:,} steps in {megabytes:.1f} MB: {1e3 * megabytes / steps:.2f} kB a step."


def online_rows(out: Path) -> list[list[str]]:
    """What became of each short run."""
    rows = []
    for method in METHODS:
        lines = [json.loads(line) for line in (out / method / "episodes.jsonl").read_text().splitlines()]
        failed = sum(line["failed"] for line in lines)
        won = sum(line["outcome"] == "success" for line in lines)
        gated = sum(line["gated_steps"] for line in lines) / max(1, sum(line["length"] for line in lines))
        rows.append([method, str(len(lines)), str(failed), str(won), f"{100 * gated:.0f} %"])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("report", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = collect(replace(DEMOS, out=given.out / "demos"))
    train(replace(OFFLINE, data=data, out=given.out / "bundle"))
    bundle = OfflineBundle.load(given.out / "bundle", TASK)
    for method in METHODS:
        few: dict[str, Any] = {"num_envs": 8, "rollout_steps": 64, "ppo": PPOConfig(warmup=1), "evaluation_episodes": 0}
        run(OnlineConfig(TASK, given.out / "bundle", given.out / method, method, steps=STEPS, **few))
    write_text(given.report, report(given.out, data, bundle))
    return 0


def report(out: Path, data: Path, bundle: OfflineBundle) -> str:
    """The tables."""
    folder = out / "compared"
    progress = Progress(folder, "critics on the same episodes")
    held = read_episodes(data / "calibration.hdf5")
    estimates, camera = told_critics(data, folder, progress), seen_critics(data, bundle, folder, progress)
    known = told(held)
    rows = [judged(name, score(critic, known)) for name, critic in estimates.items()]
    rows += [judged(name, score(critic, held)) for name, critic in camera.items()]
    whole = {
        "estimates": (next(iter(estimates.values())), next(iter(estimates.values())).policy, known),  # type: ignore[attr-defined]
        "points": (model_critic(bundle, bundle.policy), bundle.policy, held),
    }
    timed = {
        name: (c, p, torch.from_numpy(np.concatenate([e.obs for e in some]))) for name, (c, p, some) in whole.items()
    }
    checks = json.loads((out / "bundle" / "acceptance.json").read_text())
    failing = sum(episode.failed for episode in held)
    return TEXT.format(
        held=f"{len(held)} episodes, {failing} of which fail",
        critics=markdown(("critic", "AUROC (90 %)", *(f"warned, lead {a}-{b}" for a, b in LEADS)), rows),
        times=markdown(("one decision", "median ms", "p99 ms"), [*decision_times(timed), look_times()]),
        online=markdown(("method", "episodes", "failures", "successes", "steps gated"), online_rows(out)),
        checks=markdown(("acceptance", "value", "target"), [[c["name"], c["value"], c["target"]] for c in checks]),
        sizes=sizes(data),
        versions=f"torch {torch.__version__}, Python {platform.python_version()}, one thread",
    )


TEXT = """# A gate that sees for itself

`python -m experiments.point_cloud runs/point_cloud results/point_cloud.md`, {versions}. Franka Fragile Push Wall on the twin,
observed as the arm's own numbers, the goal and 128 points of a depth camera with 1 mm of noise
([point clouds](../docs/point_cloud.md)); nobody says where box and wall are. One seed, at sizes far below the defaults (they stand
in the script): this shows that it works and what it costs, not how well it could do.

## Failures foreseen

Critics that learned from the same episodes with the same settings, on {held}, of a clone that explores. *Estimates* are what
`observe="state"` shows of them, without noise: where box and wall are, exactly. Warned: the largest risk in these steps before the
failure is above that of nine tenths of the safe steps (no failure within 30).

{critics}

## One decision

Processor time of proposing, judging (six imagined steps, then Q-risk) and recovering, one observation at a time, kinds in turn; the
machine was busy otherwise. A period at 10 Hz is 100 ms and a decision may take 30.

{times}

## Online

{steps:,} agent steps of each method from the same bundle, at its calibrated threshold.

{online}

## The bundle

{checks}

## Demonstrations

{sizes}
""".replace("{steps:,}", f"{STEPS:,}")


if __name__ == "__main__":
    raise SystemExit(main())
