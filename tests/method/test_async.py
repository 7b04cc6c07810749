"""Actor and learner in two real processes: the same run as in one where they take turns, each step by the version it says."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from farl.algorithms.gate import GateConfig
from farl.algorithms.rollout import Rollout
from farl.offline.bundle import OfflineBundle
from farl.online.distributed.other_process import LinkConfig, OtherProcess
from farl.online.run import Session, run
from method import cliff
from method.test_runs import equal_runs

GATED = {"method": "farl", "gate": GateConfig(threshold=0.02, leave=0.5, min_dwell=2), "mode": "async"}
TURNS = LinkConfig(ahead=0)


def learner_pid(out: Path) -> int:
    return int(json.loads((out / "learner.json").read_text())["pid"])


def gone(pid: int) -> bool:
    """Whether a process has ended, be it only in name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("part", [256, 25])
def test_whole_episodes_are_the_same_steps_as_a_rollout_of_their_length(part, bundle_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("farl.online.actor.PART", part)
    changes = {**GATED, "mode": "single", "num_envs": 1}
    one, other = (Session(cliff.online(bundle_folder, tmp_path / name, **changes)).actor for name in "ab")
    episodes = [one.collect_episode() for _ in range(3)]
    assert all(
        (piece.terminated | piece.truncated).flatten().nonzero().tolist() == [[len(piece.obs) - 1]]
        for piece in episodes
    )
    whole = other.collect(sum(len(piece.obs) for piece in episodes))
    joined = Rollout.joined(episodes, dim=0)
    for name, expected in vars(whole).items():
        assert torch.allclose(getattr(joined, name).float(), expected.float(), atol=1e-6), name
    assert one.steps == other.steps
    assert one.begun == other.begun


@pytest.fixture(scope="module")
def alone(bundle_folder, tmp_path_factory) -> Path:
    """The run in one process that those in two are compared with."""
    out = tmp_path_factory.mktemp("alone") / "run"
    return run(cliff.online(bundle_folder, out, **{**GATED, "mode": "single"}))


def test_taking_turns_gives_the_run_of_one_process_bit_for_bit(alone, bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", link=TURNS, **GATED)
    run(config)
    assert sum(line["gated_steps"] for line in cliff.lines(alone, "episodes")) > 0
    equal_runs(alone, config.out)
    assert gone(learner_pid(config.out))


def test_a_learner_that_is_killed_in_an_update_changes_nothing_about_the_run(
    alone, bundle_folder, tmp_path, monkeypatch
):
    """It is started again with the state it had, and gets the rollout it had not learned from."""
    submit, pids = OtherProcess.submit, []

    def kill_after(self, handover):
        submit(self, handover)
        if handover.number == 4:
            pids.append(learner_pid(config.out))
            os.kill(pids[-1], signal.SIGKILL)

    config = cliff.online(bundle_folder, tmp_path / "run", link=TURNS, **GATED)
    monkeypatch.setattr(OtherProcess, "submit", kill_after)
    run(config)
    assert len({*pids, learner_pid(config.out)}) == 2
    equal_runs(alone, config.out)


def test_every_step_records_the_version_that_acted_and_its_log_probabilities(
    bundle, bundle_folder, tmp_path, monkeypatch
):
    """Checked against the weights of each version as they came; none is more than one rollout old."""
    submit, take, rollouts = OtherProcess.submit, OtherProcess._update, []
    versions = {0: OfflineBundle.load(bundle_folder).policy.state_dict()}

    def submitted(self, handover):
        rollouts.append(handover.rollout)
        submit(self, handover)

    def taken(self, message):
        update = take(self, message)
        versions[update.handover.number] = update.policy
        return update

    monkeypatch.setattr(OtherProcess, "submit", submitted)
    monkeypatch.setattr(OtherProcess, "_update", taken)
    config = cliff.online(bundle_folder, tmp_path / "run", **{**GATED, "evaluation_episodes": 0})
    config = replace(config, ppo=replace(config.ppo, warmup=0, lr=1e-3))
    run(config)
    assert len(rollouts) == 8
    policy = bundle.policy
    for number, rollout in enumerate(rollouts):
        (version,) = set(rollout.version.flatten().tolist())
        assert number - 1 <= version <= number
        policy.load_state_dict(versions[version])
        mean = policy.act(rollout.obs.flatten(0, 1)).view(rollout.proposed.shape)
        found = policy.log_prob(mean, rollout.proposed).detach()
        assert torch.allclose(found, rollout.proposed_log_prob, atol=1e-4)
        if version:
            policy.load_state_dict(versions[version - 1])
            mean = policy.act(rollout.obs.flatten(0, 1)).view(rollout.proposed.shape)
            assert not torch.allclose(policy.log_prob(mean, rollout.proposed).detach(), found, atol=1e-3)
    lags = [line["lag"] for line in cliff.lines(config.out, "metrics")]
    assert lags == [number - int(rollout.version.min()) for number, rollout in enumerate(rollouts)]
    assert max(lags) == 1
    assert cliff.lines(config.out, "episodes")[-1]["policy_version"] >= 5
