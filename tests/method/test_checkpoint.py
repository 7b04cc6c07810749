"""What a checkpoint holds: all that a run needs to continue, each part of it needed, none silently made anew."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.run_equality import CLOCKS, differences, unequal
from farl.algorithms.gate import GateConfig
from farl.algorithms.ppo import PPO, PPOConfig
from farl.algorithms.risk import RiskConfig
from farl.errors import UserError
from farl.online import checkpoint
from farl.online.run import EXTENDABLE, OnlineConfig, Session, run, train
from farl.outputs import claim
from method import cliff
from method.test_runs import run_until

SHORT = {
    "steps": 768,
    "evaluate_every": 256,
    "checkpoint_every": 2,
    "ppo": PPOConfig(warmup=1, epochs=2, batch=64, gamma=0.95),
}
"""six iterations, with checkpoints at 256, 512 and 768"""
EVERYTHING = {"method": "farl", "gate": GateConfig(miss_rate=0.6, leave=0.5, min_dwell=2, adapt=0.5, unfamiliar=0.995)}
"""a gate with every part that has a state"""


@pytest.fixture(scope="module")
def eventful(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose policy fails often and whose gate draws random numbers, so that every part of a run is in motion."""
    from farl.offline.bundle import OfflineBundle

    bundle = OfflineBundle.load(made / "bundle", cliff.TASK)
    with torch.no_grad():
        bundle.policy.net[-1].bias[1] -= 0.5
    folder = tmp_path_factory.mktemp("eventful")
    replace(bundle, risk=RiskConfig(particles=2, tail=False)).save(folder)
    return folder


@pytest.fixture(scope="module")
def half(eventful: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run stopped after its first checkpoint, in the middle of an episode."""
    config = configured(eventful, tmp_path_factory.mktemp("half") / "run")
    with pytest.MonkeyPatch.context() as patch:
        run_until(config, 400, patch)
    return config.out


@pytest.fixture
def stopped(half: Path, eventful: Path, tmp_path: Path) -> OnlineConfig:
    """A copy of it to continue."""
    config = configured(eventful, shutil.copytree(half, tmp_path / "run"))
    claim(config.out, config, EXTENDABLE).release()  # it now says where it lies
    return config


@pytest.fixture(scope="module")
def whole(eventful: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupts."""
    return run(configured(eventful, tmp_path_factory.mktemp("whole") / "run"))


def configured(bundle: Path, out: Path, **changes: Any) -> OnlineConfig:
    return cliff.online(bundle, out, **{**SHORT, **EVERYTHING, **changes})


def test_a_continued_run_is_the_whole_run_in_everything_it_leaves_behind(whole, stopped):
    run(stopped)
    assert differences(whole, stopped.out) == []
    assert sum(line["gated_steps"] for line in cliff.lines(whole, "episodes")) > 20
    assert cliff.lines(whole, "failures")


PARTS = [
    "actor.explore",
    "actor.router.gate.dwell",
    "actor.router.gate.threshold",
    "actor.router.generator",
    "actor.router.known",
    "actor.ledger.episodes",
    "actor.ledger.recent",
    "actor.ledger.reliability",
    "actor.begun",
    "actor.steps",
    "actor.policy_version",
    "actor.obs",
    "actor.records",
    "actor.environments",
    "learner.policy",
    "learner.value",
    "learner.policy_optimizer",
    "learner.value_optimizer",
    "learner.generator",
    "learner.iteration",
    "recorder.next_clip",
    "recorder.failures",
    "session.evaluated_at",
    "adaptation.level",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_run_that_loses_one_part_of_its_checkpoint_becomes_another(part, stopped, whole, tmp_path, monkeypatch):
    """That the equality above would show any of them missing: here each in turn begins anew."""
    *path, last = part.split(".")
    fresh = checkpoint.gather(Session(replace(stopped, out=tmp_path / "fresh")).components)
    load = checkpoint.load_latest

    def without(folder: Path) -> dict[str, Any]:
        state = load(folder)
        inner, new = state, fresh
        for name in path:
            inner, new = inner[name], new[name]
        assert next(unequal(checkpoint.to_tensors(inner[last]), checkpoint.to_tensors(new[last])), None) is not None
        inner[last] = copy.deepcopy(new[last])
        return state

    monkeypatch.setattr(checkpoint, "load_latest", without)
    try:
        run(stopped)
    except (UserError, AssertionError):
        return  # better still: it notices by itself
    monkeypatch.setattr(checkpoint, "load_latest", load)
    assert differences(whole, stopped.out)


def values(thing: Any, place: str, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Every number, text, array and random state that can be reached from an object of ours, with its place."""
    if isinstance(thing, (str, int, float, bool, type(None), np.generic)):
        yield place, thing
        return
    if isinstance(thing, torch.Generator):
        yield place, thing.get_state().numpy().tobytes()
        return
    if isinstance(thing, (torch.Tensor, np.ndarray)):
        array = thing.detach().numpy() if isinstance(thing, torch.Tensor) else thing
        yield place, (array.dtype.str, array.shape, array.tobytes() if array.dtype != object else repr(array.tolist()))
        return
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept alive: the number of an object that is gone may be given to another
    if isinstance(thing, (nn.Module, torch.optim.Optimizer)):
        yield from values(thing.state_dict(), place, seen)
    elif isinstance(thing, dict):
        for key in thing:
            yield from values(thing[key], f"{place}.{key}", seen)
    elif isinstance(thing, (list, tuple, deque)):
        for index, inner in enumerate(thing):
            yield from values(inner, f"{place}[{index}]", seen)
    elif type(thing).__module__.partition(".")[0] in ("farl", "failurebench"):
        yield from values(vars(thing), place, seen)


REMADE = ("config", "bundle", "claim", "progress", "watchdog", "_files", "_board", "_from_step", "started")
"""names of what a run makes itself again: settings, open files"""
SCRATCH = ("._distrusting.unfamiliar", "_advantage", "cost.advantage", "cost.returns", "cost.counted", "cost._x")
"""what is computed anew before it is read"""


@pytest.mark.parametrize(
    "method", ["farl", "uni-o4", "ppo-lag", "p3o", "mppi", "oracle-gate-noisy", "random-gate", "simple-critic"]
)
def test_nothing_that_a_session_knows_is_lost(method, made, tmp_path):
    """Every value reachable from the session that saved is the same in the one that continues, but for clocks."""
    changes = {"method": method} if method != "farl" else EVERYTHING
    config = cliff.online(
        made / "bundle", tmp_path / "run", **{**SHORT, "steps": 512, "evaluation_episodes": 0, **changes}
    )
    with Session(config) as before:
        train(before, 512)
        known = dict(values(dict(before.components), "", {}))
    with Session(replace(config, steps=1024)) as after:
        found = dict(values(dict(after.components), "", {}))
    differing = {
        place for place in known.keys() | found.keys() if known.get(place, "absent") != found.get(place, "absent")
    }
    relevant = {place for place in differing if not any(name in place.replace("[", ".").split(".") for name in REMADE)}
    assert {place for place in relevant if not place.endswith(SCRATCH) and "seconds" not in place} == set()


def test_no_random_number_comes_from_a_generator_that_is_not_saved(eventful, whole, tmp_path, monkeypatch):
    """Reseeding the global generators at every update changes nothing."""
    update = PPO.update

    def reseeded(self, rollout, done):
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(self.iteration + 77)
        return update(self, rollout, done)

    monkeypatch.setattr(PPO, "update", reseeded)
    out = run(configured(eventful, tmp_path / "run"))
    assert differences(whole, out) == []


def rewritten(config: OnlineConfig, change: Any) -> None:
    """The newest checkpoint, with a change to its content and a checksum that fits."""
    path = max((config.out / "checkpoints").glob("*.ckpt"))
    state = checkpoint.load(path)
    change(state)
    checkpoint.save(path.parent, int(path.stem.removeprefix("step-")), state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("guard"), "it lacks guard"),
        (lambda state: state.update(foresight={}), "nothing here takes its foresight"),
        (lambda state: state["actor"]["router"].pop("generator"), "its actor lacks generator"),
        (lambda state: state["learner"].pop("value_optimizer"), "its learner lacks value_optimizer"),
        (lambda state: state["recorder"]["lines"].pop("failures"), "its recorder lacks failures"),
        (lambda state: state["actor"]["ledger"].pop("reliability"), "its actor lacks reliability"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused_and_nothing_is_changed(stopped, change, said):
    rewritten(stopped, change)
    before = cliff.contents(stopped.out)
    with pytest.raises(UserError, match=said) as caught:
        run(stopped)
    assert "\n" not in str(caught.value)
    after = cliff.contents(stopped.out)
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_the_newest_of_a_chosen_number_are_kept(eventful, tmp_path):
    out = run(configured(eventful, tmp_path / "run", checkpoint_every=1, checkpoints_kept=3))
    assert [path.stem for path in sorted((out / "checkpoints").iterdir())] == [
        f"step-{n:012d}" for n in (512, 640, 768)
    ]


def test_a_damaged_checkpoint_does_not_outlive_the_next_one(tmp_path):
    """By its step it would count as the newest for ever, and push out those that are whole."""
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": {"value": step}}, keep=3)
    (tmp_path / "step-000000000003.ckpt").write_bytes(b"damaged")
    checkpoint.save(tmp_path, 2, {"step": {"value": 20}})
    assert sorted(path.stem[-1] for path in tmp_path.iterdir()) == ["1", "2"]
    assert checkpoint.load_latest(tmp_path) == {"step": {"value": 20}}


def test_how_often_to_save_and_how_many_to_keep_may_change_when_a_run_is_continued(stopped, whole):
    run(replace(stopped, checkpoint_every=1, checkpoints_kept=1))
    assert differences(whole, stopped.out) == []


def test_lines_that_are_gone_are_noticed_before_anything_is_changed(stopped):
    path = stopped.out / "metrics.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    before = cliff.contents(stopped.out)
    with pytest.raises(UserError, match=r"metrics\.jsonl holds 1 lines and the checkpoint of step 256 counts 2"):
        run(stopped)
    after = cliff.contents(stopped.out)
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_clips_of_episodes_that_will_be_played_again_are_dropped(stopped):
    counted = checkpoint.load_latest(stopped.out / "checkpoints")["recorder"]["lines"]["episodes"]
    clips = stopped.out / "clips"
    clips.mkdir(exist_ok=True)
    for episode in (counted - 1, counted):
        (clips / f"{episode}.npz").write_bytes(b"a clip")
    with Session(stopped):
        assert (clips / f"{counted - 1}.npz").exists()
        assert not (clips / f"{counted}.npz").exists()


def test_a_checkpoints_cost_is_in_the_metrics(whole):
    seconds = [json.loads(line)["checkpoint_s"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert seconds[0] == 0 < seconds[-1]
    assert seconds == sorted(seconds)
    assert "checkpoint_s" in CLOCKS
