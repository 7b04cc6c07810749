"""A bookkeeping of failures that reads positions and nothing else, and an environment that is not ours."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from failurebench.experts import Seen, drag
from failurebench.wrappers import EpisodeFailures
from tests.failurebench.conftest import BOUNDED_PUSH

MODES = list(AutoresetMode)
N, STEPS, HORIZON = 4, 170, 55
SIDES = (-0.12, 0.12, 0.58, 0.92)
TASK = {"boundary": SIDES, "start_range": "full", "max_episode_steps": HORIZON, "action_repeat": 1}
SEEDS = [3, 14, 15, 92]


def behaviour(i, obs):
    """A policy without memory: drag to the goal, out of the boundary, or by where the goal lies; or do nothing."""
    seen = Seen.of(obs)
    outside = (0.3, seen.object[1])
    if i == 3:
        return np.zeros(4, np.float32)
    leaves = i == 1 or (i == 2 and seen.goal[0] < 0)
    return drag(seen, outside if leaves else (seen.goal[0], seen.goal[1]))


def bookkeeping(i, episodes, terminate, stop=True):
    """Episodes of one environment on its own, judged from the positions in its observations and nothing else."""
    env = gymnasium.make(BOUNDED_PUSH, terminate_on_failure=terminate, stop_on_success=stop, **TASK)
    obs, _ = env.reset(seed=SEEDS[i])
    rows = []
    for _ in range(episodes):
        failing, reached = [], []
        for _ in range(HORIZON):
            obs, *_ = env.step(behaviour(i, obs))
            x, y = obs[4:6]
            failing.append(not (SIDES[0] < x < SIDES[1] and SIDES[2] < y < SIDES[3]))
            reached.append(np.linalg.norm(obs[4:7] - obs[36:39]) <= 0.05)
            if (terminate and failing[-1]) or (stop and reached[-1]):
                break
        length, onset = len(failing), failing.index(True) + 1 if any(failing) else 0
        kind = "out_of_bounds" if onset else ""
        timeout = length == HORIZON and not any(reached) and not (terminate and failing[-1])
        rows.append(EpisodeFailures(length, sum(failing), onset, kind, any(reached), timeout))
        obs, _ = env.reset()
    return rows


class Counter(gymnasium.Env):
    """Somebody else's environment: knows only ``failure``, says nothing at reset, and fails at steps of its choosing."""

    observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, failing=(3,), ends=5, terminates=False):
        self.failing, self.ends, self.terminates, self.t = failing, ends, terminates, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        failure = self.t in self.failing
        over = self.t == self.ends or (failure and self.terminates)
        done = (failure, over and not failure) if self.terminates else (False, over)
        return np.full(1, self.t, np.float32), 1.0, *done, {"failure": failure}
