"""Corrections of recovery: who acts in a round, and what is kept as shown."""

from __future__ import annotations

import numpy as np
import pytest

from farl.data.batches import imitated
from farl.data.episode_store import read_episodes
from farl.offline.collecting import _Open
from farl.offline.demos import collect
from farl.offline.recoveries import TAKE_BACK, Corrected, Recoveries, RecoveriesConfig
from farl.progress import Progress
from method import cliff


class Says:
    """An agent, an explorer and a demonstrator at once: always the same action."""

    experts = (None,) * 64

    def __init__(self, value):
        self.value = value

    def begin(self, env, seed):
        pass

    def act(self, obs):
        return np.full((len(obs), 2), self.value, np.float32)


def corrected(interruptions):
    return Corrected(Says(1.0), Says(0.5), Says(-1.0), interruptions, np.random.default_rng(0))


@pytest.mark.parametrize("interruptions", [0.05, 0.2])
def test_the_task_policy_acts_for_the_share_that_the_two_chances_make(interruptions):
    """A two-state Markov chain: in the long run p / (p + q) of the steps."""
    agent = corrected(interruptions)
    acted = np.stack([agent.act(np.zeros((64, 3), np.float32))[:, 0] for _ in range(1500)])
    share = (acted[100:] < 0).mean()
    assert share == pytest.approx(interruptions / (interruptions + TAKE_BACK), abs=0.015)


def test_what_is_shown_is_the_demonstrators_whoever_acts():
    agent = corrected(0.4)
    acted = np.stack([agent.act(np.zeros((64, 3), np.float32)) for _ in range(50)])
    assert set(np.unique(acted)) == {-1.0, 1.0}
    assert np.array_equal(np.stack(agent.shown[7]), np.full((50, 2), 0.5))


def test_a_new_episode_begins_with_recovery_and_nothing_shown():
    agent = corrected(0.99)
    agent.act(np.zeros((64, 3), np.float32))
    assert agent.interrupted[3]
    agent.begin(3, seed=1)
    assert not agent.interrupted[3]
    assert agent.shown[3] == []


def test_without_interruptions_recovery_acts_throughout():
    agent = corrected(0.0)
    assert all((agent.act(np.zeros((64, 3), np.float32)) == 1.0).all() for _ in range(50))


def test_an_interrupted_round_is_imitated_as_the_script_would_have_acted(tmp_path):
    import gymnasium

    config = cliff.few(tmp_path / "demos")
    recovery = RecoveriesConfig(**{**vars(config.recovery), "interruptions": 0.3})
    collect(cliff.few(tmp_path / "demos", recovery=recovery))
    episodes = [e for e in read_episodes(tmp_path / "demos" / "recovery.hdf5") if e.behaviour == "corrected"]
    expert = gymnasium.make("FailureBench/PointMassCliff-v0").unwrapped.expert("recovery")
    expert.reset(np.random.default_rng(0))
    for episode in episodes:
        script = np.stack([expert.act(obs) for obs in episode.obs[:-1]])
        np.testing.assert_allclose(imitated([episode]).action, script, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_round_begins_in_ordinary_states_for_the_share_asked_for(share, monkeypatch, tmp_path):
    begun = []

    def played(envs, task, agent, states, steps, seed):
        begun.extend(states)
        return []

    monkeypatch.setattr("farl.offline.recoveries.rescue", played)
    monkeypatch.setattr(Recoveries, "_clone", lambda self, number, episodes: None)
    envs = cliff.few(tmp_path).num_envs
    config = RecoveriesConfig(round_episodes=40, ordinary=share)
    vector = type("Envs", (), {"num_envs": envs})()
    recoveries = Recoveries(vector, cliff.few(tmp_path).task, config, 0, Progress(None, ""), None, 0.2)
    near, ordinary = [{"near": i} for i in range(9)], [{"ordinary": i} for i in range(9)]
    recoveries.round(1, [], near, ordinary, Says(0.0))
    assert sum("ordinary" in state for state in begun) == 40 * share
    assert len(begun) == 40


def test_one_state_of_each_episode_is_kept_and_any_of_them_as_likely():
    """A hundred states in each of 3000 episodes: uniform, mean 49.5 and standard deviation 28.9."""
    kept = []
    for seed in range(3000):
        episode = _Open(seed, [])
        for step in range(100):
            episode.obs.append(None)
            episode.remember({"step": step})
        kept.append(episode.ordinary["step"])
    assert np.mean(kept) == pytest.approx(49.5, abs=2.0)
    assert np.std(kept) == pytest.approx(28.9, abs=1.5)


@pytest.mark.parametrize("wrong", [{"ordinary": 1.5}, {"interruptions": 1.0}, {"rounds": -1}, {"round_steps": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"recovery\.{next(iter(wrong))}"):
        RecoveriesConfig(**wrong)
