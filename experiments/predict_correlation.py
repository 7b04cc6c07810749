"""How well imagined episodes rank real policies: checkpoints of online runs and early clones, predicted and played.

    OMP_NUM_THREADS=1 python -m experiments.predict_correlation BUNDLE [BUNDLE ...] --work studies/predict

For each bundle: clones stopped early and Uni-O4 runs at three learning rates (``RUNS``), a checkpoint every so often; each is
played ``EPISODES`` times under exploration noise on the same seeds, then predicted in several ways (``ways``). Policies and
episodes are kept in the work folder, so a second call only predicts. Writes results/predict.md and results/predict.csv.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr
from torch import Tensor

from farl.algorithms.behaviour_cloning import BCConfig, clone
from farl.algorithms.imagined_evaluation import ImaginedEvaluation, Starts, evaluation_from
from farl.algorithms.ppo import PPOConfig
from farl.algorithms.success_head import SuccessHead
from farl.data.batches import transitions
from farl.data.episode_store import read_episodes
from farl.environments import make_vector
from farl.files import write_atomically, write_text
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.offline.collecting import Collector, ExploringPolicy
from farl.online.provenance import git_commit, versions
from farl.online.run import OnlineConfig, Session
from farl.predict import data_of
from farl.progress import Progress
from farl.seeds import Purpose, episode_seeds
from farl.types import Episode

CLONES = (100, 250, 500, 1000, 2500)
"""updates after which cloning is stopped"""
RUNS = {
    "1e-4": PPOConfig(lr=1e-4, clip=0.1),
    "2e-5": PPOConfig(lr=2e-5, clip=0.05),
    "3e-4": PPOConfig(lr=3e-4, clip=0.2),
}
EPISODES = 192
STARTS = 256
GAMMA = 0.99
RESAMPLES = 2000
RESULTS = Path("results")

Weights = dict[str, Tensor]
Floats = NDArray[np.float64]
Predict = Callable[[GaussianPolicy], tuple[float, float]]
"""expected return (in any unit) and failure rate of a policy"""


@dataclass(frozen=True)
class Played:
    """Real episodes of one policy; a success is held until the task's time-out."""

    returned: Floats
    failed: Floats
    succeeded: Floats


@dataclass(frozen=True)
class Bench:
    """One bundle, its demonstrations, and where its policies and episodes are kept."""

    bundle: OfflineBundle
    folder: Path
    data: Path
    work: Path
    steps: int
    every: int
    """iterations between two checkpoints"""


def checkpoints(bench: Bench) -> dict[str, Weights]:
    """The policies by name."""
    path = bench.work / "policies.pt"
    if not path.exists():
        policies = {"bundle": copy.deepcopy(bench.bundle.policy.state_dict()), **_clones(bench)}
        for name, ppo in RUNS.items():
            policies |= _run(bench, name, ppo)
        write_atomically(path, lambda temporary: torch.save(policies, temporary))
    loaded: dict[str, Weights] = torch.load(path, weights_only=True)
    return loaded


def _clones(bench: Bench) -> dict[str, Weights]:
    scale, file = bench.bundle.reward_scale, bench.data / "task.hdf5"
    train, held_out = (transitions(read_episodes(file, split), scale) for split in ("train", "valid"))
    policies = {}
    for updates in CLONES:
        torch.manual_seed(0)
        policy = copy.deepcopy(bench.bundle.policy)
        for layer in policy.net:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
        config = BCConfig(updates=updates, check_every=updates // 4)
        clone(policy, train, held_out, config, torch.Generator().manual_seed(0), Progress(None, ""))
        policies[f"clone, {updates} updates"] = policy.state_dict()
    return policies


def _run(bench: Bench, name: str, ppo: PPOConfig) -> dict[str, Weights]:
    config = OnlineConfig(
        task=bench.bundle.task,
        bundle=bench.folder,
        out=bench.work / f"lr-{name}",
        method="uni-o4",
        seed=5,
        steps=bench.steps,
        ppo=ppo,
        evaluation_episodes=0,
    )
    policies = {}
    with Session(config) as session:
        while session.actor.steps < config.steps:
            session.hand_over(session.collect())
            session.take_updates()
            if session.handed_over % bench.every == 0:
                policies[f"lr {name}, {session.actor.steps} steps"] = copy.deepcopy(session.policy.state_dict())
    return policies


def play(bench: Bench, policies: dict[str, Weights]) -> dict[str, Played]:
    """``EPISODES`` real episodes of each policy, the same seeds for all."""
    path = bench.work / "real.pt"
    rows: dict[str, Tensor] = torch.load(path, weights_only=True) if path.exists() else {}
    envs = make_vector(bench.bundle.task, 16)
    policy = copy.deepcopy(bench.bundle.policy)
    for name, weights in policies.items():
        if name not in rows:
            policy.load_state_dict(weights)
            agent = ExploringPolicy(policy, float(policy.std.detach().mean()), seed=3)
            wanted = set(itertools.islice(episode_seeds(Purpose.EVALUATION, 7), EPISODES))
            collected = []
            for episode in Collector(envs, bench.bundle.task).episodes(agent, episode_seeds(Purpose.EVALUATION, 7), ""):
                if episode.seed in wanted:  # others are begun while the last of these run on
                    wanted.remove(episode.seed)
                    collected.append(episode)
                if not wanted:
                    break
            rows[name] = torch.tensor([_facts(e) for e in collected], dtype=torch.float64)
            write_atomically(path, lambda temporary: torch.save(rows, temporary))
            print(name, rows[name].mean(0).tolist(), flush=True)
    envs.close()
    limit = max(row[:, 1].max().item() for row in rows.values())
    return {name: _held(row.numpy(), limit) for name, row in rows.items()}


def _facts(episode: Episode) -> tuple[float, float, float, float, float]:
    success = float(episode.outcome == "success")
    return float(episode.rewards.sum()), float(len(episode)), float(episode.rewards[-1]), float(episode.failed), success


def _held(rows: Floats, limit: float) -> Played:
    returned, length, last, failed, succeeded = rows.T
    return Played(returned + succeeded * (limit - length) * last, failed, succeeded)


def ways(bench: Bench) -> dict[str, Predict]:
    """Ways to predict, by name; the first is the one that ``farl predict`` and offline PPO use."""
    b, calibration = bench.bundle, bench.bundle.calibration
    assert calibration is not None
    episodes = [e for name in ("task", "failure") for e in read_episodes(bench.data / f"{name}.hdf5")]
    data = transitions(episodes, b.reward_scale)
    whole = evaluation_from(
        episodes,
        b.model,
        b.normalizer,
        b.reward_scale,
        starts=STARTS,
        scale=calibration.scale,
        shift=calibration.shift,
    )
    generator = torch.Generator().manual_seed(0)
    along = data.obs[torch.randint(len(data), (2 * STARTS,), generator=generator)]
    found: dict[str, Predict] = {"whole episodes": _by(whole)}
    for horizon in (10, 25, 50, 100):
        found[f"first {horizon} steps"] = _by(_varied(whole, starts=replace(whole.starts, horizon=horizon)))
    found["first 50 steps, then V"] = lambda policy: (_bootstrapped(b, whole, policy, 50), float("nan"))
    found["10 steps from states along the data"] = _by(_varied(whole, starts=Starts(along, 10)))
    found["mean Q over those, mean action (AM-Q)"] = lambda policy: (_mean_q(b, along, policy, 10), float("nan"))
    found["whole, mean action"] = _by(_varied(whole, noise=False))
    found["whole, heads as trained"] = _by(_varied(whole, scale=1.0, shift=0.0))
    found["whole, success unseen"] = _by(_varied(whole, success=SuccessHead(b.normalizer)))
    return found


def _varied(evaluation: ImaginedEvaluation, **changes: Any) -> ImaginedEvaluation:
    other = copy.copy(evaluation)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def _by(evaluation: ImaginedEvaluation) -> Predict:
    def predict(policy: GaussianPolicy) -> tuple[float, float]:
        played = evaluation.play(policy)
        return float(played.returned.mean()), float(played.failed.mean())

    return predict


@torch.no_grad()
def _bootstrapped(b: OfflineBundle, evaluation: ImaginedEvaluation, policy: GaussianPolicy, horizon: int) -> float:
    """Discounted return of a shorter rollout that the value function finishes; a success is worth r / (1 - gamma)."""
    z, generator = b.model.encode(policy.normalizer(evaluation.starts.obs)), torch.Generator().manual_seed(0)
    total, running = torch.zeros(len(z)), torch.ones(len(z))
    for step in range(horizon):
        action = policy.sample(policy(b.model.decode(z)), generator).clamp(-1, 1)
        reward = b.model.reward(z, action)
        z, _ = b.model.step(z, action)
        succeeds = evaluation.success(b.model.decode(z))
        total += GAMMA**step * running * torch.lerp(reward, evaluation.success.reward / (1 - GAMMA), succeeds)
        running = running * (1 - succeeds)
    return float((total + GAMMA**horizon * running * b.value(b.model.decode(z))).mean())


@torch.no_grad()
def _mean_q(b: OfflineBundle, obs: Tensor, policy: GaussianPolicy, horizon: int) -> float:
    """Uni-O4's off-policy evaluation."""
    z, total = b.model.encode(policy.normalizer(obs)), 0.0
    for _ in range(horizon):
        x = b.model.decode(z)
        action = policy(x).clamp(-1, 1)
        total += float(b.q.smaller(x, action).mean()) / horizon
        z, _ = b.model.step(z, action)
    return total


@dataclass(frozen=True)
class Agreement:
    """How a prediction orders policies, beside how they really are."""

    spearman: float
    interval: tuple[float, float]
    """95 %, policies and their real episodes drawn again with replacement"""
    kendall: float
    pairs: int
    """pairs whose real means differ by more than 1.96 standard errors"""
    ordered: float
    """share of those that are ordered rightly"""


def agreement(predicted: Floats, real: list[Floats]) -> Agreement | None:
    """None where nothing was predicted."""
    if not np.isfinite(predicted).all():
        return None
    mean, error = (np.array([f(r) for r in real]) for f in (np.mean, lambda r: r.std(ddof=1) / len(r) ** 0.5))
    low, high = np.nanquantile(_resampled(predicted, real), (0.025, 0.975))
    i, j = np.triu_indices(len(real), 1)
    differ = np.abs(mean[i] - mean[j]) > 1.96 * np.hypot(error[i], error[j])
    right = (predicted[i] - predicted[j]) * (mean[i] - mean[j]) > 0
    rho, tau = spearmanr(predicted, mean)[0], kendalltau(predicted, mean)[0]
    return Agreement(float(rho), (float(low), float(high)), float(tau), int(differ.sum()), float(right[differ].mean()))


def _resampled(predicted: Floats, real: list[Floats]) -> Floats:
    """Spearman's coefficient of ``RESAMPLES`` draws of policies, and of the episodes of each."""
    rng = np.random.default_rng(0)
    means = np.stack([row[rng.integers(len(row), size=(RESAMPLES, len(row)))].mean(1) for row in real], axis=1)
    chosen = rng.integers(len(real), size=means.shape)
    ranks = [rankdata(values, axis=1) for values in (predicted[chosen], np.take_along_axis(means, chosen, axis=1))]
    one, other = (r - r.mean(1, keepdims=True) for r in ranks)
    coefficients: Floats = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return coefficients


def report(bench: Bench) -> tuple[str, list[dict[str, Any]]]:
    """The section of one bundle, and a row for each of its policies."""
    policies = checkpoints(bench)
    real = play(bench, policies)
    policy, found = copy.deepcopy(bench.bundle.policy), ways(bench)
    predicted: dict[str, list[tuple[float, float]]] = {way: [] for way in found}
    for weights in policies.values():
        policy.load_state_dict(weights)
        for way, predict in found.items():
            predicted[way].append(predict(policy))
    rows = [_row(bench, name, real[name], predicted["whole episodes"][i]) for i, name in enumerate(policies)]
    lines = [
        f"## {bench.bundle.task.name}, {bench.bundle.shape.model} model",
        "",
        f"{len(policies)} policies, runs of {bench.steps:,} agent steps (`--steps {bench.steps} --every {bench.every}`); "
        f"{EPISODES} real episodes of each, {STARTS} imagined ones.",
        "",
        "| predicted by | return: Spearman | Kendall | pairs in order | failure rate: Spearman | Kendall | pairs in order |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, pairs in predicted.items():
        cells = []
        for column, truth in enumerate(("returned", "failed")):
            values = np.array([pair[column] for pair in pairs])
            cells += _cells(agreement(values, [getattr(real[name], truth) for name in policies]))
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_policies_table(rows), ""]), rows


def _cells(found: Agreement | None) -> list[str]:
    if found is None:
        return ["", "", ""]
    low, high = found.interval
    return [
        f"{found.spearman:.2f} ({low:.2f} to {high:.2f})",
        f"{found.kendall:.2f}",
        f"{100 * found.ordered:.0f} % of {found.pairs}",
    ]


def _row(bench: Bench, name: str, real: Played, predicted: tuple[float, float]) -> dict[str, Any]:
    count = len(real.failed)
    return {
        "task": bench.bundle.task.id,
        "model": bench.bundle.shape.model,
        "policy": name,
        "episodes": count,
        "real_return": round(float(real.returned.mean()), 1),
        "real_return_error": round(float(real.returned.std(ddof=1) / count**0.5), 1),
        "real_failure_rate": round(float(real.failed.mean()), 4),
        "real_failure_rate_error": round(float(real.failed.std(ddof=1) / count**0.5), 4),
        "real_success_rate": round(float(real.succeeded.mean()), 4),
        "predicted_return": round(predicted[0], 1),
        "predicted_failure_rate": round(predicted[1], 4),
        "commit": git_commit(),
    }


def _policies_table(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "| policy | real return | predicted | real failure rate | predicted | real success rate |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['policy']} | {r['real_return']:.0f} +- {r['real_return_error']:.0f} | {r['predicted_return']:.0f} | "
            f"{r['real_failure_rate']:.3f} +- {r['real_failure_rate_error']:.3f} | {r['predicted_failure_rate']:.3f} | "
            f"{r['real_success_rate']:.2f} |"
            for r in rows
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, default=Path("studies/predict"))
    parser.add_argument("--steps", type=int, default=98304, help="agent steps of each run")
    parser.add_argument("--every", type=int, default=8, help="iterations between two checkpoints")
    chosen = parser.parse_args()
    sections, rows = [], []
    for folder in chosen.bundles:
        bundle = OfflineBundle.load(folder)
        work = chosen.work / f"{bundle.task.name}-{bundle.shape.model}"
        section, found = report(Bench(bundle, folder, data_of(folder), work, chosen.steps, chosen.every))
        sections.append(section)
        rows += found
    write_text(RESULTS / "predict.md", "\n".join([_head(), *sections]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(RESULTS / "predict.csv", text.getvalue())


def _head() -> str:
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"""# Predicted beside real

```sh
python -m experiments.predict_correlation BUNDLE ...
```

{installed}; commit {git_commit()}.

Policies of one bundle: its own, clones stopped early, and checkpoints of Uni-O4 runs from it at three learning rates. Each
is played on the same {EPISODES} seeds under exploration noise (an episode ends on success, which is then counted as held to
the time-out), and predicted in several ways, of which the first is `farl predict`; [the page](../docs/predict.md) explains.
Intervals: 95 % by bootstrap over policies and their episodes; checkpoints of one run resemble each other, so they are
rather too narrow. *Pairs in order*: of the pairs of policies whose real means differ by more than 1.96 standard errors, the
share that the prediction orders rightly.
"""


if __name__ == "__main__":
    main()
