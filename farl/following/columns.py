"""Rows of JSON as columns of numbers that grow, and views of them that never change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.following.lines import Record

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """Columns as they stood at one moment; what is appended later is not seen."""

    length: int = 0
    numbers: dict[str, Array] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    """for columns of words: what their numbers stand for"""
    last: Record = field(default_factory=dict)
    """the last row as it was read"""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, name: str) -> Array:
        """A column; not-a-number where a row has no value, or no number."""
        column = self.numbers.get(name)
        return np.full(self.length, np.nan) if column is None else column[: self.length]

    def equals(self, name: str, word: str) -> NDArray[np.bool_]:
        """Where a column of words says ``word``."""
        known = self.words.get(name, [])
        where: NDArray[np.bool_] = self[name] == (known.index(word) if word in known else -1)
        return where

    def word(self, name: str, row: int) -> str:
        """What a column of words says in one row, empty where it says nothing."""
        code = self[name][row]
        return "" if math.isnan(code) else self.words[name][int(code)]


class Columns:
    """Rows appended in amortised constant time, eight bytes a value.

    ``words`` names columns of text, ``counted`` columns of lists of which only the length is kept.
    """

    def __init__(self, words: Sequence[str] = (), counted: Sequence[str] = ()) -> None:
        self._codes: dict[str, dict[str, int]] = {name: {} for name in words}
        self._counted = counted
        self._columns: dict[str, Array] = {}
        self._length, self._last = 0, Record()

    def append(self, rows: Sequence[Record]) -> None:
        if not rows:
            return
        end = self._length + len(rows)
        for name in dict.fromkeys(name for row in rows for name in row):
            self._room(name, end)[self._length : end] = self._values(name, [row.get(name) for row in rows])
        for name in self._columns.keys() - {name for row in rows for name in row}:
            self._room(name, end)
        self._length, self._last = end, rows[-1]

    def view(self) -> Table:
        """The rows so far; costs nothing, however many they are."""
        words = {name: list(codes) for name, codes in self._codes.items()}
        return Table(self._length, dict(self._columns), words, self._last)

    def _room(self, name: str, end: int) -> Array:
        """The column with space up to ``end``; a larger one is a new array, so views keep theirs."""
        column = self._columns.get(name)
        if column is None or len(column) < end:
            larger = np.full(max(2 * end, 1024), np.nan)
            if column is not None:
                larger[: self._length] = column[: self._length]
            self._columns[name] = column = larger
        return column

    def _values(self, name: str, values: list[Any]) -> Array:
        if name in self._codes:
            codes = self._codes[name]
            known = (isinstance(value, str) and bool(value) for value in values)
            return np.array(
                [codes.setdefault(value, len(codes)) if word else np.nan for value, word in zip(values, known, strict=True)]
            )
        if name in self._counted:
            return np.array([len(value) if isinstance(value, list) else np.nan for value in values])
        try:
            column = np.array(values, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            column = np.empty(0)
        return column if column.shape == (len(values),) else np.array([_number(value) for value in values])


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else math.nan
