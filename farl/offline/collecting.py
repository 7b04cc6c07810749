"""Collecting episodes: environments, something that acts, and a record of every transition."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from farl.environments import (
    Expert,
    TaskConfig,
    column,
    failure_flags,
    get_observations,
    get_states,
    reset_where,
    set_states,
)
from farl.networks.policy import GaussianPolicy
from farl.observations import layout_of
from farl.types import Episode, Outcome, State

FloatArray = NDArray[np.float32]
View = Callable[[FloatArray], FloatArray]
"""from the observations of all environments to what their demonstrators act on (``environments.expert_views``)"""

LONGEST_LEAD = 25
"""agent steps before a failure from which states are remembered: a rolling object needs some sixteen to be caught"""
ANYWHERE = 0
"""lead of a state from any time before an episode failed or ended"""


@runtime_checkable
class Agent(Protocol):
    """Something that acts in every environment of a vector."""

    def begin(self, env: int, seed: int) -> None:
        """A new episode starts in environment ``env``."""
        ...

    def act(self, obs: FloatArray) -> FloatArray:
        """One action for each environment."""
        ...


@dataclass(frozen=True)
class NoiseConfig:
    """How far a demonstrator strays: white noise, slow (Ornstein-Uhlenbeck) noise and a sluggish or hasty gain."""

    white: float = 0.0
    ou: float = 0.0
    gain: tuple[float, float] = (1.0, 1.0)


class NoisyExperts:
    """Scripted experts, one for each environment, with noise on their actions; every episode draws its own habits."""

    def __init__(self, experts: Sequence[Expert], noise: NoiseConfig, act_dim: int, view: View = lambda obs: obs) -> None:
        self.experts, self.noise, self.view = experts, noise, view
        self._slow = np.zeros((len(experts), act_dim))
        self._gain = np.ones(len(experts))
        self._rngs = [np.random.default_rng(0) for _ in experts]

    def begin(self, env: int, seed: int) -> None:
        rng = self._rngs[env] = np.random.default_rng([seed, 1])
        self.experts[env].reset(rng)
        self._slow[env] = 0.0
        self._gain[env] = rng.uniform(*self.noise.gain)

    def act(self, obs: FloatArray) -> FloatArray:
        actions = np.stack([expert.act(row) for expert, row in zip(self.experts, self.view(obs), strict=True)])
        draws = np.stack([rng.standard_normal((2, actions.shape[1])) for rng in self._rngs])
        # OU with correlation 0.9 per step, scaled to stationary std ``ou``
        self._slow = 0.9 * self._slow + self.noise.ou * np.sqrt(1 - 0.81) * draws[:, 0]
        noisy = actions * self._gain[:, None] + self._slow + self.noise.white * draws[:, 1]
        return noisy.astype(np.float32)


class ExploringPolicy:
    """A Gaussian policy with a given exploration std; noise comes from a generator of its own."""

    def __init__(self, policy: GaussianPolicy, std: float, seed: int) -> None:
        self.policy, self.std = policy, std
        self.generator = torch.Generator().manual_seed(seed)

    def begin(self, env: int, seed: int) -> None:
        """Nothing to draw: the policy has no habits."""

    def act(self, obs: FloatArray) -> FloatArray:
        mean = self.policy.act(torch.from_numpy(obs))
        noise = torch.randn(mean.shape, generator=self.generator)
        action: FloatArray = (mean + self.std * noise).numpy()
        return action


@dataclass
class _Open:
    """An episode still running."""

    seed: int
    obs: list[FloatArray]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    states: deque[State] = field(default_factory=lambda: deque(maxlen=LONGEST_LEAD))
    """the last ones before a failure"""
    ordinary: State | None = None
    """one of all so far, each as likely as any other"""
    failing: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, 2])

    def remember(self, state: State) -> None:
        """A state the episode is in, before its first failure."""
        self.states.append(state)
        if self._rng.random() * len(self.obs) < 1.0:
            self.ordinary = state


@dataclass(frozen=True)
class Snapshot:
    """A simulator state ``lead`` agent steps before a failure, or ``ANYWHERE`` in an episode, and who was acting."""

    lead: int
    state: State
    behaviour: str


@dataclass
class Collector:
    """Runs environments episode after episode.

    ``tail`` ends a failing episode that many violating steps after its onset (what follows teaches nothing new);
    ``remember`` keeps the last simulator states before each onset in ``snapshots``, and one of each episode from any time.
    """

    envs: VectorEnv[Any, Any, Any]
    task: TaskConfig
    tail: int | None = None
    remember: bool = False
    behaviour: str = ""
    snapshots: list[Snapshot] = field(default_factory=list)

    def episodes(self, agent: Agent, seeds: Iterator[int], behaviour: str) -> Iterator[Episode]:
        """Finished episodes, in the order in which they end, for ever."""
        count = self.envs.num_envs
        fresh = np.ones(count, dtype=bool)
        current: list[_Open] = [_Open(0, []) for _ in range(count)]
        obs: FloatArray = np.zeros((count, *self.envs.single_observation_space.shape), dtype=np.float32)  # type: ignore[misc]
        self.behaviour = behaviour
        while True:
            if fresh.any():
                given = [next(seeds) if fresh[i] else 0 for i in range(count)]
                started, _ = reset_where(self.envs, fresh, given)
                obs[fresh] = started[fresh]
                for env in np.flatnonzero(fresh).tolist():
                    current[env] = _Open(given[env], [obs[env].copy()])
                    agent.begin(env, given[env])
            states = get_states(self.envs) if self.remember else None
            for i, state in enumerate(states or []):
                if current[i].failing == 0:
                    current[i].remember(state)
            obs, fresh = self._step(agent, obs, current)
            for env in np.flatnonzero(fresh).tolist():
                yield self._close(current[env], behaviour)

    def _step(self, agent: Agent, obs: FloatArray, current: list[_Open]) -> tuple[FloatArray, NDArray[np.bool_]]:
        action = np.clip(agent.act(obs), -1, 1)
        following, reward, terminated, truncated, info = self.envs.step(action)
        count = len(action)
        failure = failure_flags(info, self.task, count)
        margin, success = column(info, "margin", count, np.nan), column(info, "success", count, 0.0)
        fresh = terminated | truncated
        for i, episode in enumerate(current):
            if failure[i] and episode.failing == 0 and self.remember:
                self.snapshots += [
                    Snapshot(lead, s, self.behaviour) for lead, s in enumerate(reversed(episode.states), start=1)
                ]
            episode.failing += int(failure[i])
            cut = self.tail is not None and episode.failing > self.tail
            episode.obs.append(following[i].copy())
            episode.rows.append(
                (
                    action[i],
                    reward[i],
                    terminated[i],
                    truncated[i] or (cut and not terminated[i]),
                    failure[i],
                    margin[i],
                    success[i],
                )
            )
            fresh[i] |= cut
        return np.array(following, dtype=np.float32), fresh

    def _close(self, episode: _Open, behaviour: str) -> Episode:
        if episode.ordinary is not None:
            self.snapshots.append(Snapshot(ANYWHERE, episode.ordinary, behaviour))
        action, reward, terminated, truncated, failure, margin, success = (
            np.array(c) for c in zip(*episode.rows, strict=True)
        )
        return Episode(
            obs=np.stack(episode.obs).astype(np.float32),
            actions=action.astype(np.float32),
            rewards=reward.astype(np.float32),
            terminated=terminated.astype(bool),
            truncated=truncated.astype(bool),
            failure=failure.astype(bool),
            margin=margin.astype(np.float32),
            outcome=outcome_of(bool(terminated[-1]), bool(failure[-1]), bool(success[-1])),
            seed=episode.seed,
            task=self.task.id,
            behaviour=behaviour,
            layout=layout_of(self.envs),
        )


def outcome_of(terminated: bool, failure: bool, success: bool) -> Outcome:
    """What ended an episode: termination on failure, success, or the clock."""
    if terminated and failure:
        return "failure"
    return "success" if success else "timeout"


def collect_until(episodes: Iterator[Episode], enough: Callable[[Episode], bool]) -> list[Episode]:
    """Take episodes until ``enough``, asked after each one, says so."""
    taken = []
    for episode in episodes:
        taken.append(episode)
        if enough(episode):
            break
    return taken


@dataclass(frozen=True)
class Rescue:
    """What happened after recovery took over in a given state."""

    episode: Episode
    failed: bool
    final_margin: float


def rescue(
    envs: VectorEnv[Any, Any, Any], task: TaskConfig, agent: Agent, states: Sequence[State], steps: int, seed: int
) -> list[Rescue]:
    """Let ``agent`` act for ``steps`` from each of ``states``; an episode that ends earlier stops there."""
    results = []
    for start in range(0, len(states), envs.num_envs):
        chunk = list(states[start : start + envs.num_envs])
        padded = chunk + [chunk[-1]] * (envs.num_envs - len(chunk))
        reset_where(envs, np.ones(envs.num_envs, dtype=bool), [seed] * envs.num_envs)
        set_states(envs, padded)
        results += _rescue_chunk(envs, task, agent, steps, seed + start)[: len(chunk)]
    return results


def _rescue_chunk(
    envs: VectorEnv[Any, Any, Any], task: TaskConfig, agent: Agent, steps: int, seed: int
) -> list[Rescue]:
    collector = Collector(envs, task)
    obs = get_observations(envs)
    current = [_Open(seed + i, [obs[i].copy()]) for i in range(envs.num_envs)]
    done = np.zeros(envs.num_envs, dtype=bool)
    closed: list[Episode | None] = [None] * envs.num_envs
    for i in range(envs.num_envs):
        agent.begin(i, seed + i)
    for step in range(steps):
        obs, ended = collector._step(agent, obs, current)
        for env in np.flatnonzero((ended | (step == steps - 1)) & ~done).tolist():
            closed[env] = collector._close(current[env], "recovery")
        done |= ended
        if done.all():
            break
        if ended.any():
            reset_where(envs, ended, [0] * envs.num_envs)
    episodes = [episode for episode in closed if episode is not None]
    return [Rescue(e, e.failed, float(e.margin[-1])) for e in episodes]
