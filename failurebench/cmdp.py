"""Failure as a cost: the six-tuple interface of safety-gymnasium, which libraries for constrained MDPs expect."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from failurebench.wrappers import Infos, autoreset_mode, last_info, require_failure

Charge = Literal["onset", "step"]
"""``onset``: 1 at an episode's first failing step, so the expected cost of an episode is the failure rate, and a limit of 0.1
means one episode in ten. ``step``: ``info["cost"]``, or 1, at every failing step, so a failure costs the longer it lasts."""


class SafetyTuple(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """``step`` returns ``(obs, reward, cost, terminated, truncated, info)``; ``reset`` is as usual.

    Gymnasium's own wrappers cannot read six values: this one goes outermost.

    Args:
        env: any environment with ``info["failure"]`` at every step.
        charge: what a failure costs, ``onset`` or ``step``.

    Raises:
        ValueError: another charge; at a step, ``info`` without ``failure``.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], charge: Charge = "onset") -> None:
        if isinstance(env, VectorEnv):
            raise TypeError(f"{env} is a vector environment: use VectorSafetyTuple")
        RecordConstructorArgs.__init__(self, charge=charge)
        gymnasium.Wrapper.__init__(self, env)
        self.charge, self._charged = _checked(charge), False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Infos]:
        """Begin an episode that has cost nothing yet."""
        self._charged = False
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, float, bool, bool, Infos]:  # type: ignore[override]
        """One step and its cost."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        require_failure(info, "info")
        cost = _cost(info, self.charge, self._charged)
        self._charged = self._charged or bool(info["failure"])
        return obs, float(reward), cost, terminated, truncated, info


class VectorSafetyTuple(VectorWrapper[Any, Any, Any, Any, NDArray[Any]]):
    """The same for vector environments: ``cost`` is float64[num_envs], right in all three autoreset modes.

    Args:
        env: any vector environment with ``infos["failure"]`` at every step, and ``metadata["autoreset_mode"]``.
        charge: what a failure costs, ``onset`` or ``step``.

    Raises:
        ValueError: another charge, an unknown autoreset mode; at a step, ``infos`` without ``failure``.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], charge: Charge = "onset") -> None:
        super().__init__(env)
        self.charge, self._mode = _checked(charge), autoreset_mode(env)
        self._charged = np.zeros(env.num_envs, np.bool_)
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Infos]:
        """Begin episodes, all or those where ``options["reset_mask"]`` is True."""
        mask = np.array(
            (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        )  # some resets empty options
        self._charged, self._ended = self._charged & ~mask, self._ended & ~mask
        return self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]

    def step(  # type: ignore[override]
        self, actions: Any
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64], NDArray[Any], NDArray[Any], Infos]:
        """One step of every environment and its cost; a step that NEXT_STEP spends on a reset costs nothing."""
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        ended = np.logical_or(terminated, truncated)
        costs = np.zeros(self.num_envs)
        for i in np.flatnonzero(~self._ended):
            info = last_info(infos, int(i), ended=bool(ended[i]), mode=self._mode)
            costs[i] = _cost(info, self.charge, bool(self._charged[i]))
            self._charged[i] |= bool(info["failure"])
        self._charged &= ~ended
        if self._mode == AutoresetMode.NEXT_STEP:
            self._ended = ended & ~self._ended
        elif self._mode == AutoresetMode.DISABLED:
            self._ended |= ended
        return obs, rewards, costs, terminated, truncated, infos


def _checked(charge: Charge) -> Charge:
    if charge not in ("onset", "step"):
        raise ValueError(f"charge is {charge!r}; the choices are 'onset' and 'step'")
    return charge


def _cost(info: Infos, charge: Charge, charged: bool) -> float:
    failure = bool(info["failure"])
    if charge == "onset":
        return float(failure and not charged)
    return float(info.get("cost", failure))
