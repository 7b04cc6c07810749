"""Output folders belong to one configuration: claimed once, refused to any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from farl import configuration
from farl.errors import UserError
from farl.files import write_text


def claim(folder: Path, config: Any, extendable: tuple[str, ...] = ()) -> None:
    """Write ``config.yaml`` into ``folder``, or check that the one there says the same.

    Keys in ``extendable`` may differ: a longer budget continues a run, a shorter one leaves the record as it is. Raises
    UserError naming the keys that differ.
    """
    path, text = folder / "config.yaml", configuration.dump(config)
    if path.exists():
        theirs, ours = _flat(_completed(path, config)), _flat(yaml.safe_load(text))
        differing = [
            k for k in sorted(theirs.keys() | ours.keys()) if theirs.get(k) != ours.get(k) and k not in extendable
        ]
        if differing:
            listed = "; ".join(f"{k}: {theirs.get(k)!r} there, {ours.get(k)!r} now" for k in differing[:6])
            raise UserError(
                f"{folder} belongs to another configuration ({listed}). Choose another --out, or delete the folder to start over."
            )
        if all(_covers(theirs.get(key), ours.get(key)) for key in theirs.keys() | ours.keys()):
            return
    elif folder.is_dir() and any(p.name not in ("progress.json", "log.txt") for p in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no config.yaml of ours; choose another --out")
    write_text(path, text)


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
