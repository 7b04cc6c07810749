"""Dictionary observations with a cloud of points, on a point mass that is seen instead of told: from the environment to a run."""

from __future__ import annotations

import dataclasses
import json

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from failurebench.point_mass import PointMassCliff
from farl.algorithms.encoder_training import EncoderConfig, train_encoders
from farl.algorithms.latent_model_training import LatentModelConfig, train_latent_model
from farl.data.batches import WindowSampler
from farl.data.episode_store import describe, read_episodes, write_episodes
from farl.data.minari import write_minari
from farl.environments import (
    TaskConfig,
    expert_views,
    get_observations,
    get_states,
    make,
    make_vector,
    set_states,
)
from farl.errors import UserError
from farl.networks.encoders import CloudNormalizer, PointEncoder, normalizer_for
from farl.networks.latent_model import LatentModel
from farl.networks.normalizer import Normalizer
from farl.observations import Flat, Layout, layout_of
from farl.offline.bundle import OfflineBundle, Shape
from farl.offline.critics import model_critic
from farl.offline.demos import collect
from farl.offline.pipeline import train
from farl.online.failure_gate import FailureGate
from farl.online.run import run
from farl.progress import Progress
from farl.types import Episode
from method import cliff

RING = 0.1 * np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)
EDGE = np.array([[-0.25, 0.0], [0.25, 0.0], [-0.25, -0.5], [0.25, -0.5]])
LAYOUT = Layout((("state", 2),), (("points", 16),))


class SeenCliff(PointMassCliff):
    """The point mass with its velocity as ``state``, and points round itself and along the cliff's edge."""

    def __init__(self, **options):
        super().__init__(**options)
        plain, space = Box(-4, 4, (2,), np.float32), Box(-3, 3, (16, 3), np.float32)
        self.observation_space = Dict({"points": space, "state": plain})

    def observation(self):
        x = np.concatenate([self._position + RING, EDGE])
        points = np.column_stack([x, np.zeros(16)]).astype(np.float32)
        return {"points": points, "state": self._velocity.astype(np.float32)}

    def expert_view(self):
        return PointMassCliff.observation(self)


gymnasium.register("Tests/SeenCliff-v0", entry_point=SeenCliff)
TASK = TaskConfig("Tests/SeenCliff-v0")


class Quiet(Progress):
    """Says nothing and writes nothing."""

    def __init__(self):
        pass

    def stage(self, *_):
        pass

    def at(self, *_):
        pass


def observed(count, seed=0):
    """Flat observations with the mass anywhere."""
    rng, env = np.random.default_rng(seed), SeenCliff()
    rows = []
    for position in rng.uniform(-1, 1, (count, 2)):
        env._position, env._velocity = position, rng.uniform(-1, 1, 2)
        rows.append(LAYOUT.flatten(env.observation()))
    return np.stack(rows)


def episode(seed=0, steps=20, layout=LAYOUT):
    rng = np.random.default_rng(seed)
    obs = observed(steps + 1, seed)
    flags = np.zeros(steps, bool)
    margin = np.hypot(obs[1:, 2], obs[1:, 3]).astype(np.float32)  # any function of what is seen will do
    actions = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    return Episode(obs, actions, margin, flags, flags.copy(), margin < 0.4, margin, "timeout", seed, "t", layout=layout)


# ---------------------------------------------------------------- plain vectors stay what they were


def test_a_plain_observation_is_standardised_as_ever():
    """Bit for bit what the formula says, and a normaliser without a trace of encoders."""
    obs = torch.randn(400, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 0.1, 3.0, 0.0])
    for layout in (None, Layout((("a", 2), ("b", 3)), ())):
        normalizer = normalizer_for(5, layout, 16)
        normalizer.fit(obs)
        varies = (obs.amax(0) - obs.amin(0) > 1e-4).float()
        x = ((obs - obs.mean(0)) / obs.std(0).clamp_min(1e-2) * varies).clamp(-10, 10)
        assert type(normalizer) is Normalizer
        assert torch.equal(normalizer(obs), x)
        assert normalizer.encode(obs) is obs
        assert set(normalizer.state_dict()) == {"mean", "std", "whitening", "varies"}


def test_a_plain_bundle_says_nothing_of_layouts(tmp_path):
    """So that one written before there were any is read as one written now."""
    OfflineBundle.empty(cliff.TASK, Shape(6, 2)).save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert not {"layout", "code"} & set(manifest["shape"])
    assert OfflineBundle.load(tmp_path).shape == Shape(6, 2)


def test_a_plain_dataset_says_nothing_of_layouts(tmp_path):
    write_episodes(tmp_path / "task.hdf5", [episode(layout=None)], {})
    with h5py.File(tmp_path / "task.hdf5") as file:
        assert "layout" not in json.loads(file["data"].attrs["farl"])
        assert list(file["data/demo_0/obs"]) == ["state"]


# ---------------------------------------------------------------- at the environment's boundary


def test_a_dictionary_becomes_one_row_with_vectors_first():
    env = make(TASK)
    obs, _ = env.reset(seed=3)
    inner = env.unwrapped.observation()
    assert layout_of(env) == LAYOUT
    assert env.observation_space.shape == (50,)
    assert env.observation_space.contains(obs)
    assert np.array_equal(obs, np.concatenate([inner["state"], inner["points"].ravel()]))
    assert np.array_equal(LAYOUT.points(obs)["points"], inner["points"])
    assert Layout.from_record(json.loads(json.dumps(LAYOUT.record()))) == LAYOUT


def test_many_environments_are_flat_and_go_on_from_saved_states():
    envs = make_vector(TASK, 3)
    first, _ = envs.reset(seed=[1, 2, 3])
    assert layout_of(envs) == LAYOUT
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2)).astype(np.float32)
    states, following = get_states(envs), envs.step(actions)[0]
    set_states(envs, states)
    assert np.array_equal(get_observations(envs), first)
    assert np.array_equal(envs.step(actions)[0], following)


def test_experts_see_what_a_policy_has_to_find_out():
    """And where observations are plain vectors, they see those."""
    envs, plain = make_vector(TASK, 2), make_vector(cliff.TASK, 2)
    seen, _ = envs.reset(seed=[1, 2])
    told, _ = plain.reset(seed=[1, 2])
    assert np.array_equal(expert_views(envs, seen), told)
    assert expert_views(plain, told) is told


@pytest.mark.parametrize(
    "part", [Box(0, 1, (8, 8, 3), np.float32), Box(0, 1, (8, 2), np.float32), gymnasium.spaces.Discrete(3)]
)
def test_what_is_neither_vector_nor_cloud_is_refused(part):
    with pytest.raises(UserError, match=r"a:B has 'camera' of .* a cloud of points, Box of shape \(n, 3\), is needed"):
        Layout.of(Dict({"state": Box(0, 1, (2,), np.float32), "camera": part}), "a:B")


# ---------------------------------------------------------------- the encoder


def test_neither_order_nor_repetition_of_points_matters():
    encoder, generator = PointEncoder(8), torch.Generator().manual_seed(0)
    points = torch.randn(5, 16, 3, generator=generator)
    shuffled = points[:, torch.randperm(16, generator=generator)]
    twice = torch.cat([points, points[:, :7]], dim=1)
    assert torch.allclose(encoder(points), encoder(shuffled), atol=1e-6)
    assert torch.allclose(encoder(points), encoder(twice), atol=1e-6)
    assert not torch.allclose(encoder(points), encoder(points[:, :8]), atol=1e-3)


def test_all_three_coordinates_have_one_scale():
    """A cloud ten times as wide as it is high stays so."""
    points = torch.randn(64, 32, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.1]) + 5.0
    encoder = PointEncoder(4)
    encoder.fit(points)
    spread = encoder.scaled(points).flatten(0, 1).std(0)
    assert spread[0] / spread[2] == pytest.approx(10.0, rel=0.1)
    assert encoder.scaled(points).square().sum(-1).mean() == pytest.approx(1.0, rel=1e-3)


def test_a_cloud_is_coded_alike_in_any_company():
    """Row by row and in chunks, and without a gradient: the encoder is frozen."""
    normalizer = CloudNormalizer(LAYOUT, 4)
    obs = torch.from_numpy(observed(1100))
    normalizer.fit(obs)
    together = normalizer(obs)
    assert together.shape == (1100, 2 + 4)
    assert not together.requires_grad
    assert torch.allclose(together[[7, 1000]], torch.cat([normalizer(obs[7:8]), normalizer(obs[1000:1001])]), atol=1e-4)


def test_training_makes_codes_tell_where_the_mass_is():
    """A linear map from the code finds the position, held out, which nobody was told in training."""
    normalizer, generator = CloudNormalizer(LAYOUT, 8), torch.Generator().manual_seed(0)
    config = EncoderConfig(updates=250, batch=64, code=8, queries=16)
    train_encoders(normalizer, [episode(seed, 60) for seed in range(20)], config, generator, Quiet())
    obs = torch.from_numpy(observed(800, seed=99))
    code = torch.cat([normalizer.encode(obs)[:, 2:], torch.ones(800, 1)], dim=1)
    position = LAYOUT.points(obs)["points"][:, :12, :2].mean(1)
    solution = torch.linalg.lstsq(code[:400], position[:400]).solution
    error = (code[400:] @ solution - position[400:]).square().mean().sqrt()
    assert error < 0.15 * position.std()
    assert not any(parameter.requires_grad for parameter in normalizer.parameters())


def test_windows_hold_codes_where_they_are_told_to():
    normalizer = CloudNormalizer(LAYOUT, 4)
    episodes = [episode(1), episode(2)]
    draw = (64, torch.Generator().manual_seed(0))
    raw = WindowSampler(episodes, 5, 1.0).sample(*draw)
    coded = WindowSampler(episodes, 5, 1.0, encode=normalizer.encode).sample(64, torch.Generator().manual_seed(0))
    rows = raw.obs[:-1][raw.valid]
    assert torch.allclose(coded.obs[:-1][raw.valid], normalizer.encode(rows), atol=1e-5)
    assert torch.equal(coded.action, raw.action)


def test_a_policy_from_elsewhere_cannot_read_imagined_points():
    with pytest.raises(UserError, match="codes in place of points"):
        CloudNormalizer(LAYOUT, 4).inverse(torch.zeros(1, 6))


# ---------------------------------------------------------------- on disk


def test_clouds_come_back_as_they_were_written(tmp_path):
    """In robomimic's layout: every part of an observation under its own name."""
    episodes = [episode(1), episode(2)]
    write_episodes(tmp_path / "a.hdf5", episodes, {"options": {}})
    for there, here in zip(read_episodes(tmp_path / "a.hdf5"), episodes, strict=True):
        assert np.array_equal(there.obs, here.obs)
        assert there.layout == LAYOUT
    with h5py.File(tmp_path / "a.hdf5") as file:
        group = file["data/demo_1"]
        assert group["obs/points"].shape == group["next_obs/points"].shape == (20, 16, 3)
        assert group["obs/state"].shape == (20, 2)
        assert np.array_equal(group["next_obs/points"][3], group["obs/points"][4])
    assert describe(tmp_path / "a.hdf5").obs_size == 50
    read_episodes(tmp_path / "a.hdf5", obs_size=50)
    with pytest.raises(UserError, match="observations of 50 numbers, the task gives 51"):
        read_episodes(tmp_path / "a.hdf5", obs_size=51)


def test_a_cloud_may_not_be_called_state(tmp_path):
    layout = Layout((("told", 2),), (("state", 16),))
    with pytest.raises(ValueError, match="rename it"):
        write_episodes(tmp_path / "a.hdf5", [episode(1, layout=layout)], {})


def test_a_format_that_would_forget_the_layout_is_refused():
    with pytest.raises(UserError, match="would forget which numbers they are; share the HDF5 file"):
        write_minari("seen/cliff-v0", [episode(1)], TASK)


# ---------------------------------------------------------------- the whole way


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Demonstrations and a hurried bundle of the point mass that is seen."""
    folder = tmp_path_factory.mktemp("seen")
    short = EncoderConfig(updates=30, batch=32, code=6, queries=8)
    collect(cliff.few(folder / "demos", task=TASK, encoder=short))
    train(cliff.hurried(folder / "demos", folder / "bundle", task=TASK, encoder=short))
    return folder


def test_a_bundle_keeps_its_encoder(seen):
    """Saved and loaded, it knows the layout and judges an action as before: every network reads plain numbers and codes."""
    bundle = OfflineBundle.load(seen / "bundle", TASK)
    assert bundle.shape.layout == LAYOUT
    assert (bundle.shape.obs_dim, bundle.normalizer.obs_dim) == (50, 8)
    again = OfflineBundle.load(seen / "bundle")
    obs, action = torch.from_numpy(observed(9)), torch.zeros(9, 2)
    risk = model_critic(bundle, bundle.policy).risk(obs, action)
    assert torch.equal(risk, model_critic(again, again.policy).risk(obs, action))
    moved = obs.clone()
    moved[:, 2:] = obs.roll(1, 0)[:, 2:]
    assert not torch.equal(risk, model_critic(bundle, bundle.policy).risk(moved, action))


def test_the_latent_model_learns_from_codes_too():
    """What it decodes are plain numbers and codes, and it gets better at it."""
    normalizer, generator = CloudNormalizer(LAYOUT, 4), torch.Generator().manual_seed(0)
    episodes = [episode(seed) for seed in range(8)]
    normalizer.fit(torch.from_numpy(np.concatenate([e.obs for e in episodes])))
    torch.manual_seed(0)
    model = LatentModel(normalizer, 2, latent=16, width=32, heads=2)
    sampler = WindowSampler(episodes, 4, 1.0, encode=normalizer.encode)
    x = normalizer(torch.from_numpy(observed(200)))

    def error():
        with torch.no_grad():
            return float((model.decode(model.encode(x)) - x).square().mean())

    before = error()
    config = LatentModelConfig(updates=25, batch=16, lr=5e-3, horizon=4, latent=16, width=32, heads=2)
    train_latent_model(model, normalizer, sampler, config, generator, Quiet())
    assert error() < 0.8 * before


def test_the_gate_for_any_library_goes_round_a_flat_environment(seen):
    with pytest.raises(UserError, match="observations are a Dict"):
        FailureGate(gymnasium.make(TASK.id), seen / "bundle")
    env = FailureGate(Flat(gymnasium.make(TASK.id), "the cliff"), seen / "bundle")
    env.reset(seed=0)
    *_, info = env.step(np.zeros(2, np.float32))
    assert 0 <= info["risk"] <= 1


def test_a_run_with_the_gate_repeats(seen, tmp_path):
    """Online, actor, gate and learner see flat rows; twice the same, to the last bit of the weights."""
    config = cliff.online(seen / "bundle", tmp_path / "one", task=TASK, method="farl", steps=384)
    run(config)
    run(dataclasses.replace(config, out=tmp_path / "other"))
    assert cliff.lines(tmp_path / "one", "metrics")[-1]["step"] == 384
    assert cliff.same_weights(cliff.weights(tmp_path / "one"), cliff.weights(tmp_path / "other"))
