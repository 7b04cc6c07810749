"""In what two runs differ that should be the same one: every file that matters, and every part of the last checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farl.files import read_jsonl
from farl.online import checkpoint

CLOCKS = ("wall_s", "env_s", "policy_s", "gate_s", "update_s", "checkpoint_s")
"""columns of metrics.jsonl that no two runs share"""
SECONDS = ("seconds", "update_seconds", "checkpoint_seconds")
"""entries of a checkpoint that no two runs share"""


def differences(one: Path, other: Path) -> list[str]:
    """Where the runs differ, in words; empty where they are the same."""
    found = []
    for name in ("episodes.jsonl", "evaluations.jsonl", "failures.jsonl"):
        if _content(one / name) != _content(other / name):
            found.append(f"{name} differs")
    if [*_metrics(one)] != [*_metrics(other)]:
        found.append("metrics.jsonl differs")
    clips = [{path.name: path.read_bytes() for path in run.glob("clips/*")} for run in (one, other)]
    if clips[0] != clips[1]:
        found.append("the clips differ")
    if _curves(one) != _curves(other):
        found.append("the curves differ")
    states = [checkpoint.load_latest(run / "checkpoints") for run in (one, other)]
    return found + [f"{place} of the last checkpoint differs" for place in unequal(*states)]


def unequal(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """The places of two nested states that are not equal bit for bit, clocks left out."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            if key in SECONDS:
                continue
            if key in one and key in other:
                yield from unequal(one[key], other[key], f"{place}.{key}".lstrip("."))
            else:
                yield f"{place}.{key}".lstrip(".")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from unequal(*pair, f"{place}[{index}]")
    elif not _same(one, other):
        yield place


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        one, other = one.numpy(), other.numpy()
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _metrics(run: Path) -> Iterator[dict[str, Any]]:
    for line in read_jsonl(run / "metrics.jsonl"):
        yield {key: value for key, value in line.items() if key not in CLOCKS}


def _curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point of every TensorBoard curve, as its reader shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=True)
    events.Reload()
    clocks = tuple(f"train/{name}" for name in CLOCKS)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag not in clocks
    }
