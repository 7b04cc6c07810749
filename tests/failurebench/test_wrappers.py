"""Failures are counted right: against a bookkeeping of positions, in every autoreset mode, for anybody's environment."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import failurebench
from failurebench.wrappers import EpisodeFailures, RecordFailures, RecordVectorFailures
from tests.failurebench.bookkeeping import MODES, SEEDS, STEPS, TASK, Counter, N, behaviour, bookkeeping
from tests.failurebench.conftest import BOUNDED_PUSH


def assert_totals(totals, rows):
    assert totals.episodes == len(rows)
    assert totals.steps == sum(row.length for row in rows)
    assert totals.failure_episodes == sum(row.onset > 0 for row in rows) == sum(totals.failure_types.values())
    assert totals.failing_steps == sum(row.failing_steps for row in rows)
    assert totals.successes == sum(row.success for row in rows)
    assert totals.safe_successes == sum(row.success and row.onset == 0 for row in rows)
    assert totals.timeouts == sum(row.timeout for row in rows)


def run(envs, mode, steps=STEPS):
    """Step by ``behaviour``; return each environment's episodes as its infos tell them."""
    told = [[] for _ in range(envs.num_envs)]
    obs, _ = envs.reset(seed=SEEDS)
    for _ in range(steps):
        obs, _, terminated, truncated, infos = envs.step(np.stack([behaviour(i, one) for i, one in enumerate(obs)]))
        ended = terminated | truncated
        assert ended.any() == ("episode_failures" in infos)
        if ended.any():
            np.testing.assert_array_equal(infos["_episode_failures"], ended)
            stats = infos["episode_failures"]
            for i in np.flatnonzero(ended):
                row = {key: value[i] for key, value in stats.items()}
                assert row.pop("failed") == (row["failing_steps"] > 0)
                told[i].append(EpisodeFailures(**row))
            if mode == AutoresetMode.DISABLED:
                obs, _ = envs.reset(options={"reset_mask": ended})
    return told


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["ours", "sync"])
def test_counts_are_those_of_positions(kind, mode, terminate):
    kwargs = {"terminate_on_failure": terminate, **TASK}
    if kind == "ours":
        inner = failurebench.make_vec(BOUNDED_PUSH, N, autoreset_mode=mode, **kwargs)
    else:
        inner = SyncVectorEnv([lambda: gymnasium.make(BOUNDED_PUSH, **kwargs)] * N, autoreset_mode=mode)
    envs = RecordVectorFailures(inner, buffer_length=3)
    told = run(envs, mode)
    expected = [bookkeeping(i, len(rows), terminate) for i, rows in enumerate(told)]
    assert told == expected
    rows = [row for rows in expected for row in rows]
    assert_totals(envs.totals, rows)
    assert envs.totals.abandoned == 0
    assert envs.totals.failure_types == {"out_of_bounds": envs.totals.failure_episodes}
    assert len(envs.recent) == 3
    # the test means something: every kind of episode was there, and the modes differ in how many fit in
    assert min(envs.totals.failure_episodes, envs.totals.safe_successes, envs.totals.timeouts) >= 2


@pytest.mark.parametrize("terminate", [False, True])
def test_a_single_environment_is_counted_alike(terminate):
    expected = bookkeeping(2, 6, terminate, stop=False)
    env = RecordFailures(
        gymnasium.make(BOUNDED_PUSH, terminate_on_failure=terminate, stop_on_success=False, **TASK), buffer_length=4
    )
    obs, _ = env.reset(seed=SEEDS[2])
    told = []
    while len(told) < 6:
        obs, _, terminated, truncated, info = env.step(behaviour(2, obs))
        assert ("episode_failures" in info) == (terminated or truncated)
        if terminated or truncated:
            stats = info["episode_failures"]
            assert stats.pop("failed") == (stats["onset"] > 0)
            told.append(EpisodeFailures(**stats))
            obs, _ = env.reset()
    assert told == expected
    assert_totals(env.totals, expected)
    assert list(env.recent) == expected[-4:]
    assert {row.onset > 0 for row in expected} == {True, False}


def test_counting_changes_nothing_else():
    plain, counted = (failurebench.make_vec(BOUNDED_PUSH, N, **TASK) for _ in range(2))
    counted = RecordVectorFailures(counted)
    obs, _ = plain.reset(seed=SEEDS)
    counted.reset(seed=SEEDS)
    for _ in range(60):
        actions = np.stack([behaviour(i, one) for i, one in enumerate(obs)])
        obs, *results, infos = plain.step(actions)
        other, *other_results, other_infos = counted.step(actions)
        np.testing.assert_array_equal(obs, other)
        np.testing.assert_array_equal(results, other_results)
        assert set(other_infos) - set(infos) <= {"episode_failures", "_episode_failures"}


@pytest.mark.parametrize("mode", MODES)
def test_any_environment_that_reports_failures_can_be_counted(mode):
    makers = [lambda: Counter((3, 5)), lambda: Counter((), 4), lambda: Counter((2,), 5, terminates=True)]
    envs = RecordVectorFailures(SyncVectorEnv(makers, autoreset_mode=mode))
    envs.reset(seed=0)
    for _ in range(24):
        _, _, terminated, truncated, _ = envs.step(np.zeros((3, 1), np.float32))
        if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
            envs.reset(options={"reset_mask": terminated | truncated})
    lost = mode == AutoresetMode.NEXT_STEP  # an agent step per episode goes to the reset
    whole = [(24 + lost) // (length + lost) for length in (5, 4, 2)]  # the last one needs none
    assert envs.totals.episodes == sum(whole)
    assert envs.totals.failure_episodes == whole[0] + whole[2]
    assert envs.totals.failing_steps == 2 * whole[0] + whole[2]
    assert envs.totals.timeouts == whole[0] + whole[1]
    assert envs.totals.failure_types == {"failure": whole[0] + whole[2]}


def test_totals_come_out_of_processes():
    envs = AsyncVectorEnv([lambda: RecordFailures(Counter((2,), 3))] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        envs.reset(seed=0)
        for _ in range(7):
            *_, infos = envs.step(np.zeros((2, 1), np.float32))
        assert [totals.failure_episodes for totals in envs.get_attr("totals")] == [2, 2]
        assert "failure" in infos
    finally:
        envs.close()


def test_a_failing_episode_that_is_reset_by_hand_is_not_forgotten():
    """Who resets at a failure, as one does with a robot, must not end up with none."""
    env = RecordFailures(Counter((3,)))
    for _ in range(4):
        env.reset(seed=0)
        while not env.step(np.zeros(1))[4]["failure"]:
            pass
    assert env.totals.failure_episodes == 3  # the last is still running
    env.close()
    env.close()
    assert (env.totals.failure_episodes, env.totals.episodes, env.totals.abandoned) == (4, 4, 4)
    assert (env.totals.timeouts, env.totals.steps) == (0, 12)


def test_partly_reset_vectors_abandon_only_what_was_reset():
    makers = [lambda: Counter((1,), 9)] * 2
    envs = RecordVectorFailures(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED))
    envs.reset(seed=0)
    envs.reset(seed=0)  # before any step: nothing to abandon
    envs.step(np.zeros((2, 1), np.float32))
    envs.reset(options={"reset_mask": np.array([True, False])})
    assert (envs.totals.abandoned, envs.totals.failure_episodes) == (1, 1)
    envs.close()
    assert (envs.totals.abandoned, envs.totals.failure_episodes) == (2, 2)


@pytest.mark.parametrize("counting_is", ["inside", "outside"])
def test_it_goes_together_with_gymnasiums_statistics(counting_is):
    inner = SyncVectorEnv([lambda: Counter((2,), 3)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    order = [RecordVectorFailures, RecordEpisodeStatistics]
    envs = inner
    for wrapper in order if counting_is == "inside" else reversed(order):
        envs = wrapper(envs)
    envs.reset(seed=0)
    for _ in range(3):
        *_, infos = envs.step(np.zeros((2, 1), np.float32))
    np.testing.assert_array_equal(infos["episode"]["l"], infos["episode_failures"]["length"])


def test_the_wrapped_environment_can_be_made_from_its_spec():
    env = RecordFailures(gymnasium.make(BOUNDED_PUSH), stats_key="outcome")
    again = gymnasium.make(env.spec)
    assert isinstance(again, RecordFailures)
    again.reset(seed=0)


class Silent(Counter):
    def step(self, action):
        return *super().step(action)[:4], {}


@pytest.mark.parametrize("mode", MODES)
def test_an_environment_without_failure_labels_is_refused(mode):
    env = RecordFailures(Silent())
    env.reset(seed=0)
    with pytest.raises(ValueError, match='info has no "failure"'):
        env.step(np.zeros(1))
    envs = RecordVectorFailures(SyncVectorEnv([Counter, Silent], autoreset_mode=mode))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match='infos of environment 1 has no "failure"'):
        envs.step(np.zeros((2, 1), np.float32))


def test_a_same_step_environment_that_loses_its_last_info_is_refused():
    """Else the very step that ended the episode, and maybe failed, would be read off the next one."""

    class Forgetful(RecordEpisodeStatistics):
        def step(self, actions):
            *results, infos = super().step(actions)
            return *results, {key: value for key, value in infos.items() if "final" not in key}

    envs = Forgetful(SyncVectorEnv([lambda: Counter((), 2)], autoreset_mode=AutoresetMode.SAME_STEP))
    envs = RecordVectorFailures(envs)
    envs.reset(seed=0)
    envs.step(np.zeros((1, 1), np.float32))
    with pytest.raises(ValueError, match="final_info"):
        envs.step(np.zeros((1, 1), np.float32))


def test_the_wrong_wrapper_and_an_unknown_mode_are_refused():
    envs = SyncVectorEnv([Counter])
    with pytest.raises(TypeError, match="RecordVectorFailures"):
        RecordFailures(envs)
    del envs.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match="autoreset_mode"):
        RecordVectorFailures(envs)
