"""What a run keeps of single episodes: the actions, the risk of every step, who acted, and when it failed."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.following.lines import Record, read_line
from farl.following.run import RunView


@dataclass(frozen=True)
class Recorded:
    """An episode of ``T`` steps; one from ``failures.jsonl`` ends with its first failing step."""

    seed: int
    actions: NDArray[np.float32]
    """``[T, act]``, as executed"""
    risk: NDArray[np.float32]
    gated: NDArray[np.bool_]
    failure: NDArray[np.bool_]
    threshold: float
    """infinite without a gate"""

    @property
    def onset(self) -> int | None:
        """Index of the first failing step, None without one."""
        return int(self.failure.argmax()) if self.failure.any() else None


def read_recorded(view: RunView, episode: int) -> Recorded | None:
    """The episode from ``clips/``, else from ``failures.jsonl``; None where neither has it or it cannot be read."""
    try:
        if episode in view.clips:
            return _from_clip(view.folder / "clips" / f"{episode}.npz")
        line = read_line(view.folder / "failures.jsonl", view.kept[episode])
        if line is None or line["episode"] != episode:   # wound back since the view was taken
            return None
        return from_line(line, view.meta.get("threshold"))
    except (OSError, KeyError, ValueError, TypeError):
        return None


def from_line(line: Record, threshold: float | None) -> Recorded:
    """A line of ``failures.jsonl``; raises KeyError, TypeError or ValueError where it is damaged."""
    steps = int(line["shape"][0])
    return Recorded(
        seed=line["seed"],
        actions=_floats(line["actions"]).reshape(line["shape"]),
        risk=_floats(line["risk"]).reshape(steps),
        gated=np.array([flag == "1" for flag in line["gated"]]),
        failure=np.arange(steps) == steps - 1,
        threshold=math.inf if threshold is None else float(threshold),
    )


def _from_clip(path: Path) -> Recorded:
    with np.load(path, allow_pickle=False) as clip:
        values: dict[str, Any] = {name: clip[name] for name in ("actions", "risk", "gated", "failure")}
        return Recorded(seed=int(clip["seed"]), threshold=float(clip["threshold"]), **values)


def _floats(text: str) -> NDArray[np.float32]:
    """Base64 of little-endian float32, as the run's recorder writes it."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)
