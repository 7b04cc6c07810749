"""Tables of results: CSV files that are written whole or not at all, and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farl.files import write_text

Row = dict[str, Any]


def read_table(path: Path) -> list[Row]:
    """The rows as text; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    """The whole table or, on an error, the old one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def cell(value: Any) -> str:
    """A value as the tables show it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
