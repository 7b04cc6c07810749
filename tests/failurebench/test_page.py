"""The page for those who use FailureBench alone: its examples run, its tables are the code's."""

from __future__ import annotations

import abc
import dataclasses
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from failurebench import TASKS
from failurebench.evaluate import evaluate
from failurebench.wrappers import EpisodeFailures, Totals
from tests.failurebench.conftest import BOUNDED_PUSH, HARD

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failurebench.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block(mark):
    """The example that contains ``mark``."""
    (found,) = [code for code in BLOCKS if mark in code]
    return found


def run(code, folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "mark",
    [
        "terminate_on_failure=True)",
        "envs.action_space.sample())\n",
        "totals.failure_types",
        'SafetyTuple(gymnasium.make("FailureBench/Obs',
    ],
)
def test_an_example_runs(mark, tmp_path):
    out = run(next(code for code in BLOCKS if mark in code), tmp_path)
    assert (out.returncode, out.stderr) == (0, "")


def test_the_stable_baselines_example_runs(tmp_path):
    # FailureBench does not depend on the library, so set-up leaves it out; `make extras` installs it and runs this.
    if importlib.util.find_spec("stable_baselines3") is None:
        pytest.skip("make extras installs Stable-Baselines3 and runs this")
    out = run(block("from stable_baselines3"), tmp_path)
    assert out.returncode == 0, out.stderr
    assert re.fullmatch(r"\[(\d+, ){3}\d+\]\n", out.stdout)


def test_the_policy_of_ones_own_can_be_evaluated(tmp_path, monkeypatch):
    (tmp_path / "my_policy.py").write_text(block("# my_policy.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    result = evaluate(BOUNDED_PUSH, "my_policy:make", episodes=1, options={"max_episode_steps": 5})
    assert result["episodes"][0]["length"] == 5


def test_the_tables_are_the_codes():
    info = gymnasium.make(HARD).reset(seed=0)[1]
    rows = dict(re.findall(r"^\| `(\w+)` \| (bool|str|float) \|", PAGE, re.MULTILINE))
    assert rows == {key: type(value).__name__ for key, value in info.items()}
    for task_id, entry in TASKS.items():
        base = task_id.replace("-Hard", "")
        row = re.search(rf"^\| \[`{base}`\]\(tasks/\w+\.md\), `-Hard-v0` \| .*\(`(\w+)`\) \| (\d+)", PAGE, re.MULTILINE)
        made = gymnasium.make(task_id).unwrapped
        assert row.groups() == (made.task.failure_type, str(entry.horizon))
    counted = PAGE[PAGE.index("| field of `episode_failures`") :].split("\n\n")[0]
    names = set(re.findall(r"`(\w+)`", counted))
    fields = {field.name for one in (EpisodeFailures, Totals) for field in dataclasses.fields(one)} | {"failed"}
    assert fields <= names


class CMDP(abc.ABC):
    """The interface of ``omnisafe.envs.core.CMDP``, written down from OmniSafe 0.5.0, which is not installed here."""

    def __init__(self, env_id):
        assert env_id in self._support_envs

    @abc.abstractmethod
    def step(self, action): ...

    @abc.abstractmethod
    def reset(self, seed=None, options=None): ...

    @abc.abstractmethod
    def set_seed(self, seed): ...

    @abc.abstractmethod
    def render(self): ...

    @abc.abstractmethod
    def close(self): ...


def test_the_omnisafe_recipe_gives_what_its_interface_asks_for(monkeypatch):
    """Six tensors a step, the cost of a failing episode 1. What no double can show was tried once with the library itself."""
    torch = pytest.importorskip("torch")
    core = types.ModuleType("omnisafe.envs.core")
    core.CMDP, core.env_register = CMDP, lambda made: made
    for name in ("omnisafe", "omnisafe.envs"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "omnisafe.envs.core", core)
    monkeypatch.setitem(sys.modules, "safety_gymnasium", types.ModuleType("safety_gymnasium"))
    recipe = {}
    exec(block("# omnisafe_failurebench.py"), recipe)
    env = recipe["FailureBench"](HARD, num_envs=1, device="cpu", max_episode_steps=60)
    for name in ("step", "reset", "set_seed", "render", "close"):
        asked, given = (list(inspect.signature(getattr(one, name)).parameters) for one in (CMDP, type(env)))
        assert given == asked
    assert (env.need_auto_reset_wrapper, env.need_time_limit_wrapper, env.max_episode_steps) == (True, False, 60)
    expert = env._env.unwrapped.expert("failure")
    expert.reset(np.random.default_rng(0))
    env.set_seed(0)
    obs, info = env.reset(seed=0)
    costs, over = 0.0, False
    while not over:
        assert (obs.dtype, obs.shape) == (torch.float32, (39,))
        *numbers, info = env.step(torch.as_tensor(expert.act(obs.numpy())))
        assert all(isinstance(number, torch.Tensor) and number.dtype == torch.float32 for number in numbers)
        obs, _, cost, terminated, truncated = numbers
        costs, over = costs + float(cost), bool(terminated) or bool(truncated)
    assert costs == 1.0
    assert info["failed"]
    env.close()
