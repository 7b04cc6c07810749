"""The Franka tasks on the robosuite twin as Gymnasium environments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from failurebench.env import FailureEnv
from failurebench.franka import points
from failurebench.franka.definition import CONTROL_HZ, FrankaTask
from failurebench.franka.furniture import CAMERA
from failurebench.franka.twin import TwinEpisode
from failurebench.interface import Interface, View, commands
from failurebench.vector import FailureVectorEnv


def franka_interface(task: Any) -> Interface:
    """Spaces of the definition, ten steps a second."""
    assert isinstance(task, FrankaTask)
    names = list(task.fields)

    def indices(*wanted: str) -> tuple[int, ...]:
        return tuple(names.index(name) for name in wanted)

    tracked = {"finger": indices("finger x", "finger y"), "object": indices("object x", "object y")}
    interface = Interface(
        TwinEpisode,
        task.observation_space(),
        task.action_space(),
        _moves,
        CONTROL_HZ,
        tracked,
        View(CAMERA, hangs=False),
        "robosuite",
    )
    if task.observe == "state":
        return interface
    space = points.observation_space(task)
    return replace(interface, observation_space=space, tracked={}, unpacked=points.unpacked)


def _moves(actions: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return commands(actions, shape, "x and y")


class FrankaEnv(FailureEnv):
    """One episode at a time. The arguments are those of ``FailureEnv``; one step is a tenth of a second."""

    metadata: dict[str, Any] = {**FailureEnv.metadata, "render_fps": CONTROL_HZ}  # noqa: RUF012 (as in the base)
    _episode: TwinEpisode

    def expert_view(self) -> NDArray[np.float32]:
        """What ``expert`` acts on: the numbers of ``observe="state"``, whatever the observation is."""
        return self._episode.expert_view()

    def _interface(self) -> Interface:
        return franka_interface(self.task)


class FrankaVectorEnv(FailureVectorEnv):
    """``num_envs`` episodes, transition for transition those of ``FrankaEnv``. Arguments as for ``FailureVectorEnv``."""

    metadata: dict[str, Any] = {**FailureVectorEnv.metadata, "render_fps": CONTROL_HZ}  # noqa: RUF012 (as in the base)

    def expert_views(self) -> NDArray[np.float32]:
        """What ``expert`` acts on, a row per environment: the numbers of ``observe="state"``."""
        return np.stack(self._chunk.expert_views())

    def _interface(self) -> Interface:
        return franka_interface(self.task)
