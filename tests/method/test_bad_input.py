"""What a person can get wrong with an online run: each is one message, and nothing is half written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from farl.algorithms.gate import GateConfig
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.online.run import run
from farl.online.trained import load_agent
from method import cliff


@pytest.fixture
def copy(bundle_folder, tmp_path):
    """A bundle of the test's own to damage."""
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def refused(config, match: str) -> None:
    """One message in one paragraph, and no run directory."""
    with pytest.raises(UserError, match=match) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


def edit(folder, **changes) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_missing_bundle(tmp_path):
    refused(cliff.online(tmp_path / "nowhere", tmp_path / "run"), r"no bundle in .*nowhere.*farl offline")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 999}', "\x00\x01"])
def test_a_damaged_or_foreign_manifest(copy, tmp_path, text):
    (copy / "manifest.json").write_text(text)
    refused(cliff.online(copy, tmp_path / "run"), r"manifest.json.*again with `farl offline`")


@pytest.mark.parametrize("missing", ["task", "shape", "risk", "reward_scale", "calibration", "seed", "weights_sha256"])
def test_a_manifest_that_lacks_an_entry(copy, tmp_path, missing):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[missing]
    path.write_text(json.dumps(manifest))
    refused(cliff.online(copy, tmp_path / "run"), r"bundle.*again with `farl offline`")


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": {"obs_dim": 7, "act_dim": 2}},
        {"shape": {"obs_dim": 6, "act_dim": 2, "exploration_std": 9.0}},
        {"shape": {"obs_dim": 6, "act_dim": 2, "wheels": 4}},
        {"shape": "large"},
        {"risk": {"horizon": 10, "gama": 0.9}},
        {"reward_scale": "ten"},
        {"calibration": {"threshold": 0.3}},
        {"task": 5},
    ],
)
def test_a_manifest_of_other_networks_or_another_version(copy, tmp_path, changes):
    edit(copy, **changes)
    refused(cliff.online(copy, tmp_path / "run"), r"bundle.*again with `farl offline`")


def test_truncated_weights(copy, tmp_path):
    path = copy / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-500])
    refused(cliff.online(copy, tmp_path / "run"), r"weights.safetensors is damaged")


def test_one_flipped_bit_in_the_weights(copy, tmp_path):
    path = copy / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    refused(cliff.online(copy, tmp_path / "run"), r"weights.safetensors is damaged")


def test_missing_weights(copy, tmp_path):
    (copy / "weights.safetensors").unlink()
    refused(cliff.online(copy, tmp_path / "run"), r"weights.safetensors is missing")


def test_a_bundle_of_another_task(bundle_folder, tmp_path):
    task = TaskConfig(id="failurebench:FailureBench/BoundedPush-v0")
    refused(
        cliff.online(bundle_folder, tmp_path / "run", task=task), r"made for .*PointMassCliff.*not for .*BoundedPush"
    )


def test_a_bundle_of_the_same_task_with_other_options(bundle_folder, tmp_path):
    task = replace(cliff.TASK, options={"max_episode_steps": 9})
    refused(cliff.online(bundle_folder, tmp_path / "run", task=task), "max_episode_steps")


@pytest.mark.parametrize(("name", "meant"), [("frl", "farl"), ("unio4", "uni-o4"), ("oracle_gate", "oracle-gate")])
def test_an_unknown_method_is_answered_with_the_nearest(bundle_folder, tmp_path, name, meant):
    refused(
        cliff.online(bundle_folder, tmp_path / "run", method=name),
        rf"unknown method '{name}'; perhaps you meant '{meant}'; there are .*random-gate",
    )


def test_an_unknown_task_is_answered_with_the_nearest(bundle, tmp_path):
    task = TaskConfig(id="failurebench:FailureBench/PointMasCliff-v0")
    replace(bundle, task=task).save(tmp_path / "bundle")
    refused(
        cliff.online(tmp_path / "bundle", tmp_path / "run", task=task),
        r"unknown task .*perhaps you meant failurebench:FailureBench/PointMassCliff-v0",
    )


def test_a_module_that_does_not_exist(bundle, tmp_path):
    task = TaskConfig(id="nowhere_at_all:Some/Task-v0")
    replace(bundle, task=task).save(tmp_path / "bundle")
    refused(cliff.online(tmp_path / "bundle", tmp_path / "run", task=task), "cannot import module 'nowhere_at_all'")


def test_an_environment_that_does_not_report_failures(bundle, tmp_path):
    task = TaskConfig(id="method.toys:Toys/Silent-v0")
    replace(bundle, task=task).save(tmp_path / "bundle")
    config = cliff.online(tmp_path / "bundle", tmp_path / "run", task=task)
    with pytest.raises(UserError, match=r'does not report info\["failure"\].*farl check') as caught:
        run(config)
    assert "\n" not in str(caught.value)
    for stream in ("episodes", "metrics"):  # a run without failure counts must not look like one without failures
        assert not (config.out / f"{stream}.jsonl").exists()


def test_the_oracle_on_a_task_without_a_simulator(bundle, tmp_path):
    task = TaskConfig(id="method.toys:Toys/Stateless-v0")
    replace(bundle, task=task).save(tmp_path / "bundle")
    refused(
        cliff.online(tmp_path / "bundle", tmp_path / "run", task=task, method="oracle-gate"),
        r"oracle gate needs get_state\(\)/set_state\(\)",
    )


def test_a_bundle_that_was_never_calibrated_needs_a_threshold(bundle, tmp_path):
    replace(bundle, calibration=None).save(tmp_path / "bundle")
    refused(cliff.online(tmp_path / "bundle", tmp_path / "run", method="farl"), r"not calibrated.*--gate.threshold")
    chosen = GateConfig(threshold=0.3)
    run(cliff.online(tmp_path / "bundle", tmp_path / "run", method="farl", gate=chosen, steps=128))


def test_a_run_directory_of_another_configuration_is_refused_and_kept(bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", steps=128)
    run(config)
    before = cliff.contents(config.out)
    with pytest.raises(UserError, match=r"belongs to another configuration \(.*method: 'uni-o4' there, 'farl' now"):
        run(replace(config, method="farl"))
    assert cliff.contents(config.out) == before


def test_a_folder_with_someone_elses_files_is_refused_and_kept(bundle_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "holiday.jpg").write_bytes(b"beach")
    with pytest.raises(UserError, match="not empty"):
        run(cliff.online(bundle_folder, tmp_path / "run"))
    assert cliff.contents(tmp_path / "run") == {"holiday.jpg": b"beach"}


@pytest.mark.parametrize("name", ["num_envs", "rollout_steps", "evaluate_every", "checkpoint_every", "steps"])
def test_counts_below_one_are_refused(bundle_folder, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        cliff.online(bundle_folder, tmp_path / "run", **{name: 0})


def test_an_agent_cannot_be_read_from_what_is_not_a_run(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        load_agent(tmp_path)


def test_an_agent_read_from_a_run_acts_as_the_trained_policy(bundle_folder, tmp_path):
    out = run(cliff.online(bundle_folder, tmp_path / "run", steps=640))
    import numpy as np
    import torch

    bundle = OfflineBundle.load(bundle_folder)
    obs = np.array([-0.5, 0.2, 0.1, 0.0, 1.3, -0.3], np.float32)
    before = bundle.policy.act(torch.from_numpy(obs)[None])[0].clamp(-1, 1).numpy()
    trained = cliff.weights(out)
    bundle.policy.load_state_dict({k.removeprefix("policy."): v for k, v in trained.items() if k.startswith("policy.")})
    after = bundle.policy.act(torch.from_numpy(obs)[None])[0].clamp(-1, 1).numpy()
    assert np.array_equal(load_agent(out)(obs), after)
    assert not np.array_equal(before, after)
