"""What an environment says about failure and success: the keys of ``info``, and that they agree with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from farl.doctor import Finding
from farl.environments import expert_view

_EPISODES = 3
"""episodes played by every expert and by random actions"""
_LONGEST = 2000
"""steps after which an episode has no end"""

_OPTIONAL = {
    "failed": "a failure at any step of this episode so far",
    "failure_onset": "True at an episode's first failing step only",
    "success": "whether the goal is reached",
    "margin": "metres to failure, negative inside it, nan where unknown",
    "cost": "float(failure), for CMDP libraries",
}
_FLAGS = ("failed", "failure_onset", "success")
_NUMBERS = ("margin", "cost")


@dataclass
class _Played:
    """One episode: the ``info`` of its reset and of every step, and how it ended."""

    infos: list[dict[str, Any]]
    terminated: bool = False
    truncated: bool = False


def labels(env: Any) -> Iterator[Finding]:
    """Check a few episodes of random actions and of each expert that is offered."""
    played = list(_episodes(env))
    breach = _failure_key(played)
    if breach is not None:
        yield breach
        return
    yield Finding('info["failure"]', "ok", "reported after reset and every step")
    yield from _keys_and_types(played)
    yield from _relations(played)
    yield from _endings(played)


def _episodes(env: Any) -> Iterator[_Played]:
    for kind in ("", *getattr(env.unwrapped, "expert_kinds", ())):
        expert = env.unwrapped.expert(kind) if kind else None
        for seed in range(_EPISODES):
            yield _play(env, expert, seed)


def _play(env: Any, expert: Any, seed: int) -> _Played:
    env.action_space.seed(seed)
    obs, info = env.reset(seed=seed)
    if expert is not None:
        expert.reset(np.random.default_rng(seed))
    episode = _Played([dict(info)])
    while len(episode.infos) <= _LONGEST and not (episode.terminated or episode.truncated):
        action = env.action_space.sample() if expert is None else expert.act(expert_view(env, obs))
        obs, _, episode.terminated, episode.truncated, info = env.step(action)
        episode.infos.append(dict(info))
    return episode


def _failure_key(played: list[_Played]) -> Finding | None:
    """The one key that is required."""
    for episode in played:
        for step, info in enumerate(episode.infos):
            place = "step" if step else "reset"
            if "failure" not in info:
                cure = f'set info["failure"] to True or False in every {place}'
                return Finding('info["failure"]', "broken", f"missing after {place}", cure)
            flag = info["failure"]
            if not isinstance(flag, (bool, np.bool_, int, np.integer)) or flag not in (0, 1):
                cure = "it must be True where a person would have to step in, else False"
                return Finding('info["failure"]', "broken", f"{flag!r} after {place}", cure)
    return None


def _keys_and_types(played: list[_Played]) -> Iterator[Finding]:
    first = played[0].infos[0]
    infos = [info for episode in played for info in episode.infos]
    differing = sorted({key for info in infos for key in info.keys() ^ first.keys()})
    if differing:
        cure = "report the same keys in reset and step: vector environments and datasets need it"
        yield Finding("info keys", "note", f"not always there: {', '.join(differing)}", cure)
    missing = [key for key in _OPTIONAL if key not in infos[-1]]
    if missing:
        cure = "optional, reports are then less detailed: " + "; ".join(f"{key}: {_OPTIONAL[key]}" for key in missing)
        yield Finding("info keys", "note", f"without {', '.join(missing)}", cure)
    if not differing and not missing:
        yield Finding("info keys", "ok", "the same after reset and step")
    for key in sorted({*first, *_OPTIONAL}):
        values = [info[key] for info in infos if key in info]
        kinds = sorted({type(value).__name__ for value in values})
        wrong = [value for value in values if not _meaningful(key, value)]
        if wrong:
            cure = "it must be a number at every step" if key in _NUMBERS else "it must be True or False at every step"
            yield Finding(f'info["{key}"]', "broken", f"{wrong[0]!r}", cure)
        elif len(kinds) > 1:
            cure = f"convert it in every place, for example with {kinds[0]}(...): Minari refuses infos of changing types"
            yield Finding(f'info["{key}"]', "note", f"sometimes {', sometimes '.join(kinds)}", cure)


def _meaningful(key: str, value: Any) -> bool:
    if key in _NUMBERS:
        return isinstance(value, float | int | np.floating | np.integer)
    return key not in _FLAGS or (np.ndim(value) == 0 and value in (0, 1))


def _relations(played: list[_Played]) -> Iterator[Finding]:
    """Keys that follow from ``failure`` do follow."""
    onset_cure = "set it where failure is True and failed was False before; never twice in an episode"
    breaches = {
        "failed": ("does not stay True after a failing step, or is True before one", "failed = failed or failure; reset clears it"),
        "failure_onset": ("is not True at an episode's first failing step alone", onset_cure),
        "cost": ("is not 1.0 where failure is True and 0.0 elsewhere", 'info["cost"] = float(info["failure"])'),
        "margin": (
            "is positive at a failing step or negative at a safe one",
            "metres to failure after the step: judge failure as margin <= 0; nan where it is not known",
        ),
    }
    for key, (found, cure) in breaches.items():
        checked = [e for e in played if all(key in info and _meaningful(key, info[key]) for info in e.infos)]
        if any(not _agrees(key, episode.infos) for episode in checked):
            yield Finding(f'info["{key}"]', "broken", found, cure)
        elif checked:
            yield Finding(f'info["{key}"]', "ok", "agrees with failure")
    steps = sum(len(episode.infos) - 1 for episode in played)
    failing = sum(bool(info["failure"]) for episode in played for info in episode.infos)
    if not failing:
        cure = "failures were never seen, so their labels are not checked: offer an expert of kind 'failure'"
        yield Finding("failures", "note", f"none in {steps} steps", cure)
    else:
        yield Finding("failures", "ok", f"{failing} failing of {steps} steps")


def _agrees(key: str, infos: list[dict[str, Any]]) -> bool:
    failed = False
    for info in infos:
        failure, value = bool(info["failure"]), info[key]
        expected = {"failed": failed or failure, "failure_onset": failure and not failed, "cost": float(failure)}
        if key == "margin":
            margin = float(value)
            if not math.isnan(margin) and ((failure and margin > 0) or (not failure and margin < 0)):
                return False
        elif value != expected[key]:
            return False
        failed = failed or failure
    return True


def _endings(played: list[_Played]) -> Iterator[Finding]:
    """Success and the clock truncate, failure terminates or does not end the episode."""
    found = len(played)
    for episode in played:
        last = episode.infos[-1]
        if not (episode.terminated or episode.truncated):
            cure = "register it with max_episode_steps=..., or truncate in step()"
            yield Finding("episode end", "broken", f"none within {_LONGEST} steps", cure)
            return
        if episode.terminated and not last["failure"]:
            if last.get("success"):
                cure = "return truncated=True: as a terminal state, success teaches a policy to hover beside the goal"
                yield Finding("episode end", "broken", "success terminates", cure)
            else:
                cure = "return truncated=True for a time-out; terminate only where nothing of value can follow"
                yield Finding("episode end", "note", "terminated without a failure", cure)
            return
    yield Finding("episode end", "ok", f"{found} episodes ended by truncation or failure")
