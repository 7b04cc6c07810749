"""``farl list``: what can be run, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

CONFIGS = Path("configs")


def show(tasks: Mapping[str, str]) -> None:
    """Print the tasks, the methods and the configuration files below ``configs/``."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for title, rows in (("tasks", tasks), ("methods", _methods()), ("configurations", _configurations())):
        if rows:
            table.add_row(f"[bold]{title}[/bold]", "")
            for name, about in rows.items():
                table.add_row(f"  {name}", about)
    Console(soft_wrap=True).print(table)


def _methods() -> dict[str, str]:
    try:
        from farl.methods import METHODS
    except ModuleNotFoundError:
        return {}
    return {name: method.about for name, method in METHODS.items()}


def _configurations() -> dict[str, str]:
    """Every ``configs/**.yaml``; its first comment line says what it is."""
    found = {}
    for file in sorted(CONFIGS.rglob("*.yaml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        found[str(file)] = first.removeprefix("#").strip() if first.startswith("#") else ""
    return found
