"""``farl check``: an environment broken in one way is found broken in that way, and what keeps the contract is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from farl import cli
from farl.contract import check_environment

ID = "Test/Ledge-v0"
EDGE, GOAL = 0.9, -0.8


ALSO = {"state": {"state elsewhere"}, "shared": {"get_state, set_state", "state elsewhere"}}
"""what a breach also breaks"""


class Ledge(gym.Env[Any, Any]):
    """A point on a line: over the edge on the right it fails, on the left is its goal. Can be told to break the contract."""

    expert_kinds = ("task", "failure")
    shared = 0.0

    def __init__(self, breach: str = "") -> None:
        self.breach = breach
        self.observation_space = gym.spaces.Box(-2, 2, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.wall = 0.8 if breach == "no failures" else 1.5
        self.handle: Any = (lambda: None) if breach == "unpicklable" else None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.steps, self.failed = self.np_random.uniform(-0.2, 0.2), 0, False
        self.drift = self.np_random.uniform(0.0, 0.05)
        Ledge.shared = 0.0
        info = self._info(onset=False)
        if self.breach == "missing after reset":
            del info["failed"]
        if self.breach == "types":
            info["margin"] = 1
        return self._seen(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.breach == "shared":
            Ledge.shared += 0.01
        self.x = float(np.clip(self.x + 0.1 * action[0] + self.drift + Ledge.shared, -1.5, self.wall))
        onset = self.x > EDGE and not self.failed
        self.failed = self.x > EDGE or (self.failed and self.breach != "latch")
        info = self._info(onset if self.breach != "onset" else self.x > EDGE)
        over = self.steps >= 40 and self.breach != "endless"
        ended = info["success"] and self.breach != "endless"
        terminal = ended if self.breach == "success terminates" else self.breach == "time-out terminates" and over
        if self.breach == "margin is None":
            info["margin"] = None
        if self.breach == "success is text":
            info["success"] = "no"
        return self._seen(), 1.0, terminal, (ended or over) and not terminal, info

    def get_state(self) -> dict[str, Any]:
        state = {"x": self.x, "steps": self.steps, "failed": self.failed, "drift": self.drift}
        if self.breach == "state":
            del state["x"]
        if self.breach == "state without its draw":
            del state["drift"]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def expert(self, kind: str) -> Any:
        return Runner(1.0 if kind == "failure" else -1.0)

    def _seen(self) -> Any:
        return np.array([self.x, 0.0], np.float32)

    def _info(self, onset: bool) -> dict[str, Any]:
        failure = self.x > EDGE
        margin = EDGE - self.x
        return {
            "failure": failure,
            "failed": self.failed,
            "failure_onset": onset,
            "success": self.x < GOAL,
            "margin": -margin if self.breach == "margin" else margin,
            "cost": 1.0 if self.breach == "cost" else float(failure),
        }


class Runner:
    def __init__(self, push: float) -> None:
        self.push = push

    def reset(self, rng: np.random.Generator) -> None: ...

    def act(self, obs: Any) -> Any:
        return np.array([self.push], np.float32)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gym.register(ID, entry_point=Ledge)
    yield
    del gym.registry[ID]


def test_an_environment_that_keeps_the_contract_has_no_finding_against_it() -> None:
    findings = check_environment(ID, {})
    assert [finding for finding in findings if finding.state != "ok"] == []
    assert {"vector", "pickle", "deepcopy", "state elsewhere", "failures", 'info["cost"]'} <= {f.what for f in findings}


@pytest.mark.parametrize(
    ("breach", "what", "state", "found"),
    [
        ("missing after reset", "info keys", "note", "not always there: failed"),
        ("types", 'info["margin"]', "note", "sometimes float, sometimes int"),
        ("margin is None", 'info["margin"]', "broken", "None"),
        ("success is text", 'info["success"]', "broken", "'no'"),
        ("success terminates", "episode end", "broken", "success terminates"),
        ("time-out terminates", "episode end", "note", "terminated without a failure"),
        ("endless", "episode end", "broken", "none within 2000 steps"),
        ("onset", 'info["failure_onset"]', "broken", "first failing step alone"),
        ("latch", 'info["failed"]', "broken", "does not stay True"),
        ("margin", 'info["margin"]', "broken", "negative at a safe one"),
        ("cost", 'info["cost"]', "broken", "1.0 where failure is True"),
        ("no failures", "failures", "note", "none in "),
        ("shared", "vector", "broken", "another observation at step"),
        ("unpicklable", "pickle", "note", "raised"),
        ("state", "get_state, set_state", "broken", "other observations"),
        ("state without its draw", "state elsewhere", "broken", "another environment"),
    ],
)
def test_each_breach_is_found_where_it_is_and_has_a_cure(breach: str, what: str, state: str, found: str) -> None:
    findings = check_environment(ID, {"breach": breach})
    mine = [finding for finding in findings if finding.what == what and finding.state != "ok"]
    assert [finding.state for finding in mine] == [state]
    assert found in mine[0].found
    assert mine[0].cure
    others = {finding.what for finding in findings if finding.state == "broken"} - {what}
    assert others <= ALSO.get(breach, set())


def test_a_vector_of_its_own_that_steps_otherwise_is_found() -> None:
    class Other(gym.vector.SyncVectorEnv):
        def __init__(self, num_envs: int, autoreset_mode: Any, **_: Any) -> None:
            super().__init__([Ledge] * num_envs, autoreset_mode=autoreset_mode)

        def step(self, actions: Any) -> Any:
            obs, reward, *rest = super().step(actions)
            return obs, reward * 0.5, *rest

    gym.register("Test/Own-v0", entry_point=Ledge, vector_entry_point=Other)
    try:
        findings = check_environment("Test/Own-v0", {})
    finally:
        del gym.registry["Test/Own-v0"]
    finding = next(finding for finding in findings if finding.what == "vector")
    assert (finding.state, finding.found) == ("broken", "another reward at step 1 than in single environments")


def test_the_status_says_whether_something_required_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", ID]) == 0
    assert "everything required works" in capsys.readouterr().out
    assert cli.main(["check", ID, "--options", "breach=cost"]) == 1
    assert "1 broken" in capsys.readouterr().out


def test_every_shipped_id_keeps_the_contract() -> None:
    import failurebench

    for task in failurebench.TASKS:
        findings = check_environment(f"failurebench:{task}", {})
        assert [f for f in findings if f.state == "broken"] == [], task


@pytest.mark.parametrize("page", ["README.md", "docs/own_task.md"])
def test_the_command_is_where_a_reader_looks_for_it(page: str) -> None:
    assert "farl check " in (Path(__file__).parents[1] / page).read_text()
