"""The gate under a policy of any library: a wrapper that lets a bundle's recovery act where its critic predicts a failure."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from farl.algorithms.gate import GateConfig
from farl.algorithms.router import Router
from farl.errors import UserError
from farl.methods import METHODS, ControlsConfig, Parts, find
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.types import FailureCritic

Propose = Callable[[NDArray[np.float32]], ArrayLike]
"""the policy being trained: observations ``[b, obs]`` to actions ``[b, act]``"""
Infos = dict[str, Any]


class FailureGate(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Execute each action unless it is predicted to fail; then the recovery policy acts instead.

    ``info`` has, after ``reset`` (zeros and False) and after every ``step``: ``proposed_action`` (as given to ``step``),
    ``executed_action`` (as given to the environment), ``risk`` (of the proposed action; NaN where it is not known) and ``gated``
    (whether recovery acted). A NaN anywhere, in the proposed action or in what ``policy`` answers, means "not known to be
    safe": recovery acts, whatever the threshold, and a warning says so.

    Args:
        env: an environment of the bundle's task, with observations as they were when the bundle was made.
        bundle: what ``farl offline`` made, or its folder.
        policy: who acts after the proposed action, as the look-ahead imagines it: a function from observations ``[b, obs]`` to
            actions ``[b, act]``, numpy arrays. None takes the bundle's own task policy.
        method: whose critic and recovery, by its name in ``farl list``.
        gate: when recovery takes over; its threshold None takes the one the bundle was calibrated to.

    Raises:
        UserError: the bundle cannot be read, is of another task, has other spaces or no calibration; ``method`` has no gate;
            at a step, an action or an answer of ``policy`` is not an array of numbers of the right shape.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        bundle: OfflineBundle | Path | str,
        policy: Propose | None = None,
        *,
        method: str = "farl",
        gate: GateConfig | None = None,
    ) -> None:
        if isinstance(env, VectorEnv):
            raise TypeError(f"{env} is a vector environment: use VectorFailureGate")
        RecordConstructorArgs.__init__(
            self, _disable_deepcopy=True, bundle=bundle, policy=policy, method=method, gate=gate
        )
        gymnasium.Wrapper.__init__(self, env)
        alone = SimpleNamespace(num_envs=1, envs=[env])
        spaces = env.observation_space, env.action_space
        self._keeper = _Gatekeeper(alone, spaces, _task_id(env), bundle, policy, method, gate)
        self.router = self._keeper.router
        """what decides, with the critic and the gate's counters"""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Infos]:
        """Begin an episode; the gate forgets the last one."""
        obs, info = self.env.reset(seed=seed, options=options)
        idle = self._keeper.begin(np.asarray(obs)[None], np.ones(1, np.bool_), seed)
        return obs, {**info, **_only(idle)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Infos]:
        """One step of whoever acts."""
        proposed = _numbers(action, self.action_space.shape, "a step takes")
        (executed,), decided = self._keeper.decide(proposed[None])
        obs, reward, terminated, truncated, info = self.env.step(executed)
        self._keeper.see(np.asarray(obs)[None])
        return obs, reward, terminated, truncated, {**info, **_only(decided)}


class VectorFailureGate(VectorWrapper[Any, Any, Any, Any, NDArray[Any]]):
    """The same for vector environments, each row on its own, in all three autoreset modes.

    ``infos`` has the keys of ``FailureGate`` with a leading axis. They are about the actions just given in every mode, also where
    an episode has ended and the rest of ``infos`` is about the next one; an action spent on a reset is never gated.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        bundle: OfflineBundle | Path | str,
        policy: Propose | None = None,
        *,
        method: str = "farl",
        gate: GateConfig | None = None,
    ) -> None:
        super().__init__(env)
        if "autoreset_mode" not in env.metadata:
            raise UserError(
                f'{env} does not say when it resets: set env.metadata["autoreset_mode"] to its gymnasium.vector.AutoresetMode'
            )
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])
        self._ended = np.zeros(env.num_envs, np.bool_)
        spaces = env.single_observation_space, env.single_action_space
        self._keeper = _Gatekeeper(env, spaces, _task_id(env), bundle, policy, method, gate)
        self.router = self._keeper.router

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Infos]:
        """Begin episodes, all or those where ``options["reset_mask"]`` is True."""
        everyone = np.ones(self.num_envs, np.bool_)
        mask = np.array((options or {}).get("reset_mask", everyone))  # some resets empty options
        obs, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._ended &= ~mask
        return obs, {**infos, **self._keeper.begin(np.asarray(obs), mask, seed if isinstance(seed, int) else None)}

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], Infos]:
        """One step of every environment, of whoever acts in it."""
        executed, decided = self._keeper.decide(_numbers(actions, self.action_space.shape, "a step takes"))
        obs, rewards, terminated, truncated, infos = self.env.step(executed)
        ended, begun = np.logical_or(terminated, truncated), np.zeros(self.num_envs, np.bool_)
        if self._mode == AutoresetMode.SAME_STEP:
            begun = ended
        elif self._mode == AutoresetMode.NEXT_STEP:
            begun, self._ended = self._ended, ended & ~self._ended
            decided["gated"] &= ~begun
        self._keeper.see(np.asarray(obs))
        self._keeper.forget(begun)
        return obs, rewards, terminated, truncated, {**infos, **decided}


class _Gatekeeper:
    """A router for environments whose actions come from elsewhere; remembers the observations they act on."""

    def __init__(
        self,
        envs: Any,
        spaces: tuple[Any, Any],
        task_id: str | None,
        bundle: OfflineBundle | Path | str,
        policy: Propose | None,
        method: str,
        gate: GateConfig | None,
    ) -> None:
        bundle = bundle if isinstance(bundle, OfflineBundle) else OfflineBundle.load(Path(bundle))
        check_fit(bundle, *spaces, task_id)
        if gate is not None and gate.adapt:
            raise UserError(
                f"gate.adapt is {gate.adapt}: here nobody tells the gate which episodes failed, so its threshold cannot follow "
                "them; leave it at 0, or train with `farl online`"
            )
        follower = bundle.policy if policy is None else _Follower(bundle, policy)
        self._generator = torch.Generator().manual_seed(0)
        parts = Parts(bundle, follower, envs, gate or GateConfig(), ControlsConfig(), self._generator)
        self.router = _router(method, parts)
        self._shape = envs.num_envs, bundle.shape.act_dim
        self._obs: Tensor | None = None

    def begin(self, obs: NDArray[Any], mask: NDArray[np.bool_], seed: int | None) -> Infos:
        """New episodes where ``mask`` is set; the infos of nobody having acted."""
        if seed is not None:
            self._generator.manual_seed(seed)
        if self._obs is None:
            self.see(obs)
        assert self._obs is not None
        self._obs[mask] = torch.tensor(obs[mask], dtype=torch.float32)
        self.forget(mask)
        actions, count = np.zeros(self._shape, np.float32), self._shape[0]
        return _infos(actions, actions.copy(), np.zeros(count, np.float32), np.zeros(count, np.bool_))

    def see(self, obs: NDArray[Any]) -> None:
        """What the next actions act on."""
        self._obs = torch.tensor(obs, dtype=torch.float32)

    def forget(self, mask: NDArray[np.bool_]) -> None:
        """Episodes of the environments in ``mask`` have begun."""
        self.router.reset(torch.from_numpy(mask))

    def decide(self, proposed: NDArray[Any]) -> tuple[NDArray[Any], Infos]:
        """The actions to execute: those that were given, to the last bit, except where recovery acts."""
        if self._obs is None:
            raise ResetNeeded("call reset() before step()")
        decision = self.router.decide(self._obs, torch.tensor(proposed, dtype=torch.float32))
        risk, gated = decision.risk.numpy(), decision.gated.numpy()
        if np.isnan(risk).any():
            warnings.warn(
                'a risk is not a number, so recovery acts (info["risk"] is nan there): the action, the observation or an answer '
                "of the policy has nan or infinite entries",
                stacklevel=3,
            )
        recovery = decision.executed.clamp(-1, 1).numpy().astype(proposed.dtype)
        executed = np.where(gated[:, None], recovery, proposed)
        return executed, _infos(proposed, executed.copy(), risk, gated)


class _Follower(GaussianPolicy):
    """A policy of another library in the shape the look-ahead asks for; where noise is wanted, it is the bundle's."""

    def __init__(self, bundle: OfflineBundle, propose: Propose) -> None:
        super().__init__(bundle.normalizer, bundle.shape.act_dim, bundle.shape.exploration_std, hidden=())
        self.log_std, self._propose = bundle.policy.log_std, propose

    def of_features(self, features: Float[Tensor, "b features"]) -> Float[Tensor, "b act"]:
        obs = self.normalizer.inverse(features[:, : self.normalizer.obs_dim]).detach().numpy()
        answer = _numbers(self._propose(obs), (len(obs), len(self.log_std)), "policy must return")
        return torch.tensor(answer, dtype=torch.float32)


class _KnownActions:
    """A ``FailureCritic`` with an answer to actions that are no numbers: nobody knows."""

    def __init__(self, critic: FailureCritic) -> None:
        self.critic = critic

    def risk(self, obs: Float[Tensor, "b obs"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        known = action.isfinite().all(-1)
        return torch.where(known, self.critic.risk(obs, action.nan_to_num()), torch.nan)


def _router(method: str, parts: Parts) -> Router:
    try:
        router = find(method).router(parts)
    except UserError as error:  # the cure it names is a flag; here there is no command line
        raise UserError(str(error).replace("--gate.threshold", "gate=GateConfig(threshold=...)")) from error
    if not isinstance(router, Router):
        gated = ", ".join(name for name, one in METHODS.items() if one.critic is not None)
        raise UserError(f"method '{method}' has no gate; those that have one are {gated}")
    router.critic = _KnownActions(router.critic)
    return router


def check_fit(bundle: OfflineBundle, observations: Any, actions: Any, task_id: str | None) -> None:
    """Refuse a bundle that would judge something it has never seen."""
    made_for = bundle.task.id.rpartition(":")[2]
    if task_id is not None and task_id != made_for:
        raise UserError(
            f"the bundle was made for {made_for}, not for {task_id}; make one for this task with `farl offline`"
        )
    for what, space, size in (
        ("observations", observations, bundle.shape.obs_dim),
        ("actions", actions, bundle.shape.act_dim),
    ):
        if not isinstance(space, Box) or space.shape != (size,):
            raise UserError(
                f"the environment's {what} are a {type(space).__name__} of shape {space.shape}, the bundle's a Box of shape "
                f"({size},); put the gate where they are as they were when the bundle was made"
            )
    if not (np.allclose(actions.low, -1) and np.allclose(actions.high, 1)):
        raise UserError(
            f"the environment has action bounds {actions.low} to {actions.high}; wrap it with RescaleAction to -1..1"
        )


def _task_id(env: Any) -> str | None:
    """The registered name of the environment inside, None where it was made without one."""
    spec = env.unwrapped.spec
    return None if spec is None else str(spec.id)


def _numbers(value: Any, shape: tuple[int, ...] | None, where: str) -> NDArray[Any]:
    """A copy of ``value``; raises UserError if it is no array of numbers of ``shape``."""
    try:
        array = np.array(value)
    except (TypeError, ValueError):
        raise UserError(f"{where} numbers in shape {shape}, not such a {type(value).__name__}") from None
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise UserError(f"{where} numbers in shape {shape}, not {array.dtype} in shape {array.shape}")
    return array


def _infos(proposed: NDArray[Any], executed: NDArray[Any], risk: NDArray[Any], gated: NDArray[np.bool_]) -> Infos:
    return {"proposed_action": proposed, "executed_action": executed, "risk": risk, "gated": gated}


def _only(infos: Infos) -> Infos:
    """Infos of a single environment from those of a vector of one."""
    return {key: rows[0] if rows.ndim > 1 else rows[0].item() for key, rows in infos.items()}
