"""The Franka tasks on the robosuite twin: the environment contract, the simulated faults of command and camera, the experts."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import failurebench
from failurebench.franka import panda
from failurebench.rendering import open_context

pytest.importorskip("robosuite", reason="the models come with it: pip install 'robosuite>=1.5.1,!=1.5.2,<1.6'")

IDS = sorted(failurebench.FRANKA)
WALL, DISTURBED, SOCCER = (
    f"FailureBench/Franka{name}-v0" for name in ("FragilePushWall", "DisturbedPush", "BoundedSoccer")
)
FAULTY = {"action_delay": 2, "object_noise_m": 0.002, "object_dropout": 0.3, "actuator_gain": 0.8}


def make(task, **kwargs):
    return gymnasium.make(task, **kwargs).unwrapped


def actions(count, seed=0):
    """Commands that move: each direction is held for some steps."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.uniform(-1, 1, (count // 4 + 1, 2)), 4, axis=0)[:count].astype(np.float32)


def history(env, moves):
    """What follows from ``moves``: observations, rewards, flags and infos."""
    return [(step[0].tolist(), *step[1:]) for step in (env.step(move) for move in moves)]


def can_draw():
    try:
        open_context().free()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("task", IDS)
def test_the_checker_finds_nothing_to_warn_about(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Pictures of the arm's meshes take seconds each without a graphics card: one task's are enough.
        check_env(make(task), skip_render_check=task != WALL or not can_draw())


@pytest.mark.parametrize("options", [{}, FAULTY])
@pytest.mark.parametrize("task", IDS)
def test_a_saved_state_goes_on_bit_for_bit_in_another_environment(task, options):
    env, other = make(task, **options), make(task, **options)
    env.reset(seed=3)
    history(env, actions(25))
    saved = env.get_state()
    ahead = history(env, actions(25, seed=1))
    other.reset(seed=99)
    history(other, actions(7, seed=2))
    other.set_state(saved)
    assert history(other, actions(25, seed=1)) == ahead
    env.set_state(saved)
    assert history(env, actions(25, seed=1)) == ahead
    assert isinstance(env.observation(), np.ndarray)


@pytest.mark.parametrize("task", IDS)
def test_a_seed_decides_everything(task):
    env, other = make(task, **FAULTY), make(task, **FAULTY)
    other.reset(seed=1)
    history(other, actions(5))
    first, again = (
        (env.reset(seed=8)[0], history(env, actions(20))),
        (other.reset(seed=8)[0], history(other, actions(20))),
    )
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert history(env, actions(20)) != first[1]
    assert len({tuple(env.reset(seed=seed)[0].tolist()) for seed in range(10)}) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_a_vector_gives_what_single_environments_give(workers):
    """On soccer, where the environments share a model but not their ground; through ends of episodes."""
    kwargs = {"max_episode_steps": 12, "object_noise_m": 0.001}
    envs = failurebench.make_vec(SOCCER, 3, autoreset_mode=AutoresetMode.DISABLED, num_workers=workers, **kwargs)
    singles = [gymnasium.make(SOCCER, **kwargs) for _ in range(3)]
    moves = actions(60).reshape(20, 3, 2)
    try:
        obs, _ = envs.reset(seed=[4, 5, 6])
        for i, single in enumerate(singles):
            np.testing.assert_array_equal(single.reset(seed=4 + i)[0], obs[i])
        for move in moves[:12]:
            obs, rewards, terminated, truncated, infos = envs.step(move)
            for i, single in enumerate(singles):
                expected = single.step(move[i])
                np.testing.assert_array_equal(expected[0], obs[i])
                assert (expected[1], expected[2], expected[3]) == (rewards[i], terminated[i], truncated[i])
                assert expected[4] == {key: infos[key][i] for key in expected[4]}
        assert truncated.all()
        state = envs.get_states()[2]
        singles[0].unwrapped.set_state(state)
        np.testing.assert_array_equal(singles[0].unwrapped.observation(), envs.observations()[2])
    finally:
        envs.close()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_alike_and_apart(duplicate):
    env = make(DISTURBED)
    env.reset(seed=3)
    history(env, actions(10))
    twin = duplicate(env)
    assert history(env, actions(20, seed=1)) == history(twin, actions(20, seed=1))


def test_options_and_states_that_cannot_be_meant_are_refused():
    with pytest.raises(TypeError, match=r"no option 'object_nose_m' \(did you mean object_noise_m\?\)"):
        make(WALL, object_nose_m=0.1)
    with pytest.raises(ValueError, match="action_delay is 9"):
        make(WALL, action_delay=9)
    env, other = make(WALL), make(DISTURBED)
    env.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(ValueError, match="the state is from task 'FrankaDisturbedPush'"):
        env.set_state(other.get_state())
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \(2,\): x and y in"):
        env.step(np.zeros(4, np.float32))


def test_without_robosuite_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(panda.importlib.util, "find_spec", lambda name: None)
    panda._assets.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match=r"robosuite, which is not installed: pip install 'robosuite"):
            panda._assets()
    finally:
        panda._assets.cache_clear()


def test_nothing_is_said_and_robosuite_itself_is_not_imported():
    code = (
        "import gymnasium, failurebench, sys\n"
        f"env = gymnasium.make('{WALL}'); env.reset(seed=0); env.step(env.action_space.sample())\n"
        "assert not {'robosuite', 'numba'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_a_command_arrives_as_late_as_said(delay):
    env = make(WALL, action_delay=delay)
    env.reset(seed=0)
    references = []
    for _ in range(4):
        env.step(np.array([0.0, 1.0], np.float32))
        references.append(env._episode.reference[1])
    assert sum(reference == 0.0 for reference in references) == delay
    assert references[delay] == pytest.approx(0.015)


def test_a_weaker_actuator_moves_less_and_a_blind_camera_says_how_old_it_is():
    reached = []
    for gain in (1.0, 0.5):
        env = make(DISTURBED, actuator_gain=gain)
        env.reset(seed=0)
        history(env, [np.array([0.0, -1.0], np.float32)] * 15)
        reached.append(env.observation()[1])
    assert reached[1] == pytest.approx(reached[0] / 2, rel=0.1)
    blind = make(WALL, object_dropout=0.95)
    blind.reset(seed=0)
    names = list(blind.task.fields)
    ages = [obs[names.index("age of the estimate")] for obs, *_ in history(blind, actions(20))]
    assert max(ages) > 0.8


def test_the_finger_holds_height_and_direction():
    env = make(WALL, stop_on_success=False)
    env.reset(seed=0)
    data, expert, obs = env._episode.data, env.expert("task"), env.observation()
    expert.reset(np.random.default_rng(0))
    heights, tilts = [], []
    for _ in range(60):
        obs, *_ = env.step(expert.act(obs))
        heights.append(data.site("tcp").xpos[2])
        tilts.append(np.degrees(np.arccos(-data.site("tcp").xmat[8])))
    assert min(heights) > 0.012
    assert max(heights) < 0.03
    assert max(tilts) < 2.0


def test_the_contact_force_is_what_holds_the_pushed_box_back():
    """A box that slides at a steady pace is held back by dry friction of about its weight."""
    env = make(DISTURBED, person_speed=0.0, stop_on_success=False)
    env.reset(seed=0)
    pushing = [obs[4] for obs, *_ in history(env, [np.array([0.6, 0.0], np.float32)] * 18)]
    weight = 9.81 * 300 * 0.06**3
    assert pushing[0] == 0.0
    assert np.median(pushing[-6:]) == pytest.approx(weight, rel=0.35)


@pytest.mark.parametrize("task", IDS)
def test_a_failing_step_is_the_predicates_word_on_what_was_passed(task):
    """Whatever the seekers run into, the verdict and the margin belong together, and contact in MuJoCo never goes unnoticed."""
    env, kinds = make(task), set()
    for seed in range(4):
        obs, info = env.reset(seed=seed)
        expert = env.expert("failure")
        expert.reset(np.random.default_rng(seed))
        failed = False
        for _ in range(80):
            obs, *_, info = env.step(expert.act(obs))
            assert info["failure"] == (info["margin"] <= 0.0)
            assert info["failure_onset"] == (info["failure"] and not failed)
            failed = failed or info["failure"]
            assert info["failed"] == failed
            assert info["cost"] == float(info["failure"])
            assert (info["failure_type"], info["failure_detail"] in env.task.details) == (
                (env.task.failure_type, True) if info["failure"] else ("", False)
            )
            assert info["failure"] or not touches_hazard(env._episode)
        kinds.add(failed)
    assert True in kinds


def touches_hazard(episode):
    """Whether MuJoCo has the hazard in contact with finger or object."""
    pairs = [{episode.model.geom(geom).name for geom in pair} for pair in episode.data.contact.geom]
    return any("hazard" in pair and pair & {"finger", "object"} for pair in pairs)


@pytest.mark.parametrize("task", IDS)
def test_the_experts_are_what_their_names_say(task):
    """Six episodes of each: the competent one succeeds, the clumsy one mostly, the seeker fails."""
    kinds = ("task", "pusher", "failure")
    envs = failurebench.make_vec(task, 18, autoreset_mode=AutoresetMode.DISABLED)
    experts = [envs.expert(kinds[i // 6]) for i in range(18)]
    obs, _ = envs.reset(seed=[i % 6 for i in range(18)])
    for i, expert in enumerate(experts):
        expert.reset(np.random.default_rng(i % 6))
    success, failed, running = np.zeros(18, bool), np.zeros(18, bool), np.ones(18, bool)
    for _ in range(110):
        moves = np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)])
        obs, _, _, ended, info = envs.step(moves)
        success |= running & info["success"]
        failed |= running & info["failure"]
        running &= ~ended
        if ended.any():
            envs.reset(options={"reset_mask": ended})
        if not running[:12].any() and (failed[12:] | ~running[12:]).all():
            break
    reached, wrong = success.reshape(3, 6).sum(1), failed.reshape(3, 6).sum(1)
    assert (reached[0], wrong[0]) >= (5, 0)
    assert wrong[0] <= 1
    assert reached[1] >= 4
    assert wrong[2] >= 4
