"""Stable-Baselines3 trains on an id as it comes, and failures are counted right under its vector environments."""

from __future__ import annotations

import numpy as np
import pytest

import failurebench  # noqa: F401  (registers the ids, also in the processes)
from failurebench.wrappers import RecordFailures
from tests.failurebench.conftest import HARD

pytest.importorskip("stable_baselines3", reason="make extras installs Stable-Baselines3 and runs this")

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

ID = f"failurebench:{HARD}"


class Ledger:
    """Episodes and failures, from what Stable-Baselines3 hands to its users."""

    def __init__(self, num_envs):
        self.failed, self.episodes, self.failures = np.zeros(num_envs, bool), 0, 0
        self.told = []

    def take(self, dones, infos):
        for i, (done, info) in enumerate(zip(dones, infos, strict=True)):
            self.failed[i] |= info["margin"] <= 0
            if done:
                self.episodes += 1
                self.failures += int(self.failed[i])
                self.told.append(info["episode_failures"])
                self.failed[i] = False

    def check(self, envs):
        totals = envs.get_attr("totals")
        assert sum(one.episodes for one in totals) == self.episodes == len(self.told)
        assert sum(one.failure_episodes for one in totals) == self.failures == sum(one["failed"] for one in self.told)


class Watch(BaseCallback):
    def __init__(self, ledger):
        super().__init__()
        self.ledger = ledger

    def _on_step(self):
        self.ledger.take(self.locals["dones"], self.locals["infos"])
        return True


def test_its_checker_is_content():
    check_env(make_vec_env(ID, 1).envs[0].unwrapped, warn=True, skip_render_check=True)


def test_ppo_trains_out_of_the_box():
    envs = make_vec_env(ID, n_envs=2, seed=0, env_kwargs={"max_episode_steps": 60}, wrapper_class=RecordFailures)
    model = PPO("MlpPolicy", envs, n_steps=250, batch_size=100, n_epochs=2, seed=0, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    ledger = Ledger(2)
    model.learn(2000, callback=Watch(ledger))
    assert model.num_timesteps == 2000
    assert all(np.isfinite(parameter.detach().numpy()).all() for parameter in model.policy.parameters())
    assert any((old != new).any() for old, new in zip(before, model.policy.parameters(), strict=True))
    assert ledger.episodes >= 2000 // 60 - 2
    ledger.check(envs)
    obs = envs.reset()
    action, _ = model.predict(obs, deterministic=True)
    assert action.shape == (2, 4)
    envs.close()


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_failures_are_counted_right_under_its_vector_environments(kind, terminate):
    envs = make_vec_env(
        ID,
        n_envs=2,
        seed=0,
        env_kwargs={"max_episode_steps": 70, "terminate_on_failure": terminate},
        wrapper_class=RecordFailures,
        vec_env_cls=kind,
    )
    try:
        experts = [envs.env_method("expert", who, indices=[0])[0] for who in ("failure", "task")]
        for seed, expert in enumerate(experts):
            expert.reset(np.random.default_rng(seed))
        obs, ledger = envs.reset(), Ledger(2)
        for _ in range(220):
            actions = np.stack([expert.act(one) for expert, one in zip(experts, obs, strict=True)])
            obs, _, dones, infos = envs.step(actions)
            ledger.take(dones, infos)
        ledger.check(envs)
        assert 2 <= ledger.failures < ledger.episodes
        assert {info["success"] for info in ledger.told} == {True, False}
    finally:
        envs.close()
