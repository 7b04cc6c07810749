"""Runs: resumable bit for bit, left alone when finished, and comparable between methods."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from farl.algorithms.gate import GateConfig
from farl.algorithms.risk import RiskConfig
from farl.data.episode_store import describe
from farl.errors import UserError
from farl.methods import METHODS, ControlsConfig
from farl.offline.bundle import OfflineBundle
from farl.online import checkpoint
from farl.online.actor import Actor
from farl.online.run import OnlineConfig, Session, run
from method import cliff


def run_until(config: OnlineConfig, at_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until Ctrl-C in the middle of a rollout, as soon as the run has taken ``at_step`` agent steps."""
    execute = Actor._execute

    def stop(self, *arguments):
        if self.steps >= at_step:
            raise KeyboardInterrupt
        execute(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Actor, "_execute", stop)
        with pytest.raises(KeyboardInterrupt):
            run(config)


def equal_runs(one: Path, other: Path) -> None:
    assert (one / "episodes.jsonl").read_bytes() == (other / "episodes.jsonl").read_bytes()
    assert (one / "evaluations.jsonl").read_bytes() == (other / "evaluations.jsonl").read_bytes()
    assert [(path.name, path.read_bytes()) for path in one.glob("failures.jsonl")] == [
        (path.name, path.read_bytes()) for path in other.glob("failures.jsonl")
    ]
    assert cliff.lines(one, "metrics", cliff.CLOCKS) == cliff.lines(other, "metrics", cliff.CLOCKS)
    assert cliff.same_weights(cliff.weights(one), cliff.weights(other))


@pytest.mark.parametrize("method", ["uni-o4", "farl", "random-gate", "oracle-gate"])
def test_a_run_continued_after_an_interruption_equals_one_that_never_stopped(
    method, bundle_folder, tmp_path, monkeypatch
):
    """Stopped three times: before the first checkpoint, between two, and after having continued past another."""
    changes = {"method": method, "gate": GateConfig(threshold=0.02, leave=0.5, min_dwell=2)}
    if method in ("random-gate", "oracle-gate"):
        changes["gate"] = GateConfig()
    whole = run(cliff.online(bundle_folder, tmp_path / "whole", **changes))
    config = cliff.online(bundle_folder, tmp_path / "parts", **changes)
    for at in (200, 500, 900):
        run_until(config, at, monkeypatch)
        assert json.loads((config.out / "meta.json").read_text())["status"] == "interrupted"
    run(config)
    if method != "uni-o4":
        assert sum(line["gated_steps"] for line in cliff.lines(whole, "episodes")) > 0
    equal_runs(whole, config.out)
    assert json.loads((config.out / "meta.json").read_text())["status"] == "finished"


def test_sampled_imagination_continues_with_the_same_random_numbers(bundle, tmp_path, monkeypatch):
    """With several particles the gate draws random numbers of its own, in training and in evaluation."""
    replace(bundle, risk=RiskConfig(particles=3)).save(tmp_path / "bundle")
    changes = {"method": "farl", "gate": GateConfig(threshold=0.02)}
    whole = run(cliff.online(tmp_path / "bundle", tmp_path / "whole", **changes))
    config = cliff.online(tmp_path / "bundle", tmp_path / "parts", **changes)
    run_until(config, 600, monkeypatch)
    run(config)
    equal_runs(whole, config.out)


def test_the_same_configuration_gives_the_same_run_twice(bundle_folder, tmp_path):
    one, other = (run(cliff.online(bundle_folder, tmp_path / name, method="farl", steps=384)) for name in "ab")
    equal_runs(one, other)


def test_a_finished_run_is_left_alone(bundle_folder, tmp_path, capsys):
    config = cliff.online(bundle_folder, tmp_path / "run", steps=512)
    run(config)
    before = cliff.contents(config.out)
    run(config)
    assert "finished" in capsys.readouterr().out
    assert cliff.contents(config.out) == before


def test_a_smaller_budget_does_not_rewrite_a_finished_run(bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", steps=512)
    run(config)
    before = (config.out / "config.yaml").read_text()
    run(replace(config, steps=256))
    assert (config.out / "config.yaml").read_text() == before


def test_more_steps_continue_a_finished_run_and_keep_what_it_did(bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", steps=512)
    run(config)
    before = (config.out / "episodes.jsonl").read_bytes()
    run(replace(config, steps=1024))
    after = (config.out / "episodes.jsonl").read_bytes()
    assert after.startswith(before)
    assert cliff.lines(config.out, "metrics")[-1]["step"] == 1024


def test_an_infinite_threshold_is_the_baseline_bit_for_bit(bundle_folder, tmp_path):
    baseline = run(cliff.online(bundle_folder, tmp_path / "uni", method="uni-o4"))
    never = run(cliff.online(bundle_folder, tmp_path / "farl", method="farl", gate=GateConfig(threshold=float("inf"))))
    judged = ("risk_max", "risk_mean", "warning")
    assert cliff.lines(baseline, "episodes", judged) == cliff.lines(never, "episodes", judged)
    assert cliff.same_weights(cliff.weights(baseline), cliff.weights(never))
    unrelated = (*cliff.CLOCKS, "risk_mean", "risk_p95", "reliability")
    assert cliff.lines(baseline, "metrics", unrelated) == cliff.lines(never, "metrics", unrelated)
    assert max(line["risk_max"] for line in cliff.lines(never, "episodes")) > 0


def test_evaluation_leaves_no_trace_in_training(bundle_folder, tmp_path):
    """Neither counted nor drawn from the same random numbers: without any evaluation the run is the same."""
    often = run(cliff.online(bundle_folder, tmp_path / "often", method="farl", evaluate_every=256))
    never = run(cliff.online(bundle_folder, tmp_path / "never", method="farl", evaluation_episodes=0))
    assert (often / "episodes.jsonl").read_bytes() == (never / "episodes.jsonl").read_bytes()
    assert cliff.same_weights(cliff.weights(often), cliff.weights(never))
    assert len(cliff.lines(often, "evaluations")) == 5 * 2 * 4  # five times, gate on and off, four episodes


def test_the_first_evaluation_online_is_of_the_policy_the_offline_stage_left(bundle, bundle_folder, tmp_path):
    from farl.algorithms.router import Ungated
    from farl.environments import make_vector
    from farl.offline.evaluation import evaluate

    out = run(cliff.online(bundle_folder, tmp_path / "run", steps=128))
    first = [line for line in cliff.lines(out, "evaluations", ("gate",)) if line["step"] == 0]
    seed = first[0]["seed"]
    expected = evaluate(make_vector(cliff.TASK, 4), cliff.TASK, bundle.policy.act, Ungated(), 4, seed)
    assert [{k: v for k, v in row.items() if k != "step"} for row in first] == expected


@pytest.fixture
def hasty(bundle, tmp_path) -> Path:
    """The bundle with a policy that leans towards the cliff, so that a short run fails often."""
    with torch.no_grad():
        bundle.policy.net[-1].bias[1] -= 0.5
    bundle.save(tmp_path / "hasty")
    return tmp_path / "hasty"


def test_totals_episodes_and_metrics_tell_the_same_story(hasty, tmp_path):
    chance = ControlsConfig(random_rate=0.2)
    out = run(cliff.online(hasty, tmp_path / "run", method="random-gate", controls=chance, credit="proposed", handover_price=0.0))
    episodes, last = cliff.lines(out, "episodes"), cliff.lines(out, "metrics")[-1]
    assert last["episodes"] == len(episodes)
    assert last["failures"] == sum(line["failed"] for line in episodes) >= 5
    assert last["successes"] == sum(line["outcome"] == "success" for line in episodes)
    assert [line["episode"] for line in episodes] == list(range(len(episodes)))
    assert len({line["seed"] for line in episodes}) == len(episodes)
    assert last["failure_rate"] == pytest.approx(np.mean([line["failed"] for line in episodes[-100:]]))
    assert sum(line["length"] for line in episodes) <= last["step"] == 1024
    for line in episodes:
        assert (line["cause"] is not None) == line["failed"] == (line["failing_steps"] > 0)
        assert sum(line["bursts"]) == line["gated_steps"] <= line["length"]
    causes = Counter(line["cause"] for line in episodes if line["failed"])
    assert sum(causes.values()) == last["failures"]
    assert set(causes) <= {"ungated", "late", "during_recovery"}
    assert len(causes) >= 2


def documented(stream: str) -> set[str]:
    """The keys that docs/design.md promises for one of a run's files."""
    text = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    section = text.partition(f"### `{stream}.jsonl`")[2].partition("\n###")[0].partition("\n\n")[2]
    outside = re.sub(r"\([^()]*\)", "", section)  # parentheses explain values, not keys
    return set(re.findall(r"`([a-z_]\w*)`", outside))


@pytest.mark.parametrize("method", ["uni-o4", "farl"])
@pytest.mark.parametrize("stream", ["episodes", "evaluations", "metrics"])
def test_a_runs_files_hold_the_documented_keys(stream, method, bundle_folder, tmp_path):
    out = run(cliff.online(bundle_folder, tmp_path / "run", method=method, steps=256))
    for line in cliff.lines(out, stream):
        assert documented(stream) - set(line) == set()


def test_every_method_runs_and_keeps_the_shared_exploration_std(bundle_folder, bundle, tmp_path):
    for method in METHODS:
        out = run(cliff.online(bundle_folder, tmp_path / method, method=method, steps=256))
        for line in cliff.lines(out, "metrics"):
            assert line["std"] == pytest.approx(cliff.STD, abs=1e-6), method
        assert torch.equal(cliff.weights(out)["policy.log_std"], bundle.policy.log_std), method


def test_the_calibrated_gate_is_neither_always_on_nor_always_off(bundle_folder, tmp_path):
    out = run(
        cliff.online(bundle_folder, tmp_path / "run", method="farl", steps=4096, num_envs=32, evaluation_episodes=0)
    )
    gated = np.mean([line["gated_fraction"] for line in cliff.lines(out, "metrics")])
    assert 0.005 < gated < 0.5


def test_a_task_without_simulator_state_continues_with_new_episodes_and_right_totals(bundle, tmp_path, monkeypatch):
    task = replace(cliff.TASK, id="method.toys:Toys/Stateless-v0")
    replace(bundle, task=task).save(tmp_path / "bundle")
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", task=task)
    run_until(config, 700, monkeypatch)
    reached = max(line["end_step"] for line in cliff.lines(config.out, "episodes"))   # steps of what had finished stay counted
    run(config)
    episodes, last = cliff.lines(config.out, "episodes"), cliff.lines(config.out, "metrics")[-1]
    assert last["episodes"] == len(episodes)
    assert len({line["seed"] for line in episodes}) == len(episodes)
    assert reached > 384
    assert last["step"] == reached + 128 * math.ceil((1024 - reached) / 128)


def test_a_clip_replayed_from_its_seed_shows_what_was_recorded(hasty, tmp_path):
    import gymnasium

    out = run(cliff.online(hasty, tmp_path / "run", steps=3072))
    clips = sorted((out / "clips").glob("*.npz"))
    assert len(clips) >= 2  # one when 1000 steps are over, the next when they have doubled
    episodes = cliff.lines(out, "episodes")
    for path in clips:
        clip = np.load(path)
        env = gymnasium.make("FailureBench/PointMassCliff-v0")
        env.reset(seed=int(clip["seed"]))
        failure = [env.step(action)[-1]["failure"] for action in clip["actions"]]
        assert failure == clip["failure"].tolist()
        assert episodes[int(path.stem)]["first_failure"] == failure.index(True)


def test_the_newest_two_checkpoints_are_kept(bundle_folder, tmp_path):
    out = run(cliff.online(bundle_folder, tmp_path / "run", checkpoint_every=1))
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == [
        "step-000000000896.ckpt",
        "step-000000001024.ckpt",
    ]


def test_a_run_records_what_it_was_made_with(bundle_folder, bundle, tmp_path):
    """Threads included: tiny networks get many times slower when threads crowd each other."""
    meta = json.loads(
        (run(cliff.online(bundle_folder, tmp_path / "run", method="farl", steps=128)) / "meta.json").read_text()
    )
    assert meta["hardware"]["threads"] == torch.get_num_threads() == 1
    assert meta["threshold"] == bundle.calibration.threshold
    assert (meta["method"], meta["seed"], meta["task"]) == ("farl", 0, cliff.TASK.id)
    assert meta["versions"]["torch"].startswith(torch.__version__.partition("+")[0])


# ---------------------------------------------------------------- damaged checkpoints


@pytest.fixture
def stopped(bundle_folder, tmp_path, monkeypatch):
    """A run interrupted with two checkpoints, and what it would have become."""
    whole = run(cliff.online(bundle_folder, tmp_path / "whole"))
    config = cliff.online(bundle_folder, tmp_path / "run")
    run_until(config, 900, monkeypatch)
    paths = sorted((config.out / "checkpoints").glob("*.ckpt"))
    assert len(paths) == 2
    return config, paths, whole


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def replace_by_something_else(path: Path) -> None:
    path.write_text("not a checkpoint")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, replace_by_something_else, empty])
def test_a_damaged_checkpoint_is_passed_over_with_a_word_and_the_run_ends_the_same(stopped, damage, capsys):
    config, (_, newest), whole = stopped
    damage(newest)
    run(config)
    said = capsys.readouterr().out
    assert newest.name in said
    assert "Falling back" in said
    equal_runs(whole, config.out)


def test_if_every_checkpoint_is_damaged_the_run_stops_with_one_message_and_loses_nothing(stopped):
    config, paths, _ = stopped
    for path in paths:
        flip(path)
    before = cliff.contents(config.out)
    with pytest.raises(UserError, match=r"every checkpoint .* is damaged"):
        run(config)
    after = cliff.contents(config.out)
    assert {k: v for k, v in after.items() if "tensorboard" not in k} == {
        k: v for k, v in before.items() if "tensorboard" not in k
    }


def test_a_checkpoint_holds_only_data_that_reading_cannot_execute(stopped):
    state = checkpoint.load(stopped[1][0])
    assert state["actor"]["obs"].dtype == np.float32
    assert isinstance(state["actor"]["environments"][0]["position"], np.ndarray)


# ---------------------------------------------------------------- data hygiene


def test_the_four_sets_share_no_episode_with_each_other_or_with_training(demos, bundle_folder, tmp_path):
    seeds = {
        name: set(describe(demos / f"{name}.hdf5").seeds) for name in ("task", "failure", "recovery", "calibration")
    }
    out = run(cliff.online(bundle_folder, tmp_path / "run"))
    seeds["training"] = {line["seed"] for line in cliff.lines(out, "episodes")}
    seeds["evaluation"] = {line["seed"] for line in cliff.lines(out, "evaluations")}
    assert all(seeds.values())
    for one, other in itertools.combinations(seeds, 2):
        assert not seeds[one] & seeds[other], (one, other)


def test_calibration_used_the_calibration_set_and_all_of_it(demos, bundle):
    summary = describe(demos / "calibration.hdf5")
    assert bundle.calibration.failing_episodes == summary.onsets >= 20
    assert bundle.calibration.failing_episodes + bundle.calibration.clean_episodes == summary.episodes
    assert summary.behaviours == {"clone": summary.episodes}  # the policy that will be deployed, not an expert


def test_a_session_reports_the_threshold_it_gates_with(bundle_folder, bundle, tmp_path):
    calibrated = Session(cliff.online(bundle_folder, tmp_path / "a", method="farl"))
    assert calibrated.actor.router.gate.threshold == bundle.calibration.threshold
    chosen = Session(cliff.online(bundle_folder, tmp_path / "b", method="farl", gate=GateConfig(threshold=0.123)))
    assert chosen.actor.router.gate.threshold == chosen.recorder.threshold == 0.123
    assert isinstance(OfflineBundle.load(bundle_folder).calibration.threshold, float)
