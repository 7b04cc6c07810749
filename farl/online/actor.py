"""The actor: environments, the task policy's exploration, and the router that decides what is executed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from farl.algorithms.rollout import Rollout
from farl.algorithms.router import Router, Ungated
from farl.algorithms.takeover import Takeover
from farl.environments import TaskConfig, column, failure_flags, get_states, lost, reset_where, set_states
from farl.networks.policy import GaussianPolicy
from farl.online.accounting import EpisodeRecord, Ledger
from farl.seeds import Purpose, episode_seed
from farl.types import Decision

OnEpisode = Callable[[EpisodeRecord, dict[str, Any]], None]
OnLost = Callable[[dict[str, Any]], None]
Check = Callable[[torch.Tensor, Decision], None]
"""looks at observations and what was decided on them before it is executed; raises what stops the run"""
PART = 256
"""agent steps that storage is made for at a time, where nobody knows how long the episode will be"""


class Actor:
    """Steps the environments and fills rollouts; owns everything that must continue exactly after an interruption."""

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        task: TaskConfig,
        policy: GaussianPolicy,
        router: Router | Ungated | Takeover,
        reward_scale: float,
        seed: int,
        on_episode: OnEpisode,
        check: Check = lambda obs, decision: None,
        on_lost: OnLost = lambda line: None,
        lane: tuple[int, int] = (0, 1),
    ) -> None:
        self.envs, self.task, self.policy, self.router, self.check = envs, task, policy, router, check
        self.reward_scale, self.seed, self.on_episode, self.on_lost = reward_scale, seed, on_episode, on_lost
        self.lane = lane
        """number of this actor, and how many share the run's episodes: it plays every so many-th"""
        self.ledger = Ledger()
        self.explore = torch.Generator().manual_seed(seed)
        self.begun = 0
        """episodes started so far; the next one's seed follows from it"""
        self.steps = 0
        """agent steps, all environments together"""
        self.policy_version = 0
        """updates behind the policy that acts"""
        self.seconds = {"env": 0.0, "policy": 0.0}
        count = envs.num_envs
        self.records = [EpisodeRecord(0) for _ in range(count)]
        (obs_dim,) = envs.single_observation_space.shape or (0,)
        self.obs: NDArray[np.float32] = np.zeros((count, obs_dim), dtype=np.float32)
        self._begin(np.ones(count, dtype=bool))

    def collect(self, steps: int) -> Rollout:
        """Act for ``steps`` in every environment."""
        rollout, means = self._storage(steps)
        for t in range(steps):
            self._step(rollout, means, t)
        self._place_actions(rollout, means)
        return rollout

    def collect_episode(self) -> Rollout:
        """Act until the episode of the only environment ends."""
        parts: list[Rollout] = []
        while not parts or not (parts[-1].terminated | parts[-1].truncated).any():
            rollout, means = self._storage(PART)
            for t in range(PART):
                self._step(rollout, means, t)
                if rollout.terminated[t] | rollout.truncated[t]:
                    rollout, means = rollout.until(t + 1), means[: t + 1]
                    break
            self._place_actions(rollout, means)
            parts.append(rollout)
        return Rollout.joined(parts, dim=0)

    def swap(self, weights: Mapping[str, torch.Tensor] | None, version: int) -> None:
        """Act with another version from now on; None where its weights are in place already. Never during a step."""
        if weights is not None:
            self.policy.load_state_dict(weights)
        self.policy_version = version

    def adopt(self, lines: Sequence[Mapping[str, Any]], lost: int) -> None:
        """Count episodes that an earlier process finished or lost after its last checkpoint, and begin new ones after them."""
        self.steps = max(self.steps, self.ledger.adopt_all(lines, lost))
        self.begun += len(lines) + lost
        self._begin(np.ones(self.envs.num_envs, dtype=bool))

    def close(self) -> None:
        """Nothing is its own: the environments belong to who made them."""

    def _storage(self, steps: int) -> tuple[Rollout, torch.Tensor]:
        (act_dim,) = self.envs.single_action_space.shape or (0,)
        count, obs_dim = self.obs.shape
        rollout = Rollout.empty(steps, count, obs_dim, act_dim)
        return rollout, torch.zeros_like(rollout.proposed)

    def _step(self, rollout: Rollout, means: torch.Tensor, t: int) -> None:
        obs = torch.from_numpy(self.obs.copy())
        means[t], proposed = self._propose(obs)
        decision = self.router.decide(obs, proposed)
        self.check(obs, decision)
        self._record_decision(rollout, t, obs, decision)
        self._execute(rollout, t, decision)

    @torch.no_grad()
    def _propose(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        start = time.perf_counter()
        mean = self.policy.act(obs)
        proposed = self.policy.sample(mean, self.explore)
        self.seconds["policy"] += time.perf_counter() - start
        return mean, proposed

    def _record_decision(self, rollout: Rollout, t: int, obs: torch.Tensor, decision: Decision) -> None:
        rollout.obs[t], rollout.risk[t], rollout.gated[t] = obs, decision.risk, decision.gated
        rollout.proposed[t], rollout.executed[t] = decision.proposed, decision.executed
        rollout.version[t] = self.policy_version
        held = torch.tensor([bool(record.gated) and record.gated[-1] for record in self.records])
        rollout.handover[t] = decision.gated & ~held
        rollout.failed[t] = torch.tensor([record.first_failure is not None for record in self.records])

    @torch.no_grad()
    def _place_actions(self, rollout: Rollout, means: torch.Tensor) -> None:
        """Where the actions lie under the policy that acted: for all steps at once, since it does not change between them."""
        rollout.proposed_log_prob = self.policy.log_prob(means, rollout.proposed)
        rollout.executed_log_prob = self.policy.log_prob(means, rollout.executed)
        rollout.z_max = ((rollout.executed - means).abs() / self.policy.std).amax(-1)

    def _execute(self, rollout: Rollout, t: int, decision: Decision) -> None:
        start = time.perf_counter()
        action = decision.executed.clamp(-1, 1).numpy()
        following, reward, terminated, truncated, info = self.envs.step(action)
        self.seconds["env"] += time.perf_counter() - start
        self.steps += self.envs.num_envs
        failure = failure_flags(info, self.task, self.envs.num_envs)
        rollout.next_obs[t] = torch.from_numpy(np.asarray(following, dtype=np.float32))
        rollout.reward[t] = torch.from_numpy(np.asarray(reward, dtype=np.float32)) * self.reward_scale
        rollout.terminated[t], rollout.truncated[t] = torch.from_numpy(terminated), torch.from_numpy(truncated)
        rollout.failure[t] = torch.from_numpy(failure)
        success = column(info, "success", self.envs.num_envs, 0.0) > 0
        rollout.success[t] = torch.from_numpy(success & truncated)
        self.obs = np.array(following, dtype=np.float32)
        self._account(action, reward, terminated, truncated, failure, info, decision)
        if (ended := terminated | truncated).any():
            self._begin(ended)

    def _account(
        self,
        action: NDArray[np.float32],
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        failure: NDArray[np.bool_],
        info: dict[str, Any],
        decision: Decision,
    ) -> None:
        success = column(info, "success", len(action), 0.0)
        kinds = info.get("failure_type", [""] * len(action))
        details = info.get("failure_detail", [None] * len(action))
        rewards, failures = np.asarray(reward, dtype=np.float64).tolist(), failure.tolist()
        risk, gated = decision.risk.tolist(), decision.gated.tolist()
        for i, (record, reason) in enumerate(zip(self.records, lost(info, len(action)), strict=True)):
            if reason is not None:
                where = {"env": i, "end_step": self.steps, "policy_version": self.policy_version}
                self.on_lost({**self.ledger.lose(record, reason), **where})
                if record.first_failure is None:
                    continue
                failures[i], rewards[i] = record.failures[-1], 0.0   # it failed before, and that counts: cut short here
            detail = None if details[i] is None else str(details[i])
            record.add(rewards[i], failures[i], str(kinds[i]), gated[i], risk[i], action[i], detail)
            if terminated[i] or truncated[i]:
                line = self.ledger.close(record, bool(terminated[i]), bool(success[i]))
                gate = self.router.gate
                caps = 0 if gate is None else int(gate.cap_hits[i])
                where = {"env": i, "end_step": self.steps, "cap_hits": caps, "policy_version": self.policy_version}
                self.on_episode(record, {**line, **where})

    def _begin(self, mask: NDArray[np.bool_]) -> None:
        """Start new episodes; seeds count up, so the n-th episode of a run is the same whoever acts in it."""
        seeds = [0] * self.envs.num_envs
        number, of = self.lane
        for i in np.flatnonzero(mask):
            seeds[i] = episode_seed(Purpose.TRAINING, self.seed, self.begun * of + number)
            self.records[i] = EpisodeRecord(seeds[i])
            self.begun += 1
        fresh, _ = reset_where(self.envs, mask, seeds)
        self.obs[mask] = fresh[mask]
        self.router.reset(torch.from_numpy(mask))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue; ``environments`` is None where the task has no ``get_state``."""
        return {
            "explore": self.explore.get_state(),
            "router": self.router.state_dict(),
            "ledger": self.ledger.state_dict(),
            "begun": self.begun,
            "steps": self.steps,
            "policy_version": self.policy_version,
            "seconds": dict(self.seconds),
            "obs": self.obs,
            "records": [record.state_dict() for record in self.records],
            "environments": get_states(self.envs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; without simulator states the open episodes are begun anew."""
        self.explore.set_state(state["explore"])
        self.seconds = dict(state["seconds"])
        self.router.load_state_dict(state["router"])
        self.ledger.load_state_dict(state["ledger"])
        self.begun, self.steps, self.policy_version = state["begun"], state["steps"], state["policy_version"]
        if state["environments"] is None:
            self._begin(np.ones(self.envs.num_envs, dtype=bool))
            return
        self.obs = np.array(state["obs"], dtype=np.float32)
        self.records = [EpisodeRecord.from_state(record) for record in state["records"]]
        set_states(self.envs, state["environments"])
