"""The simulator as judge: a failing episode played again to some steps before its failure, and other actions from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from farl.diagnosis.kept import KeptFailure
from farl.environments import (
    Expert,
    TaskConfig,
    expert_views,
    failure_flags,
    get_observations,
    get_states,
    make_experts,
    make_vector,
    reset_where,
    set_states,
)
from farl.errors import UserError
from farl.types import Policy, State

FloatArray = NDArray[np.float32]
Act = Callable[[FloatArray], FloatArray]
"""an observation ``[obs]`` to an action ``[act]``"""

LEARNED, SCRIPTED, STILL, CONSTANT = "learned recovery", "scripted recovery", "holding still", "a constant action"
LEADS = (5, 10, 20)
"""agent steps before a failure from which its avoiding is tried, besides the takeover"""
RANDOM_CONSTANTS = 4
_ALONE = np.ones(1, dtype=np.bool_)


class Oracle:
    """Says what would have avoided a failure, by trying it in the simulator.

    One environment, because attempts differ in length and most are over early: nothing waits for the longest.

    Args:
        recovery: the recovery policy of the run's bundle, None where there is none to be had.
        steps: agent steps for which the failure must stay away.

    Raises:
        UserError: the task gives no simulator state.
    """

    def __init__(self, task: TaskConfig, recovery: Policy | None, steps: int, seed: int) -> None:
        self.task, self.recovery, self.steps, self.seed = task, recovery, steps, seed
        self.envs: VectorEnv[Any, Any, Any] = make_vector(task, 1)
        reset_where(self.envs, _ALONE, [0])
        if get_states(self.envs) is None:
            self.envs.close()
            raise UserError(f"{task.id} has no get_state()/set_state(), so nothing can be tried from before a failure")
        self.scripted = _expert(task)

    def close(self) -> None:
        self.envs.close()

    def states(self, kept: KeptFailure, leads: Iterable[int]) -> dict[int, State] | None:
        """The states ``leads`` agent steps before the failure, or None where the replay does not fail as recorded."""
        steps = {kept.onset - lead: lead for lead in leads}
        reset_where(self.envs, _ALONE, [kept.seed])
        states: dict[int, State] = {}
        for step, action in enumerate(kept.actions):
            if step in steps:
                states[steps[step]] = self._state()
            _, _, terminated, truncated, info = self.envs.step(action[None])
            failed = bool(failure_flags(info, self.task, 1)[0])
            if failed or terminated[0] or truncated[0]:
                return states if failed and step == kept.onset else None
        return None

    def saved_by(self, state: State) -> list[str]:
        """What avoids the failure from ``state``: either recovery, holding still, or else the first of some constant actions."""
        names = [name for name, act in self._likely() if self._avoids(state, act)]
        if not names and any(self._avoids(state, act) for act in self._constants()):
            names.append(CONSTANT)
        return names

    def _likely(self) -> Sequence[tuple[str, Act]]:
        found: list[tuple[str, Act]] = []
        if self.recovery is not None:
            found.append((LEARNED, self._learned))
        if self.scripted is not None:
            self.scripted.reset(np.random.default_rng(self.seed))
            found.append((SCRIPTED, self._scripted))
        return [*found, (STILL, _constant(np.zeros(self._act_dim)))]

    def _constants(self) -> Iterable[Act]:
        """Full speed along each axis, both ways, and some in between; always the same."""
        axes = np.eye(self._act_dim)
        between = np.random.default_rng(self.seed).uniform(-1, 1, (RANDOM_CONSTANTS, self._act_dim))
        return [_constant(action) for action in np.concatenate([axes, -axes, between])]

    def _avoids(self, state: State, act: Act) -> bool:
        reset_where(self.envs, _ALONE, [self.seed])   # an environment that has ended must begin anew before it goes elsewhere
        set_states(self.envs, [state])
        obs = get_observations(self.envs)
        for _ in range(self.steps):
            action = np.clip(act(obs[0]), -1, 1).astype(np.float32)
            following, _, terminated, truncated, info = self.envs.step(action[None])
            if failure_flags(info, self.task, 1)[0]:
                return False
            if terminated[0] or truncated[0]:
                return True
            obs = np.asarray(following, dtype=np.float32)
        return True

    @torch.no_grad()
    def _learned(self, obs: FloatArray) -> FloatArray:
        assert self.recovery is not None
        action: FloatArray = self.recovery.act(torch.from_numpy(obs.copy())[None])[0].numpy()
        return action

    def _scripted(self, obs: FloatArray) -> FloatArray:
        assert self.scripted is not None
        return self.scripted.act(expert_views(self.envs, obs[None])[0])

    def _state(self) -> State:
        states = get_states(self.envs)
        assert states is not None
        return states[0]

    @property
    def _act_dim(self) -> int:
        (dim,) = self.envs.single_action_space.shape or (0,)
        return dim


def _constant(action: NDArray[Any]) -> Act:
    fixed = action.astype(np.float32)
    return lambda obs: fixed


def _expert(task: TaskConfig) -> Expert | None:
    try:
        return make_experts(task, "recovery", 1)[0]
    except UserError:
        return None
