"""Environments in worker processes: the same transitions as in this one, and nothing left behind however it ends."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import failurebench
from failurebench.sawyer import Scene
from failurebench.tasks.bounded_push import BoundedPush
from failurebench.vector import FailureVectorEnv
from tests.failurebench.conftest import BOUNDED_PUSH, HARD

N, WORKERS = 5, 2
TIGHT = {"max_episode_steps": 23, "terminate_on_failure": True, "boundary": (-0.06, 0.06, 0.61, 0.86)}


@pytest.fixture
def env():
    """Five environments in two workers."""
    env = failurebench.make_vec(BOUNDED_PUSH, N, num_workers=WORKERS)
    yield env
    env.close()


def processes(env):
    return [worker.process.pid for worker in env._chunk._workers]


def gone(pids, within_s=10.0):
    """Whether no such process runs any more, zombies aside."""
    deadline = time.monotonic() + within_s
    while any(_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_same(ours, reference):
    """Equal nested dicts of arrays with equal types; under ``final_`` only where the masks say that they mean something."""
    assert list(ours) == list(reference)
    for key, value in reference.items():
        if key == "final_info":
            ended = reference["_final_info"]
            for name in value:
                np.testing.assert_array_equal(ours[key][name][ended], value[name][ended], err_msg=name)
        elif key == "final_obs":
            for a, b in zip(ours[key], value, strict=True):
                assert (a is None) == (b is None)
                np.testing.assert_array_equal(a, b)
        else:
            assert ours[key].dtype == value.dtype, key
            np.testing.assert_array_equal(ours[key], value, err_msg=key)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_transitions_are_those_of_one_process(mode):
    here = failurebench.make_vec(BOUNDED_PUSH, N, autoreset_mode=mode, **TIGHT)
    there = failurebench.make_vec(BOUNDED_PUSH, N, num_workers=WORKERS, autoreset_mode=mode, **TIGHT)
    seeds = [4, 9, 2, 7, 1]
    (obs, info), (other, other_info) = here.reset(seed=seeds), there.reset(seed=seeds)
    np.testing.assert_array_equal(other, obs)
    assert_same(other_info, info)
    experts = [here.expert(kind) for kind in ("task", "failure", "pusher", "failure", "task")]
    for i, expert in enumerate(experts):
        expert.reset(np.random.default_rng(2 + i))
    ends = np.zeros(2, int)
    for _ in range(70):
        actions = np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)])
        obs, *results, info = here.step(actions)
        other, *other_results, other_info = there.step(actions)
        np.testing.assert_array_equal(other, obs)
        for ours, reference in zip(other_results, results, strict=True):
            assert ours.dtype == reference.dtype
            np.testing.assert_array_equal(ours, reference)
        assert_same(other_info, info)
        ends += (results[1].sum(), results[2].sum())
        ended = results[1] | results[2]
        if mode == AutoresetMode.DISABLED and ended.any():
            with pytest.raises(gymnasium.error.ResetNeeded, match="reset_mask"):
                there.step(actions)
            obs, info = here.reset(options={"reset_mask": ended})
            other, other_info = there.reset(options={"reset_mask": ended})
            np.testing.assert_array_equal(other, obs)
            assert_same(other_info, info)
    there.close()
    assert ends.min() > 0


def test_states_travel_between_workers_and_this_process(env):
    here = failurebench.make_vec(BOUNDED_PUSH, N)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, N, 4)).astype(np.float32)
    for action in actions[:10]:
        obs, *_ = env.step(action)
    here.set_states(env.get_states())
    np.testing.assert_array_equal(here.observations(), obs)
    states = here.get_states()
    expected = [here.step(action)[0] for action in actions[10:]]
    env.set_states(states)
    np.testing.assert_array_equal(env.observations(), obs)
    np.testing.assert_array_equal([env.step(action)[0] for action in actions[10:]], expected)


def test_returned_arrays_are_the_callers_to_keep(env):
    first, info = env.reset(seed=0)
    kept, margins = first.copy(), info["margin"].copy()
    env.step(np.ones((N, 4), np.float32))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(info["margin"], margins)


def test_gymnasium_makes_them_too():
    env = gymnasium.make_vec(HARD, 2, vectorization_mode="vector_entry_point", num_workers=2)
    assert isinstance(env, FailureVectorEnv)
    assert len(processes(env)) == 2
    env.close()


@pytest.mark.parametrize("count", [0, 1])
def test_one_worker_is_this_process(count):
    before = set(children())
    failurebench.make_vec(BOUNDED_PUSH, 2, num_workers=count).reset(seed=0)
    assert set(children()) == before


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize("when", ["between steps", "within a step"])
def test_a_killed_worker_is_named_and_the_others_end(env, when):
    env.reset(seed=0)
    pids = processes(env)
    if when == "between steps":
        os.kill(pids[1], signal.SIGKILL)
        assert gone(pids[1:])
    else:
        os.kill(pids[1], signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (pids[1], signal.SIGKILL)).start()
    with pytest.raises(RuntimeError, match=r"worker 1 \(environments 2 to 4\) died \(SIGKILL\)"):
        env.step(np.zeros((N, 4), np.float32))
    assert gone(pids)
    with pytest.raises(RuntimeError, match="closed"):
        env.step(np.zeros((N, 4), np.float32))
    env.close()
    env.close()


def test_an_error_in_a_worker_arrives_as_it_was_and_says_where(env):
    env.reset(seed=0)
    states = env.get_states()
    states[3] = {**states[3], "task": "BoundedSoccer"}
    with pytest.raises(ValueError, match="state is from task 'BoundedSoccer'") as caught:
        env.set_states(states)
    assert "worker 1 (environments 2 to 4)" in caught.value.__notes__[0]
    env.reset(seed=0)  # and nothing is broken
    env.step(np.zeros((N, 4), np.float32))


@dataclass(frozen=True)
class Nowhere(BoundedPush):
    """A task whose model is not there."""

    scene: ClassVar[Scene] = Scene("nowhere.xml")


def test_a_world_that_a_worker_cannot_load_is_reported_too():
    with pytest.raises(ValueError, match=r"nowhere\.xml"):
        FailureVectorEnv(f"{__name__}:Nowhere", 2, num_workers=2)


def test_what_one_process_refuses_is_refused_here(env):
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(np.zeros((N, 4)))
    env.reset(seed=0)
    for actions, message in ((np.zeros((N, 3)), "shape"), (np.full((N, 4), np.nan), "finite")):
        with pytest.raises(ValueError, match=message):
            env.step(actions)
    with pytest.raises(TypeError, match="set_states"):
        pickle.dumps(env)


@pytest.mark.parametrize(("count", "message"), [(-1, "num_workers"), (1.5, "num_workers"), (4, "4 for 3")])
def test_a_worker_count_that_cannot_be_meant_is_refused(count, message):
    with pytest.raises(ValueError, match=message):
        failurebench.make_vec(BOUNDED_PUSH, 3, num_workers=count)


@pytest.mark.parametrize("how", ["close", "collect"])
def test_closed_or_forgotten_nothing_is_left(how):
    env = failurebench.make_vec(BOUNDED_PUSH, 2, num_workers=2)
    env.reset(seed=0)
    pids = processes(env)
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/" in line]
    assert all(line.endswith("(deleted)") for line in shared)  # what has no name cannot be left behind
    if how == "close":
        env.close()
    del env
    gc.collect()
    assert gone(pids, within_s=0)


SCRIPT = """
import signal, sys, threading, time
import numpy as np
import failurebench

if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # what makes forking unsafe
    env = failurebench.make_vec("FailureBench/BoundedPush-v0", 4, num_workers=2)
    env.reset(seed=0)
    print(*[worker.process.pid for worker in env._chunk._workers], flush=True)
    if "finish" in sys.argv:
        sys.exit()
    while True:
        env.step(np.zeros((4, 4), np.float32))
"""


@pytest.mark.parametrize(
    ("end", "code"), [("finish", 0), (signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_a_script_that_ends_in_whatever_way_takes_its_workers_along(tmp_path, end, code):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), *(["finish"] if end == "finish" else [])]
    # A session of its own: Ctrl-C goes to the whole group, as from a terminal.
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    pids = [int(pid) for pid in run.stdout.readline().split()]
    assert len(pids) == 2
    if end == signal.SIGINT:
        os.killpg(run.pid, end)
    elif end != "finish":
        run.send_signal(end)
    _, errors = run.communicate(timeout=20)
    assert run.returncode == code
    assert gone(pids)
    assert errors.count("Traceback") == (1 if end == signal.SIGINT else 0)  # the parent's KeyboardInterrupt alone
    assert "leaked" not in errors
