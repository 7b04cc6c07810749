"""Every id is a citizen of Gymnasium: its checker, its makers, its vector environments, copies and seeds."""

from __future__ import annotations

import copy
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from failurebench import TASKS
from failurebench.rendering import open_context

IDS = sorted(TASKS)
HARD = "FailureBench/BoundedPush-Hard-v0"


def can_draw():
    try:
        open_context().free()
    except RuntimeError:
        return False
    return True


def episode(env, seed, steps=15):
    """What happens under fixed actions: observations, then rewards and margins."""
    actions = np.random.default_rng(9).uniform(-1, 1, (steps, 4)).astype(np.float32)
    obs, info = env.reset(seed=seed)
    rows = [(obs, (0.0, info["margin"]))]
    for action in actions:
        obs, reward, _, _, info = env.step(action)
        rows.append((obs, (reward, info["margin"])))
    return [np.array(column) for column in zip(*rows, strict=True)]


def failing(terminate=False):
    """A task the failure seeker fails within a hundred steps."""
    return {"boundary": (-0.06, 0.06, 0.61, 0.86), "max_episode_steps": 60, "terminate_on_failure": terminate}


@pytest.mark.parametrize("task_id", IDS)
def test_the_checker_finds_nothing_to_warn_about(task_id):
    env = gymnasium.make(task_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=not can_draw())


@pytest.mark.parametrize("task_id", IDS)
def test_a_seed_decides_everything_in_whichever_environment(task_id):
    one, other = gymnasium.make(task_id), gymnasium.make(task_id)
    first = episode(one, 5)
    other.reset(seed=77)
    other.step(other.action_space.sample())
    for a, b in zip(first, episode(other, 5), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], episode(other, 6)[0])
    starts = np.array([one.reset(seed=seed)[0] for seed in range(10)])
    assert len(np.unique(starts, axis=0)) == 10


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("task_id", IDS)
def test_a_copy_goes_on_alike_and_apart(task_id, duplicate):
    env = gymnasium.make(task_id).unwrapped
    episode(env, 3)
    twin = duplicate(env)
    actions = np.random.default_rng(1).uniform(-1, 1, (10, 4)).astype(np.float32)
    original = [env.step(action) for action in actions]
    for action, (obs, *results) in zip(actions, original, strict=True):
        twin_obs, *twin_results = twin.step(action)
        np.testing.assert_array_equal(twin_obs, obs)
        assert twin_results == results
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])  # the generator was copied too


@pytest.mark.parametrize("task_id", IDS)
def test_single_and_vectorised_environments_agree(task_id):
    single, sync = gymnasium.make(task_id), gymnasium.make_vec(task_id, 2, vectorization_mode="sync")
    ours = gymnasium.make_vec(task_id, 2)
    expected = episode(single, 4)[0]
    for envs in (sync, ours):
        obs, _ = envs.reset(seed=[4, 9])
        seen = [obs[0]]
        for action in np.random.default_rng(9).uniform(-1, 1, (15, 4)).astype(np.float32):
            obs, *_ = envs.step(np.stack([action, -action]))
            seen.append(obs[0])
        np.testing.assert_array_equal(seen, expected)
        assert obs.dtype == np.float32
        envs.close()


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_processes_give_what_one_process_gives(mode, shared_memory):
    """Through failures that end episodes: the failure's type is a string and must survive the pipe."""
    kwargs = failing(terminate=True)
    parallel = AsyncVectorEnv(
        [lambda: gymnasium.make(HARD, **kwargs)] * 2, shared_memory=shared_memory, autoreset_mode=mode
    )
    serial = SyncVectorEnv([lambda: gymnasium.make(HARD, **kwargs)] * 2, autoreset_mode=mode)
    experts = [gymnasium.make(HARD).unwrapped.expert("failure") for _ in range(2)]
    try:
        obs, _ = parallel.reset(seed=1)
        np.testing.assert_array_equal(obs, serial.reset(seed=1)[0])
        for i, expert in enumerate(experts):
            expert.reset(np.random.default_rng(i))
        types = set()
        for _ in range(70):
            actions = np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)])
            obs, rewards, terminated, truncated, infos = parallel.step(actions)
            expected = serial.step(actions)
            for ours, theirs in zip((obs, rewards, terminated, truncated), expected, strict=False):
                np.testing.assert_array_equal(ours, theirs)
            for info, other in ((infos, expected[4]), (infos.get("final_info"), expected[4].get("final_info"))):
                if info is not None:
                    np.testing.assert_array_equal(info["failure_type"], other["failure_type"])
                    types |= set(info["failure_type"])
        assert "out_of_bounds" in types
        assert obs.dtype == np.float32
    finally:
        parallel.close()
        serial.close()


def test_gymnasium_makes_processes_by_name():
    envs = gymnasium.make_vec(HARD, num_envs=2, vectorization_mode="async", action_repeat=1)
    try:
        assert isinstance(envs, AsyncVectorEnv)
        np.testing.assert_array_equal(envs.reset(seed=3)[0][1], gymnasium.make(HARD).reset(seed=4)[0])
        assert envs.get_attr("protocol")[0].action_repeat == 1
    finally:
        envs.close()
