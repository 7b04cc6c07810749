"""Failing episodes that a run kept: what was done, and who acted, up to the first failure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.errors import UserError
from farl.files import read_jsonl
from farl.online.accounting import lead_of
from farl.online.recorder import decode_floats


@dataclass(frozen=True)
class KeptFailure:
    """A failing episode that can be played again; ``T`` steps, the last of which is the first that violated."""

    episode: int
    seed: int
    actions: NDArray[np.float32]
    """``[T, act]``, as executed"""
    gated: tuple[bool, ...]

    @property
    def onset(self) -> int:
        """Index of the first violating step."""
        return len(self.actions) - 1

    @property
    def lead(self) -> int | None:
        """Agent steps from recovery's last takeover to the failure; None where it did not act within the look-back."""
        return lead_of(list(self.gated))


def kept_failures(run: Path) -> dict[int, KeptFailure]:
    """Failing episodes by number, from ``failures.jsonl`` and, of runs older than that file, from their clips.

    Raises UserError if a file cannot be read.
    """
    clips = [_from_clip(path) for path in sorted(run.glob("clips/*.npz"))]
    try:
        lines = [_from_line(line) for line in read_jsonl(run / "failures.jsonl")]
    except (json.JSONDecodeError, KeyError, ValueError) as error:
        raise UserError(f"{run / 'failures.jsonl'} holds a broken line ({error}); remove that line") from error
    return {kept.episode: kept for kept in [*clips, *lines] if kept is not None}


def _from_line(line: dict[str, Any]) -> KeptFailure:
    actions = decode_floats(line["actions"], *line["shape"])
    return KeptFailure(line["episode"], line["seed"], actions, tuple(flag == "1" for flag in line["gated"]))


def _from_clip(path: Path) -> KeptFailure | None:
    try:
        with np.load(path, allow_pickle=False) as clip:
            failure, gated, actions, seed = (clip[key] for key in ("failure", "gated", "actions", "seed"))
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}); remove that file") from error
    if not failure.any():
        return None
    stop = int(failure.argmax()) + 1
    return KeptFailure(int(path.stem), int(seed), actions[:stop], tuple(gated[:stop].astype(bool).tolist()))
