"""A simulator step is MuJoCo's own, whatever is left out of it."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest

import failurebench
from failurebench.sawyer import FRAME_SKIP, HAND, mocap_index

OPTIONS = {"FailureBench/ObstructedPush-v0": [{}, {"solid": True}]}
CASES = [(task, options) for task in failurebench.TASKS for options in OPTIONS.get(task, [{}])]


@pytest.mark.parametrize(("task", "options"), CASES)
def test_a_simulator_step_is_mj_step_and_mj_forward_to_the_bit(task, options):
    env = gymnasium.make(task, action_repeat=1, stop_on_success=False, max_episode_steps=400, **options).unwrapped
    rng = np.random.default_rng(5)
    obs, _ = env.reset(seed=5)
    sawyer, expert = env._episode.sawyer, env.expert("task")
    expert.reset(rng)
    model, plain = sawyer.model, mujoco.MjData(sawyer.model)
    mujoco.mj_setState(model, plain, sawyer.get_state(), mujoco.mjtState.mjSTATE_INTEGRATION)
    hand, contacts = mocap_index(model, HAND), 0
    for _ in range(300):
        action = np.clip(expert.act(obs) + 0.3 * rng.standard_normal(4), -1, 1).astype(np.float32)
        obs, *_ = env.step(action)
        plain.mocap_pos[hand] = sawyer.data.mocap_pos[hand]
        plain.ctrl[:] = sawyer.data.ctrl
        mujoco.mj_step(model, plain, FRAME_SKIP)
        mujoco.mj_forward(model, plain)
        for quantity in ("qpos", "qvel", "qacc", "qacc_warmstart", "qfrc_constraint", "xpos", "geom_xpos", "site_xpos"):
            np.testing.assert_array_equal(getattr(sawyer.data, quantity), getattr(plain, quantity), err_msg=quantity)
        assert sawyer.data.time == plain.time
        contacts = max(contacts, plain.ncon)
    assert contacts >= 3
