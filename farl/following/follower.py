"""Several runs followed together: those named, and those of studies, also the ones that begin later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from farl.errors import UserError
from farl.following.run import FollowedRun, RunView

_DEPTH, _MOST_FOLDERS = 5, 5000
"""how far below a folder that is no run the nearest one is looked for"""


class Follower:
    """Looks at all runs again and again; raises UserError at once where a folder is neither run nor study."""

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not is_run(folder) and not is_study(folder):
                raise UserError(f"{_not_a_run(folder)}. Usage: farl watch RUN_OR_STUDY [...]")
        self._folders = list(dict.fromkeys(folders))
        self._runs: dict[Path, FollowedRun] = {}
        self.version = 0
        """grows with every change of any run"""
        self._find()

    @property
    def views(self) -> list[RunView]:
        """All runs as they were last seen, in the order of the folders given."""
        return [run.view for run in self._runs.values()]

    def view(self, folder: Path) -> RunView | None:
        run = self._runs.get(folder)
        return run.view if run is not None else None

    def look(self) -> bool:
        """Read what is new in all of them; False if nothing was."""
        changed = self._find()
        for run in list(self._runs.values()):
            if run.look():
                changed = True
                self.version += 1
        return changed

    def _find(self) -> bool:
        """Take up runs that are new; those already followed keep what was read of them."""
        found = dict.fromkeys(run for folder in self._folders for run in runs_of(folder))
        if list(found) == list(self._runs):
            return False
        self._runs = {folder: self._runs.get(folder) or FollowedRun(folder) for folder in found}
        self.version += 1
        return True


def runs_of(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else the runs of the study that it is."""
    if is_run(folder):
        return [folder]
    return [path for path in sorted(folder.glob("runs/*/*/seed-*")) if is_run(path)]


def is_run(folder: Path) -> bool:
    """Whether `farl online` has begun a run here."""
    return any((folder / name).is_file() for name in ("episodes.jsonl", "metrics.jsonl", "meta.json"))


def is_study(folder: Path) -> bool:
    """Whether `farl compare` has begun a study here, even if none of its runs has started."""
    return (folder / "runs").is_dir() or (folder / "jobs").is_dir()


def _not_a_run(folder: Path) -> str:
    if not folder.exists():
        return f"there is no folder '{folder}'"
    if not folder.is_dir():
        return f"{folder} is a file, not the folder of a run"
    said = f"{folder} is neither a run (it has no episodes.jsonl) nor a study (it has no runs/)"
    near = next(_below(folder), None)
    return f"{said}; the nearest run below it is {near}" if near else f"{said}, and there is none below it"


def _below(folder: Path) -> Iterator[Path]:
    """Runs and studies below a folder, the nearest first."""
    level, looked = [folder], 0
    for _ in range(_DEPTH):
        inside = [path for parent in level for path in _subfolders(parent)]
        yield from (path for path in inside if is_run(path) or is_study(path))
        level, looked = inside, looked + len(inside)
        if looked > _MOST_FOLDERS:
            return


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
