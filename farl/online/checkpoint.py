"""Checkpoints: everything a run needs to continue, written atomically, verified when read."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from farl.errors import UserError
from farl.files import write_bytes

_MAGIC = b"farl checkpoint 1\n"


class Component(Protocol):
    """A part of a run that must continue where it was."""

    def state_dict(self) -> dict[str, Any]:
        """All of it that cannot be made again: tensors, arrays, numbers, text, and lists and dictionaries of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` gave; an entry that is not there is a KeyError."""
        ...


def gather(components: Mapping[str, Component]) -> dict[str, Any]:
    """The state of every component, by name."""
    return {name: component.state_dict() for name, component in components.items()}


def restore(state: Mapping[str, Any], components: Mapping[str, Component]) -> None:
    """Put every component into its state.

    Raises UserError where the state lacks a component, one lacks an entry, or there is one that nobody here would take: to go on
    without it would be another run than the one that was stopped.
    """
    lacking, foreign = components.keys() - state.keys(), state.keys() - components.keys()
    if lacking or foreign:
        what = [f"it lacks {name}" for name in sorted(lacking)] + [f"nothing here takes its {n}" for n in sorted(foreign)]
        raise UserError(f"{'; '.join(what)}. {_OTHER_VERSION}")
    for name, component in components.items():
        try:
            component.load_state_dict(state[name])
        except KeyError as error:
            raise UserError(f"its {name} lacks {error.args[0]}. {_OTHER_VERSION}") from error


_OTHER_VERSION = (
    "This checkpoint was written by another version, which alone can continue the run; use that one, or another --out. Nothing was "
    "changed."
)


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write ``step-N.ckpt``, and only then drop all but the newest ``keep`` up to it.

    Those of later steps go too: they are damaged, or of a course that the run was wound back from.
    """
    buffer = io.BytesIO()
    torch.save(to_tensors(state), buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode() + b"\n"
    path = folder / f"step-{step:012d}.ckpt"
    write_bytes(path, _MAGIC + digest + content)
    kept = [other for other in _all(folder) if other <= path][-keep:]
    for other in _all(folder):
        if other not in kept:
            other.unlink(missing_ok=True)
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
    try:
        state: dict[str, Any] = from_tensors(torch.load(io.BytesIO(content[header:]), weights_only=True))
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} cannot be read by this version of torch ({error}).") from error
    return state


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"))


def to_tensors(value: Any) -> Any:
    """NumPy arrays as marked tensors, because only tensors and plain values are read back without running code."""
    if isinstance(value, np.ndarray):
        return {"__numpy__": torch.from_numpy(np.ascontiguousarray(value)).clone()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: to_tensors(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tensors(inner) for inner in value]
    return value


def from_tensors(value: Any) -> Any:
    """What ``to_tensors`` was given, but that tuples are lists."""
    if isinstance(value, dict):
        if set(value) == {"__numpy__"}:
            return value["__numpy__"].numpy()
        return {key: from_tensors(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [from_tensors(inner) for inner in value]
    return value
