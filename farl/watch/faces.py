"""How runs are told apart on the page: a colour per method as in the report, a line style per run of a method, a name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farl.compare.palette import method_colours
from farl.following.run import RunView

_DASHES: tuple[tuple[int, ...], ...] = ((), (7, 4), (2, 3), (9, 3, 2, 3))


@dataclass(frozen=True)
class Face:
    """A run's looks."""

    name: str
    """``farl, seed 0``; with the task, then the folder, where that alone would name two runs"""
    colour: str
    dash: tuple[int, ...]
    """lengths of strokes and gaps in pixels, empty for a solid line"""
    opacity: float = 1.0


def faces(views: Sequence[RunView]) -> dict[Path, Face]:
    """The looks of each run; those of one method differ in their line style, after four in strength too."""
    colours = method_colours(dict.fromkeys(view.method for view in views))
    names = _names(views)
    seen: Counter[str] = Counter()
    looks = {}
    for view, name in zip(views, names, strict=True):
        place = seen[view.method]
        seen[view.method] += 1
        dash = _DASHES[place % len(_DASHES)]
        looks[view.folder] = Face(name, colours[view.method].light, dash, max(0.4, 1 - 0.2 * (place // len(_DASHES))))
    return looks


def _names(views: Sequence[RunView]) -> list[str]:
    """The shortest kind of name that is different for every run."""
    tasks = {view.task for view in views}
    names = [f"{view.method}, seed {view.seed}" for view in views]
    if len(tasks) > 1:
        names = [f"{name}, {view.task}" for name, view in zip(names, views, strict=True)]
    return [_with_folder(view, [other for other, same in zip(views, names, strict=True) if same == name], name)
            for view, name in zip(views, names, strict=True)]   # fmt: skip


def _with_folder(view: RunView, namesakes: Sequence[RunView], name: str) -> str:
    if len(namesakes) == 1:
        return name
    above = os.path.commonpath([other.folder.resolve() for other in namesakes])
    return f"{name} ({view.folder.resolve().relative_to(above)})"
