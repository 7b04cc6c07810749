"""FailureBench: manipulation tasks with intervention-requiring failures. Importing it registers their Gymnasium ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium

if TYPE_CHECKING:
    from failurebench.vector import FailureVectorEnv

__all__ = ["FRANKA", "TASKS", "make_vec"]

HORIZON = 250
"""agent steps per episode of most tasks"""


class Entry(NamedTuple):
    """What an id stands for."""

    task: str
    """``module:Class`` of the task"""

    horizon: int = HORIZON
    """agent steps per episode, unless another ``max_episode_steps`` is asked for"""


TASKS = {
    "FailureBench/BoundedPush-v0": Entry("failurebench.tasks.bounded_push:BoundedPush"),
    "FailureBench/BoundedPush-Hard-v0": Entry("failurebench.tasks.bounded_push:HardBoundedPush"),
    "FailureBench/BoundedSoccer-v0": Entry("failurebench.tasks.bounded_soccer:BoundedSoccer"),
    "FailureBench/BoundedSoccer-Hard-v0": Entry("failurebench.tasks.bounded_soccer:HardBoundedSoccer"),
    "FailureBench/FragilePushWall-v0": Entry("failurebench.tasks.fragile_push_wall:FragilePushWall"),
    "FailureBench/FragilePushWall-Hard-v0": Entry("failurebench.tasks.fragile_push_wall:HardFragilePushWall"),
    "FailureBench/ObstructedPush-v0": Entry("failurebench.tasks.obstructed_push:ObstructedPush", 80),
    "FailureBench/ObstructedPush-Hard-v0": Entry("failurebench.tasks.obstructed_push:HardObstructedPush", 80),
}
"""MetaWorld's, played by the Sawyer arm"""

FRANKA_HORIZON = 150

FRANKA = {
    "FailureBench/FrankaFragilePushWall-v0": Entry(
        "failurebench.franka.push_wall:FrankaFragilePushWall", FRANKA_HORIZON
    ),
    "FailureBench/FrankaDisturbedPush-v0": Entry(
        "failurebench.franka.disturbed_push:FrankaDisturbedPush", FRANKA_HORIZON
    ),
    "FailureBench/FrankaBoundedSoccer-v0": Entry("failurebench.franka.soccer:FrankaBoundedSoccer", FRANKA_HORIZON),
}
"""those of a Franka arm, on the robosuite twin; they need robosuite: ``pip install 'robosuite>=1.5.1,!=1.5.2,<1.6'``"""


def _register() -> None:
    for task_id, (task, horizon) in TASKS.items():
        gymnasium.register(
            task_id,
            entry_point="failurebench.env:FailureEnv",
            vector_entry_point="failurebench.vector:FailureVectorEnv",
            # gymnasium.make keeps the horizon for its TimeLimit wrapper and hands it to vector environments only, unless
            # it is among kwargs. A single environment must not also cut episodes: no longer horizon could be asked for.
            max_episode_steps=horizon,
            kwargs={"task": task},
        )
    for task_id, (task, horizon) in FRANKA.items():
        gymnasium.register(
            task_id,
            entry_point="failurebench.franka.env:FrankaEnv",
            vector_entry_point="failurebench.franka.env:FrankaVectorEnv",
            max_episode_steps=horizon,
            kwargs={"task": task, "action_repeat": 1},
        )


def make_vec(task_id: str, num_envs: int, **kwargs: Any) -> FailureVectorEnv:
    """``num_envs`` environments, in this process sharing one model, or split over worker processes.

    Args:
        task_id: an id from ``TASKS`` or ``FRANKA``.
        num_envs: how many, at least 1.
        **kwargs: ``num_workers``, ``autoreset_mode`` and whatever ``gymnasium.make(task_id)`` takes.
    """
    from failurebench.vector import FailureVectorEnv

    if task_id not in {**TASKS, **FRANKA}:
        raise ValueError(f"unknown task {task_id!r}; the choices are {', '.join((*TASKS, *FRANKA))}")
    env = gymnasium.make_vec(task_id, num_envs, vectorization_mode="vector_entry_point", **kwargs)
    assert isinstance(env, FailureVectorEnv)
    return env


_register()
gymnasium.register("FailureBench/PointMassCliff-v0", entry_point="failurebench.point_mass:PointMassCliff")
