"""What Bounded Push's scripted experts achieve: success and failure rates, and what recovery saves how late.

OMP_NUM_THREADS=1 python experiments/experts_table.py
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

import failurebench
from failurebench.experts import CLOSED, Expert, Observation, Seen

TASKS = ("FailureBench/BoundedPush-v0", "FailureBench/BoundedPush-Hard-v0")
RATE_KINDS = ("task", "pusher", "failure")
NOISES = (0.0, 0.2)
SOURCES = (("pusher", 0.0), ("pusher", 0.2), ("failure", 0.0))
LEADS = (2, 3, 4, 5, 6, 8)
SAVED_AFTER = 30
"""agent steps without a violation after which a state counts as saved"""

TIPPED = 0.7
"""a puck whose axis is this cosine or less from upright rolls by itself"""

ENVS = 16
RESULT = Path("results/experts.md")


@dataclass
class Ended:
    """One finished episode."""

    success: bool
    failed: bool
    tipped: bool
    steps: int
    onset: int | None
    """step of the first failure"""


class Waiting(Expert):
    """Do nothing, the baseline of recovery."""

    def reset(self, rng: np.random.Generator) -> None:
        """No habits."""

    def act(self, obs: Observation) -> Observation:
        """Stay."""
        return np.array([0.0, 0.0, 0.0, CLOSED], np.float32)


class Rollouts:
    """Experts with white noise on their actions, one seed after the other."""

    def __init__(self, task: str, kind: str, noise: float, seeds: list[int], **kwargs: Any) -> None:
        self.envs = failurebench.make_vec(task, ENVS, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        self.experts = [self.envs.expert(kind) for _ in range(ENVS)]
        self.noise, self.seeds = noise, deque(seeds)
        self.rngs = [np.random.default_rng(0)] * ENVS
        self.observations, _ = self.envs.reset(seed=0)
        self.running = np.zeros(ENVS, bool)
        self.start(np.ones(ENVS, bool))

    def start(self, which: np.ndarray) -> None:
        """Begin the next seeds; with none left, an environment idles on an episode that does not count."""
        seeds: list[int | None] = [None] * ENVS
        for i in np.flatnonzero(which):
            self.running[i] = bool(self.seeds)
            seeds[i] = self.seeds.popleft() if self.seeds else 0
            self.rngs[i] = np.random.default_rng(1_000_000 + seeds[i])
            self.experts[i].reset(self.rngs[i])
        self.observations, _ = self.envs.reset(seed=seeds, options={"reset_mask": which})

    def step(self) -> tuple[np.ndarray, dict[str, Any]]:
        """One agent step of all; returns which episodes ended, and the infos."""
        actions = np.stack([expert.act(obs) for expert, obs in zip(self.experts, self.observations, strict=True)])
        actions += self.noise * np.stack([rng.standard_normal(4) for rng in self.rngs])
        self.observations, _, terminated, truncated, info = self.envs.step(actions)
        return terminated | truncated, info


def tipped(obs: np.ndarray) -> bool:
    """Whether the puck lies, or rolls on its rim."""
    return Seen.of(obs).upright < TIPPED


def rates(task: str, kind: str, noise: float, seeds: list[int]) -> list[Ended]:
    """Run every seed to the end of its episode."""
    rollouts = Rollouts(task, kind, noise, seeds)
    ended: list[Ended] = []
    episodes = [Ended(False, False, False, 0, None) for _ in range(ENVS)]
    while rollouts.running.any():
        done, info = rollouts.step()
        for i, episode in enumerate(episodes):
            episode.steps += 1
            episode.tipped |= tipped(rollouts.observations[i])
            episode.success |= bool(info["success"][i])
            if info["failure_onset"][i]:
                episode.failed, episode.onset = True, episode.steps
            if done[i]:
                if rollouts.running[i]:
                    ended.append(episode)
                episodes[i] = Ended(False, False, False, 0, None)
        if done.any():
            rollouts.start(done)
    return ended


def before_failures(task: str, kind: str, noise: float, count: int, seed: int) -> list[dict[int, dict[str, Any]]]:
    """States 2 to 8 agent steps before the first failures of ``count`` rollouts, by lead."""
    rollouts = Rollouts(task, kind, noise, list(range(seed, seed + 100_000)), max_episode_steps=250)
    recent: list[deque[dict[str, Any]]] = [deque(maxlen=max(LEADS)) for _ in range(ENVS)]
    found: list[dict[int, dict[str, Any]]] = []
    while len(found) < count:
        for history, state in zip(recent, rollouts.envs.get_states(), strict=True):
            history.append(state)
        done, info = rollouts.step()
        onset = info["failure_onset"]
        for i in np.flatnonzero(done | onset):
            if onset[i] and len(recent[i]) == max(LEADS):
                found.append({lead: recent[i][-lead] for lead in LEADS})
            recent[i].clear()
        if (done | onset).any():
            rollouts.start(done | onset)
    return found[:count]


def saved(task: str, states: list[dict[str, Any]], recovery: str | None) -> tuple[np.ndarray, np.ndarray]:
    """For each state: whether recovery avoids every violation, and whether the puck was tipped already."""
    envs = failurebench.make_vec(task, len(states), stop_on_success=False, max_episode_steps=10_000)
    experts = [envs.expert(recovery) if recovery else Waiting() for _ in states]
    for i, expert in enumerate(experts):
        expert.reset(np.random.default_rng(i))
    envs.set_states(states)
    obs = envs.observations()
    was_tipped = np.array([tipped(one) for one in obs])
    violated = np.zeros(len(states), bool)
    for _ in range(SAVED_AFTER):
        obs, *_, info = envs.step(np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)]))
        violated |= info["failure"]
    return ~violated, was_tipped


def rates_table(episodes: int) -> list[str]:
    """Success and failure of the acting experts."""
    lines = [f"## Rates over seeds 0-{episodes - 1}", ""]
    lines += [
        "| task | expert | action noise | success | failure | success without failure | puck tipped | steps to success | "
    ]
    lines[-1] += "steps to failure |"
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for task in TASKS:
        for kind in RATE_KINDS:
            for noise in NOISES:
                runs = rates(task, kind, noise, list(range(episodes)))
                lines.append(f"| {task.split('/')[1]} | {kind} | {noise} | {rates_row(runs)} |")
                print(lines[-1], flush=True)
    return lines


def rates_row(runs: list[Ended]) -> str:
    """The numbers of one line."""
    shares = [
        [run.success for run in runs],
        [run.failed for run in runs],
        [run.success and not run.failed for run in runs],
        [run.tipped for run in runs],
    ]
    durations = [[run.steps for run in runs if run.success], [run.onset for run in runs if run.onset is not None]]
    cells = [f"{np.mean(share):.3f}" for share in shares]
    return " | ".join(cells + [f"{median(steps):.0f}" if steps else "-" for steps in durations])


def recovery_table(task: str, states: int) -> list[str]:
    """What recovery saves, by how many agent steps before the failure it takes over."""
    lines = [
        f"## States of {task.split('/')[1]} saved by `recovery`",
        "",
        f"A state is saved if {SAVED_AFTER} agent steps follow without a violation. In brackets: doing nothing. The last column:",
        f"states of lead 5 whose puck is tipped (|cos| < {TIPPED}) before recovery begins; they are counted in the others.",
        "",
        "| rollouts of | states | " + " | ".join(f"lead {lead}" for lead in LEADS) + " | tipped at lead 5 |",
        "|---|---|" + "---|" * (len(LEADS) + 1),
    ]
    everything: list[dict[int, dict[str, Any]]] = []
    for number, (kind, noise) in enumerate(SOURCES):
        found = before_failures(task, kind, noise, states, seed=1000 * number)
        everything += found
        lines.append(f"| {kind}, noise {noise} | {states} | {recovery_row(task, found)} |")
        print(lines[-1], flush=True)
    lines.append(f"| all | {len(everything)} | {recovery_row(task, everything)} |")
    print(lines[-1], flush=True)
    return lines


def recovery_row(task: str, found: list[dict[int, dict[str, Any]]]) -> str:
    """The numbers of one line."""
    cells = []
    for lead in LEADS:
        at_lead = [states[lead] for states in found]
        kept, was_tipped = saved(task, at_lead, "recovery")
        waited, _ = saved(task, at_lead, None)
        cells.append(f"{kept.mean():.3f} ({waited.mean():.3f})")
        if lead == 5:
            at_five = f"{was_tipped.mean():.3f}"
    return " | ".join([*cells, at_five])


def main() -> None:
    """Measure, print, and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--states", type=int, default=80, help="states before failures, per kind of rollout")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    command = f"python experiments/experts_table.py --episodes {arguments.episodes} --states {arguments.states}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "metaworld", "gymnasium", "numpy"))
    head = ["# Scripted experts of Bounded Push", "", f"`{command}`", "", packages, ""]
    lines = [*head, *rates_table(arguments.episodes), "", *recovery_table(TASKS[1], arguments.states)]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
