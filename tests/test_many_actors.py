"""One run's episodes from several actors: the same from processes and from a cluster, whatever dies on the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from method import cliff
from test_launchers import address, nodes, prepared  # noqa: F401

from farl.algorithms.gate import GateConfig
from farl.compare import study
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.offline.bundle import OfflineBundle
from farl.online.config import OnlineConfig
from farl.online.distributed import many_actors
from farl.online.distributed.many_actors import Actors
from farl.online.distributed.seats import ProcessSeat
from farl.online.run import Session, run, train

torch.set_num_threads(1)


@pytest.fixture
def config(prepared, tmp_path) -> OnlineConfig:  # noqa: F811
    """Two actors with four environments each, behind a gate that takes over now and then."""
    bundle = study.Folders(prepared, cliff.TASK.name).bundle(0)
    return cliff.online(bundle, tmp_path / "run", method="farl", gate=GateConfig(threshold=0.02), num_envs=4, actors=2)


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory) -> Path:  # noqa: F811
    """The same run with nothing in its way."""
    bundle = study.Folders(prepared, cliff.TASK.name).bundle(0)
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return run(cliff.online(bundle, folder, method="farl", gate=GateConfig(threshold=0.02), num_envs=4, actors=2))


def same_run(one: Path, other: Path) -> None:
    for stream in ("episodes", "evaluations"):
        assert (one / f"{stream}.jsonl").read_bytes() == (other / f"{stream}.jsonl").read_bytes()
    clocks = (*cliff.CLOCKS, "checkpoint_s")
    assert cliff.lines(one, "metrics", clocks) == cliff.lines(other, "metrics", clocks)
    assert cliff.same_weights(cliff.weights(one), cliff.weights(other))


def test_no_episode_is_played_twice_and_all_are_counted_in_order(undisturbed):
    episodes = cliff.lines(undisturbed, "episodes")
    assert [line["episode"] for line in episodes] == list(range(len(episodes)))
    assert len({line["seed"] for line in episodes}) == len(episodes) > 8
    assert [line["end_step"] for line in episodes] == sorted(line["end_step"] for line in episodes)
    assert {line["env"] for line in episodes} == set(range(8))
    steps = [sum(line["length"] for line in episodes if line["env"] == env) for env in range(8)]
    last = cliff.lines(undisturbed, "metrics")[-1]
    assert last["step"] == 1024
    assert all(step <= 1024 / 8 for step in steps), "an environment has more steps in its episodes than it took"
    assert last["episodes"] == len(episodes)


def test_one_remote_actor_makes_the_run_that_one_beside_the_learner_makes(config, tmp_path):
    alone = run(dataclasses.replace(config, actors=1, out=tmp_path / "alone"))
    remote = Session(dataclasses.replace(config, actors=1, out=tmp_path / "remote"))
    seats = [ProcessSeat(tmp_path / "actor.log")]
    beside = remote.actor
    remote.actor = Actors(
        remote.config, seats, remote.policy, beside.router, remote._episode, beside.on_lost, remote.progress.say
    )
    remote.collect = lambda: remote.actor.collect(remote.config.rollout_steps)
    with remote:
        train(remote, remote.config.steps)
    same_run(alone, tmp_path / "remote")


def test_processes_and_a_cluster_make_the_same_run(config, undisturbed, address):  # noqa: F811
    same_run(undisturbed, run(dataclasses.replace(config, launcher="ray", address=address)))


def test_an_actor_that_dies_is_replaced_and_nothing_changes(config, undisturbed, monkeypatch, capsys):
    ask, asked = Actors._ask, []

    def kill(self, number, message):
        ask(self, number, message)
        asked.append(number)
        if len(asked) in (3, 8):  # the first actor in its second rollout, the second one in its fourth
            self.seats[number].process.kill()

    monkeypatch.setattr(Actors, "_ask", kill)
    same_run(undisturbed, run(config))
    assert capsys.readouterr().out.count("another one goes on where its last rollout ended") == 2


def test_a_run_that_is_interrupted_continues_with_all_its_actors(config, undisturbed, monkeypatch):
    def stop(session: Session) -> None:
        if session.actor.steps >= 640:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "save_if_due", lambda self: (Session.save(self), stop(self)))
        with pytest.raises(KeyboardInterrupt):
            run(config)
    same_run(undisturbed, run(config))


def test_where_nothing_can_be_replayed_the_open_episodes_are_named_and_counts_stay_right(
    config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the actor's process finds the toys
    ask, asked = Actors._ask, []

    def kill(self, number, message):
        ask(self, number, message)
        asked.append(number)
        if len(asked) == 4:
            self.seats[number].process.kill()

    monkeypatch.setattr(Actors, "_ask", kill)
    task = TaskConfig(id="method.toys:Toys/Stateless-v0")
    dataclasses.replace(OfflineBundle.load(config.bundle), task=task).save(tmp_path / "bundle")
    folder = run(dataclasses.replace(config, task=task, bundle=tmp_path / "bundle", out=tmp_path / "robot"))
    lost, episodes = cliff.lines(folder, "lost"), cliff.lines(folder, "episodes")
    assert [line["env"] for line in lost] == [4, 5, 6, 7]
    assert "its open episodes are lost too" in capsys.readouterr().out
    seeds = [line["seed"] for line in episodes] + [line["seed"] for line in lost if not line["failed"]]
    assert len(set(seeds)) == len(seeds), "an episode was counted twice"
    last = cliff.lines(folder, "metrics")[-1]
    assert (last["episodes"], last["step"]) == (len(episodes), 1024)
    assert sum(line["failed"] for line in episodes) == last["failures"]


def test_an_actor_that_cannot_be_kept_alive_ends_the_run_with_the_reason(config, monkeypatch):
    monkeypatch.setattr(ProcessSeat, "send", lambda self, message: self.process.kill())
    with pytest.raises(UserError, match=r"actor 0 was lost 4 times in a row .*status -9.*continues the run"):
        run(config)


def test_what_an_actor_refuses_is_said_in_its_words(config, monkeypatch):
    dump = many_actors.configuration.dump
    monkeypatch.setattr(
        many_actors.configuration, "dump", lambda config: dump(config).replace("method: farl", "method: nobody")
    )
    with pytest.raises(UserError, match=r"actor 0: .*nobody"):
        run(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"actors": 0}, "give 1 or more"), ({"address": "10.0.0.1:6379"}, "launcher is local"),
     ({"actors": 2, "gate": GateConfig(adapt=0.1, miss_rate=0.1)}, "one actor")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        OnlineConfig(**changes)


def test_more_actors_than_the_cluster_has_room_for_are_refused_at_once(config, address):  # noqa: F811
    with pytest.raises(UserError, match=r"40 actors need a CPU each, and the cluster has 2"):
        run(dataclasses.replace(config, actors=40, launcher="ray", address=address))
    assert not list(config.out.glob("*.jsonl"))
