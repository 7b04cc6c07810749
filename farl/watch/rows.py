"""What the two tables of the page say: runs, and the episodes of one run; all of it text that is ready to be read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.compare.live import duration
from farl.following.columns import Table
from farl.following.run import RunView
from farl.watch.faces import Face

Row = dict[str, Any]

OUTCOMES = {"success": "success", "timeout": "time-out", "failure": "ended by failure"}
CAUSES = {"ungated": "gate stayed open", "late": "gate closed late", "during_recovery": "recovery was acting"}
FILTERS = ("all", "failing", "success", "time-out")


# ---------------------------------------------------------------- runs


def run_rows(
    views: Sequence[RunView], looks: Mapping[Path, Face], shown: Collection[Path], focus: Path | None, now: float
) -> list[Row]:
    """A row for each run."""
    return [
        {
            "id": str(view.folder),
            "colour": looks[view.folder].colour,
            "dash": " ".join(map(str, looks[view.folder].dash)),
            "shown": view.folder in shown,
            "focus": view.folder == focus,
            **_standing(view, now),
        }
        for view in views
    ]


def _standing(view: RunView, now: float) -> Row:
    status, metrics = view.status(now), view.metrics.last
    left = view.seconds_left() if status == "running" else None
    return {
        "method": view.method,
        "task": view.task,
        "seed": view.seed,
        "status": status,
        "quiet": f"for {duration(now - view.changed)}" if status == "stalled" else "",
        "done": round(min(1.0, view.steps / view.target), 4) if view.target else 0.0,
        "steps": short(view.steps) + (f" of {short(view.target)}" if view.target else ""),
        "left": f"{duration(left)} left" if left else "",
        "failures": f"{view.failures:,}",
        "episodes": f"{len(view.episodes):,}",
        "success": percent(metrics.get("success_rate")),
        "gated": percent(metrics.get("gated_fraction")),
        "return": plain(metrics.get("return_mean")),
    }


# ---------------------------------------------------------------- episodes


@dataclass(frozen=True)
class Query:
    """Which episodes are asked for."""

    kind: str = "all"
    """one of ``FILTERS``"""
    page: int = 1
    size: int = 12
    by: str = "episode"
    """column to sort by"""
    descending: bool = True


def select(episodes: Table, query: Query) -> NDArray[np.int64]:
    """Rows of the table that the query's filter keeps, in its order; rows without a number come last."""
    if query.kind == "failing":
        kept = np.flatnonzero(episodes["failed"] == 1)
    elif query.kind == "all":
        kept = np.arange(len(episodes))
    else:
        kept = np.flatnonzero(episodes.equals("outcome", {"time-out": "timeout"}.get(query.kind, query.kind)))
    values = episodes[query.by][kept]
    order = np.argsort(np.where(np.isnan(values), np.inf, -values if query.descending else values), kind="stable")
    chosen: NDArray[np.int64] = kept[order]
    return chosen


def episode_rows(view: RunView, query: Query) -> tuple[list[Row], int]:
    """One page of episodes, and how many there are on all pages."""
    chosen = select(view.episodes, query)
    start = (query.page - 1) * query.size
    return [_episode(view, int(row)) for row in chosen[start : start + query.size]], len(chosen)


def _episode(view: RunView, row: int) -> Row:
    table = view.episodes
    failed, length = table["failed"][row] == 1, table["length"][row]
    number = table["episode"][row]
    return {
        "episode": whole(number),
        "end_step": whole(table["end_step"][row]),
        "outcome": OUTCOMES.get(table.word("outcome", row), table.word("outcome", row)),
        "failed": bool(failed),
        "first_failure": f"{failure_words(table, row)} at step {whole(table['first_failure'][row] + 1)}" if failed else "",
        "cause": CAUSES.get(table.word("cause", row), "") if failed else "",
        "length": whole(length),
        "return": plain(table["return"][row]),
        "gated_steps": percent(table["gated_steps"][row] / length if length else math.nan),
        "cap_hits": whole(table["cap_hits"][row]),
        "risk_max": significant(table["risk_max"][row]),
        "seed": whole(table["seed"][row]).replace(",", ""),
        "kept": has_clip(view, number),
        "number": int(number) if math.isfinite(number) else -1,
    }


def failure_words(table: Table, row: int) -> str:
    """``out of bounds, tipped``."""
    said = [table.word("failure_type", row), table.word("failure_detail", row)]
    return ", ".join(word.replace("_", " ") for word in said if word) or "failure"


def has_clip(view: RunView, episode: float) -> bool:
    return bool(math.isfinite(episode) and (int(episode) in view.kept or int(episode) in view.clips))


# ---------------------------------------------------------------- numbers as text


def short(count: float) -> str:
    """``301k``, ``1.5M``."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * limit:   # what three digits would round up to it
            return f"{float(f'{count / limit:.3g}'):g}{unit}"
    return f"{count:.0f}"


def whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else ""


def percent(value: Any) -> str:
    """A share: whole above ten per cent, with one digit below."""
    if not _is_number(value):
        return ""
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def plain(value: Any) -> str:
    return f"{value:,.1f}" if _is_number(value) else ""


def significant(value: Any) -> str:
    """Two digits that count, ``0.19``, ``3e-05``."""
    return f"{value:.2g}" if _is_number(value) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
