"""What the gate costs beside the environment it guards, and how that grows.

    python -m experiments.benchmark_gate BUNDLE [--rounds 40] [--output results/benchmark_gate.md]

Everything that is compared takes turns within one process and is measured in processor time, so the ratios mean something
on a machine that others use too. *Plain* is the same computation without its two short cuts: PyTorch's own matrix product
in place of oneDNN's, and the failure heads asked once a step instead of once for all steps.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.cost_curves import draw
from farl.algorithms.gate import GateConfig
from farl.algorithms.risk import ImaginedRisk, RiskConfig
from farl.algorithms.router import Router
from farl.environments import make_vector, reset_where
from farl.methods import ControlsConfig, Parts, find
from farl.networks import linear
from farl.networks.state_model import StateModel
from farl.offline.bundle import OfflineBundle

SIZES = (1, 4, 16, 64, 128)
CURVES: dict[str, tuple[int, ...]] = {
    "horizon": (0, 2, 5, 10, 15, 20),
    "particles": (1, 2, 4, 8),
    "heads": (1, 3, 5, 9),
    "environments": (1, 4, 16, 64, 256),
    "tail": (0, 1),
}
DEFAULTS = {"horizon": RiskConfig.horizon, "particles": RiskConfig.particles, "heads": 3, "environments": 64, "tail": 1}


class Stepwise:
    """A model that hides that its heads could judge all steps together."""

    def __init__(self, model: StateModel) -> None:
        self.encode, self.decode, self.step, self.reward = model.encode, model.decode, model.step, model.reward


@contextmanager
def plain(critic: ImaginedRisk) -> Iterator[None]:
    """``critic`` without its short cuts."""
    model, available = critic.model, linear.AVAILABLE
    critic.model, linear.AVAILABLE = Stepwise(model), False  # type: ignore[assignment, arg-type]
    try:
        yield
    finally:
        critic.model, linear.AVAILABLE = model, available


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[Any, float]:
    """What ``call`` gives, and how long it took."""
    start = clock()
    return call(), clock() - start


class Loop:
    """Environments under the gate of the method farl, as a run has them."""

    def __init__(self, bundle: OfflineBundle, count: int) -> None:
        self.policy, self.envs = bundle.policy, make_vector(bundle.task, count)
        gate, controls, own = GateConfig(), ControlsConfig(), torch.Generator().manual_seed(0)
        router = find("farl").router(Parts(bundle, bundle.policy, self.envs, gate, controls, own))
        assert isinstance(router, Router)
        assert isinstance(router.critic, ImaginedRisk)
        self.router, self.critic, self.threshold = router, router.critic, router.gate.threshold
        self.explore, self.begun = torch.Generator().manual_seed(0), count
        self.obs = np.array(self.envs.reset(seed=list(range(count)))[0], dtype=np.float32)

    def step(self) -> dict[str, float]:
        """One agent step of all environments: seconds of each part, and how the two formulations differ."""
        obs = torch.from_numpy(self.obs)
        proposed = self.policy.sample(self.policy.act(obs), self.explore)
        with plain(self.critic):
            expected, before = timed(lambda: self.critic.risk(obs, proposed))
        decision, gate = timed(lambda: self.router.decide(obs, proposed))
        action = decision.executed.clamp(-1, 1).numpy()
        (following, _, terminated, truncated, _), env = timed(lambda: self.envs.step(action))
        self.obs = np.array(following, dtype=np.float32)
        self._begin(terminated | truncated)
        return {
            "env": env,
            "gate": gate,
            "plain": before,
            "difference": float((decision.risk - expected).abs().max()),
            "disagree": float(((decision.risk > self.threshold) != (expected > self.threshold)).sum()),
        }

    def _begin(self, ended: np.ndarray) -> None:
        if ended.any():
            seeds = [self.begun + i for i in range(len(ended))]
            self.begun += len(ended)
            self.obs[ended] = reset_where(self.envs, ended, seeds)[0][ended]
            self.router.reset(torch.from_numpy(ended))


def beside_environment(bundle: OfflineBundle, sizes: tuple[int, ...], rounds: int) -> dict[int, list[dict[str, float]]]:
    """``rounds`` steps of each number of environments, after some that warm up."""
    result = {}
    for size in sizes:
        loop = Loop(bundle, size)
        steps = [loop.step() for _ in range(rounds + 10)]
        loop.envs.close()
        result[size] = steps[10:]
    return result


def single_decisions(bundle: OfflineBundle, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of ``count`` decisions for one environment: of the processor, and on the wall's clock."""
    loop = Loop(bundle, 1)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(count + 50):
        obs = torch.from_numpy(loop.obs)
        proposed = loop.policy.sample(loop.policy.act(obs), loop.explore)
        (decision, processor), wall = timed(
            lambda o=obs, p=proposed: timed(lambda: loop.router.decide(o, p)), time.perf_counter
        )
        following, _, terminated, truncated, _ = loop.envs.step(decision.executed.clamp(-1, 1).numpy())
        loop.obs = np.array(following, dtype=np.float32)
        loop._begin(terminated | truncated)
        spent[0].append(1e3 * processor)
        spent[1].append(1e3 * wall)
    loop.envs.close()
    return spent[0][50:], spent[1][50:]


# --- cost curves ------------------------------------------------------------------------------------------------------


class Live(TorchDispatchMode):
    """The most bytes that tensors made under it took at any one time (torch.profiler's memory events say the same)."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: dict[int, int] = {}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)}
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor):
                self._own(tensor, given)
        return outputs

    def _own(self, tensor: Tensor, given: set[int]) -> None:
        where, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        if where not in self.owners:
            if where in given:  # a view of what was there before
                return
            self.owners[where], self.bytes = 0, self.bytes + size
            self.peak = max(self.peak, self.bytes)
        self.owners[where] += 1
        weakref.finalize(tensor, self._free, where, size)

    def _free(self, where: int, size: int) -> None:
        self.owners[where] -= 1
        if not self.owners[where]:
            del self.owners[where]
            self.bytes -= size


def critic_of(bundle: OfflineBundle, setting: dict[str, int]) -> ImaginedRisk:
    """The gate's critic with these settings; another number of heads means an untrained model of the same size."""
    model = bundle.model
    if setting["heads"] != DEFAULTS["heads"]:
        options = {**bundle.shape.model_options, "heads": setting["heads"]}
        options["hidden"] = tuple(options.get("hidden", (256, 256)))
        model = StateModel(bundle.normalizer, bundle.shape.act_dim, **options)
    risk = replace(RiskConfig(), horizon=setting["horizon"], particles=setting["particles"])
    scale, shift = (bundle.calibration.scale, bundle.calibration.shift) if bundle.calibration else (1.0, 0.0)
    later = bundle.q_risk if setting["tail"] else None
    return ImaginedRisk(model, bundle.policy, risk, scale, shift, later=later)


def cost_curves(bundle: OfflineBundle, obs: Tensor, rounds: int) -> list[dict[str, float | str]]:
    """A row per point of every curve: milliseconds of a decision, and the most memory it takes beside the weights."""
    points = [(name, {**DEFAULTS, name: value}) for name, values in CURVES.items() for value in values]
    critics = [critic_of(bundle, setting) for _, setting in points]
    rows = [obs[torch.arange(setting["environments"]) % len(obs)] for _, setting in points]
    actions = [bundle.policy.act(one) for one in rows]
    seconds: list[list[float]] = [[] for _ in points]
    for _ in range(rounds):
        for spent, critic, row, action in zip(seconds, critics, rows, actions, strict=True):
            spent.append(timed(lambda c=critic, r=row, a=action: c.risk(r, a))[1])
    table = []
    for (name, setting), spent, critic, row, action in zip(points, seconds, critics, rows, actions, strict=True):
        with Live() as live:
            critic.risk(row, action)
        nets = (critic.model, bundle.policy, *filter(None, [critic.later]))
        weights = sum(p.numel() * 4 for net in nets for p in net.parameters())  # type: ignore[attr-defined]
        table.append(
            {
                "curve": name,
                **setting,
                "ms": round(1e3 * median(spent), 3),
                "us_per_row": round(1e6 * median(spent) / setting["environments"], 1),
                "working_kb": round(live.peak / 1e3, 1),
                "weights_kb": round(weights / 1e3, 1),
            }
        )
    return table


# --- the report -------------------------------------------------------------------------------------------------------


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and the middle half."""
    low, high = np.quantile(values, [0.25, 0.75])
    return f"{median(values):{form}} ({low:{form}}-{high:{form}})"


def beside_table(results: dict[int, list[dict[str, float]]]) -> list[str]:
    lines = [
        "| environments | environment, μs | gate, μs | plain, μs | gate / environment | plain / environment | plain / gate "
        "| largest difference in risk | decisions that differ |",
        "|---" * 9 + "|",
    ]
    for size, steps in results.items():
        cells = [f"{1e6 * median(s[name] for s in steps) / size:.0f}" for name in ("env", "gate", "plain")]
        for one, other in (("gate", "env"), ("plain", "env"), ("plain", "gate")):
            cells.append(spread([s[one] / s[other] for s in steps]))
        cells.append(f"{max(s['difference'] for s in steps):.1g}")
        cells.append(f"{sum(s['disagree'] for s in steps):.0f} of {size * len(steps)}")
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return lines


def report(
    task: str,
    beside: dict[int, list[dict[str, float]]],
    single: tuple[list[float], list[float]],
    curves: list[dict[str, Any]],
    figure: str,
) -> str:
    """All of it, as markdown."""
    processor, wall = single
    columns = ["curve", *DEFAULTS, "ms", "us_per_row", "working_kb"]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mujoco", "numpy"))
    lines = [
        "# Speed of the gate",
        "",
        f"`python -m experiments.benchmark_gate BUNDLE`, with a bundle of {task} at its default settings",
        "",
        f"{packages}; Python {platform.python_version()}, {platform.machine()}, one thread; oneDNN's product "
        f"{'in use' if linear.AVAILABLE else 'not available'}; "
        f"load averages over the last 1, 5 and 15 minutes {load}, {os.cpu_count()} cores.",
        "",
        "## Beside the environment",
        "",
        "Microseconds of processor time for one agent step of one environment, the two sides taking turns at every step: "
        "medians, and ratios step by step (middle half in brackets). *Plain* asks the failure heads at every imagined step, "
        "through PyTorch's own product. Target: *gate / environment* at most 0.50 at 64 environments.",
        "",
        *beside_table(beside),
        "",
        "Between *gate* and *plain* nothing is traded: every row is looked ahead in full, in the same precision, so recall is the "
        "same. The last two columns are the check: how far the risks are apart, and whether the threshold ever falls between "
        "them. What a shorter or longer look-ahead with or without Q-risk after it catches, and takes, is in "
        "[the method](../docs/method.md#risk).",
        "",
        "## One decision",
        "",
        f"{len(wall)} decisions for a single environment, milliseconds: of the processor median {median(processor):.2f}, p99 "
        f"{np.quantile(processor, 0.99):.2f}; on the wall's clock median {median(wall):.2f}, p99 {np.quantile(wall, 0.99):.2f} "
        "(others' use of the cores included). Target: p99 below 10 ms.",
        "",
        "## Cost curves",
        "",
        "One setting changes, the others stay at their defaults. *ms*: processor time of the risks of all rows, median; "
        "*working_kb*: the most memory that what it computes takes at once, beside the weights of model, task policy and Q-risk "
        f"({curves[0]['weights_kb']:.0f} kB). *tail* 0 leaves out the Q-risk of what comes after the horizon.",
        "",
        f"![Time and memory of a decision against its settings]({figure})",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
        *(f"| {' | '.join(str(row[c]) for c in columns)} |" for row in curves),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder made by `farl offline`")
    parser.add_argument("--rounds", type=int, default=60, help="agent steps of each number of environments")
    parser.add_argument("--decisions", type=int, default=1000, help="for a single environment")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of environments")
    parser.add_argument("--output", type=Path, default=Path("results/benchmark_gate.md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        bundle = OfflineBundle.load(asked.bundle)
        loop = Loop(bundle, 64)
        for _ in range(20):
            loop.step()
        curves = cost_curves(bundle, torch.from_numpy(loop.obs), asked.rounds)
        single = single_decisions(bundle, asked.decisions)
        beside = beside_environment(bundle, tuple(asked.sizes), asked.rounds)
    figure = asked.output.with_suffix(".png")
    tables = report(bundle.task.id, beside, single, curves, figure.name)
    print(tables)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(tables)
    with asked.output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(curves[0]))
        writer.writeheader()
        writer.writerows(curves)
    draw(curves, DEFAULTS, figure)


if __name__ == "__main__":
    main()
