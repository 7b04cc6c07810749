"""``farl check ENV_ID``: does an environment honour the contract of docs/design.md? Each breach with its cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from farl.configuration import Options
from farl.contract.copies import Maker, copies, fresh_state, state, vector
from farl.contract.interface import experts, observations, seeding, spaces
from farl.contract.labels import labels
from farl.doctor import Finding
from farl.environments import TaskConfig, make
from farl.errors import UserError


@dataclass(frozen=True)
class CheckConfig:
    """Which environment to check against the contract."""

    env: str = ""
    """Gymnasium id, with the module that registers it in front: module:Namespace/Name-v0"""

    options: Options = field(default_factory=dict)
    """keyword arguments of that environment"""


def check_environment(env_id: str, options: Options) -> list[Finding]:
    """What ``env_id`` keeps and breaks of the contract; raises UserError if it cannot be made at all."""
    task = TaskConfig(env_id, options)
    env = make(task)
    findings = [Finding("environment", "ok", f"{env_id} can be made")]

    def another() -> Any:
        return make(task)

    try:
        for name, check in _checks(task, env, another):
            known = {finding.found for finding in findings if finding.state == "broken"}
            findings += [finding for finding in _guarded(name, check) if finding.found not in known]   # one cause, one line
            if any(finding.state == "broken" and finding.what.endswith("space") for finding in findings):
                break   # without actions and observations of the right shape the rest cannot run
    finally:
        env.close()
    return findings


def _checks(task: TaskConfig, env: Any, another: Maker) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    yield "spaces", lambda: spaces(env)
    yield "observations", lambda: observations(env)
    yield "info", lambda: labels(env)
    yield "seeding", lambda: seeding(env)
    yield "get_state, set_state", lambda: state(env)
    yield "fresh environment", lambda: fresh_state(env, another)
    yield "vector", lambda: vector(task, another)
    yield "pickle, deepcopy", lambda: copies(env)
    yield "scripted experts", lambda: experts(env)


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of ``check``; an environment that raises is a finding, too."""
    findings: list[Finding] = []
    try:
        for finding in check():
            findings.append(finding)
    except UserError as error:
        findings.append(Finding(name, "broken", str(error), "mend what the message names"))
    except Exception as error:   # anything a foreign environment may do
        findings.append(Finding(name, "broken", f"raised {type(error).__name__}: {error}", "make it run without an exception"))
    return findings
