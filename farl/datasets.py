"""``farl datasets``: what demonstrations there are, what is wrong with those that cannot be used, and Minari in and out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farl.configuration import Options
from farl.data.episode_store import Summary, describe, read_episodes, write_episodes
from farl.data.minari import Keys, read_minari, write_minari
from farl.environments import TaskConfig
from farl.errors import UserError

FOLDERS = (Path("demos"), Path("studies"))
"""where datasets are looked for unless folders are given"""

_PREFIX = "minari:"


@dataclass(frozen=True)
class ImportConfig:
    """A Minari dataset, and the file it becomes."""

    source: str = ""
    """minari:NAME, a dataset that `minari list local` shows"""
    out: Path = Path()
    """the HDF5 file to write, for example demos/mine/task.hdf5"""
    task: str = ""
    """the environment's id, module:Namespace/Name-v0, unless the dataset says it"""
    options: Options = field(default_factory=dict)
    """keyword arguments of the environment, where they are not those the dataset says"""
    behaviour: str = "minari"
    """who acted"""
    keys: Keys = field(default_factory=Keys)

    def __post_init__(self) -> None:
        if self.source and not self.source.startswith(_PREFIX):
            raise ValueError(f"source is '{self.source}'; give {_PREFIX}NAME")


@dataclass(frozen=True)
class Entry:
    """One file that was found: what it holds, or why it cannot be used."""

    path: Path
    size: int
    """bytes"""
    summary: Summary | None
    state: str
    """``complete``, ``unfinished`` or what is wrong"""


def find(folders: Sequence[Path]) -> list[Entry]:
    """Every HDF5 file below ``folders`` (or among them); raises UserError for a folder that is not there."""
    for folder in folders:
        if not folder.exists():
            raise UserError(f"there is no folder '{folder}'; `farl demos` makes datasets below demos/")
    files = {file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*.hdf5"))}
    return [_entry(file) for file in sorted(files)]


def show(folders: Sequence[Path]) -> int:
    """Print every folder with a line for each dataset, then what is wrong with the others; 1 if any is broken, else 0."""
    entries = find(folders or [folder for folder in FOLDERS if folder.is_dir()])
    if not entries:
        print(f"no datasets below {', '.join(map(str, folders or FOLDERS))}; `farl demos` makes some")
    usable = [(entry, entry.summary) for entry in entries if entry.summary is not None]
    for folder, group in itertools.groupby(usable, lambda pair: pair[0].path.parent):
        members = list(group)
        print(folder)
        for line in _aligned([_TITLES, *(_cells(entry, summary) for entry, summary in members)]):
            print(f"  {line}")
        if any(entry.state == "unfinished" for entry, _ in members):
            print(f"  unfinished: `farl demos {_collection(members[0][0].path)}/config.yaml` continues it")
        print()
    broken = [entry for entry in entries if entry.summary is None]
    for entry in broken:
        print(f"broken: {entry.state}")
    return 1 if broken else 0


def import_dataset(config: ImportConfig, full_id: Callable[[str], str] = str) -> Path:
    """Write a Minari dataset as one of ours, exactly, and return the file.

    ``full_id`` puts the module in front of an id that was recorded without it.
    """
    if not config.source or config.out == Path():
        raise UserError("something is missing; usage: farl datasets import minari:NAME OUT.hdf5")
    if config.out.exists():
        raise UserError(f"{config.out} exists; choose another file")
    name = config.source.removeprefix(_PREFIX)
    imported = read_minari(name, config.keys, config.task, config.behaviour, full_id)
    options = dict(config.options or imported.task.options)
    attrs = {"task": imported.task.id, "options": options, "set": config.out.stem, "source": config.source}
    write_episodes(config.out, imported.episodes, attrs)
    if imported.without:
        print(f"not recorded in {config.source}: {', '.join(imported.without)}")
    return config.out


def export_dataset(file: Path, target: str) -> str:
    """Write one of our files as a local Minari dataset ``minari:NAME``."""
    if not target.startswith(_PREFIX):
        raise UserError(f"'{target}' was not expected; usage: farl datasets export FILE minari:NAME")
    summary = describe(file)
    task = TaskConfig(summary.task, summary.attrs.get("options", {}))
    write_minari(target.removeprefix(_PREFIX), read_episodes(file), task)
    return target


def _entry(file: Path) -> Entry:
    size = file.stat().st_size
    try:
        summary = describe(file)
    except UserError as error:
        return Entry(file, size, None, str(error))
    return Entry(file, size, summary, "unfinished" if _is_unfinished(file) else "complete")


def _collection(file: Path) -> Path:
    """The folder that `farl demos` was told to fill."""
    return file.parent.parent if file.parent.name == "partial" else file.parent


def _is_unfinished(file: Path) -> bool:
    folder = _collection(file)
    return (folder / "config.yaml").exists() and not (folder / "demos.json").exists()


_TITLES = ("kind", "task", "episodes", "transitions", "failures", "successes", "seeds", "MB", "state")


def _cells(entry: Entry, summary: Summary) -> tuple[str, ...]:
    counts = (summary.episodes, summary.transitions, summary.onsets, summary.successes)
    return (
        str(summary.attrs.get("part") or summary.attrs.get("set") or entry.path.stem),
        summary.task.rpartition("/")[2].rpartition(":")[2],
        *map(str, counts),
        f"{min(summary.seeds)} to {max(summary.seeds)}",
        f"{entry.size / 1e6:.1f}",
        entry.state,
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their longest cell; names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = ("kind", "task", "state")
    return [
        "  ".join(
            cell.ljust(width) if title in left else cell.rjust(width)
            for title, cell, width in zip(_TITLES, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
