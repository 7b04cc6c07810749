"""A depth camera over the Franka tasks: where the points lie, that they repeat, and what the environments make of them."""

from __future__ import annotations

import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import failurebench
from failurebench.franka import points
from failurebench.franka.push_wall import FrankaFragilePushWall
from tests.failurebench.test_rendering import needs_opengl

WALL = "FailureBench/FrankaFragilePushWall-v0"
pytestmark = needs_opengl


def made(task_id=WALL, **options):
    return gymnasium.make(task_id, observe="points", **options).unwrapped


def ways(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


def same(first, second):
    return all(np.array_equal(first[key], second[key]) for key in ("state", "points"))


def distance_to_box(at, centre, half, yaw=0.0):
    """From outside to its surface, and inside to the nearest face, m."""
    x, y, z = (at - centre).T
    turned = np.stack([np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x, z], axis=1)
    beyond = np.abs(turned) - half
    outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=1)
    return np.where((beyond < 0).all(axis=1), -beyond.max(axis=1), outside)


def test_every_point_lies_on_box_or_wall_or_arm():
    """Against the shapes themselves: what is near neither box nor wall is near the finger's axis, or higher than any of them."""
    env = made()
    seen, _ = env.reset(seed=3)
    scene, layout = env._episode.scene, env._episode.layout
    (wall_x, wall_y, half_x, half_y, _), at = layout.hazard, seen["points"].astype(np.float64)
    to_box = distance_to_box(at, np.array([*scene.object, 0.03]), np.full(3, 0.03), scene.yaw)
    to_wall = distance_to_box(at, np.array([wall_x, wall_y, 0.05]), np.array([half_x, half_y, 0.05]))
    to_finger = np.abs(np.linalg.norm(at[:, :2] - scene.tcp, axis=1) - 0.012)
    nearest = np.minimum(np.minimum(to_box, to_wall), to_finger)
    assert nearest[at[:, 2] < 0.14].max() < 0.0015
    assert (to_box < 0.0015).sum() > 20
    assert (to_wall < 0.0015).sum() > 20
    assert (to_finger < 0.0015).sum() > 0


def test_points_follow_the_box():
    """The middle of what is seen of its top is where it is, to within half a pixel."""
    env = made()
    expert, rng = env.expert("task"), np.random.default_rng(0)
    env.reset(seed=1)
    expert.reset(rng)
    for _ in range(30):
        seen, *_ = env.step(expert.act(env.expert_view()))
        at, box = seen["points"], env._episode.scene.object
        top = at[(np.abs(at[:, :2] - box).max(axis=1) < 0.045) & (np.abs(at[:, 2] - 0.06) < 0.002)]
        assert np.abs(np.median(top[:, :2], axis=0) - box).max() < 0.012


def test_the_space_holds_what_is_seen_and_no_estimate():
    env = made()
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    names = [list(FrankaFragilePushWall.fields)[index] for index in points.told(FrankaFragilePushWall())]
    expected = ["finger x", "finger y", "finger velocity x", "finger velocity y", "contact force"]
    assert names == [*expected, "age of the estimate", "clearance", "goal x", "goal y"]
    assert seen["state"].shape == (len(names),)
    assert seen["points"].dtype == np.float32


@pytest.mark.parametrize("task_id", list(failurebench.FRANKA))
def test_a_saved_state_goes_on_with_the_same_points(task_id):
    """With noise and drop-outs, and other scenes drawn by the same camera in between."""
    options = {"depth_noise_m": 0.002, "object_dropout": 0.3}
    env, other = made(task_id, **options), made(task_id, **options)
    env.reset(seed=5)
    for action in ways(6):
        env.step(action)
    state, here = env.get_state(), env.observation()
    first = [env.step(action)[0] for action in ways(8, seed=1)]
    other.reset(seed=9)
    other.step(ways(1)[0])
    other.set_state(state)
    assert same(other.observation(), here)
    assert all(same(was, other.step(action)[0]) for was, action in zip(first, ways(8, seed=1), strict=True))


def test_observing_points_changes_nothing_but_the_observation():
    """Same physics, rewards and verdicts, and demonstrators see what they always saw."""
    seeing, told = made(), gymnasium.make(WALL).unwrapped
    seeing.reset(seed=2), told.reset(seed=2)
    for action in ways(10):
        _, reward, *_, info = seeing.step(action)
        obs, other_reward, *_, other_info = told.step(action)
        assert reward == other_reward
        assert info == other_info
        assert np.array_equal(seeing.expert_view(), obs)
    assert "points" not in told.get_state()


def test_a_lost_picture_leaves_the_points_as_they_were():
    env = made(object_dropout=0.6)
    before, _ = env.reset(seed=4)
    ages = []
    for action in ways(12):
        seen, *_ = env.step(action)
        age = seen["state"][5]
        assert (age > 0) <= np.array_equal(seen["points"], before["points"])
        before = seen
        ages.append(age)
    assert max(ages) > 0
    assert min(ages) == 0


def test_noise_is_what_was_asked_for():
    """Along rays: how far points of the wall's even top are from its height, over the cosine of the camera's slope."""
    heights = []
    env = made(depth_noise_m=0.004)
    for seed in range(6):
        seen, _ = env.reset(seed=seed)
        wall = env._episode.layout.hazard
        inside = (np.abs(seen["points"][:, 0] - wall[0]) < 0.004) & (seen["points"][:, 1] < wall[1] + wall[3] - 0.01)
        heights.append(seen["points"][inside, 2])
    spread = np.std(np.concatenate(heights))
    assert 0.5 * 0.004 < spread / np.sin(np.radians(60)) < 1.5 * 0.004


@pytest.mark.parametrize("workers", [0, 2])
def test_vector_environments_show_the_same(workers):
    single = made(max_episode_steps=4)
    envs = failurebench.make_vec(WALL, 2, num_workers=workers, observe="points", max_episode_steps=4)
    batch, _ = envs.reset(seed=7)
    alone, _ = single.reset(seed=8)
    assert envs.observation_space.contains(batch)
    for action in ways(4):
        assert same({key: rows[1] for key, rows in batch.items()}, alone)
        assert np.array_equal(envs.expert_views()[1], single.expert_view())
        batch, *_, infos = envs.step(np.stack([action, action]))
        alone, *_ = single.step(action)
    assert same(infos["final_obs"][1], alone)
    envs.close()


def test_fewer_points_come_twice_and_none_is_the_corner():
    few = np.array([[0.5, 0.0, 0.05], [0.6, 0.1, 0.05]])
    assert len(np.unique(points.thinned(few), axis=0)) == 2
    assert len(points.thinned(few)) == points.POINTS
    assert np.allclose(points.thinned(few[:0]), points.CROP[0], atol=points.GRAIN_M)


def test_what_cannot_be_observed_is_refused():
    with pytest.raises(ValueError, match="observe is 'pixels'; the choices are state, points"):
        gymnasium.make(WALL, observe="pixels")
    with pytest.raises(ValueError, match="depth_noise_m is -1"):
        gymnasium.make(WALL, observe="points", depth_noise_m=-1)


def test_without_opengl_the_message_names_the_packages(tmp_path):
    program = f"import gymnasium, failurebench; gymnasium.make({WALL!r}, observe='points').reset(seed=0)"
    bare = {**os.environ, "MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": str(tmp_path / "none.json")}
    done = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: rendering needs off-screen OpenGL and found none" in done.stderr
    assert "libegl1" in done.stderr


def test_an_environment_left_open_is_quiet_at_exit():
    program = (
        "import weakref; weakref.finalize(weakref, print)\n"  # whoever does this first lets such things run last at exit
        f"import gymnasium, failurebench; gymnasium.make({WALL!r}, observe='points').reset(seed=0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
