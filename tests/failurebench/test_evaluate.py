"""``python -m failurebench.evaluate``: scores from known episodes, files that repeat, refusals in one message."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from scipy import stats

from failurebench import FRANKA, TASKS, references
from failurebench.evaluate import EPISODES, FIRST_SEED, evaluate, main
from failurebench.results import FORMAT, table
from failurebench.sawyer import load_world
from failurebench.scores import Outcome, mean, normalised, summarise, wilson
from failurebench.tasks.bounded_push import BoundedPush
from failurebench.versions import model_hash
from tests.failurebench.conftest import BOUNDED_PUSH, HARD

QUICK = ["--episodes", "3", "--no-full-length"]


def run(tmp_path, *arguments, task=BOUNDED_PUSH, policy="zero", out="result.json"):
    """Exit status and the result, if there is one."""
    out = tmp_path / out
    status = main(["--task", task, "--policy", policy, "--out", str(out), *arguments])
    return status, json.loads(out.read_text()) if out.is_file() else None


@pytest.mark.parametrize(("hits", "trials"), [(0, 100), (3, 100), (50, 100), (100, 100), (1, 7)])
def test_wilsons_interval_inverts_the_score_test(hits, trials):
    """Its ends are the rates at which the observed count lies exactly 1.96 standard errors away."""
    rate = wilson(hits, trials)
    assert rate.rate == hits / trials
    for end in (rate.low, rate.high):
        if 0 < end < 1:
            z = (rate.rate - end) / np.sqrt(end * (1 - end) / trials)
            assert abs(z) == pytest.approx(stats.norm.ppf(0.975), rel=1e-9)
    assert rate.low <= rate.rate <= rate.high
    assert (rate.low == 0) == (hits == 0)
    assert (rate.high == 1) == (hits == trials)


def test_a_summary_of_known_episodes():
    outcomes = [
        Outcome(0, 10, 5.0, 10, None, 0, ""),
        Outcome(1, 20, 7.0, 20, 4, 3, "out_of_bounds"),
        Outcome(2, 250, 1.0, None, 8, 1, "out_of_bounds"),
        Outcome(3, 250, 3.0, None, None, 0, ""),
    ]
    summary = summarise(outcomes)
    assert [summary.success.count, summary.safe_success.count, summary.failure.count] == [2, 1, 2]
    assert summary.failure.rate == 0.5
    assert (summary.steps_to_success.mean, summary.steps_to_failure.median) == (15, 6)
    assert summary.failure_types == {"out_of_bounds": 2}
    assert summary.episode_return.mean == 4.0
    assert summary.episode_return.standard_error == pytest.approx(np.std([5, 7, 1, 3], ddof=1) / 2)


def test_the_score_is_0_for_random_100_for_the_expert_and_linear():
    reference = {"random": {"full_length_return": 20.0}, "expert": {"full_length_return": 420.0}}
    assert [normalised(mean([value]), reference).value for value in (20, 420, 220, -180)] == [0, 100, 50, -50]
    assert normalised(mean([20, 420]), reference).standard_error == pytest.approx(50)
    assert normalised(mean([1.0]), {"random": reference["random"], "expert": reference["random"]}) is None


def test_an_evaluation_is_what_a_loop_over_its_seeds_finds():
    result = evaluate(HARD, "failure", episodes=3)
    env = gymnasium.make(HARD)
    expert = env.unwrapped.expert("failure")
    for i, row in enumerate(result["episodes"]):
        seed = FIRST_SEED + i
        expert.reset(np.random.default_rng(seed))
        obs, _ = env.reset(seed=seed)
        total, margins, over = 0.0, [], False
        while not over:
            obs, reward, terminated, truncated, info = env.step(expert.act(obs))
            total += reward
            margins.append(info["margin"])
            over = terminated or truncated
        failing = np.array(margins) <= 0
        assert (row["seed"], row["length"], row["failing_steps"]) == (seed, len(margins), failing.sum())
        assert row["episode_return"] == pytest.approx(total)
        assert row["failure_step"] == int(failing.argmax()) + 1
    until = result["until_success"]
    assert until["failure"] == {"count": 3, "rate": 1.0, "low": wilson(3, 3).low, "high": 1.0}
    assert until["failure_types"] == {"out_of_bounds": 3}
    assert until["safe_success"]["count"] == 0


def test_full_length_episodes_go_on_after_success():
    result = evaluate(BOUNDED_PUSH, "task", episodes=2)
    until, full = result["episodes"], result["full_length_episodes"]
    for short, long in zip(until, full, strict=True):
        assert short["success_step"] == long["success_step"] == short["length"] < long["length"] == 250
        assert short["episode_return"] < long["episode_return"]
    assert result["protocol"]["max_episode_steps"] == 250
    assert result["agent_step_s"] == 0.025


def test_the_same_command_writes_the_same_file_in_another_process(tmp_path):
    status, _ = run(tmp_path, *QUICK, policy="pusher")
    assert status == 0
    command = [sys.executable, "-m", "failurebench.evaluate", "--task", BOUNDED_PUSH, "--policy", "pusher", *QUICK]
    again = tmp_path / "again.json"
    out = subprocess.run([*command, "--out", str(again)], capture_output=True, text=True, check=True)
    assert again.read_bytes() == (tmp_path / "result.json").read_bytes()
    assert "success, no failure" in out.stdout
    assert out.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "result.json"]


def test_random_policies_draw_anew_each_episode_but_repeat():
    one, other = (evaluate(BOUNDED_PUSH, "random", episodes=2, full_length=False) for _ in range(2))
    assert one == other
    first, second = one["episodes"]
    assert first["episode_return"] != second["episode_return"]


def test_a_hash_names_the_model_and_notices_any_change():
    scene = BoundedPush.scene
    model = load_world(scene).model
    code = (
        "from failurebench.tasks.bounded_push import BoundedPush; from failurebench.sawyer import load_world; "
        "from failurebench.versions import model_hash; print(model_hash(load_world(BoundedPush.scene).model))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == model_hash(model)
    friction = model.geom_friction[0, 0]
    try:
        model.geom_friction[0, 0] = friction * (1 + 1e-15) + 1e-15
        assert model_hash(model) != out.stdout.strip()
    finally:
        model.geom_friction[0, 0] = friction
    assert model_hash(model) == out.stdout.strip()


def test_there_are_constants_for_the_score_and_the_expert_beats_random():
    known = references.load_references()
    assert known, "python -m failurebench.evaluate --make-references"
    assert set(known) == {*TASKS, *FRANKA}
    for task, reference in known.items():
        now = evaluate(task, "zero", episodes=1, full_length=False)
        again = f"python -m failurebench.evaluate --make-references --task {task}"
        assert {key: now[key] for key in ("constants", "starts")} == {
            key: reference[key] for key in ("constants", "starts")
        }, again
        assert reference["expert"]["full_length_return"] > reference["random"]["full_length_return"]
        assert reference["expert"]["safe_success"] > 0.5 > reference["random"]["success"]
        assert reference["seeds"] == {"first": FIRST_SEED, "count": EPISODES}
        assert {"mujoco", "robosuite" if task in FRANKA else "metaworld", "failurebench"} <= set(reference["versions"])


def test_where_episodes_begin_is_part_of_the_result():
    """Constants of a task that are no arguments of it, such as its goal, would otherwise change unseen."""
    narrow, full, again = (
        evaluate(
            BOUNDED_PUSH, "zero", episodes=1, full_length=False, options={"start_range": name, "max_episode_steps": 1}
        )
        for name in ("narrow", "full", "narrow")
    )
    assert narrow["starts"] == again["starts"] != full["starts"]
    assert narrow["starts"] != evaluate(HARD, "zero", episodes=1, full_length=False)["starts"]


def test_constants_are_made_by_the_command_and_the_experts_score_is_100(tmp_path, monkeypatch):
    """With as many episodes as the constants, the expert that they were measured with scores 100 and random 0."""
    import failurebench.evaluate as module

    path = tmp_path / "references.json"
    monkeypatch.setattr(module, "EPISODES", 2)
    monkeypatch.setattr(module.evaluate, "__kwdefaults__", {**evaluate.__kwdefaults__, "episodes": 2})
    assert main(["--make-references", "--task", BOUNDED_PUSH, "--out", str(path)]) == 0
    made = json.loads(path.read_text())
    assert list(made) == [BOUNDED_PUSH]
    monkeypatch.setattr(module, "load_references", lambda: made)
    for policy, value in (("task", 100.0), ("random", 0.0)):
        result = evaluate(BOUNDED_PUSH, policy, episodes=2)
        assert result["normalised_score"]["value"] == pytest.approx(value, abs=1e-9)
        assert result["notes"] == []
        assert f"{value:.1f}" in table(result)
    made[BOUNDED_PUSH]["model"] = "sha256:other"
    assert "another compiled model" in evaluate(BOUNDED_PUSH, "task", episodes=2)["notes"][0]
    made[BOUNDED_PUSH]["constants"]["boundary"][0] = -0.21
    result = evaluate(BOUNDED_PUSH, "task", episodes=2)
    assert "when the task was another" in result["notes"][0]
    assert result["normalised_score"] is None


@pytest.mark.parametrize(
    ("kwargs", "note"),
    [
        ({"full_length": False}, "full-length returns"),
        ({"options": {"start_range": "full"}}, "without options"),
        ({}, "published numbers are of 100"),
    ],
)
def test_a_number_that_cannot_be_compared_says_so(kwargs, note):
    result = evaluate(BOUNDED_PUSH, "zero", episodes=1, **{"options": {"max_episode_steps": 3}, **kwargs})
    assert any(note in one for one in result["notes"])
    assert result["normalised_score"] is None


OWN = """
import numpy as np

def make(env):
    expert = env.unwrapped.expert("task")
    return expert.act

class Habit:
    def __init__(self, env):
        self.seeds = []
    def reset(self, rng):
        self.grip = rng.uniform(-1, 1)
    def act(self, obs):
        return np.array([0, 0, 0, self.grip])

def nothing(env):
    return 3

def shapeless(env):
    return lambda obs: np.zeros(3)

def broken(env):
    return lambda obs: obs.no_such_attribute

text = "not a function"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of one's own in the working directory."""
    (tmp_path / "my_policies.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    sys.modules.pop("my_policies", None)


def test_a_function_of_ones_own_can_be_evaluated(own):
    status, result = run(own, *QUICK, policy="my_policies:make")
    assert status == 0
    assert result["until_success"]["success"]["count"] == 3
    assert run(own, *QUICK, policy="my_policies:Habit", out="habit.json")[0] == 0


def test_an_error_in_ones_own_policy_keeps_its_traceback(own):
    with pytest.raises(AttributeError, match="no_such_attribute"):
        run(own, *QUICK, policy="my_policies:broken")
    assert not (own / "result.json").exists()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            "wizard",
            "unknown policy 'wizard'; the choices are random, zero, task, pusher, failure, recovery and module:factory",
        ),
        ("no_such_module:make", "there is no module 'no_such_module'"),
        ("my_policies:mak", "has no function 'mak', it has make"),
        ("my_policies:text", "has no function 'text'"),
        ("my_policies:nothing", "the factory returned 3"),
        ("my_policies:shapeless", "step 1 of seed 9000000000000000 was refused: the action has shape (3,)"),
    ],
)
def test_a_wrong_policy_is_one_message(own, capsys, policy, message):
    status, result = run(own, *QUICK, policy=policy)
    error = capsys.readouterr().err
    assert (status, result) == (2, None)
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "FailureBench/BoundedPush"], "did you mean FailureBench/BoundedPush-v0?"),
        (["--options", "clearence=0.1"], "cannot be made with clearence=0.1"),
        (["--options", "start_range=wide"], "start_range is 'wide'; the choices are narrow, full"),
        (["--options", "max_episode_steps=0"], "max_episode_steps"),
        (["--options", "stop_on_success=false"], "stop_on_success is not yours to set"),
        (["--options", "render_mode=human"], "render_mode is not yours to set"),
        (["--episodes", "0"], "episodes is 0"),
    ],
)
def test_a_wrong_task_or_option_is_one_message(tmp_path, capsys, arguments, message):
    status, result = run(tmp_path, *QUICK, *arguments)
    error = capsys.readouterr().err
    assert (status, result) == (2, None)
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--options", "nonsense"], ["--episodes", "many"], ["--polcy", "task"]])
def test_what_cannot_be_parsed_ends_with_status_2(tmp_path, arguments):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, *arguments)
    assert ended.value.code == 2


def test_what_is_missing_is_named_with_an_example(capsys):
    assert main(["--task", BOUNDED_PUSH]) == 2
    assert "--policy, --out missing; for example\n  python -m failurebench.evaluate" in capsys.readouterr().err


def test_options_reach_the_environment(tmp_path):
    options = ["--options", "boundary=[-0.1,0.1,0.6,0.9]", "start_range=narrow", "max_episode_steps=4"]
    _, result = run(tmp_path, *QUICK, *options)
    assert result["options"]["boundary"] == [-0.1, 0.1, 0.6, 0.9]
    assert result["protocol"]["max_episode_steps"] == 4
    assert [row["length"] for row in result["episodes"]] == [4, 4, 4]


def test_an_answer_is_overwritten_only_by_an_answer_to_the_same_question(tmp_path, capsys):
    assert run(tmp_path, *QUICK)[0] == 0
    out = tmp_path / "result.json"
    result = json.loads(out.read_text())
    out.write_text(json.dumps({**result, "versions": {"mujoco": "2.0"}}))
    assert run(tmp_path, *QUICK)[0] == 0
    assert json.loads(out.read_text()) == result
    assert run(tmp_path, *QUICK, policy="random")[0] == 2
    assert "holds another result (policy 'zero')" in capsys.readouterr().err
    assert json.loads(out.read_text()) == result


@pytest.mark.parametrize("content", ["dear diary", "{}", "[1]", json.dumps({"format": FORMAT})])
def test_a_file_that_is_no_result_is_left_alone(tmp_path, capsys, content):
    out = tmp_path / "result.json"
    out.write_text(content)
    assert main(["--task", BOUNDED_PUSH, "--policy", "zero", "--out", str(out), *QUICK]) == 2
    assert "is no evaluation result" in capsys.readouterr().err
    assert out.read_text() == content


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    began = time.monotonic()
    assert main(["--task", BOUNDED_PUSH, "--policy", "zero", "--out", str(tmp_path / "file" / "result.json")]) == 2
    assert main(["--task", BOUNDED_PUSH, "--policy", "zero", "--out", str(tmp_path)]) == 2
    assert time.monotonic() - began < 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert "is a folder" in error


def test_an_interruption_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-m", "failurebench.evaluate", "--task", BOUNDED_PUSH, "--policy", "slow:make"]
    (tmp_path / "slow.py").write_text(
        "import time, numpy\n"
        "def make(env):\n"
        "    print('begun', flush=True)\n"
        "    return lambda obs: time.sleep(0.01) or numpy.zeros(4)\n"
    )
    process = subprocess.Popen(
        [*command, "--out", "result.json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error == "interrupted; nothing was written\n"
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["slow.py"]
