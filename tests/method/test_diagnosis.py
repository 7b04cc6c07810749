"""Diagnosis: failures are put down to the part that was built to be bad, and the simulator's verdict is right."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from farl import cli
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.router import Router, Ungated
from farl.diagnosis.causes import Verdict, part_of
from farl.diagnosis.diagnose import DiagnoseConfig, diagnose, runs_in
from farl.diagnosis.kept import kept_failures
from farl.diagnosis.oracle import STILL, Oracle
from farl.diagnosis.record import Examined, read_diagnosis
from farl.environments import make_vector
from farl.errors import UserError
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.online.actor import Actor
from farl.online.recorder import Recorder, decode_floats, encode_floats, is_kept
from farl.types import FailureCritic, Policy
from method import cliff

SLIPPERY = replace(cliff.TASK, id="method.toys:Toys/Slippery-v0")
STATELESS = replace(cliff.TASK, id="method.toys:Toys/Stateless-v0")


class Between:
    """A critic that fires while the point mass is between two lines before the cliff, whose edge is at x = -0.25."""

    def __init__(self, begins: float, ends: float = -0.25) -> None:
        self.begins, self.ends = begins, ends

    def risk(self, obs, action):
        x = obs[:, 0] + 0.1 * (0.9 * obs[:, 2] + 0.2 * action[:, 0].clamp(-1, 1))  # where this action leads
        return ((x > self.begins) & (x < self.ends)).float()


class OverTheEdge:
    """A critic that fires on the action that falls, and not before."""

    def risk(self, obs, action):
        return Between(-0.25, 0.25).risk(obs, action)


class Walk:
    """A recovery that always does the same."""

    def __init__(self, *action: float) -> None:
        self.action = torch.tensor(action)

    def act(self, obs):
        return self.action.expand(len(obs), -1)


def straight_on() -> GaussianPolicy:
    """A task policy that drives at the cliff."""
    policy = GaussianPolicy(Normalizer(6), 2, 0.05, hidden=(4,))
    with torch.no_grad():
        policy.net[-1].weight.zero_()
        policy.net[-1].bias.copy_(torch.tensor([1.0, 0.0]))
    return policy


def record(folder: Path, critic: FailureCritic | None, recovery: Policy, task=cliff.TASK, steps: int = 75) -> Path:
    """A run of a policy that drives at the cliff, behind ``critic`` and ``recovery``."""
    folder.mkdir(parents=True)
    router = Ungated() if critic is None else Router(recovery, critic, Gate(GateConfig(max_dwell=60), 0.5, 4))
    envs, recorder = make_vector(task, 4), Recorder(folder, 0.5)
    Actor(envs, task, straight_on(), router, 1.0, 0, recorder.episode).collect(steps)
    recorder.close_files()
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": {"id": task.id, "options": {}}, "method": "toy"}))
    (folder / "meta.json").write_text(json.dumps({"threshold": None if critic is None else 0.5}))
    return folder


def parts(run: Path, config: DiagnoseConfig | None = None) -> Counter[str]:
    """What the run's failures are put down to after examination."""
    found = diagnose(run, config or DiagnoseConfig())
    gated = json.loads((run / "meta.json").read_text())["threshold"] is not None
    return Counter(found.part(line, 4, gated) for line in cliff.lines(run, "episodes") if line["failed"])


@pytest.mark.parametrize(
    ("critic", "recovery", "task", "part"),
    [
        (Between(9.0, 9.1), Walk(-1, 0), cliff.TASK, "critic_miss"),
        (OverTheEdge(), Walk(-1, 0), cliff.TASK, "late_gate"),
        (Between(-0.65, 0.25), Walk(1, 0), cliff.TASK, "recovery_failing"),
        (Between(-0.70, -0.62), Walk(0, 0), cliff.TASK, "handed_back"),
        (Between(-0.70, 0.25), Walk(-1, 0), SLIPPERY, "unavoidable"),
        (Between(9.0, 9.1), Walk(-1, 0), SLIPPERY, "unavoidable"),
        (None, Walk(0, 0), cliff.TASK, "no_gate"),
        (None, Walk(0, 0), SLIPPERY, "unavoidable"),
    ],
)
def test_failures_are_put_down_to_the_part_that_was_built_to_be_bad(critic, recovery, task, part, tmp_path):
    found = parts(record(tmp_path / "run", critic, recovery, task))
    assert set(found) == {part}
    assert found[part] >= 3


def test_a_recovery_that_works_leaves_no_failure_to_explain(tmp_path):
    run = record(tmp_path / "run", Between(-0.65, 0.25), Walk(-1, 0))
    assert sum(line["gated_steps"] for line in cliff.lines(run, "episodes")) > 0
    assert parts(run) == Counter()


def test_holding_still_avoids_the_cliff_exactly_where_coasting_ends_before_it(tmp_path):
    """Against the closed form: without a push the speed falls by a tenth a step, and the mass moves a tenth of it."""
    kept = kept_failures(record(tmp_path / "run", None, Walk(0, 0), steps=150))
    oracle = Oracle(cliff.TASK, None, 40, 0)
    seen = Counter()
    for one in kept.values():
        for lead, state in (oracle.states(one, range(min(one.onset, 7) + 1)) or {}).items():
            end = state["position"] + 0.1 * state["velocity"] * sum(0.9**step for step in range(1, 41))
            if abs(end[0] + 0.25) > 1e-6 and max(end[1], state["position"][1]) < -0.01:
                names = oracle.saved_by(state)
                assert (STILL in names) == (end[0] < -0.25)
                seen[STILL in names, bool(names), lead == 0] += 1
    oracle.close()
    assert seen[True, True, False] > 5  # coasting is enough
    assert seen[False, True, False] > 5  # braking is needed
    assert seen[False, False, True] > 5  # on the very edge nothing helps


def test_without_a_simulator_state_the_record_alone_decides_and_says_so(tmp_path, capsys):
    run = record(tmp_path / "run", OverTheEdge(), Walk(-1, 0), STATELESS)
    assert set(parts(run)) == {"late_gate"}
    assert cli.main(["diagnose", str(run)]) == 0
    said = capsys.readouterr().out
    assert "not tried in the simulator" in said
    assert "get_state" in said


def test_every_kept_failure_fails_again_where_it_did(tmp_path):
    run = record(tmp_path / "run", None, Walk(0, 0))
    failing = {line["episode"]: line for line in cliff.lines(run, "episodes") if line["failed"]}
    kept = kept_failures(run)
    assert set(kept) == set(failing)
    assert all(one.onset == failing[number]["first_failure"] for number, one in kept.items())
    assert all(one.lead == failing[number]["lead"] for number, one in kept.items())
    assert all(one.replayed for one in diagnose(run, DiagnoseConfig()).examined.values())


def test_a_failure_that_does_not_come_again_is_not_judged(tmp_path, capsys):
    """The same seeds in a task with other physics."""
    run = record(tmp_path / "run", None, Walk(0, 0), SLIPPERY)
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"task": {"id": cliff.TASK.id, "options": {}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert set(parts(run)) == {"no_gate"}
    cli.main(["diagnose", str(run)])
    assert "did not fail again at the same step" in capsys.readouterr().out


def test_only_new_failures_are_examined_when_a_run_has_grown(tmp_path, monkeypatch):
    run = record(tmp_path / "run", None, Walk(0, 0))
    whole = {name: (run / name).read_bytes() for name in ("episodes.jsonl", "failures.jsonl")}
    for name, content in whole.items():
        (run / name).write_bytes(b"".join(content.splitlines(keepends=True)[:2]))
    first = diagnose(run, DiagnoseConfig())
    for name, content in whole.items():
        (run / name).write_bytes(content)
    tried = []
    states = Oracle.states
    monkeypatch.setattr(
        Oracle, "states", lambda self, kept, leads: tried.append(kept.episode) or states(self, kept, leads)
    )
    second = diagnose(run, DiagnoseConfig())
    assert set(tried) == set(second.examined) - set(first.examined)
    assert tried
    assert diagnose(run, DiagnoseConfig()) == second == read_diagnosis(run)
    assert len(tried) == len(second.examined) - len(first.examined)
    diagnose(run, DiagnoseConfig(steps=20))
    assert len(tried) > len(second.examined)  # other settings: everything anew


def test_no_more_failures_are_examined_than_asked_for_and_they_are_spread(tmp_path):
    run = record(tmp_path / "run", None, Walk(0, 0), steps=300)
    episodes = sorted(kept_failures(run))
    found = diagnose(run, DiagnoseConfig(failures=4))
    assert list(found.examined) == [episodes[len(episodes) * quarter // 4] for quarter in range(4)]


def test_a_study_is_diagnosed_run_by_run(tmp_path, capsys):
    for method in ("one", "two"):
        record(tmp_path / "runs" / "Cliff" / method / "seed-0", None, Walk(0, 0))
    assert [run.parent.name for run in runs_in([tmp_path])] == ["one", "two"]
    (tmp_path / "few.yaml").write_text("failures: 1\n")
    assert cli.main(["diagnose", str(tmp_path / "few.yaml"), str(tmp_path), "--steps", "9"]) == 0
    found = read_diagnosis(tmp_path / "runs" / "Cliff" / "one" / "seed-0")
    assert (len(found.examined), found.settings["steps"]) == (1, 9)
    assert capsys.readouterr().out.count("no gate") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: farl diagnose"),
        (["nowhere"], "neither a run"),
        (["nowhere", "--failures", "-1"], "failures is -1"),
        (["nowhere", "--step", "3"], "steps"),
    ],
)
def test_what_cannot_be_diagnosed_is_answered_in_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["diagnose", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_diagnosis_is_named(tmp_path):
    run = record(tmp_path / "run", None, Walk(0, 0))
    (run / "diagnosis.json").write_text("{")
    with pytest.raises(UserError, match=r"diagnosis\.json.*Remove it"):
        diagnose(run, DiagnoseConfig())


# ---------------------------------------------------------------- the rules


def line(cause: str, lead: int | None) -> dict:
    return {"cause": cause, "lead": lead}


def test_every_failure_is_put_down_to_exactly_one_part_whatever_is_known():
    """All combinations, against the definitions in order: unavoidable, no gate, missed, too late, handed back, recovery failed."""
    ways = [("ungated", None), *itertools.product(("late", "during_recovery"), (None, 0, 3, 4, 12))]
    verdicts = [None, *(Verdict(t, e) for t, e in itertools.product((None, False, True), (False, True)) if e or not t)]
    for (cause, lead), gated, verdict in itertools.product(ways, (False, True), verdicts):
        too_late = lead is not None and (lead < 4 or (verdict is not None and verdict.from_takeover is False))
        expected = [
            ("unavoidable", verdict is not None and not verdict.ever),
            ("no_gate", not gated),
            ("critic_miss", cause == "ungated"),
            ("late_gate", too_late or (lead is None and cause == "late")),
            ("handed_back", cause == "late"),
            ("recovery_failing", True),
        ]
        assert part_of(line(cause, lead), 4, gated, verdict) == next(part for part, true in expected if true)


def test_what_is_avoidable_later_was_avoidable_before():
    one = Examined(0, 0, 12, True, {5: ["holding still"], 12: [], 20: []})
    assert [one.avoidable(lead) for lead in (0, 5, 12, 20)] == [False, True, True, True]
    assert one.verdict == Verdict(from_takeover=True, ever=True)
    assert replace(one, lead=3, saved_by={3: [], 5: ["holding still"]}).verdict == Verdict(False, True)
    assert replace(one, lead=None).verdict == Verdict(None, True)
    assert replace(one, replayed=False, saved_by={}).verdict is None


# ---------------------------------------------------------------- what is kept


def test_all_failures_are_kept_at_first_and_then_256_of_every_doubling():
    kept = [is_kept(number) for number in range(8192)]
    assert all(kept[:512])
    assert [sum(kept[low : 2 * low]) for low in (512, 1024, 2048, 4096)] == [256] * 4


def test_numbers_come_back_from_text_bit_for_bit():
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    assert np.array_equal(decode_floats(encode_floats(values), 7, 3), values)
