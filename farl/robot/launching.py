"""From a configuration to a session: everything that can be refused is, before anything moves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from failurebench.franka.definition import FrankaTask
from farl import configuration
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.online.config import EXTENDABLE
from farl.online.provenance import git_commit, versions
from farl.outputs import check
from farl.robot.config import RobotSessionConfig
from farl.robot.session import RobotSession
from robots.arm import host
from robots.config import RobotConfig
from robots.env import FrankaTaskEnv
from robots.errors import RobotError
from robots.eyes import robot_name
from robots.operator.choice import OperatorConfig, open_operator
from robots.session.journal import MANIFEST, read_manifest
from robots.session.opening import station_of
from robots.session.rehearsal import rehearse
from robots.twin.configuration import task_named

RULES = ("max_episode_steps", "stop_on_success", "terminate_on_failure")
"""options of a task that are rules of its episodes, not of its table"""


def run_session(config: RobotSessionConfig) -> Path:
    """Play a session until its budget is used up; an interrupted one continues, a finished one is left alone."""
    config = config.placed
    task, robot = played(config)
    config = dataclasses.replace(config, robot=robot)
    record = manifest(config)
    if _finished(config, record):
        print(f"{config.out} is finished; give more --episodes to continue it, or another --out.")
        return config.out
    robot.bounds.check(task)
    robot = dataclasses.replace(robot, operator=_operator(robot))
    for warning in host.warnings():
        print(f"warning: {warning}")
    confirm(config)
    if config.preflight:
        for tried in rehearse(robot, task):
            print(f"rehearsal: {tried.what} ({tried.found})")
    yield_often()
    env = FrankaTaskEnv(task, lambda: station_of(robot, task), robot.env)
    with RobotSession(config, env, record) as session:
        session.play()
    return config.out


def yield_often() -> None:
    """Let no thread of this process wait long for another: for the whole process, so it is the program that asks for it."""
    torch.set_num_threads(1)   # a tiny network on several threads would take them from the 1 kHz loop
    sys.setswitchinterval(0.0005)   # a command that is due would wait 5 ms for the thread that looks at pictures


def played(config: RobotSessionConfig) -> tuple[FrankaTask, RobotConfig]:
    """The definition that ``config.task`` names, and the robot's configuration with the task's rules of episodes in it."""
    options = dict(config.task.options)
    rules: dict[str, Any] = {name: options.pop(name) for name in RULES if name in options}
    robot = config.robot
    rules_config = dataclasses.replace(robot.env.rules, **rules)
    return _named(config.task, options), dataclasses.replace(robot, env=dataclasses.replace(robot.env, rules=rules_config))


def manifest(config: RobotSessionConfig) -> dict[str, Any]:
    """What a session is, for its journal; raises UserError for a bundle that is missing, damaged or another task's."""
    bundle = OfflineBundle.load(config.bundle, config.task)
    weights = hashlib.sha256()
    for name, tensor in sorted(bundle.weights().items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    fingerprint = hashlib.sha256(f"{config.fingerprint()} {weights.hexdigest()}".encode()).hexdigest()
    told = configuration.parse(configuration.dump(config))
    return {
        "config_hash": fingerprint,
        "config": told,
        "task": config.task.name,
        "options": dict(config.task.options),
        "method": config.method,
        "episodes": config.episodes,
        "robot": robot_name(config.robot.arm),
        "thresholds": told["robot"]["limits"],
        "bundle": weights.hexdigest(),
        "versions": {**versions(), **_drivers()},
        "git_commit": git_commit(),
    }


def _named(task: TaskConfig, options: dict[str, Any]) -> FrankaTask:
    options.pop("action_repeat", None)
    try:
        definition = task_named(task.name, **options)
    except RobotError as error:
        raise UserError(f"{task.id} is not played on an arm: {error}") from error
    if definition.observe != "state":
        raise UserError(f"task.options.observe is {definition.observe}: an arm is played with state; take a bundle for that")
    return definition


def _finished(config: RobotSessionConfig, record: dict[str, Any]) -> bool:
    """Whether there is nothing left to do in ``config.out``; raises UserError where it is another session's."""
    check(config.out, config.online(), EXTENDABLE)
    session, meta = config.out / "session", config.out / "meta.json"
    if (session / MANIFEST).exists():
        there = read_manifest(session)
        if there.get("config_hash") != record["config_hash"]:
            raise UserError(f"{config.out} belongs to another session ({_differences(there, record)}); give another --out")
    if not meta.exists() or json.loads(meta.read_text()).get("status") != "finished":
        return False
    path = config.out / "episodes.jsonl"
    return path.exists() and sum(line.endswith(b"\n") for line in path.open("rb")) >= config.episodes


def _differences(there: dict[str, Any], record: dict[str, Any]) -> str:
    theirs, ours = _flat(there.get("config", {})), _flat(record["config"])
    differing = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    told = [f"{name}: {theirs.get(name)!r} there, {ours.get(name)!r} now" for name in differing if name != "episodes"]
    return "; ".join(told[:4]) or "another bundle"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{prefix}.{name}".lstrip(".")).items()}


def _operator(robot: RobotConfig) -> OperatorConfig:
    """The configured one, if it is there; a twin does without."""
    if robot.operator.kind == "nobody" and not robot.on_twin:
        raise UserError("robot.operator.kind is nobody, which is for twins: a real arm needs a person to stop, reset and label")
    operator = open_operator(robot.operator)
    try:
        operator.start()
    except RobotError as error:
        if not robot.on_twin:
            raise
        print(f"nobody operates the twin: {error}")
        return OperatorConfig("nobody")
    finally:
        operator.close()
    return robot.operator


def confirm(config: RobotSessionConfig) -> None:
    """A real arm moves only where somebody has said its address twice."""
    arm = config.robot.arm
    if config.robot.on_twin or config.confirm == arm.host:
        return
    if config.confirm:
        raise UserError(f"--confirm is {config.confirm}, but robot.arm.host is {arm.host}: which robot is it to be?")
    if not sys.stdin.isatty():
        raise UserError(f"the robot at {arm.host} is real: give --confirm {arm.host}, or --twin to play on the twin")
    limits = config.robot.limits
    print(
        f"The robot at {arm.host} is going to move: x {limits.x_m[0]:g} to {limits.x_m[1]:g}, y {limits.y_m[0]:g} to "
        f"{limits.y_m[1]:g}, z {limits.z_m[0]:g} to {limits.z_m[1]:g} m, up to {limits.speed_mps:g} m/s."
    )
    if input("Type its address to go on: ").strip() != arm.host:
        raise UserError("not confirmed; nothing has moved")


def _drivers() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in ("franky-control", "franky-sim", "pyrealsense2"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found

