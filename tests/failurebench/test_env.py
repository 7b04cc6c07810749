"""The environment contract: spaces, seeding, states, horizon, failure accounting, bad input."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
import warnings

import gymnasium
import mujoco
import numpy as np
import pytest

from failurebench.env import FailureEnv
from failurebench.interface import displacement
from failurebench.sawyer import Scene
from failurebench.tasks import bounded_push
from tests.failurebench.conftest import BOUNDED_PUSH, HARD

INFO_TYPES = {
    "failure": bool,
    "failed": bool,
    "failure_onset": bool,
    "failure_type": str,
    "failure_detail": str,
    "success": bool,
    "margin": float,
    "cost": float,
}
SOCCER = "FailureBench/BoundedSoccer-Hard-v0"
TINY = (-0.03, 0.06, 0.62, 0.85)


def make(task_id=BOUNDED_PUSH, **kwargs):
    return gymnasium.make(task_id, **kwargs).unwrapped


def shove(env, steps=100):
    """Push the puck out of the boundary; yield every step's results."""
    expert = env.expert("failure")
    expert.reset(np.random.default_rng(0))
    obs, _ = env.reset(seed=0)
    for _ in range(steps):
        obs, *rest = env.step(expert.act(obs))
        yield obs, *rest


def test_importing_the_package_loads_neither_simulator_nor_torch():
    code = "import sys, failurebench; print({'mujoco', 'metaworld', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_info_has_the_same_keys_and_types_after_reset_and_every_step():
    env = make(HARD)
    infos = [env.reset(seed=0)[1], *(results[-1] for results in shove(env))]
    for info in infos:
        assert {key: type(value) for key, value in info.items()} == INFO_TYPES
    assert any(info["failure"] for info in infos)


def test_observations_stay_in_the_space_even_with_the_puck_flung_away(env):
    env.reset(seed=0)
    data = env._episode.sawyer.data
    data.qvel[9:15] = (3, 3, 6, 20, 20, 20)
    for _ in range(60):
        obs, *_ = env.step(env.action_space.sample())
        assert obs in env.observation_space


def test_observation_shows_the_boundary_and_the_goal():
    obs, _ = make(HARD).reset(seed=0)
    np.testing.assert_allclose(obs[11:15], (-0.13, 0.13, 0.57, 0.93), atol=1e-7)
    np.testing.assert_allclose(obs[36:38], (0.05, 0.84), atol=1e-7)
    assert not obs[15:18].any()
    assert not obs[29:36].any()


def test_a_seed_decides_the_whole_episode(env):
    def episode(seed):
        obs = [env.reset(seed=seed)[0]]
        actions = np.random.default_rng(1).uniform(-1, 1, (20, 4)).astype(np.float32)
        return np.array(obs + [env.step(action)[0] for action in actions])

    first = episode(5)
    episode(6)
    np.testing.assert_array_equal(first, episode(5))
    assert not np.array_equal(first[0], episode(6)[0])


def test_unseeded_episodes_differ_and_follow_from_the_last_seed(env):
    def three(seed):
        return np.array([env.reset(seed=seed)[0], env.reset()[0], env.reset()[0]])

    first = three(2)
    np.testing.assert_array_equal(first, three(2))
    assert len(np.unique(first[:, 4])) == 3


@pytest.mark.parametrize(("start_range", "x", "y"), [("narrow", 0.02, (0.63, 0.67)), ("full", 0.1, (0.6, 0.7))])
def test_starts_lie_in_their_range(start_range, x, y):
    env = make(start_range=start_range)
    starts = np.array([env.reset(seed=seed)[0] for seed in range(40)])
    assert (np.abs(starts[:, 4]) <= x).all()
    assert (starts[:, 4].max() - starts[:, 4].min()) > x
    assert ((starts[:, 5] >= y[0]) & (starts[:, 5] <= y[1])).all()
    distances = np.hypot(*(starts[:, 4:6] - starts[:, 36:38]).T)
    assert (distances >= 0.15 - 1e-6).all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_continues_like_the_original_and_on_its_own(env, duplicate):
    obs, _ = env.reset(seed=0)
    expert = env.expert("pusher")
    expert.reset(np.random.default_rng(0))
    for _ in range(20):
        obs, *_ = env.step(expert.act(obs))
    twin = duplicate(env)
    for _ in range(20):
        action = expert.act(obs)
        obs, *results = env.step(action)
        twin_obs, *twin_results = twin.step(action)
        np.testing.assert_array_equal(obs, twin_obs)
        assert results == twin_results
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])


def test_an_env_can_be_pickled_before_its_first_reset(env):
    twin = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(twin.reset(seed=3)[0], env.reset(seed=3)[0])


def test_a_restored_state_continues_bit_for_bit(env):
    obs, _ = env.reset(seed=0)
    expert = env.expert("task")
    expert.reset(np.random.default_rng(0))
    for _ in range(14):  # into the grasp, where the solver's warm start matters
        obs, *_ = env.step(expert.act(obs))
    state = env.get_state()
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    first = [env.step(action) for action in actions]
    for target in (env, make()):
        target.set_state(pickle.loads(pickle.dumps(state)))
        np.testing.assert_array_equal(target.observation(), obs)
        for action, (expected, *results) in zip(actions, first, strict=True):
            again, *again_results = target.step(action)
            np.testing.assert_array_equal(again, expected)
            assert again_results == results


def test_a_state_holds_plain_arrays_and_scalars(env):
    env.reset(seed=0)
    assert all(isinstance(value, np.ndarray | float | int | bool | str) for value in env.get_state().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "BoundedSoccer"}, "BoundedSoccer"),
        ({"mujoco": "2.3.7"}, "2.3.7"),
        ({"physics": np.zeros(3)}, "shape"),
        ({"steps": None}, "lacks"),
    ],
)
def test_a_foreign_state_is_refused_with_one_message(env, change, message):
    env.reset(seed=0)
    state = {key: value for key, value in {**env.get_state(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        env.set_state(state)


def steps_until_truncated(env):
    env.reset(seed=0)
    for step in itertools.count(1):
        _, _, terminated, truncated, _ = env.step(np.zeros(4, np.float32))
        assert not terminated
        if truncated:
            return step
    return None


@pytest.mark.parametrize("horizon", [None, 7, 300])
def test_the_horizon_can_be_shortened_and_lengthened(horizon):
    kwargs = {} if horizon is None else {"max_episode_steps": horizon}
    env = gymnasium.make(BOUNDED_PUSH, action_repeat=1, **kwargs)
    assert steps_until_truncated(env) == (horizon or 250) == env.spec.max_episode_steps


def test_the_environment_counts_its_own_steps_and_restores_the_count():
    env = FailureEnv("failurebench.tasks.bounded_push:BoundedPush", max_episode_steps=5)
    assert steps_until_truncated(env) == 5
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(4, np.float32))
    state = env.get_state()
    env.reset(seed=1)
    env.set_state(state)
    assert [env.step(np.zeros(4, np.float32))[3] for _ in range(2)] == [False, True]


def test_success_truncates_unless_told_otherwise():
    for stop in (True, False):
        env = make(stop_on_success=stop)
        expert = env.expert("task")
        expert.reset(np.random.default_rng(0))
        obs, _ = env.reset(seed=0)
        outcomes = []
        for _ in range(60):
            obs, _, terminated, truncated, info = env.step(expert.act(obs))
            outcomes.append((info["success"], terminated, truncated))
            if truncated:
                break
        assert outcomes[-1] == (True, False, stop)


def test_failures_are_reported_once_as_onset_and_do_not_end_the_episode():
    env = make(HARD)
    flags = [(info["failure"], info["failed"], info["failure_onset"], truncated) for *_, truncated, info in shove(env)]
    failure, failed, onset, truncated = (np.array(flag) for flag in zip(*flags, strict=True))
    assert onset.sum() == 1
    first = int(onset.argmax())
    assert failure[first]
    assert not failure[:first].any()
    np.testing.assert_array_equal(failed, np.arange(len(failed)) >= first)
    assert not truncated.any()


def test_failure_cost_type_and_margin_agree():
    for obs, _, _, _, info in shove(make(HARD, action_repeat=1)):
        x, y = obs[4:6].astype(float)
        margin = min(x + 0.13, 0.13 - x, y - 0.57, 0.93 - y)
        assert info["margin"] == pytest.approx(margin, abs=1e-6)
        assert info["failure"] == (info["margin"] <= 0) == (info["cost"] == 1.0)
        assert info["failure_type"] == ("out_of_bounds" if info["failure"] else "")


@pytest.mark.parametrize(("task_id", "details"), [(HARD, {"", "tipped"}), (SOCCER, {""})])
def test_a_failure_says_whether_the_object_had_tipped_over(task_id, details):
    """Against the quaternion in the observation; a ball has nothing to tip from."""
    env, seen = make(task_id), set()
    for seed in (0, 16):
        rng = np.random.default_rng(seed)
        expert = env.expert("failure")
        expert.reset(rng)
        obs, info = env.reset(seed=seed)
        while not env._episode.truncated and env._episode.steps < 100:
            action = expert.act(obs) + 0.5 * rng.standard_normal(4)
            obs, _, _, _, info = env.step(np.clip(action, -1, 1).astype(np.float32))
            x, y = obs[7:9].astype(float)
            tipped = task_id == HARD and abs(1 - 2 * (x * x + y * y)) < 0.7
            assert info["failure_detail"] == ("tipped" if info["failure"] and tipped else "")
            seen |= {info["failure_detail"]} if info["failure"] else set()
    assert seen == details


def test_failure_can_terminate():
    steps = []
    for results in shove(make(HARD, terminate_on_failure=True)):
        steps.append(results)
        if results[2]:
            break
    *_, terminated, truncated, info = steps[-1]
    assert (terminated, truncated, info["failure"]) == (True, False, True)
    assert not any(step[2] for step in steps[:-1])


def teleport(env, x, y):
    """Place the puck, at rest, by way of a saved state."""
    data = env._episode.sawyer.data
    data.qpos[9:11] = (x, y)
    data.qvel[9:15] = 0


@pytest.mark.parametrize("terminate", [False, True])
def test_a_failure_counts_when_it_coincides_with_success(terminate):
    env = make(boundary=(-0.13, 0.06, 0.57, 0.93), terminate_on_failure=terminate)
    env.reset(seed=0)
    teleport(env, 0.07, 0.84)  # beyond the boundary, within 5 cm of the goal
    _, _, terminated, truncated, info = env.step(np.zeros(4, np.float32))
    assert (info["success"], info["failure"], info["failure_onset"], truncated) == (True, True, True, True)
    assert terminated == terminate


def test_a_violation_inside_the_action_repeat_is_seen():
    env = make(boundary=(-0.13, 0.13, 0.57, 0.93), action_repeat=4)
    env.reset(seed=0)
    teleport(env, 0.155, 0.7)
    env._episode.sawyer.data.qvel[9] = -1.5  # outside now, slides back in within the repeat
    obs, *_, info = env.step(np.zeros(4, np.float32))
    assert obs[4] < 0.13
    assert info["failure"]
    assert info["margin"] <= 0


def test_action_repeat_sums_rewards_and_steps_the_same_physics():
    once, twice = make(action_repeat=1), make(action_repeat=2)
    once.reset(seed=0)
    twice.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-1, 1, (30, 4)).astype(np.float32):
        first, second = once.step(action), once.step(action)
        obs, reward, _, _, info = twice.step(action)
        np.testing.assert_array_equal(obs, second[0])
        assert reward == first[1] + second[1]
        assert info["margin"] == min(first[4]["margin"], second[4]["margin"])


def test_actions_are_clipped():
    one, other = make(), make()
    one.reset(seed=0)
    other.reset(seed=0)
    np.testing.assert_array_equal(one.step(np.array([5.0, -3, 0, 9]))[0], other.step(np.array([1.0, -1, 0, 1]))[0])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((1, 4)), "shape"),
        (np.full(4, np.nan), "finite"),
        ([0, 0, np.inf, 0], "finite"),
        (np.array(["0", "0", "0", "1"]), "dtype <U1"),
        (["0", "0", "0", "1"], "dtype"),
        (np.array([0, 0, None, 0]), "dtype object.*None"),
        (np.array([0.0, 0, 0, 0], object), "dtype object"),
        (np.zeros(4, complex), "dtype complex128"),
        (np.zeros(4, bool), "dtype bool"),
        ([[0, 0], [0]], "no array of numbers"),
        (None, "dtype object"),
        ("stay", "dtype"),
    ],
)
def test_a_bad_action_is_refused_and_changes_nothing(env, action, message):
    env.reset(seed=0)
    before = env.get_state()["physics"]
    with pytest.raises(ValueError, match=message):
        env.step(action)
    np.testing.assert_array_equal(env.get_state()["physics"], before)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.int64])
def test_real_numbers_of_any_width_are_an_action(dtype):
    one, other = make(), make()
    one.reset(seed=0)
    other.reset(seed=0)
    np.testing.assert_array_equal(
        one.step(np.array([1, 0, -1, 1], dtype))[0], other.step(np.array([1, 0, -1, 1], np.float32))[0]
    )


def test_a_huge_finite_action_is_clipped_without_a_warning(env):
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        huge = env.step(np.array([1e300, 3e38, -1e300, 2]))[0]
    env.reset(seed=0)
    np.testing.assert_array_equal(huge, env.step(np.array([1, 1, -1, 1], np.float32))[0])


def test_a_bad_action_in_a_batch_is_traced_to_its_environment():
    with pytest.raises(ValueError, match="of environment 2 is not finite"):
        displacement(np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, np.nan, 0, 0]]), (3, 4))


def test_the_callers_action_is_left_as_it_was(env):
    env.reset(seed=0)
    action = np.array([3, -0.5, 0.25, 1], np.float32)
    env.step(action)
    np.testing.assert_array_equal(action, np.array([3, -0.5, 0.25, 1], np.float32))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start_range": "wide"}, "narrow, full"),
        ({"boundary": (0.2, -0.2, 0.5, 1.0)}, "leaves no room"),
        ({"boundary": (-0.2, 0.2, 0.7, 1.0)}, "leaves no room"),
        ({"boundary": (-0.05, 0.06, 0.6, 0.95), "start_range": "full"}, "leaves no room"),
        ({"boundary": (-0.2, 0.2, 0.5)}, "four finite numbers"),
        ({"boundary": "wide"}, "four finite numbers"),
        ({"boundary": 0.2}, "four finite numbers"),
        ({"boundary": (-0.2, float("nan"), 0.5, 1.0)}, "four finite numbers"),
        ({"action_repeat": 0}, "action_repeat"),
        ({"render_mode": "human_eye"}, "render_mode"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode")
def test_a_bad_argument_is_refused_by_name(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(BOUNDED_PUSH, **kwargs)


@pytest.mark.parametrize("horizon", [0, -3, 2.5])
def test_a_horizon_below_one_is_refused(horizon):
    with pytest.raises(ValueError, match="max_episode_steps"):
        FailureEnv("failurebench.tasks.bounded_push:BoundedPush", max_episode_steps=horizon)


def test_a_boundary_can_be_given_and_none_means_the_tasks_own():
    assert make(boundary=TINY).reset(seed=0)[0][11:15] == pytest.approx(TINY)
    assert make(HARD, boundary=None).reset(seed=0)[0][11] == pytest.approx(-0.13)


def test_stepping_before_reset_says_so(env):
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(np.zeros(4))


def test_a_scene_can_be_edited_in_memory():
    from failurebench.sawyer import load_world

    plain = load_world(bounded_push.BoundedPush.scene)
    edited = load_world(Scene(bounded_push.BoundedPush.scene.xml, edit=add_post))
    assert edited.model.nbody == plain.model.nbody + 1


def add_post(spec):
    body = spec.worldbody.add_body(name="post", pos=[0.4, 0.7, 0.1])
    body.add_geom(size=[0.02, 0.1, 0.0], type=mujoco.mjtGeom.mjGEOM_CYLINDER)


def test_an_option_the_task_does_not_have_is_answered_with_those_it_has():
    with pytest.raises(
        TypeError, match=r"BoundedPush has no option 'boundry' \(did you mean boundary\?\); it takes boundary, "
    ):
        gymnasium.make("FailureBench/BoundedPush-v0", boundry=(0, 1, 0, 1))
