"""What a manifest tells those who read a session: the task that was played, and how labels count."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from failurebench.franka.definition import FrankaTask
from robots.session.episode import RulesConfig
from robots.twin.configuration import TASKS, task_named


def definition(manifest: Mapping[str, Any]) -> FrankaTask:
    """The task with its options; raises RobotError where this program does not know it."""
    name = str(manifest.get("task", ""))
    short = name.rsplit("/", 1)[-1].removesuffix("-v0")
    known = {field.name for field in dataclasses.fields(TASKS[short])} if short in TASKS else set()
    options = manifest.get("options") or {}   # some are rules of episodes, which the definition knows nothing of
    return task_named(name, **{key: value for key, value in options.items() if key in known})


def back_steps(manifest: Mapping[str, Any]) -> int:
    """As ``robots.session.labels.judge`` takes it."""
    inner: Any = manifest
    for key in ("config", "robot", "env", "rules", "label_back_steps"):
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return RulesConfig().label_back_steps if inner is None else int(inner)
