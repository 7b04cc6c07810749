"""What a run has come to can be loaded, played again and measured; a bundle's networks can be calibrated anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import final_evaluation
from experiments.final_evaluation import Evaluations, fingerprint
from farl.algorithms.gate import GateConfig
from farl.algorithms.risk import RiskConfig
from farl.algorithms.router import Router, Ungated
from farl.environments import make_vector
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.offline.pipeline import train
from farl.online.run import run
from farl.online.trained import Trained, load_trained
from method import cliff


@pytest.fixture(scope="module")
def finished(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    return run(cliff.online(bundle_folder, out, method="farl", gate=GateConfig(threshold=0.02)))


def policy(trained: Trained) -> dict[str, torch.Tensor]:
    return {f"policy.{name}": tensor for name, tensor in trained.bundle.policy.state_dict().items()}


def test_a_run_is_loaded_as_it_ended_and_as_it_began(finished, bundle_folder):
    at_end, at_start = load_trained(finished), load_trained(finished, start=True)
    ended = {name: tensor for name, tensor in cliff.weights(finished).items() if name.startswith("policy")}
    assert cliff.same_weights(policy(at_end), ended)
    assert not cliff.same_weights(policy(at_end), policy(at_start))
    began = OfflineBundle.load(bundle_folder).policy.state_dict()
    assert cliff.same_weights(policy(at_start), {f"policy.{name}": tensor for name, tensor in began.items()})
    assert (at_end.steps, at_start.steps) == (1024, 0)


def test_its_gate_is_the_one_it_trained_behind(finished):
    trained, envs = load_trained(finished), make_vector(cliff.TASK, 3)
    router = trained.router(envs)
    assert isinstance(router, Router)
    assert (router.gate.threshold, len(router.gate.dwell)) == (0.02, 3)
    assert replace(trained, threshold=0.01).router(envs).gate.threshold == 0.01   # as it had adapted by then
    assert isinstance(trained.router(envs, gate=False), Ungated)
    assert trained.gates
    assert not replace(trained, config=replace(trained.config, method="uni-o4")).gates


def test_the_same_question_is_played_once(finished, tmp_path, monkeypatch):
    trained, path = load_trained(finished), tmp_path / "evaluations.json"
    first = Evaluations(path).of(trained, gate=True, full_length=False, episodes=5)
    assert 0 <= first["success"] <= 1
    monkeypatch.setattr(final_evaluation, "measure", lambda *_: pytest.fail("played again"))
    assert Evaluations(path).of(load_trained(finished), gate=True, full_length=False, episodes=5) == first


def test_another_policy_gate_or_protocol_is_another_question(finished):
    trained = load_trained(finished)
    moved = replace(trained, config=replace(trained.config, out=Path("elsewhere"), steps=9))
    assert fingerprint(moved, True, False, 5) == fingerprint(trained, True, False, 5)
    stricter = replace(trained, config=replace(trained.config, gate=GateConfig(threshold=0.01)))
    other = [
        fingerprint(trained, False, False, 5), fingerprint(trained, True, True, 5), fingerprint(trained, True, False, 6),
        fingerprint(stricter, True, False, 5), fingerprint(replace(trained, threshold=0.01), True, False, 5),
        fingerprint(load_trained(finished, start=True), True, False, 5),
    ]   # fmt: skip
    assert len({*other, fingerprint(trained, True, False, 5)}) == len(other) + 1
    assert fingerprint(stricter, False, False, 5) == other[0]   # what no gate does depends on no gate's settings


def test_a_bundle_from_anothers_weights_differs_in_calibration_alone(demos, bundle_folder, tmp_path):
    config = cliff.offline(demos, tmp_path / "shorter", weights=bundle_folder, risk=RiskConfig(horizon=2))
    shorter, common = OfflineBundle.load(train(config)), OfflineBundle.load(bundle_folder)
    assert cliff.same_weights(shorter.weights(), common.weights())
    assert shorter.risk.horizon == 2
    assert shorter.calibration is not None
    assert shorter.calibration.miss_bound != common.calibration.miss_bound
    train(again := replace(config, out=tmp_path / "same", risk=common.risk))
    assert OfflineBundle.load(again.out).calibration == common.calibration


def test_weights_of_another_shape_are_refused(demos, bundle_folder, tmp_path):
    with pytest.raises(UserError, match="this configuration asks for"):
        train(cliff.hurried(demos, tmp_path / "other", weights=bundle_folder))


def test_recovery_data_reaches_the_model_only_where_it_is_asked_for(few, tmp_path):
    made = {
        names: OfflineBundle.load(train(cliff.hurried(few, tmp_path / "-".join(names), model_data=names))).weights()
        for names in (("task", "failure", "recovery"), ("task", "failure"))
    }
    with_it, without = made.values()
    assert not torch.equal(*(next(w for n, w in one.items() if n.startswith("model.")) for one in (with_it, without)))
    assert torch.equal(with_it["normalizer.mean"], without["normalizer.mean"])
    with pytest.raises(ValueError, match="model_data"):
        cliff.hurried(few, tmp_path, model_data=("calibration",))


def test_a_folder_from_before_a_setting_existed_is_continued(bundle_folder, tmp_path):
    config = cliff.online(bundle_folder, tmp_path / "run", steps=256)
    run(config)
    path = config.out / "config.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("handover_price")]
    path.write_text("\n".join(kept) + "\n")
    run(replace(config, steps=512))
    assert cliff.lines(config.out, "metrics")[-1]["step"] == 512
    with pytest.raises(UserError, match="handover_price"):
        run(replace(config, steps=512, handover_price=0.5))
