"""Obstructed Push: the margin is the distance to the vase, the vase may be drawn anew, experts do what their names say."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import failurebench
from failurebench.tasks.obstructed_push import vase_distance

OBSTRUCTED_PUSH = "FailureBench/ObstructedPush-v0"
HARD = "FailureBench/ObstructedPush-Hard-v0"
MESHES = {"l1", "l2", "l3", "l4", "l5", "l6", "eGripperBase"}
BOXES = {"rightclaw_it", "rightpad_geom", "leftclaw_it", "leftpad_geom"}


def make(task_id=OBSTRUCTED_PUSH, **kwargs):
    return gymnasium.make(task_id, **kwargs).unwrapped


def watched(model):
    """Geoms that must not come near the vase, found without the task's help."""
    for i in range(model.ngeom):
        if model.geom_type[i] == mujoco.mjtGeom.mjGEOM_MESH:
            if model.mesh(model.geom_dataid[i]).name in MESHES:
                yield i
        elif model.geom(i).name in BOXES | {"objGeom"}:
            yield i


def roll(env, kind, seed, steps, noise=0.0):
    """Step an expert; yield what every step returned."""
    rng = np.random.default_rng(seed)
    expert = env.expert(kind)
    expert.reset(rng)
    obs, _ = env.reset(seed=seed)
    for _ in range(steps):
        obs, *rest = env.step(expert.act(obs) + noise * rng.standard_normal(4).astype(np.float32))
        yield obs, *rest


def test_the_distance_is_the_smallest_of_all_inside_the_vase_too():
    env = make(action_repeat=1, stop_on_success=False, max_episode_steps=None, randomize_hazard=True)
    states, inside = 0, 0
    for kind, seed in [("failure", 0), ("failure", 1), ("failure", 2), ("pusher", 3), ("task", 4)]:
        for *_, info in roll(env, kind, seed, 120, noise=0.2):
            sawyer = env._episode.sawyer
            model, data = sawyer.model, sawyer.data
            vase = model.geom("vase").id
            every = [mujoco.mj_geomDistance(model, data, geom, vase, 10.0, None) for geom in watched(model)]
            assert len(every) == 12
            assert vase_distance(sawyer) == pytest.approx(min(every), abs=1e-9)
            assert info["margin"] == pytest.approx(min(every) - 0.05, abs=1e-9)
            states, inside = states + 1, inside + (min(every) < 0)
    assert states == 600
    assert inside > 50


def test_the_distance_is_certified_by_a_separating_plane():
    # Between two convex bodies the gap along any direction is at most their distance, and at the right one it is equal.
    env = make(action_repeat=1, stop_on_success=False, max_episode_steps=None)
    for _ in roll(env, "task", 0, 60):
        pass
    sawyer = env._episode.sawyer
    model, data = sawyer.model, sawyer.data
    vase = model.geom("vase").id
    centre, axes = data.geom_xpos[vase], model.geom_size[vase]
    gaps = []
    for geom in watched(model):
        if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        mesh = model.mesh(model.geom_dataid[geom])
        first, count = int(mesh.vertadr[0]), int(mesh.vertnum[0])
        vertices = model.mesh_vert[first : first + count] @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        ends = np.zeros(6)
        distance = mujoco.mj_geomDistance(model, data, vase, geom, 10.0, ends)
        normal = (ends[3:] - ends[:3]) / distance
        gaps.append((vertices @ normal).min() - (centre @ normal + np.linalg.norm(axes * normal)))
        assert gaps[-1] == pytest.approx(distance, abs=1e-5)
    assert min(gaps) == pytest.approx(vase_distance(sawyer), abs=1e-5)


def test_the_arm_at_rest_is_as_far_as_in_the_published_videos():
    env = make()
    env.reset(seed=0)
    sawyer = env._episode.sawyer
    sawyer.reset((-0.3, 0.65, 0.02), {"vase": (0.40, 0.70, 0.08)})  # the puck out of the way
    assert env.task.margin(sawyer, env._episode.start) == pytest.approx(0.17, abs=0.005)  # what their overlay shows


def test_failure_cost_type_and_margin_agree():
    failures = 0
    for *_, info in roll(make(), "failure", 1, 60):
        assert info["failure"] == (info["margin"] <= 0) == (info["cost"] == 1.0)
        assert info["failure_type"] == ("hit_vase" if info["failure"] else "")
        failures += info["failure"]
    assert 0 < failures < 60


def test_clearance_moves_the_margin_and_nothing_else():
    plain, contact = make(), make(clearance=0.0)
    for (obs, *_, info), (other, *_, touch) in zip(
        roll(plain, "pusher", 2, 40), roll(contact, "pusher", 2, 40), strict=True
    ):
        assert touch["margin"] == pytest.approx(info["margin"] + 0.05, abs=1e-12)
        np.testing.assert_array_equal(np.delete(obs, 17), np.delete(other, 17))


@pytest.mark.parametrize(("task_id", "x"), [(OBSTRUCTED_PUSH, 0.40), (HARD, 0.36)])
def test_observation_shows_centre_semi_axes_and_clearance(task_id, x):
    obs, _ = make(task_id, clearance=0.03).reset(seed=0)
    np.testing.assert_allclose(obs[11:18], (x, 0.70, 0.08, 0.17, 0.17, 0.335, 0.03), atol=1e-7)
    assert not obs[29:36].any()


@pytest.mark.parametrize("task_id", [OBSTRUCTED_PUSH, HARD])
def test_the_vase_is_drawn_from_the_seed_and_stands_where_the_observation_says(task_id):
    env = make(task_id, randomize_hazard=True)
    places = []
    for seed in range(30):
        obs, info = env.reset(seed=seed)
        np.testing.assert_allclose(env._episode.sawyer.data.geom("vase").xpos, obs[11:14], atol=1e-7)
        np.testing.assert_array_equal(env.reset(seed=seed)[0], obs)
        places.append(float(obs[11]))
        assert not info["failure"]
    assert 0.34 <= min(places) < 0.355
    assert 0.405 < max(places) <= 0.42


def test_a_restored_state_brings_its_vase_along():
    env, other = make(randomize_hazard=True), make()
    *_, last = roll(env, "pusher", 5, 15)
    state = env.get_state()
    other.reset(seed=1)
    other.set_state(state)
    np.testing.assert_array_equal(other.observation(), last[0])
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32):
        obs, reward, *_, info = env.step(action)
        again, again_reward, *_, again_info = other.step(action)
        np.testing.assert_array_equal(obs, again)
        assert (reward, info) == (again_reward, again_info)


def test_a_state_beside_a_solid_vase_is_refused_beside_a_ghost():
    solid, ghost = make(solid=True), make()
    solid.reset(seed=0)
    ghost.reset(seed=0)
    with pytest.raises(ValueError, match="solid"):
        ghost.set_state(solid.get_state())


def deepest(kind, how, **kwargs):
    """The smallest margin of a seeker of the vase."""
    env = make(max_episode_steps=None, **kwargs)
    expert = env.expert("failure")
    expert.reset(np.random.default_rng(0))
    expert.how, expert.height, expert.along, expert.contact_offset, expert.speed = how, kind, 0.0, 0.0, 0.6
    obs, info = env.reset(seed=0)
    margins = [info["margin"]]
    for _ in range(110):
        obs, *_, info = env.step(expert.act(obs))
        margins.append(info["margin"])
    return min(margins), obs


@pytest.mark.parametrize(("height", "how"), [(0.12, "reach"), (0.3, "reach"), (0.06, "drag")])
def test_a_solid_vase_stops_the_arm_and_a_ghost_does_not(height, how):
    through, _ = deepest(height, how)
    stopped, _ = deepest(height, how, solid=True)
    assert through < -0.15
    assert stopped > -0.05 - 0.03  # contacts are soft: a forced arm dents the surface a little


def test_a_solid_vase_stops_the_links_alone():
    env = make(solid=True)
    env.reset(seed=0)
    model = env._episode.sawyer.model
    vase = model.geom("vase")
    for geom in watched(model):
        meet = (model.geom_contype[geom] & vase.conaffinity[0]) | (vase.contype[0] & model.geom_conaffinity[geom])
        assert meet, model.geom(geom).name
    links = [geom for geom in watched(model) if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH]
    others = [i for i in range(model.ngeom) if i != vase.id]
    stock = make()._episode.sawyer.model
    for link in links:
        for other in others:
            meets = [
                bool(
                    (m.geom_contype[link] & m.geom_conaffinity[other])
                    | (m.geom_contype[other] & m.geom_conaffinity[link])
                )
                for m in (model, stock)
            ]
            assert meets[0] == meets[1]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start_range": "wide"}, "narrow, full"),
        ({"clearance": -0.01}, "clearance is -0.01"),
        ({"clearance": float("nan")}, "clearance is nan"),
        ({"clearance": "near"}, "clearance is 'near'"),
        ({"clearance": "0.03"}, "clearance is '0.03'"),
        ({"clearance": False}, "clearance is False"),
        ({"clearance": 0.25}, "leaves no room"),
        ({"clearance": 0.2, "randomize_hazard": True}, "leaves no room"),
        ({"clearance": 0.13, "start_range": "full"}, "leaves no room"),
        ({"solid": 1}, "solid is 1"),
        ({"randomize_hazard": "yes"}, "randomize_hazard is 'yes'"),
    ],
)
def test_a_bad_argument_is_refused_by_name(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(OBSTRUCTED_PUSH, **kwargs)


@pytest.mark.parametrize("task_id", [OBSTRUCTED_PUSH, HARD])
def test_gymnasium_accepts_it_and_episodes_take_eighty_steps(task_id):
    env = gymnasium.make(task_id)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.spec.max_episode_steps == 80
    assert failurebench.make_vec(task_id, 1).protocol.max_episode_steps == 80
    envs = gymnasium.make_vec(task_id, 2, vectorization_mode="vector_entry_point")
    envs.reset(seed=0)
    for step in range(1, 81):
        *_, truncated, _ = envs.step(np.zeros((2, 4), np.float32))
        assert truncated.all() == (step == 80)


def test_failure_can_terminate():
    *_, last = roll(make(), "failure", 1, 30)
    assert last[-1]["failed"]
    steps = []
    for _, _, terminated, truncated, info in roll(make(terminate_on_failure=True), "failure", 1, 30):
        steps.append((terminated, info["failure"], truncated))
        if terminated:
            break
    assert steps[-1] == (True, True, False)
    assert not any(terminated or failure for terminated, failure, _ in steps[:-1])


def test_a_vector_of_episodes_is_the_single_ones():
    count, kwargs = 3, {"randomize_hazard": True, "max_episode_steps": 25}
    ours = failurebench.make_vec(OBSTRUCTED_PUSH, count, **kwargs)
    singles = SyncVectorEnv(
        [lambda: gymnasium.make(OBSTRUCTED_PUSH, **kwargs)] * count, autoreset_mode=AutoresetMode.SAME_STEP
    )
    np.testing.assert_array_equal(ours.reset(seed=4)[0], singles.reset(seed=4)[0])
    rng = np.random.default_rng(0)
    for _ in range(60):  # into the third episode: every vase has moved twice
        actions = rng.uniform(-1, 1, (count, 4)).astype(np.float32)
        obs, reward, terminated, truncated, info = ours.step(actions)
        other, other_reward, other_terminated, other_truncated, other_info = singles.step(actions)
        np.testing.assert_array_equal(obs, other)
        np.testing.assert_array_equal(reward, other_reward)
        np.testing.assert_array_equal(terminated, other_terminated)
        np.testing.assert_array_equal(truncated, other_truncated)
        np.testing.assert_array_equal(info["margin"], other_info["margin"])


def outcomes(task_id, kind, episodes=12, **kwargs):
    """Whether each episode succeeded, and failed, within the horizon."""
    found = []
    for seed in range(episodes):
        success = failed = False
        for *_, truncated, info in roll(make(task_id, **kwargs), kind, seed, 80):
            success, failed = info["success"], info["failed"]
            if truncated:
                break
        found.append((success, failed))
    return np.array(found).T


@pytest.mark.parametrize(
    ("task_id", "kwargs"),
    [(OBSTRUCTED_PUSH, {}), (HARD, {}), (OBSTRUCTED_PUSH, {"start_range": "full"}), (HARD, {"randomize_hazard": True})],
)
def test_the_task_expert_succeeds_without_failing(task_id, kwargs):
    success, failed = outcomes(task_id, "task", **kwargs)
    assert success.all()
    assert not failed.any()


def test_the_pusher_mostly_succeeds_and_sometimes_fails():
    success, failed = outcomes(OBSTRUCTED_PUSH, "pusher", 24)
    assert success.mean() > 0.75
    assert 0.05 < failed.mean() < 0.6


def test_the_failure_expert_fails_in_each_of_its_ways():
    _, failed = outcomes(OBSTRUCTED_PUSH, "failure", 24)
    assert failed.mean() > 0.9


@pytest.mark.parametrize("kind", ["pusher", "failure"])
def test_recovery_saves_what_is_three_steps_from_failing(kind):
    env = make(stop_on_success=False, max_episode_steps=None)
    lead, saved, held = 3, [], []
    for seed in range(40):
        env.reset(seed=seed)
        states = [env.get_state()]
        for *_, info in roll(env, kind, seed, 80):
            if info["failure"]:
                break
            states.append(env.get_state())
        if info["failure"]:
            saved.append(safe_after(env, states[-lead], env.expert("recovery")))
            held.append(safe_after(env, states[-lead], None))
        if len(saved) == 10:
            break
    assert len(saved) == 10
    assert np.mean(saved) >= 0.9
    assert np.mean(held) < np.mean(saved)


def safe_after(env, state, expert):
    """Whether thirty steps of an expert, or of standing still, go without a failure."""
    env.set_state(state)
    if expert is not None:
        expert.reset(np.random.default_rng(0))
    obs = env.observation()
    for _ in range(30):
        action = np.array([0, 0, 0, 1], np.float32) if expert is None else expert.act(obs)
        obs, *_, info = env.step(action)
        if info["failure"]:
            return False
    return True
