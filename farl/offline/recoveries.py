"""Recovery demonstrations: the script saves states shortly before a failure, then corrects what its clone does there."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.behaviour_cloning import BCConfig, clone
from farl.data.batches import imitated
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.networks.policy import GaussianPolicy
from farl.offline.collecting import ExploringPolicy, FloatArray, NoisyExperts, Rescue, rescue
from farl.offline.partial import Part, Partial
from farl.progress import Progress
from farl.seeds import Purpose, episode_seed
from farl.types import SHOWN, Episode, State

RECOVERY_STD = 0.2
"""of the clone's likelihood; its mean, which is all that acts, does not depend on it"""

TAKE_BACK = 0.3
"""chance per agent step that an interruption ends"""

ROUND_SEEDS = 10_000_000
"""apart from each other, so that no two rounds share an episode seed"""


@dataclass(frozen=True)
class RecoveriesConfig:
    """How recoveries are shown."""

    episodes: int = 400
    """recoveries of the script kept, each from a state shortly before a failure"""
    steps: int = 30
    """agent steps of each"""
    noise: float = 0.1
    """std of the noise on the script's actions, and on those of its clone"""
    safe_margin: float = 0.02
    """metres of margin a recovery of the script must end with to be kept"""
    rounds: int = 6
    """times a clone of all recoveries so far acts and the script shows what it would have done instead (DAgger)"""
    round_episodes: int = 256
    """episodes of each round"""
    ordinary: float = 0.5
    """share of a round's episodes that begin anywhere in the task policy's own, as where a gate closes without need; the others
    begin shortly before a failure"""
    round_steps: int = 100
    """agent steps of each: more than of the script's, because the gate may let recovery act for long"""
    interruptions: float = 0.05
    """chance per agent step of a round that the task policy takes over for a while, as behind a gate that hands back"""
    bc: BCConfig = field(default_factory=BCConfig)
    """the clone of each round; the bundle's own recovery policy is cloned anew"""

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "round_episodes", "round_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"recovery.{name} is {getattr(self, name)}; give 1 or more")
        if self.rounds < 0:
            raise ValueError(f"recovery.rounds is {self.rounds}; give 0 or more")
        if not 0 <= self.ordinary <= 1:
            raise ValueError(f"recovery.ordinary is {self.ordinary}; give a share from 0 to 1")
        if not 0 <= self.interruptions < 1:
            raise ValueError(f"recovery.interruptions is {self.interruptions}; give a chance from 0 up to, not including, 1")


class Corrected:
    """An agent: the clone acts, and what the demonstrator would have done is kept beside it.

    Now and then the task policy acts instead, for a few steps each time.
    """

    def __init__(
        self,
        clone: ExploringPolicy,
        demonstrators: NoisyExperts,
        task: ExploringPolicy,
        interruptions: float,
        rng: np.random.Generator,
    ) -> None:
        self.clone, self.demonstrators, self.task = clone, demonstrators, task
        self.interruptions, self.rng = interruptions, rng
        self.interrupted = np.zeros(len(demonstrators.experts), dtype=bool)
        self.shown: list[list[FloatArray]] = [[] for _ in demonstrators.experts]
        """for each environment the demonstrator's actions since its episode began"""

    def begin(self, env: int, seed: int) -> None:
        self.demonstrators.begin(env, seed)
        self.shown[env], self.interrupted[env] = [], False

    def act(self, obs: FloatArray) -> FloatArray:
        for env, action in enumerate(np.clip(self.demonstrators.act(obs), -1, 1)):
            self.shown[env].append(action)
        recovery = self.clone.act(obs)
        if not self.interruptions:
            return recovery
        draw = self.rng.random(len(obs))
        self.interrupted = np.where(self.interrupted, draw > TAKE_BACK, draw < self.interruptions)
        return np.where(self.interrupted[:, None], self.task.act(obs), recovery)


class Recoveries:
    """Makes the recovery set from states shortly before failures."""

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        task: TaskConfig,
        config: RecoveriesConfig,
        seed: int,
        progress: Progress,
        policy: GaussianPolicy,
        exploration_std: float,
    ) -> None:
        self.envs, self.task, self.config, self.seed, self.progress = envs, task, config, seed, progress
        self.policy, self.exploration_std = policy, exploration_std
        """the task policy that interrupts"""

    def make(
        self,
        states: Sequence[State],
        ordinary: Sequence[State],
        script: NoisyExperts,
        exact: NoisyExperts,
        partial: Partial,
    ) -> list[Episode]:
        """Recoveries of ``script`` from ``states``, the first ones first; then rounds in which ``exact``, without noise, corrects.

        The rounds begin in ``ordinary`` states too: what is only shown near failures knows nothing of where a false alarm calls it.

        Raises UserError if no recovery of the script ended safely.
        """
        episodes = partial.part("recovery", lambda: Part(self.scripted(states, script))).episodes
        for number in range(1, self.config.rounds + 1):
            play = partial.part(f"recovery-{number}", functools.partial(self.round, number, episodes, states, ordinary, exact))
            episodes = episodes + play.episodes
        return episodes

    def scripted(self, states: Sequence[State], script: NoisyExperts) -> list[Episode]:
        """Recoveries that ended safely, until there are enough."""
        cfg, kept = self.config, list[Episode]()
        self.progress.stage("recoveries", cfg.episodes)
        for start, chunk in self._chunks(states):
            for result in rescue(self.envs, self.task, script, chunk, cfg.steps, self._seed(start)):
                safe = not result.failed and not result.final_margin < cfg.safe_margin
                kept += [result.episode] if safe else []
            self.progress.at(min(len(kept), cfg.episodes))
            if len(kept) >= cfg.episodes:
                break
        if not kept:
            raise UserError(
                f"no recovery ended with {cfg.safe_margin} m of margin: give a smaller --recovery.safe-margin, more "
                f"--recovery.steps, or mend the 'recovery' expert of {self.task.id}"
            )
        return kept[: cfg.episodes]

    def round(
        self,
        number: int,
        episodes: list[Episode],
        states: Sequence[State],
        ordinary: Sequence[State],
        exact: NoisyExperts,
    ) -> Part:
        """Where a clone of ``episodes`` gets to, with the demonstrator's actions: Ross et al. 2011, DAgger with beta 0.

        A clone of recoveries alone is lost as soon as it strays from them. On BoundedSoccer-Hard-v0, acting from the start of
        an episode, it lost the ball in 73 % of episodes, the script it was cloned from in none, and after two rounds neither.
        """
        cfg = self.config
        own = self.seed * 100 + number
        actor = ExploringPolicy(self._clone(number, episodes), cfg.noise, own)
        task = ExploringPolicy(self.policy, self.exploration_std, own + 50)
        agent = Corrected(actor, exact, task, cfg.interruptions, np.random.default_rng([self.seed, 9, number]))
        rng = np.random.default_rng([self.seed, 8, number])
        count = int(cfg.ordinary * cfg.round_episodes) if ordinary else 0
        chosen = [states[i] for i in rng.integers(len(states), size=cfg.round_episodes - count)]
        chosen += [ordinary[i] for i in rng.integers(len(ordinary), size=count)] if count else []
        self.progress.stage(f"recoveries corrected, round {number} of {cfg.rounds}", cfg.round_episodes)
        made: list[Episode] = []
        for start, chunk in self._chunks(chosen):
            results = rescue(
                self.envs, self.task, agent, chunk, cfg.round_steps, self._seed(number * ROUND_SEEDS + start)
            )
            made += [_with_shown(result, agent.shown[env]) for env, result in enumerate(results)]
            self.progress.at(len(made))
        return Part(made)

    def _clone(self, number: int, episodes: list[Episode]) -> GaussianPolicy:
        held = max(1, len(episodes) // 10)
        train, held_out = imitated(episodes[held:]), imitated(episodes[:held])
        normalizer = copy.deepcopy(self.policy.normalizer)   # for its encoders, if it has any: the rest is fitted anew
        normalizer.fit(train.obs)
        torch.manual_seed(self.seed)
        policy = GaussianPolicy(normalizer, train.action.shape[1], RECOVERY_STD)
        generator = torch.Generator().manual_seed(self.seed)
        name = f"cloning recoveries, round {number}"
        clone(policy, train, held_out, self.config.bc, generator, self.progress, name)
        return policy

    def _chunks(self, states: Sequence[State]) -> Iterator[tuple[int, list[State]]]:
        count = self.envs.num_envs
        for start in range(0, len(states), count):
            yield start, list(states[start : start + count])

    def _seed(self, index: int) -> int:
        return episode_seed(Purpose.RECOVERY_SET, self.seed, index)


def _with_shown(result: Rescue, shown: list[FloatArray]) -> Episode:
    """The episode as the clone made it, with what the demonstrator would have done at every step."""
    episode = result.episode
    actions = np.stack(shown[: len(episode)]).astype(np.float32)
    return dataclasses.replace(episode, behaviour="corrected", extra={**episode.extra, SHOWN: actions})
