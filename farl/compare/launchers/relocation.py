"""A job's files under other names: what its configuration says of paths, here and on a machine without our files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from farl import configuration
from farl.cluster.trees import Edit
from farl.compare.jobs import Job

THERE = PurePosixPath("farl-job")
"""the folder of a job on another machine, below the worker's own folder; no folder of a study has this name"""
OUT = str(THERE / "out")


class Relocation:
    """Translates a job's command and configuration files to names on another machine, and what returns back again."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._there = {str(job.folder): OUT}
        for number, path in enumerate(job.inputs):
            place = THERE / f"input-{number}"
            self._there[str(path)] = str(place / path.name if path.is_file() else place)
        self._here = {there: here for here, there in self._there.items()}

    def command(self, python: str) -> tuple[str, ...]:
        """The job's command, for the ``python`` that is on the other machine."""
        first, *rest = (self._there.get(word, word) for word in self.job.command)
        return (python if first == self.job.command[0] else first, *rest)

    def place(self, path: Path) -> str:
        """The folder there in which the tree of ``path``, an input, is unpacked."""
        there = PurePosixPath(self._there[str(path)])
        return str(there.parent if path.is_file() else there)

    @property
    def outward(self) -> Edit:
        """For files that are sent."""
        return self._edit(lambda value: _renamed(value, self._there.items()))

    @property
    def homeward(self) -> Edit:
        """For files that come back; also where ``meta.json`` and the log name the job's folder."""
        edit = self._edit(lambda value: _renamed(value, self._here.items()))

        def back(name: str, content: bytes) -> bytes:
            if name in ("meta.json", "log.txt"):
                here = str(self.job.folder)
                return content.replace(OUT.encode(), (json.dumps(here)[1:-1] if name == "meta.json" else here).encode())
            return edit(name, content)

        return back

    def _edit(self, rename: Callable[[str], str]) -> Edit:
        def edit(name: str, content: bytes) -> bytes:
            if not name.endswith(".yaml"):
                return content
            return configuration.dump(_everywhere(configuration.parse(content.decode()), rename)).encode()

        return edit


def _renamed(value: str, names: Iterable[tuple[str, str]]) -> str:
    """``value``, or its new name if it is one of the paths or below one."""
    for old, new in names:
        if value == old or value.startswith(f"{old}/"):
            return new + value[len(old) :]
    return value


def _everywhere(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _everywhere(inner, rename) for key, inner in value.items()}
    if isinstance(value, list):
        return [_everywhere(inner, rename) for inner in value]
    return rename(value) if isinstance(value, str) else value
