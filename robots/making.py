"""What ``gymnasium.make("robots:Robots/FrankaFragilePushWall-v0", ...)`` makes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from robots.arm.config import ArmConfig
from robots.config import TWIN, RobotConfig
from robots.env import EnvConfig, FrankaTaskEnv
from robots.operator.choice import Kind, OperatorConfig
from robots.session.episode import RulesConfig
from robots.session.journal import Journal
from robots.session.opening import station_of
from robots.session.resetting import ResetConfig
from robots.twin.configuration import task_named


def make(
    task: str,
    *,
    host: str = TWIN,
    operator: Kind = "nobody",
    eyes: str = "",
    reset: str = "human",
    journal: str | None = None,
    robot: RobotConfig | None = None,
    max_episode_steps: int = RulesConfig.max_episode_steps,
    stop_on_success: bool = True,
    terminate_on_failure: bool = False,
    **options: Any,
) -> FrankaTaskEnv:
    """An environment on an arm; nothing is opened before its first ``reset``, and nothing moves without ``permit``.

    Args:
        task: name of the definition.
        host: the robot's address; ``twin`` starts a wire twin.
        operator: what the person at the robot holds.
        eyes: file of cameras, calibration and what is on the table.
        reset: ``human`` or ``scripted``.
        journal: folder in which every step is kept.
        robot: everything about the table, in place of ``host``, ``operator``, ``eyes`` and ``reset``.
        max_episode_steps, stop_on_success, terminate_on_failure: as for the FailureBench task.
        **options: the definition's own, such as ``clearance``.

    Raises:
        RobotError: an option that the definition does not have, or limits that contradict it.
    """
    definition = task_named(task, **options)
    rules = RulesConfig(max_episode_steps, stop_on_success, terminate_on_failure)
    by: Any = reset
    if robot is None:
        robot = RobotConfig(ArmConfig(host), env=EnvConfig(reset=ResetConfig(by=by)), operator=OperatorConfig(operator), eyes=eyes)
    config = dataclasses.replace(robot, env=dataclasses.replace(robot.env, rules=rules))
    config.bounds.check(definition)
    what = {"config_hash": f"{task} {config}", "task": task, "options": options}
    kept = None if journal is None else Journal(Path(journal), what)
    return FrankaTaskEnv(definition, lambda: station_of(config, definition), config.env, kept)
