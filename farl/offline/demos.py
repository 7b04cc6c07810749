"""Demonstrations: the task, failure, recovery and calibration sets the offline stage learns from."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from farl.algorithms.behaviour_cloning import BCConfig, clone
from farl.algorithms.encoder_training import EncoderConfig, fit_normalizer
from farl.data.batches import transitions
from farl.data.episode_store import write_episodes
from farl.environments import TaskConfig, expert_views, get_states, make, make_experts, make_vector, reset_where
from farl.errors import UserError
from farl.files import write_json
from farl.networks.encoders import CloudNormalizer, normalizer_for
from farl.networks.policy import GaussianPolicy
from farl.offline.collecting import (
    ANYWHERE,
    LONGEST_LEAD,
    Agent,
    Collector,
    ExploringPolicy,
    NoiseConfig,
    NoisyExperts,
    Snapshot,
    collect_until,
)
from farl.offline.partial import Part, Partial
from farl.offline.recoveries import Recoveries, RecoveriesConfig
from farl.outputs import check, claim
from farl.progress import Progress
from farl.seeds import Purpose, episode_seeds
from farl.types import Episode

SETS = ("task", "failure", "recovery", "calibration")


@dataclass(frozen=True)
class DemosConfig:
    """Which demonstrations to make, and how many."""

    task: TaskConfig = field(default_factory=TaskConfig)
    out: Path = Path()
    """folder of the four sets; unless given, demos/ and the task's name: demos/bounded-push"""
    seed: int = 0
    num_envs: int = 16
    expert_steps: int = 0
    """agent steps of the task expert with noise (white 0.15, slow 0.2), beside the clumsy demonstrator's; a task without a clumsy
    demonstrator takes all its steps from the expert"""
    clumsy_steps: int = 24000
    """agent steps of the clumsy demonstrator: most of what a robot is really shown"""
    failure_steps: int = 40000
    """agent steps of failure seekers and of noisy demonstrators"""
    clone_steps: int = 48000
    """agent steps of the cloned policy exploring, added to the failure set: the failures the gate will really meet"""
    recovery: RecoveriesConfig = field(default_factory=RecoveriesConfig)
    calibration_episodes: int = 100
    """failing and as many clean episodes of the cloned policy, for the gate"""
    exploration_std: float = 0.2
    """std with which the cloned policy explores, the one training online uses"""
    tail: int = 10
    """violating steps after which a demonstration of failure is cut"""
    bc: BCConfig = field(default_factory=BCConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """of the cloned policy's; the bundle's own are trained anew"""

    def __post_init__(self) -> None:
        if self.out == Path():
            object.__setattr__(self, "out", Path("demos") / _folder_name(self.task))
        if self.num_envs < 1:
            raise ValueError(f"num_envs is {self.num_envs}; give 1 or more")
        if min(self.expert_steps, self.clumsy_steps) < 0 or self.expert_steps + self.clumsy_steps < 1:
            raise ValueError(
                f"expert_steps is {self.expert_steps} and clumsy_steps {self.clumsy_steps}; give 1 or more to at least one"
            )


def collect(config: DemosConfig) -> Path:
    """Make the four sets in ``config.out`` and return it; complete ones are kept, an interrupted collection continues."""
    check(config.out, config)
    if (config.out / "demos.json").exists():
        print(f"{config.out} is complete; delete it to make new demonstrations.")
        return config.out
    with claim(config.out, config):
        _collect(config)
    return config.out


def _collect(config: DemosConfig) -> None:
    progress = Progress(config.out, f"demonstrations of {config.task.name}")
    envs = make_vector(config.task, config.num_envs)
    partial = Partial(config.out, _attributes(config, "part"))
    session = _Session(config, envs, progress, partial)
    task_set = session.task_set()
    policy = _clone_of(task_set, config, progress, partial)
    failures, snapshots = session.failure_set(policy)
    recoveries = session.recovery_set(snapshots, policy)
    calibration = session.calibration_set(policy)
    envs.close()
    made = dict(zip(SETS, (task_set, failures, recoveries, calibration), strict=True))
    for name, episodes in made.items():
        write_episodes(
            config.out / f"{name}.hdf5", episodes, _attributes(config, name), train_fraction=0.9, rng_seed=config.seed
        )
        progress.say(f"{name:12s} {_summary(episodes)}")
    write_json(config.out / "demos.json", {name: _counts(episodes) for name, episodes in made.items()})
    partial.remove()


@dataclass
class _Session:
    """The environments the sets are made in."""

    config: DemosConfig
    envs: VectorEnv[Any, Any, Any]
    progress: Progress
    partial: Partial

    def task_set(self) -> list[Episode]:
        cfg = self.config
        clumsy = cfg.clumsy_steps if "pusher" in self._kinds() else 0
        plan = (
            ("task", NoiseConfig(white=0.15, ou=0.2), cfg.expert_steps + cfg.clumsy_steps - clumsy, "task expert"),
            ("pusher", NoiseConfig(white=0.1, ou=0.1, gain=(0.7, 1.0)), clumsy, "clumsy demonstrator"),
        )
        episodes = []
        for part, (kind, noise, steps, stage) in enumerate(plan):
            if steps > 0:
                seeds = _from(Purpose.TASK_SET, cfg.seed, part)
                name = f"task-{part}-{kind}"
                episodes += self._run(name, self._experts(kind, noise), kind, steps, seeds, stage).episodes
        return episodes

    def failure_set(self, policy: GaussianPolicy) -> tuple[list[Episode], list[Snapshot]]:
        cfg, snapshots = self.config, list[Snapshot]()
        noisy = NoiseConfig(white=0.3, ou=0.4, gain=(0.7, 1.0))
        plan: list[tuple[str, Agent, int]] = [
            (kind, self._experts(kind, noise), int(cfg.failure_steps * share))
            for kind, noise, share in (
                ("failure", NoiseConfig(white=0.1, ou=0.1, gain=(0.6, 1.0)), 0.4),
                ("pusher", noisy, 0.4),
                ("task", NoiseConfig(white=0.3, ou=0.6), 0.2),
            )
            if kind in self._kinds()
        ]
        stds = (cfg.exploration_std, 1.75 * cfg.exploration_std)
        plan += [
            ("clone", ExploringPolicy(policy, std, cfg.seed * 10 + i), cfg.clone_steps // 2)
            for i, std in enumerate(stds)
        ]
        episodes = []
        for part, (kind, agent, steps) in enumerate(plan):
            seeds = _from(Purpose.FAILURE_SET, cfg.seed, part)
            name = f"failure-{part}-{kind}"
            made = self._run(name, agent, kind, steps, seeds, f"failures: {kind}", remember=True)
            episodes += made.episodes
            snapshots += made.snapshots
        return episodes, snapshots

    def recovery_set(self, snapshots: Sequence[Snapshot], policy: GaussianPolicy) -> list[Episode]:
        cfg = self.config
        # A continued collection may not have reset anything yet, and an environment has no state before its first reset.
        reset_where(self.envs, np.ones(cfg.num_envs, dtype=bool), [cfg.seed] * cfg.num_envs)
        if get_states(self.envs) is None or not snapshots:
            cause = "no failure was seen" if get_states(self.envs) else "it has no get_state() and set_state()"
            raise UserError(
                f"cannot make recoveries for {cfg.task.id}: {cause}. Recoveries start from states shortly before a failure; "
                "record them yourself and write them with farl.data.episode_store (docs/own_task.md)"
            )
        if "recovery" not in self._kinds():
            raise UserError(
                f"{cfg.task.id} offers no scripted 'recovery' expert; record recoveries yourself "
                "and write them with farl.data.episode_store (docs/own_task.md)"
            )
        # The policy's own near-failures come first: they are what the gate will hand over, and a clone of recoveries from
        # scripted accidents alone meets states it has never seen.
        rng = np.random.default_rng([cfg.seed, 8])
        near = [snapshot for snapshot in snapshots if 2 <= snapshot.lead <= LONGEST_LEAD]
        own = np.array([snapshot.behaviour == "clone" for snapshot in near])
        states = [near[i].state for i in np.argsort(rng.random(len(near)) - own, kind="stable")]
        ordinary = [snapshot.state for snapshot in snapshots if (snapshot.lead, snapshot.behaviour) == (ANYWHERE, "clone")]
        script, exact = (self._experts("recovery", NoiseConfig(white=noise)) for noise in (cfg.recovery.noise, 0.0))
        std = cfg.exploration_std
        recoveries = Recoveries(self.envs, cfg.task, cfg.recovery, cfg.seed, self.progress, policy, std)
        return recoveries.make(states, ordinary, script, exact, self.partial)

    def calibration_set(self, policy: GaussianPolicy) -> list[Episode]:
        return self.partial.part("calibration", lambda: Part(self._calibration(policy))).episodes

    def _calibration(self, policy: GaussianPolicy) -> list[Episode]:
        cfg, wanted = self.config, self.config.calibration_episodes
        agent = ExploringPolicy(policy, cfg.exploration_std, cfg.seed * 10 + 9)
        counts = {True: 0, False: 0}
        self.progress.stage("calibration", 2 * wanted)
        limit = 40 * wanted  # a policy that never fails (or always does) must not be asked for ever

        def enough(episode: Episode) -> bool:
            counts[episode.failed] += 1
            self.progress.at(sum(min(n, wanted) for n in counts.values()))
            return min(counts.values()) >= wanted or sum(counts.values()) >= limit

        collector = Collector(self.envs, cfg.task, cfg.tail)
        return collect_until(
            collector.episodes(agent, episode_seeds(Purpose.CALIBRATION_SET, cfg.seed), "clone"), enough
        )

    def _experts(self, kind: str, noise: NoiseConfig) -> NoisyExperts:
        experts = make_experts(self.config.task, kind, self.config.num_envs)
        view = functools.partial(expert_views, self.envs)
        return NoisyExperts(experts, noise, self.envs.single_action_space.shape[0], view)  # type: ignore[index]

    def _kinds(self) -> tuple[str, ...]:
        env = make(self.config.task)
        kinds: tuple[str, ...] = tuple(getattr(env.unwrapped, "expert_kinds", ()))
        env.close()
        return kinds

    def _run(
        self, name: str, agent: Agent, behaviour: str, steps: int, seeds: Iterator[int], stage: str, remember: bool = False
    ) -> Part:
        """The part ``name``: at least ``steps`` agent steps of ``agent``, with the states before failures to remember."""
        return self.partial.part(name, lambda: self._collected(agent, behaviour, steps, seeds, stage, remember))

    def _collected(
        self, agent: Agent, behaviour: str, steps: int, seeds: Iterator[int], stage: str, remember: bool
    ) -> Part:
        taken = 0
        self.progress.stage(stage, steps)

        def enough(episode: Episode) -> bool:
            nonlocal taken
            taken += len(episode)
            self.progress.at(min(taken, steps))
            return taken >= steps

        collector = Collector(self.envs, self.config.task, self.config.tail, remember=remember)
        episodes = collect_until(collector.episodes(agent, seeds, behaviour), enough)
        return Part(episodes, collector.snapshots)


def _folder_name(task: TaskConfig) -> str:
    """``BoundedPush-Hard-v0`` as ``bounded-push-hard``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", re.sub(r"-v\d+$", "", task.name)).lower()


def _from(purpose: Purpose, seed: int, part: int) -> Iterator[int]:
    """Seeds of the ``part``-th agent that contributes to a set."""
    return episode_seeds(purpose, seed, part * 10_000_000)


def _clone_of(
    episodes: list[Episode], config: DemosConfig, progress: Progress, partial: Partial
) -> GaussianPolicy:
    """A quick clone of the demonstrations: what the robot would do, and therefore where it would fail."""
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    held = max(1, len(episodes) // 10)
    train, held_out = transitions(episodes[held:], 1.0), transitions(episodes[:held], 1.0)
    normalizer = normalizer_for(train.obs.shape[1], episodes[0].layout, config.encoder.code)

    def see() -> None:
        fit_normalizer(normalizer, episodes[held:], config.encoder, generator, progress)

    if isinstance(normalizer, CloudNormalizer):
        partial.weights("normalizer", normalizer, see)
    else:
        see()   # not kept: it follows from the episodes at once
    policy = GaussianPolicy(normalizer, train.action.shape[1], config.exploration_std)

    def learn() -> None:
        clone(policy, train, held_out, config.bc, generator, progress, "cloning the demonstrations")

    partial.weights("clone", policy, learn)   # the normaliser's are none of them
    return policy


def _attributes(config: DemosConfig, name: str) -> dict[str, Any]:
    task, env = config.task, make(config.task)
    env.close()
    fps = {"fps": env.metadata["render_fps"]} if "render_fps" in env.metadata else {}   # agent steps a second
    return {"task": task.id, "options": dict(task.options), "set": name, "seed": config.seed, **fps}


def _counts(episodes: Sequence[Episode]) -> dict[str, int]:
    return {
        "episodes": len(episodes),
        "transitions": sum(len(e) for e in episodes),
        "failures": sum(e.failed for e in episodes),
        "successes": sum(e.outcome == "success" for e in episodes),
    }


def _summary(episodes: Sequence[Episode]) -> str:
    counts = _counts(episodes)
    return (
        f"{counts['episodes']:5d} episodes  {counts['transitions']:6d} transitions  "
        f"{counts['failures']:4d} failures  {counts['successes']:4d} successes"
    )
