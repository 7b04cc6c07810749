"""The Franka twin observed as points, as FARL makes it: flat rows, saved states, what demonstrators see."""

from __future__ import annotations

import numpy as np
import pytest

from failurebench.rendering import open_context
from farl.environments import TaskConfig, expert_views, get_observations, get_states, make, make_vector, set_states
from farl.observations import Layout, layout_of
from farl.watchdog import Watchdog, WatchdogConfig

ID = "failurebench:FailureBench/FrankaFragilePushWall-v0"
TASK, TOLD = TaskConfig(ID, {"observe": "points"}), TaskConfig(ID)


def opengl_works():
    try:
        open_context().free()
    except RuntimeError:
        return False
    return True


pytestmark = pytest.mark.skipif(not opengl_works(), reason="no off-screen OpenGL here")


def test_many_twins_are_rows_and_go_on_from_saved_states():
    envs = make_vector(TASK, 2)
    first, _ = envs.reset(seed=[3, 4])
    layout = layout_of(envs)
    assert layout == Layout((("state", 9),), (("points", 128),))
    assert first.shape == (2, layout.size)
    alone, _ = make(TASK).reset(seed=4)
    assert np.array_equal(first[1], alone)
    states = get_states(envs)
    actions = np.array([[0.8, 0.1], [0.5, -0.5]], np.float32)
    following = [envs.step(actions)[0] for _ in range(3)][-1]
    set_states(envs, states)
    assert np.array_equal(get_observations(envs), first)
    assert np.array_equal([envs.step(actions)[0] for _ in range(3)][-1], following)


@pytest.mark.parametrize("watchdog", [None, Watchdog(WatchdogConfig())], ids=["alone", "guarded"])
def test_demonstrators_are_told_what_policies_are_not(watchdog):
    envs, told = make_vector(TASK, 2, watchdog), make_vector(TOLD, 2)
    seen, _ = envs.reset(seed=[5, 6])
    estimates, _ = told.reset(seed=[5, 6])
    assert layout_of(told) is None
    assert layout_of(envs) is not None
    if watchdog is None:  # demonstrations are made without one
        assert np.array_equal(expert_views(envs, seen), estimates)
