"""Imagined episodes against closed forms, the success head against where episodes end, and ``farl predict`` end to end."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from farl import cli
from farl.algorithms.imagined_evaluation import Estimate, ImaginedEvaluation, Starts, evaluation_from
from farl.algorithms.success_head import train_success_head
from farl.data.batches import transitions
from farl.data.episode_store import read_episodes
from farl.environments import TaskConfig, make_vector
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.offline.collecting import Collector, ExploringPolicy
from farl.online.run import run
from farl.predict import PredictConfig, predict
from farl.seeds import Purpose, episode_seeds
from method import cliff


class Line:
    """A world that moves one to the right a step, pays where it is, and fails with a given logit at every step."""

    def __init__(self, logit=-99.0):
        self.logit = logit

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def step(self, z, action):
        return z + 1, torch.full((2, len(z)), self.logit)

    def reward(self, z, action):
        return z[:, 0] + 0 * action[:, 0]


class Succeeds:
    """With a given probability at every step, then worth ``reward``."""

    def __init__(self, chance=0.0, reward=0.0):
        self.chance, self.reward = chance, torch.tensor(reward)

    def __call__(self, x):
        return torch.full((len(x),), self.chance)


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return GaussianPolicy(Normalizer(1), 1, std=0.3, hidden=(8,))


def play(policy, world, success=None, horizon=4, failure_ends=False, starts=((0.0,), (2.0,)), **settings):
    begin = Starts(torch.tensor(starts), horizon, failure_ends)
    settings = {"reward_scale": 0.1, **settings}
    return ImaginedEvaluation(world, success or Succeeds(), begin, **settings).play(policy)


def logit(p):
    return float(np.log(p / (1 - p)))


# ---- whole episodes


def test_the_return_is_the_raw_reward_of_the_whole_episode(policy):
    played = play(policy, Line())
    assert played.returned.tolist() == pytest.approx([10 * (0 + 1 + 2 + 3), 10 * (2 + 3 + 4 + 5)])
    assert played.failed.tolist() == played.succeeded.tolist() == [0, 0]


def test_a_failure_that_ends_nothing_takes_nothing_from_the_return_but_is_counted_once(policy):
    played = play(policy, Line(logit(0.3)))
    assert played.returned.tolist() == pytest.approx([60, 140])
    assert played.failed.tolist() == pytest.approx([1 - 0.7**4] * 2)


def test_where_failure_ends_the_episode_the_return_ends_with_it(policy):
    played = play(policy, Line(logit(0.3)), failure_ends=True)
    assert played.returned[0].item() == pytest.approx(10 * sum(t * 0.7**t for t in range(4)))
    assert played.failed.tolist() == pytest.approx([1 - 0.7**4] * 2)


def test_a_success_pays_its_reward_to_the_end_and_nothing_fails_after_it(policy):
    """Summed over every way the episode can go: success at step s, or none."""
    chance, worth, fails = 0.4, 5.0, 0.2
    played = play(policy, Line(logit(fails)), Succeeds(chance, worth))
    expected, failed = 0.0, 0.0
    for s in range(5):  # 4 is never
        share = chance * (1 - chance) ** s if s < 4 else (1 - chance) ** 4
        expected += share * (sum(range(s)) + (4 - s) * worth)
        failed += share * (1 - (1 - fails) ** min(s + 1, 4))
    assert played.returned[0].item() == pytest.approx(10 * expected, rel=1e-5)
    assert played.failed[0].item() == pytest.approx(failed, rel=1e-5)
    assert played.succeeded.tolist() == pytest.approx([1 - 0.6**4] * 2)


def test_the_heads_calibration_is_applied_to_every_step(policy):
    played = play(policy, Line(2.0), horizon=1, scale=0.5, shift=-1.0)
    assert played.failed.tolist() == pytest.approx([0.5] * 2)


class Wanders(Line):
    """Pays the action."""

    def reward(self, z, action):
        return action[:, 0]


def test_every_policy_gets_the_same_noise_and_nobody_elses_is_used(policy):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    starts = torch.zeros(500, 1).tolist()
    first, second = (play(policy, Wanders(), horizon=1, starts=starts) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.returned, second.returned)
    assert float(first.returned.std()) == pytest.approx(10 * 0.3, rel=0.1)
    quiet = play(policy, Wanders(), horizon=1, starts=starts, noise=False)
    assert float(quiet.returned.std()) == pytest.approx(0, abs=1e-5)
    other = play(policy, Wanders(), horizon=1, starts=starts, seed=1)
    assert not torch.equal(first.returned, other.returned)


def test_the_error_is_that_of_a_mean():
    samples = torch.tensor([1.0, 2.0, 3.0, 6.0])
    estimate = Estimate.of(samples)
    assert estimate == pytest.approx((3.0, float(np.std([1, 2, 3, 6], ddof=1) / 2)))


# ---- the success head


def test_the_success_head_finds_where_episodes_succeed_at_their_natural_rate(demos):
    episodes = [e for name in ("task", "failure") for e in read_episodes(demos / f"{name}.hdf5")]
    data = transitions(episodes, 0.1)
    normalizer = Normalizer(data.obs.shape[1])
    normalizer.fit(data.obs)
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        head = train_success_head(normalizer, data, torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        chance = head(normalizer(data.next_obs))
    assert float(chance[data.success].mean()) > 20 * float(chance[~data.success].mean())
    assert float(chance.sum()) == pytest.approx(float(data.success.sum()), rel=0.3)
    assert float(head.reward) == pytest.approx(float(data.reward[data.success].mean()))


def test_without_a_success_in_the_data_none_is_imagined(demos):
    episodes = [e for e in read_episodes(demos / "failure.hdf5") if e.outcome != "success"]
    data = transitions(episodes, 0.1)
    normalizer = Normalizer(data.obs.shape[1])
    normalizer.fit(data.obs)
    head = train_success_head(normalizer, data, torch.Generator().manual_seed(0))
    assert float(head(normalizer(data.next_obs)).detach().max()) == 0.0


# ---- the point mass


def test_episodes_begin_and_end_as_the_data_does(demos, bundle):
    episodes = read_episodes(demos / "task.hdf5")
    made = evaluation_from(episodes, bundle.model, bundle.normalizer, bundle.reward_scale, starts=10)
    first = {tuple(e.obs[0].tolist()) for e in episodes}
    assert {tuple(row) for row in made.starts.obs.tolist()} <= first
    assert len(made.starts.obs) == 10
    assert (made.starts.horizon, made.starts.failure_ends) == (max(map(len, episodes)), False)
    episodes[0].terminated[-1] = True
    again = evaluation_from(episodes, bundle.model, bundle.normalizer, 0.1, starts=10**6, horizon=7)
    assert (len(again.starts.obs), again.starts.horizon, again.starts.failure_ends) == (len(episodes), 7, True)


def really(policy, std, count=96):
    """Share of real episodes in which the policy fails."""
    episodes = Collector(make_vector(cliff.TASK, 16), cliff.TASK).episodes(
        ExploringPolicy(policy, std, seed=0), episode_seeds(Purpose.EVALUATION, 1), ""
    )
    first, ended = set(), []
    for seed, _ in zip(episode_seeds(Purpose.EVALUATION, 1), range(count), strict=False):
        first.add(seed)
    while first:
        episode = next(episodes)
        if episode.seed in first:
            first.remove(episode.seed)
            ended.append(episode.failed)
    return float(np.mean(ended))


def test_predicted_failures_are_those_of_real_episodes(bundle_folder, bundle):
    """The hasty clone with its noise falls often, without noise seldom: both as imagined."""
    std = float(bundle.policy.std.detach().mean())
    for noise in (True, False):
        (prediction,) = predict(PredictConfig(bundle=bundle_folder, episodes=64, noise=noise))
        assert prediction.failed.mean == pytest.approx(really(bundle.policy, std * noise), abs=0.2)


# ---- farl predict


@pytest.fixture(scope="module")
def run_folder(bundle_folder, tmp_path_factory):
    return run(cliff.online(bundle_folder, tmp_path_factory.mktemp("run") / "a", evaluation_episodes=0))


def test_a_line_for_the_bundle_and_each_run(bundle_folder, run_folder, tmp_path, capsys):
    arguments = ["predict", str(bundle_folder), str(run_folder), "--episodes", "16", "--json", str(tmp_path / "p.json")]
    assert cli.main(arguments) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["policy", "agent", "steps", "return", "failure", "rate", "success", "rate"]
    assert first.split()[:2] == ["bundle", "0"]
    assert second.split()[:2] == [str(run_folder), "1,024"]
    written = json.loads((tmp_path / "p.json").read_text())
    assert [record["policy"] for record in written] == ["bundle", str(run_folder)]
    assert f"{written[0]['failed']['mean']:.3f} +- {written[0]['failed']['error']:.3f}" in first
    assert written[0]["returned"] != written[1]["returned"]


def test_a_bundle_that_moved_is_told_where_its_data_is(bundle_folder, demos, tmp_path):
    moved = shutil.copytree(bundle_folder, tmp_path / "moved")
    (moved / "config.yaml").write_text("data: gone\n")
    (here,) = predict(PredictConfig(bundle=bundle_folder, episodes=16))
    (there,) = predict(PredictConfig(bundle=moved, data=demos, episodes=16))
    assert here == there


def changed_bundle(bundle_folder, out, change):
    bundle = OfflineBundle.load(bundle_folder)
    change(bundle)
    bundle.save(out)
    return out


def refusals(kind, bundle_folder, run_folder, tmp_path):
    """Arguments that cannot be answered, and what is said."""
    if kind == "no bundle":
        return [str(tmp_path)], f"no bundle in {tmp_path} (no manifest.json)"
    if kind == "nothing":
        return [], "something is missing; usage: farl predict BUNDLE [RUN ...]"
    if kind == "no run":
        return [str(bundle_folder), str(tmp_path)], f"{tmp_path} is not a run directory (no config.yaml)"
    if kind == "no checkpoint":
        shutil.copy(run_folder / "config.yaml", tmp_path)
        return [str(bundle_folder), str(tmp_path)], f"{tmp_path} has no checkpoint yet"
    if kind == "no data":
        shutil.copytree(bundle_folder, tmp_path / "b")
        (tmp_path / "b" / "config.yaml").write_text("data: gone\n")
        return [str(tmp_path / "b")], "there is no folder 'gone' with the demonstrations of"
    if kind == "no word of data":
        shutil.copytree(bundle_folder, tmp_path / "b")
        (tmp_path / "b" / "config.yaml").unlink()
        return [str(tmp_path / "b")], "does not say where the demonstrations are; give their folder with --data"
    if kind == "no file":
        return [str(bundle_folder), "--data", str(tmp_path)], f"there is no dataset {tmp_path / 'task.hdf5'}"
    if kind == "other task":
        other = TaskConfig(cliff.TASK.id, {"max_episode_steps": 30})
        out = changed_bundle(bundle_folder, tmp_path / "o", lambda b: setattr(b, "task", other))
        return [str(out), str(run_folder)], "but " + str(out) + " was made for"
    if kind == "other bundle":
        out = changed_bundle(bundle_folder, tmp_path / "o", lambda b: b.normalizer.mean.add_(1.0))
        return [str(out), str(run_folder)], f"use that one: farl predict {bundle_folder} {run_folder}"
    if kind == "broken weights":
        out = changed_bundle(bundle_folder, tmp_path / "o", lambda b: b.policy.net[0].weight.data.fill_(float("nan")))
        shutil.copy(bundle_folder / "config.yaml", out)
        return [str(out)], "bundle: the world model's prediction is not a number"
    return [str(bundle_folder), "--episodes", "1"], "episodes is 1; imagine 2 or more"


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "no bundle",
        "no run",
        "no checkpoint",
        "no data",
        "no word of data",
        "no file",
        "other task",
        "other bundle",
        "broken weights",
        "one episode",
    ],
)
def test_what_cannot_be_predicted_is_one_message(kind, bundle_folder, run_folder, tmp_path, capsys):
    arguments, expected = refusals(kind, bundle_folder, run_folder, tmp_path)
    assert cli.main(["predict", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert said.startswith("farl: ")
    assert "\n" not in said
