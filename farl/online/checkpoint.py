"""Checkpoints: everything a run needs to continue, written atomically, verified when read."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farl.errors import UserError
from farl.files import write_bytes

KEEP = 2
_MAGIC = b"farl checkpoint 1\n"


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``step-N.ckpt`` and drop all but the newest ``KEEP``."""
    buffer = io.BytesIO()
    torch.save(_to_tensors(state), buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode() + b"\n"
    path = folder / f"step-{step:012d}.ckpt"
    write_bytes(path, _MAGIC + digest + content)
    for old in _all(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest intact checkpoint, or None if there is none; a damaged one is passed over with a word.

    Raises UserError if there are checkpoints but all of them are damaged.
    """
    paths = _all(folder)
    for path in reversed(paths):
        try:
            return load(path)
        except UserError as error:
            print(f"{error} Falling back to the one before.")
    if paths:
        raise UserError(f"every checkpoint in {folder} is damaged; delete the run directory to start over")
    return None


def load(path: Path) -> dict[str, Any]:
    """Read one checkpoint; raises UserError if it is missing, foreign or damaged."""
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    content = path.read_bytes()
    header = len(_MAGIC) + 65
    if not content.startswith(_MAGIC):
        raise UserError(f"{path} is not a checkpoint of this program.")
    if hashlib.sha256(content[header:]).hexdigest().encode() != content[len(_MAGIC) : header - 1]:
        raise UserError(f"{path} is damaged (its checksum does not match).")
    state: dict[str, Any] = _from_tensors(torch.load(io.BytesIO(content[header:]), weights_only=True))
    return state


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"))


def _to_tensors(value: Any) -> Any:
    """NumPy arrays as marked tensors, because only tensors and plain values are read back without running code."""
    if isinstance(value, np.ndarray):
        return {"__numpy__": torch.from_numpy(np.ascontiguousarray(value)).clone()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _to_tensors(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_tensors(inner) for inner in value]
    return value


def _from_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__numpy__"}:
            return value["__numpy__"].numpy()
        return {key: _from_tensors(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from_tensors(inner) for inner in value]
    return value
