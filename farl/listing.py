"""``farl list``: what can be run, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CONFIGS = Path("configs")


def show(tasks: Mapping[str, str]) -> None:
    """Print the tasks, the methods and the configuration files below ``configs/``."""
    for title, rows in (("tasks", tasks), ("methods", _methods()), ("configurations", _configurations())):
        if rows:
            width = max(map(len, rows))
            print(title, *(f"  {name:<{width}}  {about}" for name, about in rows.items()), "", sep="\n")


def _methods() -> dict[str, str]:
    from farl.methods import METHODS

    return {name: method.description for name, method in METHODS.items()}


def _configurations() -> dict[str, str]:
    """Every ``configs/**.yaml``; its first comment line says what it is."""
    found = {}
    for file in sorted(CONFIGS.rglob("*.yaml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        found[str(file)] = first.removeprefix("#").strip() if first.startswith("#") else ""
    return found
