"""Seconds of a PPO update beside Stable-Baselines3's, on the same networks, rollout and minibatches.

    make extras                            # installs Stable-Baselines3
    python -m experiments.benchmark_ppo    # writes results/benchmark_ppo.md

All take turns within one process and are measured in processor time, so the ratio means something on a machine that
others use too. *Autograd* is ours with the networks' gradients left to PyTorch (farl/networks/backprop.py writes them out),
*plain* that with PyTorch's own matrix product in place of oneDNN's as well.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO as TheirPPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn
from torch.optim import Optimizer

from farl.algorithms import ppo
from farl.algorithms.optimisation import descend
from farl.algorithms.ppo import PPO, PPOConfig
from farl.algorithms.rollout import Rollout
from farl.networks import linear
from farl.networks.backprop import Backprop
from farl.networks.mlp import MLP
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.networks.value import ValueFunction

OBS, ACT = 39, 4
CONFIG = PPOConfig(warmup=0, target_kl=float("inf"))
"""a run's own, past its warm-up; no epoch is left out, as none is of theirs"""


class Features(gymnasium.Env[np.ndarray, np.ndarray]):
    """Spaces alone: their networks read what ours read after the normaliser, so that they have the same sizes."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2 * OBS,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (ACT,), np.float32)


class Autograd:
    """What ``Backprop`` does, left to PyTorch."""

    def __init__(self, net: MLP, *others: nn.Parameter) -> None:
        self.net, self.parameters = net, [*net.parameters(), *others]

    def __call__(self, x: Tensor) -> Tensor:
        output: Tensor = self.net(x)
        return output

    def descend(self, loss: Tensor, optimizer: Optimizer, max_norm: float) -> None:
        descend(loss, optimizer, self.parameters, max_norm)


LEARNERS: dict[str, tuple[type, bool]] = {
    "ours": (Backprop, linear.AVAILABLE),
    "autograd": (Autograd, linear.AVAILABLE),
    "plain": (Autograd, False),
}
"""ours with and without its short cuts: how it differentiates, and whether it takes oneDNN's product"""


def ours() -> PPO:
    """As a run makes it."""
    normalizer = Normalizer(OBS)
    policy, value = GaussianPolicy(normalizer, ACT, 0.2), ValueFunction(normalizer)
    return PPO(policy, value, CONFIG, "proposed", torch.Generator().manual_seed(1))


def theirs(steps: int, envs: int) -> TheirPPO:
    """The same layers, activations, batch, epochs, rates and clips; the rest as it comes."""
    learner = TheirPPO(
        "MlpPolicy",
        DummyVecEnv([Features] * envs),
        learning_rate=CONFIG.lr,
        n_steps=steps,
        batch_size=CONFIG.batch,
        n_epochs=CONFIG.epochs,
        clip_range=CONFIG.clip,
        max_grad_norm=CONFIG.max_grad_norm,
        policy_kwargs={"net_arch": {"pi": [256] * 3, "vf": [256] * 2}, "activation_fn": torch.nn.ReLU},
        device="cpu",
    )
    learner.set_logger(Logger(None, []))
    return learner


def rollout_of(learner: PPO, steps: int, envs: int, generator: torch.Generator) -> Rollout:
    """Random observations and rewards, and what the policy does there."""
    policy, rollout = learner.policy, Rollout.empty(steps, envs, OBS, ACT)
    rollout.obs, rollout.next_obs = (torch.randn(steps, envs, OBS, generator=generator) for _ in range(2))
    rollout.reward = torch.randn(steps, envs, generator=generator)
    rollout.truncated[-1] = True
    with torch.no_grad():
        mean = policy(policy.normalizer(rollout.obs.flatten(0, 1)))
        action = policy.sample(mean, generator)
        log_prob = policy.log_prob(mean, action).view(steps, envs)
    rollout.proposed = rollout.executed = action.view(steps, envs, ACT)
    rollout.proposed_log_prob = rollout.executed_log_prob = log_prob
    return rollout


@torch.no_grad()
def fill(learner: TheirPPO, normalizer: Normalizer, rollout: Rollout) -> None:
    """Their buffer, from the same rollout."""
    buffer, begins = learner.rollout_buffer, np.zeros(rollout.reward.shape[1], np.float32)
    buffer.reset()
    for obs, reward in zip(rollout.obs, rollout.reward, strict=True):
        features = normalizer.features(normalizer(obs))
        action, value, log_prob = learner.policy(features)
        buffer.add(features.numpy(), action.numpy(), reward.numpy(), begins, value, log_prob)  # type: ignore[call-arg]
    buffer.compute_returns_and_advantage(value, np.ones_like(begins))  # type: ignore[call-arg]


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(steps: int, envs: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of an update of each, ``rounds`` times in turn, after two that warm up."""
    torch.manual_seed(0)
    generator, their = torch.Generator().manual_seed(0), theirs(steps, envs)
    learners = {name: ours() for name in LEARNERS}
    spent: dict[str, list[float]] = {name: [] for name in (*LEARNERS, "theirs")}
    for _ in range(rounds + 2):
        for name, learner in learners.items():
            rollout, (gradient, product) = rollout_of(learner, steps, envs, generator), LEARNERS[name]
            with patch.object(ppo, "Backprop", gradient), patch.object(linear, "AVAILABLE", product):
                spent[name].append(seconds(partial(learner.update, rollout, 0.1)))
        fill(their, learner.policy.normalizer, rollout)
        spent["theirs"].append(seconds(their.train))
    return {name: values[2:] for name, values in spent.items()}


def product_rates(rounds: int = 200) -> list[str]:
    """Rows of a table: what PyTorch's own product and oneDNN's reach on this machine, in units of 1e9 operations a second."""
    lines = []
    for rows, fan_in, fan_out in ((16, 256, 256), (64, 256, 256), (256, 78, 256), (256, 256, 256), (2048, 256, 256)):
        x, weight, bias = torch.randn(rows, fan_in), torch.randn(fan_out, fan_in), torch.randn(fan_out)
        both: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            both[0].append(seconds(partial(torch.nn.functional.linear, x, weight, bias)))
            both[1].append(seconds(partial(linear.linear, x, weight, bias)))
        own, other = (2e-9 * rows * fan_in * fan_out / median(values) for values in both)
        lines.append(f"| {rows} x {fan_in} x {fan_out} | {own:.0f} | {other:.0f} | {other / own:.2f} |")
    return lines


def report(spent: dict[str, list[float]], rates: list[str], steps: int, envs: int) -> str:
    """All of it, as markdown."""

    def ratio(one: str, other: str) -> str:
        values = [a / b for a, b in zip(spent[one], spent[other], strict=True)]
        low, high = np.quantile(values, [0.25, 0.75])
        return f"{median(values):.2f} ({low:.2f}-{high:.2f})"

    minibatches = CONFIG.epochs * -(-steps * envs // CONFIG.batch)
    names = {"ours": "ours", "autograd": "ours, autograd", "plain": "ours, plain", "theirs": "Stable-Baselines3"}
    rows = [
        f"| {label} | {median(spent[name]):.3f} | {1e3 * median(spent[name]) / minibatches:.2f} "
        f"| {steps * envs * CONFIG.epochs / median(spent[name]):,.0f} | {ratio('theirs', name)} |"
        for name, label in names.items()
    ]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "stable_baselines3", "numpy"))
    return (
        "\n".join(
            [
                "# Speed of the PPO update",
                "",
                "`make extras && python -m experiments.benchmark_ppo`",
                "",
                f"{packages}; Python {platform.python_version()}, {platform.machine()}, one thread; oneDNN's product "
                f"{'in use' if linear.AVAILABLE else 'not available'}; "
                f"load averages over the last 1, 5 and 15 minutes {load}, {os.cpu_count()} cores.",
                "",
                f"Rollouts of {steps} steps of {envs} environments, {CONFIG.epochs} epochs in minibatches of {CONFIG.batch}; "
                "policy 78-256-256-256-4, value function 78-256-256-1. Processor time, the four taking turns: medians, and "
                "ratios round by round (middle half in brackets). Target: Stable-Baselines3 / ours at least 1.5.",
                "",
                "*Autograd* leaves the networks' gradients to PyTorch, *plain* the matrix products as well. Ours stops by the "
                "divergence after each epoch, on 256 samples, and reports that of all; theirs reads it off the minibatches.",
                "",
                "| learner | update, s | a minibatch, ms | samples / s | Stable-Baselines3 / this |",
                "|---" * 5 + "|",
                *rows,
                "",
                "## Matrix products",
                "",
                "10^9 operations per second of processor time: `torch.nn.functional.linear` (MKL) and "
                "`farl.networks.linear.linear`, which takes oneDNN where that pays.",
                "",
                "| size | PyTorch's own | ours | ours / own |",
                "|---" * 4 + "|",
                *rates,
            ]
        )
        + "\n"
    )


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=128, help="of each environment")
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark_ppo.md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        rates = product_rates()
    table = report(measure(asked.steps, asked.envs, asked.rounds), rates, asked.steps, asked.envs)
    print(table)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(table)


if __name__ == "__main__":
    main()
