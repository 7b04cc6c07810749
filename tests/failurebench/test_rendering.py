"""Pictures come out the right way up with the boundary in red, or one message says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import failurebench
from failurebench.rendering import open_context
from tests.failurebench.conftest import HARD


def red_pixels(picture):
    r, g, b = (picture[..., i].astype(int) for i in range(3))
    return (r > 150) & (g < 60) & (b < 60)


def test_a_picture_shows_the_boundary_right_side_up_or_names_the_packages():
    try:
        open_context().free()
    except RuntimeError:  # no OpenGL on this machine: the environment must say so, in the same words
        env = gymnasium.make(HARD, render_mode="rgb_array")
        env.reset(seed=0)
        with pytest.raises(RuntimeError, match=r"libegl1 libegl-mesa0 libgl1-mesa-dri.*MUJOCO_GL.*libosmesa6"):
            env.render()
        return
    env = gymnasium.make(HARD, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    wide = gymnasium.make(HARD, render_mode="rgb_array", boundary=(-0.3, 0.3, 0.45, 1.0))
    wide.reset(seed=0)
    other = wide.render()
    vector = failurebench.make_vec(HARD, 2, render_mode="rgb_array")
    vector.reset(seed=0)
    pictures = vector.render()
    for one in (env, wide, vector):
        one.close()
    assert picture.shape == (480, 480, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, pictures[0])
    moved = red_pixels(picture) & ~red_pixels(other)
    assert moved.sum() > 200
    assert picture[:60].mean() > picture[-60:].mean()  # the bright wall is above the dark floor
    rows = np.nonzero(moved)[0]
    assert rows.mean() > 240  # the table is in the lower half


def test_without_a_render_mode_there_is_no_picture(env):
    env.reset(seed=0)
    assert env.render() is None


def test_without_any_backend_one_message_says_what_to_install():
    code = (
        "import failurebench.rendering as r\n"
        "r._BACKENDS.update({name: 'no_such_module' for name in r._BACKENDS})\n"
        "try: r.open_context()\n"
        "except RuntimeError as error: print(error)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "DISPLAY")}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    for word in ("libegl1 libegl-mesa0 libgl1-mesa-dri", "libosmesa6", "MUJOCO_GL", "egl:", "osmesa:"):
        assert word in out.stdout
