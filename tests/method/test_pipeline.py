"""Demonstrations and the offline stage on the point mass: what they leave behind, and that they continue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from farl.algorithms.latent_model_training import LatentModelConfig
from farl.data.batches import imitated, transitions
from farl.data.episode_store import read_episodes
from farl.errors import UserError
from farl.offline import pipeline
from farl.offline.bundle import OfflineBundle
from farl.offline.demos import SETS, collect
from farl.offline.pipeline import train
from farl.offline.recoveries import RecoveriesConfig
from method import cliff

CALIBRATED = ("threshold", "scale", "shift", "miss_bound", "false_alarm_bound", "auroc")


def test_the_offline_stage_leaves_its_documented_files(made):
    assert {p.name for p in (made / "demos").glob("*.hdf5")} == {f"{name}.hdf5" for name in SETS}
    bundle = {p.name for p in (made / "bundle").iterdir()}
    assert {"manifest.json", "weights.safetensors", "config.yaml", "acceptance.json"} <= bundle
    assert "partial.pt" not in bundle


def test_failures_are_labelled_on_the_state_each_action_led_to(demos):
    """Recomputed from the stored observations: over the cliff after the step, not before it."""
    seen = 0
    for name in SETS:
        for episode in read_episodes(demos / f"{name}.hdf5"):
            x, y = episode.obs[1:, 0], episode.obs[1:, 1]
            over = (x >= -0.25) & (x <= 0.25) & (y <= 0)
            clear = np.minimum(np.abs(np.abs(x) - 0.25), np.abs(y)) > 1e-6  # float32 decides nothing at the very edge
            assert np.array_equal(episode.failure[clear], over[clear])
            seen += int(episode.failure.sum())
    assert seen > 50


def test_actions_and_observations_on_disk_replay_in_the_simulator(demos):
    import gymnasium

    env = gymnasium.make("FailureBench/PointMassCliff-v0")
    for episode in read_episodes(demos / "calibration.hdf5")[:10]:
        obs, _ = env.reset(seed=episode.seed)
        assert np.array_equal(obs, episode.obs[0])
        for t, action in enumerate(episode.actions):
            obs, reward, _, _, info = env.step(action)
            assert np.array_equal(obs, episode.obs[t + 1])
            assert np.float32(reward) == episode.rewards[t]
            assert info["failure"] == episode.failure[t]


def test_demonstrations_are_decided_by_their_seed(few, tmp_path):
    again, third = collect(cliff.few(tmp_path / "again")), collect(cliff.few(tmp_path / "third", seed=1))
    for name in SETS:
        first, second, different = (read_episodes(folder / f"{name}.hdf5") for folder in (few, again, third))
        assert [e.seed for e in first] == [e.seed for e in second]
        assert all(np.array_equal(a.obs, b.obs) for a, b in zip(first, second, strict=True))
        assert not {e.seed for e in first} & {e.seed for e in different}


def test_recoveries_are_kept_only_where_they_ended_safely(demos):
    episodes = [e for e in read_episodes(demos / "recovery.hdf5") if e.behaviour == "recovery"]
    assert len(episodes) >= 20
    assert not any(e.failed for e in episodes)
    assert min(e.margin[-1] for e in episodes) >= 0.02


def test_where_a_clone_of_the_recoveries_acted_the_script_is_what_is_imitated(demos):
    """The script of the point mass has no memory: asked again about the recorded observations, it says the same."""
    import gymnasium

    episodes = read_episodes(demos / "recovery.hdf5")
    corrected = [e for e in episodes if e.behaviour == "corrected"]
    assert len(corrected) == 24
    expert = gymnasium.make("FailureBench/PointMassCliff-v0").unwrapped.expert("recovery")
    expert.reset(np.random.default_rng(0))  # its height is always the same
    for episode in corrected:
        script = np.stack([expert.act(obs) for obs in episode.obs[:-1]])
        np.testing.assert_allclose(imitated([episode]).action, script, atol=1e-6)
    strayed = [np.abs(e.actions - imitated([e]).action.numpy()).max() for e in corrected]
    assert np.median(strayed) > 0.1  # it was the clone that acted, with noise
    others = [e for e in episodes if e.behaviour == "recovery"]
    assert np.array_equal(imitated(others).action, transitions(others, 1.0).action)


def test_finished_demonstrations_are_left_alone(made, capsys):
    before = cliff.contents(made / "demos")
    collect(cliff.demos(made / "demos"))
    assert "complete" in capsys.readouterr().out
    assert cliff.contents(made / "demos") == before


def test_a_finished_bundle_is_left_alone(made, capsys):
    before = cliff.contents(made / "bundle")
    train(cliff.offline(made / "demos", made / "bundle"))
    assert "complete" in capsys.readouterr().out
    assert cliff.contents(made / "bundle") == before


# ---------------------------------------------------------------- interruption


STAGES = (
    "fit_normalizer",
    "clone_task",
    "train_critics",
    "train_model",
    "improve",
    "clone_recovery",
    "train_q_risk",
    "train_paper_model",
    "calibrate",
    "examine",
)


@pytest.fixture(scope="module")
def uninterrupted(few, tmp_path_factory):
    return train(cliff.hurried(few, tmp_path_factory.mktemp("whole") / "bundle"))


def test_an_offline_stage_stopped_at_every_step_continues_to_identical_weights(
    few, uninterrupted, tmp_path, monkeypatch
):
    """Ctrl-C after each step's work was done but before it was kept: the costliest moment."""
    config = cliff.hurried(few, tmp_path / "bundle")
    for index, stage in enumerate(STAGES):
        worked: list[str] = []
        with monkeypatch.context() as patch:
            for name in STAGES:
                patch.setattr(pipeline._Stage, name, spied(getattr(pipeline._Stage, name), worked, stop=name == stage))
            with pytest.raises(KeyboardInterrupt):
                train(config)
        # what was stopped last time is done again
        assert worked == list(STAGES[max(0, index - 1) : index + 1])
        assert not (config.out / "manifest.json").exists()
    train(config)
    assert not (config.out / "partial.pt").exists()
    one, other = OfflineBundle.load(uninterrupted), OfflineBundle.load(config.out)
    assert cliff.same_weights(one.weights(), other.weights())
    for name in CALIBRATED:
        assert getattr(one.calibration, name) == pytest.approx(getattr(other.calibration, name), abs=0, nan_ok=True), (
            name
        )
    assert (uninterrupted / "acceptance.json").read_bytes() == (config.out / "acceptance.json").read_bytes()


def spied(work, worked: list[str], stop: bool):
    def wrapper(self):
        worked.append(work.__name__)
        result = work(self)
        if stop:
            raise KeyboardInterrupt
        return result

    return wrapper


def test_a_damaged_partial_result_is_one_message(few, tmp_path, monkeypatch):
    config = cliff.hurried(few, tmp_path / "bundle")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline._Stage, "train_critics", spied(pipeline._Stage.train_critics, [], stop=True))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    partial = config.out / "partial.pt"
    partial.write_bytes(partial.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"partial\.pt"):
        train(config)


def test_the_weights_do_not_depend_on_what_else_drew_random_numbers(few, uninterrupted, tmp_path):
    """No stage reads the global generators: a library user's own draws change nothing."""
    torch.manual_seed(12345)
    np.random.seed(6)  # noqa: NPY002  (the point is that nobody listens)
    again = train(cliff.hurried(few, tmp_path / "bundle"))
    assert cliff.same_weights(OfflineBundle.load(uninterrupted).weights(), OfflineBundle.load(again).weights())


def test_the_latent_model_goes_through_the_same_stages(few, tmp_path):
    latent = LatentModelConfig(updates=4, batch=8, latent=16, width=16, heads=2)
    folder = train(cliff.hurried(few, tmp_path / "bundle", model="latent", latent_model=latent))
    bundle = OfflineBundle.load(folder, cliff.TASK)
    assert type(bundle.model).__name__ == "LatentModel"
    assert bundle.model.failure.weights[0].shape[0] == 2


# ---------------------------------------------------------------- what was learnt


def test_the_trained_gate_and_recovery_do_their_work(bundle, bundle_folder):
    """The acceptance table of the bundle that the other tests use: met, with figures to spare."""
    c = bundle.calibration
    assert c.auroc > 0.93
    assert c.onset_recall >= 0.9
    assert c.calibration_error < 0.05
    assert c.threshold <= c.miss_bound
    checks = {check["name"]: check for check in json.loads((bundle_folder / "acceptance.json").read_text())}
    for name in ("recovery rate, lead 3", "recovery rate, lead 6", "closed loop: fewer failures"):
        assert checks[name]["met"], checks[name]


def test_heads_fire_at_the_action_that_fails_and_not_a_step_off(bundle, demos):
    episodes = [e for e in read_episodes(demos / "calibration.hdf5") if e.failed]
    offsets = np.array([first_alarm(bundle, e) - e.onset for e in episodes])
    assert len(offsets) >= 20
    assert np.median(offsets) == 0
    assert (np.abs(offsets) <= 1).mean() > 0.7


def first_alarm(bundle, episode) -> int:
    """First step that the one-step heads call more likely to violate than not, or past the onset if none is."""
    obs, action = torch.from_numpy(episode.obs[:-1]), torch.from_numpy(episode.actions)
    with torch.no_grad():
        _, logits = bundle.model.step(bundle.model.encode(bundle.normalizer(obs)), action)
    alarms = np.flatnonzero(logits.mean(0).numpy() * bundle.calibration.scale + bundle.calibration.shift > 0)
    return int(alarms[0]) if len(alarms) else episode.onset + 1


def test_predicted_failures_of_held_out_episodes_add_up_to_observed_ones(bundle, demos):
    """Training draws 30 % of its windows around failures; after calibration the probabilities are natural again."""
    expected, observed = 0.0, 0
    for episode in read_episodes(demos / "calibration.hdf5"):
        stop = len(episode) if episode.onset is None else episode.onset + 1
        obs, action = torch.from_numpy(episode.obs[:stop]), torch.from_numpy(episode.actions[:stop])
        with torch.no_grad():
            _, logits = bundle.model.step(bundle.model.encode(bundle.normalizer(obs)), action)
        expected += float((logits.mean(0) * bundle.calibration.scale + bundle.calibration.shift).sigmoid().sum())
        observed += episode.failed
    assert observed >= 20
    assert expected == pytest.approx(observed, rel=0.3)


def test_recovery_data_cover_the_states_in_which_the_gate_fires(bundle_folder, demos, tmp_path):
    """Nine of ten gated states lie within the spread of the states recovery was shown (nearest neighbours)."""
    from farl.online.run import Session

    shown = torch.cat([torch.from_numpy(e.obs[:-1]) for e in read_episodes(demos / "recovery.hdf5")])
    run = Session(cliff.online(bundle_folder, tmp_path / "run", method="farl", num_envs=32))
    rollout = run.actor.collect(100)
    fired = rollout.obs[rollout.gated]
    assert len(fired) > 20
    x, shown = run.policy.normalizer(fired), run.policy.normalizer(shown)
    nearest = torch.cdist(x, shown).amin(1)
    spread = torch.cdist(shown, shown).fill_diagonal_(float("inf")).amin(1)
    assert nearest.quantile(0.9) < 3 * spread.quantile(0.95)


# ---------------------------------------------------------------- data that does not fit


def test_data_of_another_task_is_refused_before_anything_is_written(few, tmp_path):
    config = cliff.hurried(
        few, tmp_path / "bundle", task=replace(cliff.TASK, id="failurebench:FailureBench/BoundedPush-v0")
    )
    with pytest.raises(UserError, match=r"holds episodes of .*PointMassCliff.*not of .*BoundedPush"):
        train(config)
    assert not config.out.exists()


def test_data_made_with_other_options_of_the_task_is_refused(few, tmp_path):
    """A bundle made for one is refused for the other when it is loaded: so must the demonstrations be."""
    other = replace(cliff.TASK, options={"terminate_on_failure": True})
    with pytest.raises(UserError, match="terminate_on_failure"):
        train(cliff.hurried(few, tmp_path / "bundle", task=other))


def test_missing_data_is_one_message_that_names_the_cure(tmp_path):
    with pytest.raises(UserError, match=r"no dataset .*task.hdf5.*farl demos"):
        train(cliff.hurried(tmp_path / "nowhere", tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_a_folder_of_another_offline_configuration_is_refused_and_kept(few, uninterrupted):
    before = cliff.contents(uninterrupted)
    with pytest.raises(UserError, match=r"belongs to another configuration \(.*seed: 0 there, 5 now"):
        train(cliff.hurried(few, uninterrupted, seed=5))
    assert cliff.contents(uninterrupted) == before


def test_a_folder_with_someone_elses_files_is_refused_and_kept(few, tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="not empty"):
        train(cliff.hurried(few, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_demonstrations_without_a_usable_recovery_are_one_message(tmp_path):
    with pytest.raises(UserError, match="recover"):
        collect(cliff.few(tmp_path / "demos", recovery=RecoveriesConfig(safe_margin=50.0)))  # no place is as far away
    assert not list(Path(tmp_path / "demos").glob("*.hdf5"))
