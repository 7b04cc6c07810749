"""Policies by name, for evaluation: random, zero, a task's scripted behaviours, or anybody's own function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

Act = Callable[[NDArray[np.float32]], Any]
Env = gymnasium.Env[Any, Any]

BUILT_IN = ("random", "zero")


class Refused(ValueError):
    """Something that cannot be evaluated as asked; the message says why and what can."""


class Policy(Protocol):
    """What is evaluated; the experts of the tasks are of this kind."""

    def reset(self, rng: np.random.Generator) -> None:
        """An episode begins; ``rng`` follows from its seed."""

    def act(self, obs: NDArray[np.float32]) -> Any:
        """The action for one observation."""


class Uniform:
    """Actions uniform in [-1, 1]."""

    def __init__(self, size: int) -> None:
        self._size, self._rng = size, np.random.default_rng(0)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw from ``rng`` from now on."""
        self._rng = rng

    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Whatever is seen."""
        return self._rng.uniform(-1, 1, self._size).astype(np.float32)


class Plain:
    """A function of the observation; or an object with ``act``, and ``reset`` if it has habits to draw."""

    def __init__(self, made: Any) -> None:
        self._reset: Callable[[np.random.Generator], Any] = getattr(made, "reset", lambda rng: None)
        self.act: Act = getattr(made, "act", made)

    def reset(self, rng: np.random.Generator) -> None:
        """Tell it, if it wants to know."""
        self._reset(rng)


def make_policy(name: str, env: Env) -> Policy:
    """The policy called ``name``.

    Args:
        name: ``random``, ``zero``, a kind of ``env.expert_kinds``, or ``module:factory``; the module may lie in the working
            directory, and ``factory(env)`` returns ``act(obs) -> action``, or an object with ``act`` and perhaps ``reset(rng)``.
        env: what it will act in, which it may ask for spaces and experts.

    Raises:
        Refused: there is no such policy; the message names those there are.
    """
    size = int(np.prod(env.action_space.shape or ()))
    if name == "random":
        return Uniform(size)
    if name == "zero":
        return Plain(lambda obs: np.zeros(size, np.float32))
    if ":" in name:
        return _own(name, env)
    kinds: tuple[str, ...] = env.get_wrapper_attr("expert_kinds")
    if name in kinds:
        expert: Policy = env.get_wrapper_attr("expert")(name)
        return expert
    raise Refused(f"unknown policy {name!r}; the choices are {', '.join((*BUILT_IN, *kinds))} and module:factory")


def _own(name: str, env: Env) -> Policy:
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module was found and lacks something itself: its traceback says what
        raise Refused(
            f"policy {name!r}: there is no module {module_name!r} here or among the installed ones"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise Refused(
            f"policy {name!r}: {module_name} has no function {attribute!r}, it has {', '.join(known) or 'none'}"
        )
    made = factory(env)
    if not callable(getattr(made, "act", made)):
        raise Refused(
            f"policy {name!r}: the factory returned {made!r:.80}; it must return a function act(obs) -> action, or an object "
            "with such a method"
        )
    return Plain(made)
