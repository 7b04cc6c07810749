"""The vector environment is the single one, many times."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import failurebench
from failurebench.vector import FailureVectorEnv
from tests.failurebench.conftest import BOUNDED_PUSH, HARD

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]
N = 3


def assert_same(ours, reference):
    """Equal nested dicts of arrays, with equal types."""
    assert set(ours) == set(reference)
    for key, value in reference.items():
        if isinstance(value, dict):
            assert_same_where(ours[key], value)
        elif key == "final_obs":
            for a, b in zip(ours[key], value, strict=True):
                assert (a is None) == (b is None)
                np.testing.assert_array_equal(a, b)
        else:
            assert ours[key].dtype == value.dtype, key
            np.testing.assert_array_equal(ours[key], value, err_msg=key)


def assert_same_where(ours, reference):
    """As above for the environments the masks mark; elsewhere the values mean nothing."""
    assert set(ours) == set(reference)
    for key in (key for key in reference if not key.startswith("_")):
        mask = reference[f"_{key}"]
        np.testing.assert_array_equal(ours[f"_{key}"], mask)
        np.testing.assert_array_equal(ours[key][mask], reference[key][mask], err_msg=key)


@pytest.mark.parametrize("mode", MODES)
def test_transitions_equal_those_of_single_environments(mode):
    kwargs = {"max_episode_steps": 23, "terminate_on_failure": True, "boundary": (-0.06, 0.06, 0.61, 0.86)}
    ours = failurebench.make_vec(BOUNDED_PUSH, N, autoreset_mode=mode, **kwargs)
    reference = SyncVectorEnv([lambda: gymnasium.make(BOUNDED_PUSH, **kwargs)] * N, autoreset_mode=mode)
    obs, info = ours.reset(seed=4)
    reference_obs, reference_info = reference.reset(seed=4)
    np.testing.assert_array_equal(obs, reference_obs)
    assert_same(info, reference_info)
    experts = [ours.expert(kind) for kind in ("task", "failure", "pusher")]
    for expert in experts:
        expert.reset(np.random.default_rng(1))
    ends = np.zeros(2, int)
    for _ in range(70):
        actions = np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)])
        obs, *results, info = ours.step(actions)
        reference_obs, *reference_results, reference_info = reference.step(actions)
        np.testing.assert_array_equal(obs, reference_obs)
        for ours_one, reference_one in zip(results, reference_results, strict=True):
            assert ours_one.dtype == reference_one.dtype
            np.testing.assert_array_equal(ours_one, reference_one)
        assert_same(info, reference_info)
        ended = results[1] | results[2]
        ends += (results[1].sum(), results[2].sum())
        if mode == AutoresetMode.DISABLED and ended.any():
            obs, info = ours.reset(options={"reset_mask": ended})
            reference_obs, reference_info = reference.reset(options={"reset_mask": ended.copy()})
            np.testing.assert_array_equal(obs, reference_obs)
            assert_same_where(info, reference_info)
    assert ends.min() > 0


def test_same_step_keeps_the_failure_that_ended_an_episode():
    env = failurebench.make_vec(HARD, 1, terminate_on_failure=True)
    expert = env.expert("failure")
    expert.reset(np.random.default_rng(0))
    obs, _ = env.reset(seed=0)
    for _ in range(150):
        obs, _, terminated, _, info = env.step(expert.act(obs[0])[None])
        if terminated[0]:
            break
    assert info["final_info"]["failure"][0]
    assert info["final_info"]["failure_type"][0] == "out_of_bounds"
    assert not info["failure"][0]
    assert info["final_obs"][0][4:6] != pytest.approx(obs[0][4:6])


def test_gymnasium_makes_the_same_vector_environment():
    env = gymnasium.make_vec(
        HARD,
        num_envs=2,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.NEXT_STEP,
        action_repeat=1,
    )
    assert isinstance(env, FailureVectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert env.protocol.max_episode_steps == 250
    assert env.spec.id == HARD


def test_the_default_mode_is_same_step():
    env = failurebench.make_vec(BOUNDED_PUSH, 2, max_episode_steps=400)
    assert env.metadata["autoreset_mode"] == env.autoreset_mode == AutoresetMode.SAME_STEP
    assert env.protocol.max_episode_steps == 400


def test_seeds_may_be_one_a_list_or_left_out():
    env = failurebench.make_vec(BOUNDED_PUSH, N)
    first, _ = env.reset(seed=7)
    listed, _ = env.reset(seed=[7, 8, 9])
    np.testing.assert_array_equal(first, listed)
    unseeded, _ = env.reset()
    assert not np.array_equal(first, unseeded)
    masked, _ = env.reset(seed=[7, 8, 9], options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(masked[[0, 2]], first[[0, 2]])
    np.testing.assert_array_equal(masked[1], unseeded[1])


def test_states_round_trip_bit_for_bit():
    env, other = (failurebench.make_vec(BOUNDED_PUSH, N) for _ in range(2))
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, N, 4)).astype(np.float32)
    for action in actions[:10]:
        obs, *_ = env.step(action)
    states = env.get_states()
    expected = [env.step(action)[0] for action in actions[10:]]
    other.set_states(states)
    np.testing.assert_array_equal(other.observations(), obs)
    np.testing.assert_array_equal([other.step(action)[0] for action in actions[10:]], expected)


def test_a_deep_copy_continues_alike_and_on_its_own():
    env = failurebench.make_vec(BOUNDED_PUSH, 2)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2, 4)).astype(np.float32)
    first = [env.step(action)[0] for action in actions]
    np.testing.assert_array_equal(first, [twin.step(action)[0] for action in actions])
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])


def test_returned_arrays_are_the_callers_to_keep():
    env = failurebench.make_vec(BOUNDED_PUSH, 2)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.ones((2, 4), np.float32))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda env: env.reset(seed=[1, 2]), "2 seeds for 3"),
        (lambda env: env.reset(options={"reset_mask": [True] * N}), "reset_mask"),
        (lambda env: env.reset(options={"reset_mask": np.zeros(N, bool)}), "at least one True"),
        (lambda env: env.step(np.zeros((2, 4))), "shape"),
        (lambda env: env.step(np.full((N, 4), np.nan)), "finite"),
        (lambda env: env.set_states([]), "0 states for 3"),
        (lambda env: failurebench.make_vec("FailureBench/Nothing-v0", 1), "unknown task"),
        (lambda env: failurebench.make_vec(BOUNDED_PUSH, 0), "num_envs"),
        (lambda env: failurebench.make_vec(BOUNDED_PUSH, 1, max_episode_steps=0), "max_episode_steps"),
        (lambda env: failurebench.make_vec(BOUNDED_PUSH, 1, action_repeat=0), "action_repeat"),
        (lambda env: failurebench.make_vec(BOUNDED_PUSH, 1, render_mode="human"), "render_mode"),
        (lambda env: env.expert("wizard"), "task, pusher, failure, recovery"),
    ],
)
def test_bad_calls_are_refused_with_the_cure(call, message):
    env = failurebench.make_vec(BOUNDED_PUSH, N)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        call(env)


def test_with_autoreset_disabled_an_ended_episode_must_be_reset():
    env = failurebench.make_vec(BOUNDED_PUSH, 2, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 4)))
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset_mask"):
        env.step(np.zeros((2, 4)))
