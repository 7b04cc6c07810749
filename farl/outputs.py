"""Output folders belong to one configuration and one process: claimed once, refused to any other."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import yaml

from farl import configuration
from farl.errors import UserError
from farl.files import LEFTOVER, remove_leftovers, write_text

LOCK = ".lock"
_OURS = ("progress.json", "log.txt", LOCK)
"""what may lie in a folder before it has a configuration"""


class Claim:
    """A folder that this process works in, and no other until it is released or the process ends, however it ends.

    Raises UserError if another process works in it, naming that process, or if nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, path = folder, folder / LOCK
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+")
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}. Nothing was changed; choose another --out, or make the "
                "folder writable."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise UserError(
                f"{holder} is working in {folder}; wait for it, stop it, or choose another --out. Two at once would spoil it."
            ) from None
        except OSError:
            print(f"{folder} is on a file system without locks: nothing keeps a second process from being started on it.")
        self._sign()
        remove_leftovers(folder)

    def release(self) -> None:
        """Let others in."""
        self._file.close()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _sign(self) -> None:
        """Whoever is refused is told by whom. A full disk is no reason not to begin."""
        try:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()
        except OSError:
            return


def claim(folder: Path, config: Any, extendable: tuple[str, ...] = ()) -> Claim:
    """Write ``config.yaml`` into ``folder``, or check that the one there says the same; nobody else works there meanwhile.

    Keys in ``extendable`` may differ: a longer budget continues a run, a shorter one leaves the record as it is. Raises
    UserError naming the keys that differ, or the process that works there.
    """
    check(folder, config, extendable)   # a folder that is refused is left without a lock file too
    held = Claim(folder)
    try:
        if not check(folder, config, extendable):
            write_text(folder / "config.yaml", configuration.dump(config))
    except BaseException:
        held.release()
        raise
    return held


def check(folder: Path, config: Any, extendable: tuple[str, ...] = ()) -> bool:
    """Whether ``folder`` already records this configuration; raises UserError if it belongs to another one."""
    path = folder / "config.yaml"
    if not path.exists():
        foreign = folder.is_dir() and any(p.name not in _OURS and not p.match(LEFTOVER) for p in folder.iterdir())
        if foreign:
            raise UserError(f"{folder} is not empty and holds no config.yaml of ours; choose another --out")
        return False
    theirs, ours = _flat(_completed(path, config)), _flat(yaml.safe_load(configuration.dump(config)))
    keys = sorted(theirs.keys() | ours.keys())
    differing = [k for k in keys if theirs.get(k) != ours.get(k) and k not in extendable]
    if differing:
        listed = "; ".join(f"{k}: {theirs.get(k)!r} there, {ours.get(k)!r} now" for k in differing[:6])
        raise UserError(
            f"{folder} belongs to another configuration ({listed}). Choose another --out, or delete the folder to start over."
        )
    return all(_covers(theirs.get(key), ours.get(key)) for key in keys)


def _completed(path: Path, config: Any) -> Any:
    """The record, with their defaults for settings that there were none of when it was written."""
    try:
        return yaml.safe_load(configuration.dump(configuration.read(type(config), path)))
    except UserError:   # of another kind of folder, or with settings that are gone: compared as it stands
        return yaml.safe_load(path.read_text()) or {}


def _covers(there: Any, now: Any) -> bool:
    """Whether what was asked for before includes this: the same, or a larger number."""
    numbers = isinstance(there, int | float) and isinstance(now, int | float)
    return bool(there == now or (numbers and there > now))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
