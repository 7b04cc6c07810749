"""How an agent and a task of some arm meet: spaces, what an action means, how many steps make a second, where the camera is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from failurebench.episode import Episode, observation_bounds
from failurebench.judged import Judged
from failurebench.sawyer import ACTION_SCALE


@dataclass(frozen=True)
class View:
    """A camera of the model."""

    camera: str = "corner"
    hangs: bool = True
    """the camera is mounted upside down, as MetaWorld's is"""


CORNER = View()
"""MetaWorld's"""


def as_is(rows: NDArray[Any]) -> NDArray[Any]:
    """The observations of a task whose space is flat."""
    return rows


@dataclass(frozen=True)
class Interface:
    """What single and vector environments of one arm have in common."""

    episode: type[Judged]
    observation_space: Any
    action_space: Any
    moves: Callable[[NDArray[Any], tuple[int, ...]], NDArray[np.float32]]
    """checks actions of that shape and turns them into what ``Judged.step`` takes; a row per environment in a batch"""

    steps_per_s: int
    """simulator steps per second of simulated time; divided by the action repeat for agent steps"""

    tracked: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """observation indices of positions in metres, by what is there"""

    view: View = CORNER
    models: str = "metaworld"
    """the distribution that the scene's models come with"""

    unpacked: Callable[[NDArray[Any]], Any] = as_is
    """an episode's flat observation, or a batch of them, as ``observation_space`` has it"""


def sawyer_interface() -> Interface:
    """Of the MetaWorld tasks."""
    tracked: dict[str, tuple[int, ...]] = {"hand": (0, 1, 2), "object": (4, 5, 6)}
    return Interface(Episode, observation_space(), action_space(), displacement, RENDER_FPS, tracked)


RENDER_FPS = 80
"""simulator steps per second of the MetaWorld tasks"""


def observation_space() -> Any:
    """39 finite float32 numbers, see ``docs/tasks``."""
    low, high = observation_bounds()
    return Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def action_space() -> Any:
    """Hand displacement x, y, z (1 = 1 cm per simulator step) and gripper (1 closes, -1 opens)."""
    return Box(-1.0, 1.0, (4,), np.float32)


def displacement(actions: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Actions as metres per simulator step (x, y, z) and grip command: checked, clipped to [-1, 1], a fresh array.

    Args:
        actions: ``shape``; floats or integers of any width.
        shape: ``(4,)``, or ``(n, 4)`` with a row per environment.

    Raises:
        ValueError: another shape, something that is no real number, or a number that is not finite.
    """
    return commands(actions, shape, "x, y, z and gripper") * _SCALES


def commands(actions: NDArray[Any], shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    """Actions checked and clipped to [-1, 1], a fresh array; ``what`` names their numbers in the message.

    Raises:
        ValueError: another shape, something that is no real number, or a number that is not finite.
    """
    given = _as_numbers(actions)
    if given.shape != shape:
        raise ValueError(f"the action has shape {given.shape}, expected {shape}: {what} in [-1, 1]")
    # A finite sum of squares is finite throughout; one that overflows says nothing yet. A third of the time of the full look.
    if not math.isfinite(np.vdot(given, given)) and not np.isfinite(given).all():
        raise ValueError(f"the action {_first_not_finite(given)} is not finite: give numbers in [-1, 1]")
    clipped: NDArray[np.float32] = np.minimum(np.maximum(given, _LOWEST), _HIGHEST).astype(np.float32)
    return clipped


_HIGHEST = np.float32(1.0)
_LOWEST = -_HIGHEST
_SCALES = np.array([ACTION_SCALE, ACTION_SCALE, ACTION_SCALE, 1], np.float32)


def _as_numbers(actions: NDArray[Any]) -> NDArray[Any]:
    try:
        given = np.asarray(actions)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"the action is no array of numbers: {error}") from error
    if given.dtype.kind not in "fiu":
        # Strings and objects would often convert, and hide that something else was meant.
        raise ValueError(
            f"the action has dtype {given.dtype} ({given.tolist()!r:.80}); give float32 numbers in [-1, 1], integers will do"
        )
    return given


def _first_not_finite(given: NDArray[Any]) -> str:
    """The offending action, and in a batch whose it is."""
    if given.ndim == 1:
        return str(given.tolist())
    row = int(np.flatnonzero(~np.isfinite(given).all(axis=-1))[0])
    return f"{given[row].tolist()} of environment {row}"
