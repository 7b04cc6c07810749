"""The actor: what is stored of every step, and that episodes are neither lost nor counted twice."""

from __future__ import annotations

import dataclasses
import math

import gymnasium
import numpy as np
import pytest
import torch

from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.router import Router, Ungated
from farl.environments import make_vector
from farl.errors import UserError
from farl.methods import METHODS
from farl.networks.normalizer import Normalizer
from farl.networks.policy import GaussianPolicy
from farl.offline.bundle import OfflineBundle
from farl.offline.evaluation import evaluate
from farl.online.actor import Actor
from farl.online.run import Session
from farl.seeds import Purpose, episode_seed
from method import cliff


class Scripted:
    """A vector environment that plays given episodes: each a list of (reward, failure, success) and how it ends."""

    single_observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    single_action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, *plays: list[tuple[list[tuple[float, bool, bool]], str]]) -> None:
        self.plays, self.num_envs = plays, len(plays)
        self.at, self.step_in, self.seeds = [-1] * self.num_envs, [0] * self.num_envs, []
        self.executed: list[np.ndarray] = []

    def reset(self, seed=None, options=None):
        for env in np.flatnonzero(options["reset_mask"]):
            self.at[env] = (self.at[env] + 1) % len(self.plays[env])
            self.step_in[env] = 0
            self.seeds.append(seed[env])
        return self._obs(), {}

    def _obs(self):
        """(which episode, which step): says which row it belongs to."""
        return np.array(list(zip(self.at, self.step_in, strict=True)), np.float32)

    def step(self, action):
        self.executed.append(action.copy())
        rows = []
        for env in range(self.num_envs):
            steps, ending = self.plays[env][self.at[env]]
            reward, failure, success = steps[self.step_in[env]]
            self.step_in[env] += 1
            last = self.step_in[env] == len(steps)
            rows.append((reward, last and ending == "terminated", last and ending == "truncated", failure, success))
        reward, terminated, truncated, failure, success = (np.array(c) for c in zip(*rows, strict=True))
        return self._obs(), reward, terminated, truncated, {"failure": failure, "success": success}


OK, BAD, GOAL, BOTH = (1.0, False, False), (0.5, True, False), (2.0, False, True), (2.0, True, True)
SUCCESS = ([OK, OK, GOAL], "truncated")
TIMEOUT = ([OK, BAD, BAD, OK], "truncated")
COINCIDE = ([OK, BOTH], "truncated")
FATAL = ([OK, BAD], "terminated")
EARLY = ([BAD, OK, OK, GOAL], "truncated")


def act_in(envs, steps, router=None, reward_scale=0.1, std=0.3, seed=0):
    torch.manual_seed(0)
    policy = GaussianPolicy(Normalizer(2), 1, std, hidden=(8,))
    closed = []
    actor = Actor(
        envs, cliff.TASK, policy, router or Ungated(), reward_scale, seed, lambda record, line: closed.append(line)
    )
    return actor, actor.collect(steps), closed


def test_every_ending_is_counted_once_and_episodes_add_up():
    envs = Scripted([SUCCESS, TIMEOUT, COINCIDE], [FATAL, EARLY], [TIMEOUT])
    actor, _, closed = act_in(envs, steps=36)
    ledger = actor.ledger
    assert ledger.episodes == len(closed) == 36 * 3 // 9 + 36 * 2 // 6 + 36 // 4
    assert ledger.successes + ledger.timeouts + ledger.terminal_failures == ledger.episodes
    # per nine steps of the first environment: one clean success, one failing time-out, one success that also failed
    assert ledger.successes == 4 * 2 + 6
    assert ledger.timeouts == 4 + 9
    assert ledger.terminal_failures == 6
    assert ledger.failures == 4 * 2 + 6 * 2 + 9
    assert sum(line["failed"] for line in closed) == ledger.failures
    assert sum(line["length"] for line in closed) == actor.steps == 36 * 3


def test_the_stored_next_observation_is_the_true_final_one_not_the_next_episodes_first():
    _, rollout, _ = act_in(Scripted([SUCCESS, TIMEOUT]), steps=7)
    assert rollout.obs[:, 0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [1, 3]]
    assert rollout.next_obs[:, 0].tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3], [1, 4]]
    assert rollout.truncated[:, 0].nonzero().flatten().tolist() == [2, 6]


def test_a_success_is_stored_where_it_ended_the_episode_without_terminating_it():
    lethal = ([OK, BOTH], "terminated")  # over the cliff and at the goal: that is no success to hold
    passing = ([GOAL, OK, OK], "truncated")  # at the goal on the way, but the clock ended it
    _, rollout, _ = act_in(Scripted([SUCCESS, TIMEOUT, COINCIDE, lethal, passing]), steps=14)
    assert rollout.success[:, 0].nonzero().flatten().tolist() == [2, 8]


@pytest.mark.parametrize("scale", [0.1, 2.5])
def test_rewards_are_learnt_in_the_given_scale_and_recorded_raw(scale):
    _, rollout, closed = act_in(Scripted([SUCCESS]), steps=3, reward_scale=scale)
    assert rollout.reward[:, 0].tolist() == pytest.approx([scale, scale, 2 * scale])
    assert closed[0]["return"] == 4.0


def test_the_failure_is_stored_with_the_action_whose_step_violated():
    _, rollout, closed = act_in(Scripted([TIMEOUT]), steps=4)
    assert rollout.failure[:, 0].tolist() == [False, True, True, False]
    assert closed[0]["first_failure"] == 1


class Sometimes:
    """Recovery takes every other step with a far-away action."""

    def __init__(self) -> None:
        self.calls = 0

    def risk(self, obs, action):
        self.calls += 1
        return torch.full((len(obs),), float(self.calls % 2))


class Far:
    def act(self, obs):
        return torch.full((len(obs), 1), 2.7)


def test_log_probabilities_are_stored_exactly_of_raw_proposed_and_of_executed_actions():
    """Also where the environment clips and where recovery acted: nothing is clamped before it is stored."""
    envs = Scripted([SUCCESS], [TIMEOUT])
    actor, rollout, _ = act_in(envs, 20, Router(Far(), Sometimes(), Gate(GateConfig(), 0.5, 2)), std=0.6)
    assert rollout.gated.float().mean() == 0.5
    assert (rollout.proposed.abs() > 1).any()
    with torch.no_grad():
        for t in range(20):  # row by row, as the actor computed them: bit for bit
            mean = actor.policy(actor.policy.normalizer(rollout.obs[t]))
            assert torch.equal(rollout.proposed_log_prob[t], actor.policy.log_prob(mean, rollout.proposed[t]))
            assert torch.equal(rollout.executed_log_prob[t], actor.policy.log_prob(mean, rollout.executed[t]))
            assert torch.equal(rollout.z_max[t], ((rollout.executed[t] - mean).abs() / actor.policy.std).amax(-1))
    assert torch.equal(rollout.executed[rollout.gated], torch.full((20, 1), 2.7))
    assert torch.equal(rollout.executed[~rollout.gated], rollout.proposed[~rollout.gated])


def test_a_handover_is_the_first_step_of_a_burst_also_where_a_burst_goes_on_in_the_next_rollout():
    class Always:
        def risk(self, obs, action):
            return torch.ones(len(obs))

    actor, first, _ = act_in(Scripted([TIMEOUT]), 2, Router(Far(), Always(), Gate(GateConfig(), 0.5, 1)))
    second = actor.collect(4)
    assert first.handover[:, 0].tolist() == [True, False]
    assert second.handover[:, 0].tolist() == [False, False, True, False]  # an episode has four steps


def test_what_was_decided_is_what_the_environment_received_clipped_there_and_nowhere_else():
    envs = Scripted([SUCCESS])
    _, rollout, _ = act_in(envs, 9, Router(Far(), Sometimes(), Gate(GateConfig(), 0.5, 1)))
    assert np.array_equal(np.stack(envs.executed), rollout.executed.clamp(-1, 1).numpy())
    assert rollout.executed.max() == pytest.approx(2.7)


def test_the_nth_episode_of_a_run_is_the_same_whoever_acts_and_however_long_the_others_last():
    seeds = []
    for plays in (([SUCCESS], [FATAL]), ([TIMEOUT, COINCIDE], [EARLY])):
        envs = Scripted(*plays)
        act_in(envs, 12, seed=3)
        seeds.append(envs.seeds)
    shared = min(map(len, seeds))
    assert shared >= 8
    assert seeds[0][:shared] == seeds[1][:shared]
    assert len(set(seeds[0])) == len(seeds[0])


def test_no_two_purposes_runs_or_episodes_share_a_seed():
    """Corner cases of every range: the first and last run, the first and last episode."""
    seeds = [
        episode_seed(purpose, run, index)
        for purpose in Purpose
        for run in (0, 1, 199, 200, 999_999)
        for index in (0, 1, 999_999_999)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**53 for seed in seeds)  # JSON's whole numbers
    for outside in ((1_000_000, 0), (-1, 0), (0, 1_000_000_000)):
        with pytest.raises((UserError, ValueError), match=r"range|beyond"):
            episode_seed(Purpose.TRAINING, *outside)


def test_the_gate_forgets_when_an_episode_ends():
    class Always:
        def risk(self, obs, action):
            return torch.ones(len(obs))

    gate = Gate(GateConfig(max_dwell=2, cooldown=50), 0.5, 1)
    _, rollout, closed = act_in(Scripted([TIMEOUT]), 8, Router(Far(), Always(), gate))
    assert rollout.gated[:, 0].tolist() == [True, True, False, False] * 2
    assert [line["cap_hits"] for line in closed] == [1, 1]
    assert [line["bursts"] for line in closed] == [[2], [2]]


def test_gated_or_not_the_policy_proposes_the_same_noise():
    """The gate's randomness is its own: the n-th proposal's noise is the same whoever acted before."""
    noise = []
    for router in (None, Router(Far(), Sometimes(), Gate(GateConfig(), 0.5, 1))):
        actor, rollout, _ = act_in(Scripted([TIMEOUT]), 12, router)
        with torch.no_grad():
            mean = actor.policy(actor.policy.normalizer(rollout.obs[:, 0]))
        noise.append(rollout.proposed[:, 0] - mean)
    assert torch.allclose(noise[0], noise[1], atol=1e-6)


def test_an_evaluation_reports_the_first_episode_of_every_seed_in_order():
    """An environment that is done early plays on until the others are: those episodes count for nothing."""
    long = ([OK] * 9 + [GOAL], "truncated")
    envs = Scripted([SUCCESS, TIMEOUT, TIMEOUT, TIMEOUT], [long])

    def still(obs: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(obs), 1)

    rows = evaluate(envs, cliff.TASK, still, Ungated(), episodes=2, first_seed=70)
    assert [(row["seed"], row["length"], row["outcome"], row["failed"]) for row in rows] == [
        (70, 3, "success", False),
        (71, 10, "success", False),
    ]
    assert [row["return"] for row in rows] == [4.0, 11.0]


# ---------------------------------------------------------------- on the point mass, with a trained bundle


def session(bundle_folder, tmp_path, method="uni-o4", **changes):
    config = cliff.online(bundle_folder, tmp_path / method, method=method, **changes)
    return Session(config)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_starts_from_the_same_policy_with_the_same_exploration(method, bundle_folder, bundle, tmp_path):
    run = session(bundle_folder, tmp_path, method)
    x = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run.policy(x), bundle.policy(x))
    assert torch.equal(run.policy.std, bundle.policy.std)
    ppo = run.learner.learner.ppo
    assert run.actor.policy is ppo.policy is run.policy
    assert ppo.value is run.bundle.value
    assert torch.equal(ppo.value(x), bundle.value(x))
    first = run.actor.collect(1)
    with torch.no_grad():
        noise = (first.proposed[0] - run.policy.act(first.obs[0])) / run.policy.std
    expected = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(noise, expected, atol=1e-5)


def test_mean_and_std_are_the_same_before_saving_after_loading_and_in_the_run(bundle_folder, tmp_path):
    """Uni-O4's own code turned a std of 1.0 into 0.55 at this hand-over."""
    offline = OfflineBundle.load(bundle_folder)
    with torch.no_grad():
        offline.policy.log_std.copy_(torch.tensor([-0.5, -3.0]))  # both ends of the permitted range
    offline.save(tmp_path / "bundle")
    loaded = OfflineBundle.load(tmp_path / "bundle", cliff.TASK)
    run = session(tmp_path / "bundle", tmp_path)
    obs = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    for policy in (loaded.policy, run.policy, run.actor.policy):
        assert torch.equal(policy.act(obs), offline.policy.act(obs))
        assert torch.equal(policy.std, offline.policy.std)
    assert offline.policy.std.tolist() == pytest.approx([math.exp(-0.5), math.exp(-3.0)])


def test_saving_and_loading_changes_no_tensor_and_no_number(bundle, tmp_path):
    reliability = [(0.05, 0.0, 40), (0.6, 0.5, 2)]
    bundle.calibration = dataclasses.replace(bundle.calibration, miss_bound=-math.inf, reliability=reliability)
    bundle.save(tmp_path)
    again = OfflineBundle.load(tmp_path)
    before, after = bundle.weights(), again.weights()
    assert cliff.same_weights(before, after)
    assert (again.risk, again.shape, again.task, again.seed) == (bundle.risk, bundle.shape, bundle.task, bundle.seed)
    assert again.reward_scale == bundle.reward_scale
    assert again.calibration == bundle.calibration


def test_the_runs_rewards_are_in_the_bundles_scale(bundle, tmp_path):
    bundle.reward_scale = 7.5
    bundle.save(tmp_path / "bundle")
    run = session(tmp_path / "bundle", tmp_path)
    assert run.actor.reward_scale == 7.5
    rollout = run.actor.collect(3)
    position = rollout.next_obs[..., 4:6].norm(dim=-1)  # the reward is 1 - distance, at least 0
    assert torch.allclose(rollout.reward, 7.5 * (1 - position).clamp_min(0), atol=1e-4)


def test_normalised_observations_stay_within_ten_in_play_and_after_set_state(bundle):
    envs = make_vector(cliff.TASK, 8)
    obs, _ = envs.reset(seed=list(range(8)))
    rng = np.random.default_rng(0)
    for _ in range(60):
        obs, _, terminated, truncated, _ = envs.step(rng.uniform(-1, 1, (8, 2)).astype(np.float32))
        x = bundle.normalizer(torch.from_numpy(obs))
        assert x.abs().max() <= 10
        assert bundle.normalizer.features(x).abs().max() <= 10
        if (terminated | truncated).any():
            envs.reset(seed=[0] * 8, options={"reset_mask": terminated | truncated})


def test_the_value_learnt_offline_explains_the_first_rollout_in_its_own_scale_alone(bundle_folder, tmp_path):
    """One reward scale, one treatment of endings offline and online: a factor of ten either way explains less."""
    run = session(bundle_folder, tmp_path)
    rollout = run.actor.collect(128)
    x = run.policy.normalizer(rollout.obs.flatten(0, 1))
    explained = {}
    for factor in (0.1, 1.0, 10.0):
        scaled = dataclasses.replace(rollout, reward=factor * rollout.reward)
        explained[factor] = run.learner.learner.ppo._targets(scaled, x)[2]
    assert explained[1.0] > 0.3
    assert explained[1.0] > 0.2 + max(explained[0.1], explained[10.0])


def test_reaching_the_goal_is_worth_more_than_where_the_episode_began(bundle, demos):
    from farl.data.episode_store import read_episodes

    episodes = [e for e in read_episodes(demos / "task.hdf5") if e.outcome == "success"]
    first = torch.from_numpy(np.stack([e.obs[0] for e in episodes]))
    last = torch.from_numpy(np.stack([e.obs[-1] for e in episodes]))
    with torch.no_grad():
        start, goal = (bundle.value(bundle.normalizer(obs)) for obs in (first, last))
    assert (goal > start).float().mean() > 0.95
