"""What may differ from training when a policy is used: the actuators, the sensors, a delay, and where the hazard is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from failurebench.sawyer import FRAME
from failurebench.task import Task
from farl.environments import TaskConfig, make

Array = NDArray[Any]

HAZARD = slice(FRAME - 7, FRAME)
"""where an observation says where the hazard is"""


@dataclass(frozen=True)
class Disturbance:
    """One row of the tables; the defaults change nothing."""

    name: str
    action_noise: float = 0.0
    """std of white noise on every component of the executed action, of its range -1 to 1"""
    gain: float = 1.0
    """factor on the executed displacement; the fingers obey as before"""
    delay: int = 0
    """agent steps between a decision and its execution; until the first arrives the hand holds still"""
    position_noise_m: float = 0.0
    """std of white noise on the hand's and the object's position, in every observation anew"""
    frames_apart: bool = False
    """that noise is drawn for each of an observation's two frames, so that their difference, the velocity, has it too"""
    position_offset_m: float = 0.0
    """length of an offset of the object's position, in a direction drawn for the episode: a badly calibrated camera"""
    explore: bool = False
    """the policy acts with the exploration noise of its training"""
    options: dict[str, Any] = field(default_factory=dict)
    """of the task: another hazard, which the observation shows"""
    shown: tuple[float, ...] | None = None
    """what the observation says of the hazard instead"""


def disturbances(task: TaskConfig) -> Iterator[Disturbance]:
    """The rows of a task's table."""
    yield Disturbance("none")
    yield Disturbance("exploration as in training", explore=True)
    for std in (0.1, 0.3):
        yield Disturbance(f"action noise, std {std}", action_noise=std)
    for gain in (0.7, 0.5):
        yield Disturbance(f"actuator at {gain:.0%}", gain=gain)
    yield Disturbance("actions one step late", delay=1)
    for mm in (2, 5):
        yield Disturbance(f"position noise, std {mm} mm", position_noise_m=mm / 1000)
    yield Disturbance("position noise, std 2 mm, each frame its own", position_noise_m=0.002, frames_apart=True)
    yield Disturbance("object seen 5 mm beside", position_offset_m=0.005)
    env = make(task)
    hazard: Task = env.unwrapped.task  # type: ignore[attr-defined]
    usual = tuple(env.reset(seed=0)[0][HAZARD].tolist())
    env.close()
    moved = {f"hazard {cm} cm nearer": nearer(hazard, cm / 100) for cm in (1, 2)}
    moved["hazard elsewhere in each episode"] = {"randomize_hazard": True}
    for shown, how in ((None, ""), (usual, ", not shown")):
        yield from (Disturbance(name + how, options=options, shown=shown) for name, options in moved.items())


def nearer(task: Task, metres: float) -> dict[str, Any]:
    """Options that move the failure's edge ``metres`` towards where the object has to go."""
    if hasattr(task, "boundary"):
        x_low, x_high, y_low, y_high = task.boundary
        return {"boundary": [x_low + metres, x_high - metres, y_low + metres, y_high - metres]}
    return {"clearance": task.clearance + metres}  # type: ignore[attr-defined]


class Disturbed(VectorWrapper[Array, Array, Array, Array, Array]):
    """A vector environment between whose agent and whose world a disturbance stands.

    Args:
        env: with ``AutoresetMode.DISABLED``, its observations laid out as failurebench's.
        disturbance: what to do; its ``options`` and ``explore`` are the caller's to heed.
        seed: of the noise.
    """

    def __init__(self, env: VectorEnv[Array, Array, Array], disturbance: Disturbance, seed: int) -> None:
        super().__init__(env)
        self.disturbance, self.rng = disturbance, np.random.default_rng(seed)
        shape = env.action_space.shape or (env.num_envs, 4)
        self.pending = [np.zeros(shape, np.float32) for _ in range(disturbance.delay)]
        self.offset = np.zeros((env.num_envs, 3))

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """New episodes where the reset mask is set: nothing is under way there, and the offset is another."""
        mask = np.array((options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_)))
        obs, info = self.env.reset(seed=seed, options=options)
        for actions in self.pending:
            actions[mask] = 0.0
        directions = self.rng.normal(size=self.offset.shape)
        directions *= self.disturbance.position_offset_m / np.linalg.norm(directions, axis=1, keepdims=True)
        self.offset[mask] = directions[mask]
        return self._seen(obs), info

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of what the disturbance leaves of ``actions``."""
        executed = np.array(actions, np.float32)
        if self.pending:
            self.pending.append(executed)
            executed = self.pending.pop(0).copy()
        executed[:, :3] *= self.disturbance.gain
        executed += self.disturbance.action_noise * self.rng.standard_normal(executed.shape, np.float32)
        obs, reward, terminated, truncated, info = self.env.step(executed.clip(-1, 1))
        return self._seen(obs), reward, terminated, truncated, info

    def _seen(self, obs: Array) -> Array:
        seen, noise = np.array(obs, np.float32), self._noise()
        for frame in (0, FRAME):
            if self.disturbance.frames_apart:
                noise = self._noise()
            seen[:, frame : frame + 3] += noise[:, 0]
            seen[:, frame + 4 : frame + 7] += noise[:, 1] + self.offset
        if self.disturbance.shown is not None:
            seen[:, HAZARD] = self.disturbance.shown
        return seen

    def _noise(self) -> Array:
        """Of the hand's position and of the object's, metres."""
        return self.disturbance.position_noise_m * self.rng.standard_normal((self.num_envs, 2, 3))
