"""Episodes as a session records them, from a table where things move by rules of thumb: no simulator, no arm, no learning.

The definitions, their scripted behaviours and their verdicts are the real ones, so observations, failures and margins are true.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from failurebench.franka.definition import FINGER_RADIUS_M, FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.person import Person
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.scene import Layout, Scene
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.session.record import StepRecord

PERIOD_S = 0.1
THRESHOLD = 0.3
TASKS: dict[str, type[FrankaTask]] = {
    task.name: task for task in (FrankaFragilePushWall, FrankaDisturbedPush, FrankaBoundedSoccer)
}


@dataclass
class Table:
    """Where things are; what the finger meets goes before it, a ball rolls on."""

    task: FrankaTask
    layout: Layout
    scene: Scene = field(init=False)
    reference: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        hand = self.task.hand_start
        self.scene = Scene(hand, (0.0, 0.0), self.layout.object, self.layout.yaw)
        self.reference = hand
        walks = isinstance(self.task, FrankaDisturbedPush)
        self.person = Person(self.layout.script, self.task.habits(self.layout), PERIOD_S) if walks else None
        if self.person is not None:
            self.scene = self.scene._replace(obstacle=self.person.position)
        self.radius = getattr(self.task, "box_half_m", 0.0) or self.task.ball_radius_m
        self.rolls = 0.85 if hasattr(self.task, "ball_radius_m") else 0.0

    def step(self, action: tuple[float, float]) -> None:
        self.reference = self.task.advance(self.reference, self.scene.tcp, action)
        (x, y), (rx, ry) = self.scene.tcp, self.reference
        tcp = x + 0.7 * (rx - x), y + 0.7 * (ry - y)
        (ox, oy), (vx, vy) = self.scene.object, self.scene.object_velocity
        ox, oy = ox + PERIOD_S * self.rolls * vx, oy + PERIOD_S * self.rolls * vy
        apart, reach = math.hypot(ox - tcp[0], oy - tcp[1]), self.radius + FINGER_RADIUS_M
        touches = 0 < apart < reach
        if touches:
            ox, oy = tcp[0] + reach / apart * (ox - tcp[0]), tcp[1] + reach / apart * (oy - tcp[1])
        before = self.scene
        self.scene = Scene(
            tcp,
            ((tcp[0] - x) / PERIOD_S, (tcp[1] - y) / PERIOD_S),
            (ox, oy),
            before.yaw,
            ((ox - before.object[0]) / PERIOD_S, (oy - before.object[1]) / PERIOD_S),
            force_n=2.5 * touches,
            age_s=0.033,
        )
        if self.person is not None:
            self.person.step(tcp, self.scene.object)
            self.scene = self.scene._replace(obstacle=self.person.position, obstacle_velocity=self.person.velocity)


def episode(
    task: FrankaTask,
    number: int,
    *,
    begin: float | None = None,
    steps: int = 80,
    hasty: bool = True,
    human: range = range(0),
    fault: str = "",
    seed: int = 0,
    **fixed: Any,
) -> Iterator[StepRecord]:
    """One episode, gated by a risk that follows the margin; ``human`` takes over in those steps, ``fault`` ends it.

    ``fixed`` replaces fields of every record.
    """
    rng = np.random.default_rng([seed, number])
    table = Table(task, task.layout(rng))
    acting, saving = task.expert("pusher" if hasty else "task"), task.expert("recovery")
    for expert in (acting, saving):
        expert.reset(rng)
    now, gated = time.time() if begin is None else begin, 0
    for step in range(steps):
        scene, layout = table.scene, table.layout
        obs = task.observation(scene, layout)
        proposed = (acting.act(obs) + 0.15 * rng.normal(size=2)).clip(-1, 1)
        back = saving.act(obs)
        risk = 1 / (1 + math.exp((task.margin(scene, layout) - 0.008) / 0.006)) + 0.02 * rng.random()
        gated = 4 if risk > THRESHOLD else gated - 1
        source = "human" if step in human else "recovery" if gated > 0 else "task"
        chosen = {"human": 0.5 * back, "recovery": back, "task": proposed}[source]
        before = table.reference
        table.step((float(chosen[0]), float(chosen[1])))
        scene = table.scene
        last = step == steps - 1
        margin = task.margin(scene, layout)
        reached = task.reached(scene, layout)
        at = now + (step + 1) * PERIOD_S
        yield replace(
            StepRecord(
                episode=number, step=step, time=at, obs=_plain(obs), next_obs=_plain(task.observation(scene, layout)),
                proposed=_plain(proposed), recovery=_plain(back),
                executed=[(table.reference[i] - before[i]) / task.step_m for i in (0, 1)],
                risk=risk, threshold=THRESHOLD, source=source, reward=task.reward(scene, layout), failure=margin <= 0,
                failure_type=task.failure_type if margin <= 0 else "", success=reached, margin=margin, terminated=False,
                truncated=reached or last, fault=fault if last else "", clipped=["box"] if step % 29 == 28 else [],
                status="running", tip=[*scene.tcp, 0.02], force=[-scene.force_n, 0.3, 0.1],
                reference=list(table.reference), ages={"camera": 0.02 + 0.02 * rng.random(), "estimate": 0.05},
                period=PERIOD_S + 0.0005 * rng.random(), decision=0.012 + 0.004 * rng.random(), policy_version=number // 3,
                images={},
            ),
            **fixed,
        )  # fmt: skip
        if reached:
            return


def photograph(record: StepRecord, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """What a camera over the table might have seen: enough to tell steps apart."""
    picture = Image.new("RGB", size, "#b9a98c")
    pen = ImageDraw.Draw(picture)
    scale = size[0] / 0.6
    for (x, y), colour, radius in (
        ((record.obs[5], record.obs[6]), "#3f6fb5", 0.03),
        ((record.obs[0], record.obs[1]), "#202020", 0.012),
    ):
        middle = size[0] / 2 - scale * y, size[1] - scale * (x - 0.3)
        pen.ellipse([middle[i] + sign * scale * radius for sign in (-1, 1) for i in (0, 1)], fill=colour)
    pen.text((6, 4), f"episode {record.episode} step {record.step}", fill="black")
    return picture


def _plain(values: NDArray[Any]) -> list[float]:
    return [float(value) for value in values]
