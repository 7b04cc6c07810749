"""What actor and learner say to each other (docs/actor_learner.md has the table), and whom they say it to."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from farl import configuration
from farl.algorithms.rollout import Rollout
from farl.offline.bundle import OfflineBundle
from farl.online.distributed import wire
from farl.online.learner import Handover

VERSION = 1
BEAT_S = 1.0
"""seconds between two signs of life"""
INDIFFERENT = {"out", "bundle", "steps", "num_envs", "mode", "link", "checkpoint_every", "checkpoints_kept"}
INDIFFERENT |= {"evaluate_every", "evaluation_episodes", "watchdog", "actors", "launcher", "address"}
"""settings of a run that the learner does not depend on"""


BEAT = wire.encode("beat", {})


def identity(config: Any, bundle: OfflineBundle) -> dict[str, Any]:
    """What both sides must agree on before a rollout crosses: this protocol, the same bundle and the same learning."""
    settings = yaml.safe_load(configuration.dump(config))
    learning = {name: value for name, value in settings.items() if name not in INDIFFERENT}
    weights = hashlib.sha256()
    for name, tensor in sorted(bundle.weights().items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    return {"protocol": VERSION, "bundle": weights.hexdigest(), "configuration": learning}


def digest(identity: dict[str, Any]) -> str:
    """A short name for an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def disagreement(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """What two identities differ in, in words; None if they are one."""
    for name in ("protocol", "bundle"):
        if ours[name] != theirs.get(name):
            return f"{name} {str(theirs.get(name))[:12]} there, {str(ours[name])[:12]} here"
    here, there = ours["configuration"], theirs.get("configuration", {})
    differing = [name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)]
    if differing:
        return "; ".join(f"{name}: {there.get(name)!r} there, {here.get(name)!r} here" for name in differing[:4])
    return None


def rollout_message(handover: Handover) -> bytes:
    """``rollout``: one iteration's steps, with the version that acted in each and its log-probabilities."""
    content = {"number": handover.number, "done": handover.done, "rollout": vars(handover.rollout)}
    return wire.encode("rollout", content)


def handover_of(content: dict[str, Any]) -> Handover:
    """What a ``rollout`` message holds; raises NotAMessage where tensors are missing or of the wrong kind."""
    try:
        handover = Handover(int(content["number"]), Rollout(**content["rollout"]), float(content["done"]))
    except (KeyError, TypeError, ValueError) as error:
        raise wire.NotAMessage(f"not a rollout ({error})") from error
    return handover
