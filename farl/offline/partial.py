"""What an interrupted collection has already made: parts of sets, snapshots and the clone, kept until all is complete."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from farl.data.episode_store import read_episodes, write_episodes
from farl.errors import UserError
from farl.files import write_bytes
from farl.offline.collecting import Snapshot
from farl.types import Episode, State

FOLDER = "partial"
"""below the folder of the sets; gone when they are complete"""


@dataclass(frozen=True)
class Part:
    """Episodes that one agent contributed to a set."""

    episodes: list[Episode]
    snapshots: list[Snapshot] = field(default_factory=list)


class Partial:
    """Parts by name. Each is made once; a part whose files are there and whole is read instead."""

    def __init__(self, out: Path, attrs: Mapping[str, Any]) -> None:
        self.folder, self.attrs = out / FOLDER, attrs

    def part(self, name: str, make: Callable[[], Part]) -> Part:
        """The part ``name``, made now unless an earlier start has made it."""
        episodes, snapshots = self.folder / f"{name}.hdf5", self.folder / f"{name}.npz"
        try:
            return Part(read_episodes(episodes), _unpack(snapshots.read_bytes()))
        except (UserError, OSError, ValueError, KeyError, zipfile.BadZipFile):
            part = make()
        try:
            packed = _pack(part.snapshots)
        except TypeError:
            return part   # states of a kind of their own cannot be kept: an interruption makes this part again
        write_bytes(snapshots, packed)
        write_episodes(episodes, part.episodes, {**self.attrs, "part": name})   # last: the part is complete
        return part

    def weights(self, name: str, module: nn.Module, learn: Callable[[], None]) -> None:
        """Fill ``module`` with the weights kept under ``name``, or let ``learn`` do it and keep them."""
        path = self.folder / f"{name}.pt"
        try:
            module.load_state_dict(torch.load(path, weights_only=True))
            return
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError):
            learn()
        buffer = io.BytesIO()
        torch.save(module.state_dict(), buffer)
        write_bytes(path, buffer.getvalue())

    def remove(self) -> None:
        """The sets are written; nothing of this is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _pack(snapshots: Sequence[Snapshot]) -> bytes:
    """All snapshots in one file without pickle: arrays as they are, everything else as JSON.

    Raises TypeError for a state that holds anything but arrays, numbers and text.
    """
    arrays: dict[str, Any] = {}
    plain: list[dict[str, Any]] = []
    columns: dict[str, list[np.ndarray[Any, Any]]] = {}
    for snapshot in snapshots:
        rest: dict[str, Any] = {}
        for key, value in snapshot.state.items():
            if isinstance(value, np.ndarray) and value.dtype != object:
                columns.setdefault(_column(key, value), []).append(value)
                rest[key] = {"column": _column(key, value)}
            elif type(value) in (int, float, bool, str):
                rest[key] = value
            else:
                raise TypeError(f"a state's {key} is a {type(value).__name__}")
        plain.append({"lead": snapshot.lead, "behaviour": snapshot.behaviour, "state": rest})
    arrays = {column: np.stack(values) for column, values in columns.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, snapshots=np.array(json.dumps(plain)))
    return buffer.getvalue()


def _column(key: str, value: np.ndarray[Any, Any]) -> str:
    """Arrays of one name, type and shape lie in one stack."""
    return f"{key}|{value.dtype.str}|{'x'.join(map(str, value.shape))}".replace("/", "_")


def _unpack(content: bytes) -> list[Snapshot]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        plain = json.loads(str(file["snapshots"]))
        stacks = {name: iter(file[name]) for name in file.files if name != "snapshots"}
    return [Snapshot(item["lead"], _state(item["state"], stacks), item["behaviour"]) for item in plain]


def _state(plain: dict[str, Any], stacks: dict[str, Any]) -> State:
    return {
        key: np.array(next(stacks[value["column"]])) if isinstance(value, dict) else value for key, value in plain.items()
    }
