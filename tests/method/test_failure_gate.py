"""The gate under a policy of any library: it decides as the router does, and changes nothing else."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from farl import FailureGate, VectorFailureGate
from farl.algorithms.gate import Gate, GateConfig
from farl.algorithms.router import Router
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.offline.critics import model_critic
from method import cliff

ID = cliff.TASK.id
PAGE = Path(__file__).parents[2] / "docs" / "failure_gate.md"
NEVER, ALWAYS = GateConfig(threshold=float("inf")), GateConfig(threshold=0.0, max_dwell=7, cooldown=3)
KEYS = {"proposed_action", "executed_action", "risk", "gated"}


def play(env, steps: int, act=None):
    """Observations, rewards, ends and infos of ``steps`` steps of whoever ``act`` is, from seed 0 on."""
    rng = np.random.default_rng(1)
    obs, info = env.reset(seed=0)
    rows = [(obs, 0.0, False, False, info)]
    for _ in range(steps):
        action = rng.uniform(-1, 1, 2).astype(np.float32) if act is None else act(obs)
        obs, *rest = env.step(action)
        rows.append((obs, *rest))
        if rest[1] or rest[2]:
            obs, _ = env.reset()
    return rows


def hasty(obs):
    """Straight to the goal, over the cliff."""
    return np.clip(2 * obs[4:6] - 0.5 * obs[2:4], -1, 1).astype(np.float32)


# ---- what it does


def test_with_an_infinite_threshold_nothing_changes(bundle):
    bare, gated = play(gymnasium.make(ID), 150), play(FailureGate(gymnasium.make(ID), bundle, gate=NEVER), 150)
    for (obs, *rest, info), (same, *others, more) in zip(bare, gated, strict=True):
        assert np.array_equal(obs, same)
        assert rest == others
        assert {key: more[key] for key in info} == info
        assert not more["gated"]
        assert np.array_equal(more["proposed_action"], more["executed_action"])


def test_with_a_threshold_of_zero_recovery_acts_whenever_the_caps_let_it(bundle):
    env = FailureGate(gymnasium.make(ID), bundle, gate=ALWAYS)
    gated = [info["gated"] for *_, info in play(env, 55)[1:]]
    assert gated == [step % 10 < 7 for step in range(55)]


def test_it_decides_as_the_router_does(bundle):
    def foreign(obs):
        assert obs.dtype == np.float32
        return np.stack([hasty(row) for row in obs])

    class Foreign(torch.nn.Module):
        normalizer = bundle.normalizer

        def of_features(self, features):
            return torch.from_numpy(foreign(self.normalizer.inverse(features[:, :6]).numpy()))

    for policy, follower in ((None, bundle.policy), (foreign, Foreign())):
        env = FailureGate(gymnasium.make(ID), bundle, policy)
        rows = play(env, 150, hasty)
        calibration = bundle.calibration
        critic = model_critic(bundle, follower)
        router = Router(bundle.recovery, critic, Gate(GateConfig(), calibration.threshold, 1))
        obs = rows[0][0]
        for following, _, terminated, truncated, info in rows[1:]:
            proposed = torch.from_numpy(hasty(obs))[None]
            decision = router.decide(torch.from_numpy(obs)[None], proposed)
            assert info["risk"] == decision.risk.item()
            assert info["gated"] == decision.gated.item()
            executed = decision.executed.clamp(-1, 1) if info["gated"] else proposed
            assert np.array_equal(info["executed_action"], executed[0].numpy())
            obs = following
            if terminated or truncated:
                break
        assert any(info["gated"] for *_, info in rows)


def test_the_look_ahead_follows_the_given_policy(bundle):
    risks = {}
    for name, push in (("left", -1.0), ("right", 1.0)):
        env = FailureGate(gymnasium.make(ID), bundle, lambda obs, push=push: np.full((len(obs), 2), push), gate=NEVER)
        risks[name] = max(info["risk"] for *_, info in play(env, 20, lambda obs: np.array([0.5, 0.0], np.float32)))
    assert risks["left"] < risks["right"]


def test_it_keeps_a_hasty_policy_from_failing(bundle):
    def failures(gate):
        env = FailureGate(gymnasium.make(ID), bundle, gate=gate)
        return sum(info["failure_onset"] for *_, info in play(env, 600, hasty))

    assert failures(None) < 0.5 * failures(NEVER)


def test_another_method_brings_its_critic_its_recovery_and_its_gate(bundle):
    still = FailureGate(gymnasium.make(ID), bundle, method="gate-hold", gate=ALWAYS)
    assert all(not info["executed_action"].any() for *_, info in play(still, 10) if info["gated"])
    simple = FailureGate(gymnasium.make(ID), bundle, method="simple-critic")
    assert simple.router.gate.threshold == bundle.calibrations["q_risk"].threshold
    for name in ("farl-paper", "mppi", "random-gate", "oracle-gate"):
        env = FailureGate(gymnasium.make(ID), bundle, lambda obs: np.zeros((len(obs), 2)), method=name)
        assert len(play(env, 10)) == 11


def test_the_threshold_is_the_calibrated_one_unless_another_is_given(bundle, bundle_folder):
    env = gymnasium.make(ID)
    assert FailureGate(env, str(bundle_folder)).router.gate.threshold == bundle.calibration.threshold
    assert FailureGate(env, bundle_folder, gate=GateConfig(threshold=0.7)).router.gate.threshold == 0.7


# ---- what it tells


def test_info_has_the_same_keys_and_types_after_reset_and_every_step(bundle):
    bare = {key: type(value) for key, value in play(gymnasium.make(ID), 1)[0][-1].items()}
    ours = {"proposed_action": np.ndarray, "executed_action": np.ndarray, "risk": float, "gated": bool}
    for *_, info in play(FailureGate(gymnasium.make(ID), bundle), 20):
        assert {key: type(value) for key, value in info.items()} == {**bare, **ours}
        assert info["proposed_action"].shape == info["executed_action"].shape == (2,)


def test_a_new_episode_forgets_the_last_one(bundle):
    env = FailureGate(gymnasium.make(ID), bundle, gate=ALWAYS)
    play(env, 8)
    assert env.router.gate.cap_hits.item() == 1
    _, info = env.reset()
    assert env.router.gate.cap_hits.item() == env.router.gate.dwell.item() == env.router.gate.cooling.item() == 0
    assert not info["gated"]
    assert info["risk"] == 0


def test_a_seed_decides_an_episode_chance_included(bundle):
    env = FailureGate(gymnasium.make(ID), bundle, method="random-gate")
    first, second = ([info["gated"] for *_, info in play(env, 50)] for _ in range(2))
    assert first == second
    assert any(first)


# ---- what is not known to be safe


@pytest.mark.parametrize("action", [np.array([np.nan, 0.0], np.float32), np.array([np.inf, 0.0]), [0.0, -np.inf]])
@pytest.mark.parametrize("method", ["farl", "oracle-gate"])
def test_recovery_acts_where_the_action_is_no_number(bundle, action, method):
    env = FailureGate(gymnasium.make(ID), bundle, method=method, gate=NEVER)
    env.reset(seed=0)
    for _ in range(30):  # past the cap
        with pytest.warns(UserWarning, match="not a number, so recovery acts"):
            obs, *_, info = env.step(action)
        assert info["gated"]
        assert np.isnan(info["risk"])
        assert np.isfinite(info["executed_action"]).all()
        assert np.isfinite(obs).all()


def test_recovery_acts_where_the_policys_answer_is_no_number(bundle):
    env = FailureGate(gymnasium.make(ID), bundle, lambda obs: np.full((len(obs), 2), np.nan), gate=NEVER)
    with pytest.warns(UserWarning, match="not a number, so recovery acts"):
        rows = play(env, 30)
    assert all(info["gated"] for *_, info in rows[1:])


# ---- what it refuses


def refused(match: str, *arguments, **keywords) -> None:
    """One message in one paragraph."""
    with pytest.raises(UserError, match=match) as caught:
        FailureGate(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_a_bundle_that_does_not_fit(bundle, tmp_path):
    env = gymnasium.make(ID)
    refused("no bundle in .*nowhere", env, tmp_path / "nowhere")
    elsewhere = replace(bundle, task=TaskConfig("failurebench:FailureBench/BoundedPush-v0"))
    refused("made for FailureBench/BoundedPush-v0, not for FailureBench/PointMassCliff-v0", env, elsewhere)
    uncalibrated = replace(bundle, calibration=None, calibrations={})
    refused(r"not calibrated.*gate=GateConfig\(threshold", env, uncalibrated)
    refused(r"no calibration of q_risk.*gate=GateConfig\(threshold", env, uncalibrated, method="simple-critic")
    refused("has no Q-risk", env, replace(bundle, q_risk=None), method="simple-critic")
    FailureGate(env, uncalibrated, gate=NEVER)


def test_an_environment_that_does_not_fit(bundle):
    env = gymnasium.make(ID)
    stacked = gymnasium.wrappers.FrameStackObservation(env, 2)
    refused(r"observations are a Box of shape \(2, 6\), the bundle's a Box of shape \(6,\)", stacked, bundle)
    named = gymnasium.wrappers.TransformObservation(
        env, lambda obs: {"x": obs}, gymnasium.spaces.Dict(x=env.observation_space)
    )
    refused(r"observations are a Dict of shape None", named, bundle)
    refused(r"action bounds .* RescaleAction", gymnasium.wrappers.RescaleAction(env, -2, 2), bundle)
    with pytest.raises(TypeError, match="use VectorFailureGate"):
        FailureGate(SyncVectorEnv([lambda: gymnasium.make(ID)]), bundle)


def test_a_method_that_does_not_fit(bundle):
    refused("method 'uni-o4' has no gate; those that have one are farl, ", gymnasium.make(ID), bundle, method="uni-o4")
    refused("unknown method 'fral'; perhaps you meant 'farl'", gymnasium.make(ID), bundle, method="fral")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (np.zeros(2), r"numbers in shape \(1, 2\), not float64 in shape \(2,\)"),
        (np.zeros((1, 3)), r"numbers in shape \(1, 2\), not float64 in shape \(1, 3\)"),
        ((np.zeros((1, 2)), None), r"numbers in shape \(1, 2\), not such a tuple"),  # model.predict without its [0]
        (None, r"numbers in shape \(1, 2\), not object in shape \(\)"),
    ],
)
def test_a_policy_that_answers_something_else(bundle, answer, complaint):
    env = FailureGate(gymnasium.make(ID), bundle, lambda obs: answer)
    env.reset(seed=0)
    with pytest.raises(UserError, match=f"policy must return {complaint}"):
        env.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("action", [np.zeros(3), np.zeros((1, 2)), 0.5, "left", None, [[0.0], 1.0]])
def test_an_action_of_another_shape(bundle, action):
    env = FailureGate(gymnasium.make(ID), bundle)
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"a step takes .*shape \(2,\), not "):
        env.step(action)


def test_a_step_before_the_first_reset(bundle):
    with pytest.raises(ResetNeeded):
        FailureGate(gymnasium.make(ID), bundle).step(np.zeros(2, np.float32))


# ---- as a Gymnasium environment


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped:UserWarning")
def test_gymnasiums_checker_is_content(bundle_folder, recwarn):
    check_env(FailureGate(gymnasium.make(ID), bundle_folder))
    # What a collected socket of another test says here is not the checker's complaint.
    complaints = [str(warning.message) for warning in recwarn if warning.category is not ResourceWarning]
    assert not [complaint for complaint in complaints if "different from the unwrapped" not in complaint]


def test_its_spec_makes_it_again(bundle_folder):
    again = gymnasium.make(FailureGate(gymnasium.make(ID), bundle_folder, gate=ALWAYS).spec)
    assert isinstance(again, FailureGate)
    assert again.router.gate.config == ALWAYS


def still(obs):
    return np.zeros((len(obs), 2))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("policy", [None, still])
def test_a_copy_goes_on_alike_and_on_its_own(bundle, copied, policy):
    env = FailureGate(gymnasium.make(ID), bundle, policy, gate=ALWAYS)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(2, np.float32))
    twin = copied(env)

    def rest(one):
        return [one.step(np.full(2, 0.1, np.float32)) for _ in range(20)]

    for (obs, *_, info), (same, *_, other) in zip(rest(env), rest(twin), strict=True):
        assert np.array_equal(obs, same)
        assert (info["risk"], info["gated"]) == (other["risk"], other["gated"])


# ---- vectors


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_row_of_a_vector_is_gated_as_if_it_were_alone(bundle, mode):
    lengths, config = (9, 14, 60), GateConfig(threshold=0.0, max_dwell=6, cooldown=3)
    makers = [lambda n=n: gymnasium.make(ID, max_episode_steps=n) for n in lengths]
    envs = VectorFailureGate(SyncVectorEnv(makers, autoreset_mode=mode), bundle, gate=config)
    obs, infos = envs.reset(seed=0)
    assert infos.keys() >= KEYS
    ages, ended = np.zeros(3, int), np.zeros(3, bool)
    for _ in range(50):
        if mode == AutoresetMode.DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended.copy()})
            ages[ended] = 0
        resetting = ended if mode == AutoresetMode.NEXT_STEP else np.zeros(3, bool)
        obs, _, terminated, truncated, infos = envs.step(np.full((3, 2), 0.1, np.float32))
        assert infos["gated"].tolist() == [
            bool(age % 9 < 6 and not spent) for age, spent in zip(ages, resetting, strict=True)
        ]
        assert infos["executed_action"].shape == (3, 2)
        ages = np.where(resetting, 0, ages + 1)
        ended = (terminated | truncated) & ~resetting
        if mode == AutoresetMode.SAME_STEP:
            ages[ended] = 0
    assert obs.shape == (3, 6)


def test_a_vector_that_does_not_say_when_it_resets(bundle):
    envs = SyncVectorEnv([lambda: gymnasium.make(ID)])
    envs.metadata = {}
    with pytest.raises(UserError, match="does not say when it resets"):
        VectorFailureGate(envs, bundle)


# ---- Stable-Baselines3


def example(bundle_folder: Path, number: int) -> str:
    """A block of the page, on the point mass and for less long."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[number]
    for old, new in (
        ("failurebench:FailureBench/BoundedPush-v0", ID),
        ("bundles/bounded-push", str(bundle_folder)),
        ("100_000", "384"),
        ("n_steps=512", "n_steps=64"),
    ):
        code = code.replace(old, new)
    return code


def test_ppo_trains_through_it_as_on_the_page(bundle_folder):
    pytest.importorskip("stable_baselines3", reason="make extras installs Stable-Baselines3 and runs this")
    scope: dict = {}
    exec(example(bundle_folder, 0), scope)  # the page's example is the test
    assert scope["model"].num_timesteps >= 384
    assert all(np.isfinite(parameter.detach().numpy()).all() for parameter in scope["model"].policy.parameters())
    assert 0 < scope["watch"].gated < scope["model"].num_timesteps


def test_sac_trains_through_it_and_can_be_told_what_was_executed(bundle_folder):
    pytest.importorskip("stable_baselines3", reason="make extras installs Stable-Baselines3 and runs this")
    scope: dict = {}
    exec(example(bundle_folder, 0).partition("\nmodel = ")[0], scope)
    exec(example(bundle_folder, 1), scope)
    assert scope["model"].num_timesteps >= 384
    buffer = scope["model"].replay_buffer
    pushes, before, after = (
        rows[: buffer.pos].reshape(-1, rows.shape[-1])
        for rows in (buffer.actions, buffer.observations[..., 2:4], buffer.next_observations[..., 2:4])
    )
    assert np.allclose(after, 0.9 * before + 0.2 * pushes, atol=1e-4)  # each velocity follows from the action beside it
