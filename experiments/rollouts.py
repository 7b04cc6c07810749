"""Scripted experts under exploration noise, sixteen episodes at a time, and the states that lead to their failures."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import failurebench
from failurebench.episode import OBS
from failurebench.experts import CLOSED, OPEN, Seen

ENVS = 16

TIPPED = 0.7
"""an object whose axis is this cosine or less from upright rolls by itself"""

SAVED_AFTER = 30
"""agent steps without a violation after which a state counts as saved"""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Noise:
    """What is added to an expert's action."""

    sigma: float
    """standard deviation of each action component"""

    correlation: float = 0.0
    """of successive steps; 0 is white noise, otherwise an Ornstein-Uhlenbeck process"""

    def __str__(self) -> str:
        if self.sigma == 0.0:
            return "0"
        return f"OU {self.sigma}" if self.correlation else f"{self.sigma}"


@dataclass
class Ended:
    """One finished episode."""

    success: bool = False
    failed: bool = False
    tipped: bool = False
    steps: int = 0
    onset: int | None = None
    """step of the first failure"""

    returned: float = 0.0
    """sum of rewards"""


class Rollouts:
    """A kind of behaviour, one seed after the other. ``kind`` is an expert's, or ``random``."""

    def __init__(self, task: str, kind: str, noise: Noise, seeds: Iterator[int], **kwargs: Any) -> None:
        self.envs = failurebench.make_vec(task, ENVS, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        self.experts = None if kind == "random" else [self.envs.expert(kind) for _ in range(ENVS)]
        self.noise, self.seeds = noise, seeds
        self.rngs = [np.random.default_rng(0)] * ENVS
        self.size = self.envs.single_action_space.shape[0]
        self.drift = np.zeros((ENVS, self.size))
        self.observations, _ = self.envs.reset(seed=0)
        self.running = np.zeros(ENVS, bool)
        self.start(np.ones(ENVS, bool))

    def start(self, which: NDArray[np.bool_]) -> None:
        """Begin the next seeds; with none left, an environment idles on an episode that does not count."""
        seeds: list[int | None] = [None] * ENVS
        for i in np.flatnonzero(which):
            seed = next(self.seeds, None)
            self.running[i] = seed is not None
            seeds[i] = seed or 0
            self.rngs[i] = np.random.default_rng(1_000_000 + (seed or 0))
            self.drift[i] = 0.0
            if self.experts is not None:
                self.experts[i].reset(self.rngs[i])
        self.observations, _ = self.envs.reset(seed=seeds, options={"reset_mask": which})

    def step(self) -> tuple[NDArray[np.bool_], NDArray[np.float64], dict[str, Any]]:
        """One agent step of all; returns which episodes ended, the rewards, and the infos."""
        if self.experts is None:
            actions = np.stack([rng.uniform(-1, 1, self.size) for rng in self.rngs])
        else:
            actions = np.stack([expert.act(obs) for expert, obs in zip(self.experts, self.observations, strict=True)])
        rho = self.noise.correlation
        fresh = np.stack([rng.standard_normal(self.size) for rng in self.rngs])
        self.drift = rho * self.drift + np.sqrt(1 - rho * rho) * fresh
        actions = (actions + self.noise.sigma * self.drift).astype(np.float32)
        self.observations, rewards, terminated, truncated, info = self.envs.step(actions)
        return terminated | truncated, rewards, info


def episodes(task: str, kind: str, noise: Noise, count: int) -> list[Ended]:
    """The episodes of seeds 0 to ``count`` - 1, each to its end."""
    rollouts = Rollouts(task, kind, noise, iter(range(count)))
    ended: list[Ended] = []
    current = [Ended() for _ in range(ENVS)]
    while rollouts.running.any():
        done, rewards, info = rollouts.step()
        for i, episode in enumerate(current):
            episode.steps += 1
            episode.returned += float(rewards[i])
            episode.tipped |= tipped(rollouts.observations[i])
            episode.success |= bool(info["success"][i])
            if info["failure_onset"][i]:
                episode.failed, episode.onset = True, episode.steps
            if done[i]:
                if rollouts.running[i]:
                    ended.append(episode)
                current[i] = Ended()
        if done.any():
            rollouts.start(done)
    return ended


def tipped(obs: Floats) -> bool:
    """Whether the object lies, or rolls on its rim; what a Franka pushes is too low to tip."""
    return len(obs) == OBS and Seen.of(obs).upright < TIPPED


def before_failures(task: str, kind: str, noise: Noise, count: int, lead: int, seed: int) -> list[dict[str, Any]]:
    """States ``lead`` agent steps before the first failures of ``count`` episodes, as ``get_states`` gives them."""
    rollouts = Rollouts(task, kind, noise, itertools.count(seed))
    recent: list[deque[dict[str, Any]]] = [deque(maxlen=lead) for _ in range(ENVS)]
    found: list[dict[str, Any]] = []
    while len(found) < count:
        for history, state in zip(recent, rollouts.envs.get_states(), strict=True):
            history.append(state)
        done, _, info = rollouts.step()
        onset = info["failure_onset"]
        for i in np.flatnonzero(done | onset):
            if onset[i] and len(recent[i]) == lead:
                found.append(recent[i][0])
            recent[i].clear()
        if (done | onset).any():
            rollouts.start(done | onset)
    return found[:count]


def saved_by(task: str, states: list[dict[str, Any]], kind: str) -> NDArray[np.bool_]:
    """For each state: whether that expert avoids every violation for ``SAVED_AFTER`` agent steps."""
    envs = _patient(task, len(states))
    experts = [envs.expert(kind) for _ in states]
    for i, expert in enumerate(experts):
        expert.reset(np.random.default_rng(i))
    envs.set_states(states)
    obs, safe = envs.observations(), np.ones(len(states), bool)
    for _ in range(SAVED_AFTER):
        obs, *_, info = envs.step(np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)]))
        safe &= ~info["failure"]
    return safe


def saved_by_holding(task: str, states: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """The same for keeping the hand where it is, fingers closed: what recovery has to beat."""
    return _saved_by_plan(task, states, [plan[-1] for plan in _plans(task)][:1])


def savable(task: str, states: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """For each state: whether any two-phase plan avoids every violation; if none does, physics is held to blame.

    A plan is one full-speed direction (of 26 in space, 8 on the table), or none, for 2, 5 or ``SAVED_AFTER`` agent steps, then
    standing still, with the fingers, where there are any, open or closed: 162 plans, or 27.
    """
    safe = np.zeros(len(states), bool)
    for plan in _plans(task):
        if safe.all():
            break
        left = np.flatnonzero(~safe)
        safe[left] = _saved_by_plan(task, [states[i] for i in left], plan)
    return safe


def _plans(task: str) -> Iterator[list[Floats]]:
    """Every two-phase plan of a task; the last action of each is standing still."""
    size = failurebench.make_vec(task, 1).single_action_space.shape[0]
    planar = size == 2
    grips: list[tuple[float, ...]] = [()] if planar else [(CLOSED,), (OPEN,)]
    for grip, steps in itertools.product(grips, (2, 5, SAVED_AFTER)):
        for direction in itertools.product((-1, 0, 1), repeat=2 if planar else 3):
            still = np.array([0.0] * len(direction) + list(grip), np.float32)
            yield [np.array([*direction, *grip], np.float32)] * steps + [still]


def _saved_by_plan(task: str, states: list[dict[str, Any]], plan: list[Floats]) -> NDArray[np.bool_]:
    """Whether the actions of ``plan``, the last one held, avoid every violation from each state."""
    envs = _patient(task, len(states))
    envs.set_states(states)
    safe = np.ones(len(states), bool)
    for step in range(SAVED_AFTER):
        action = plan[min(step, len(plan) - 1)]
        *_, info = envs.step(np.repeat(action[None], len(states), axis=0))
        safe &= ~info["failure"]
    return safe


def _patient(task: str, count: int) -> Any:
    """Environments that do not end while recovery is judged."""
    return failurebench.make_vec(task, count, stop_on_success=False, max_episode_steps=1_000_000)
