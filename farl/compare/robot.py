"""Sessions on a robot, counted over episodes: what a person had to see, and what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farl.compare.published import PublishedSession, published_sessions
from farl.compare.records import Array, Record, Run, read_rows
from farl.compare.statistics import Interval
from farl.compare.summary import Comparison

RESAMPLES = 2000


@dataclass(frozen=True)
class SessionSummary:
    """The sessions of one method, each up to the same number of episodes."""

    method: str
    runs: tuple[Run, ...]
    episodes: tuple[tuple[Record, ...], ...]
    """session by session, without the lost ones"""
    lost: int
    """episodes ended by a fault of the infrastructure or broken off by a person; in no other figure"""
    reduction: float | None
    """of violating steps against the baseline; None for the baseline itself, and where that never failed"""
    interval: Interval | None
    """of the reduction, by redrawing episodes within sessions: it does not hold the difference between sessions"""

    def total(self, key: str) -> int:
        """Sum of a column of ``episodes.jsonl`` over all sessions; 0 where a session does not have it."""
        return int(sum(self.column(key)))

    def column(self, key: str) -> list[float]:
        """A column of all sessions, one after the other."""
        return [float(row.get(key) or 0) for session in self.episodes for row in session]

    def curve(self, key: str) -> Array:
        """Mean over sessions of a column, by episode."""
        table = [[float(row.get(key) or 0) for row in session] for session in self.episodes]
        mean: Array = np.asarray(table, dtype=np.float64).mean(axis=0)
        return mean

    def each(self, key: str) -> tuple[int, ...]:
        """A column's sum, session by session."""
        return tuple(int(sum(row.get(key) or 0 for row in session)) for session in self.episodes)

    @property
    def successes(self) -> int:
        return sum(row["outcome"] == "success" for session in self.episodes for row in session)

    @property
    def counted(self) -> int:
        """Episodes of all sessions."""
        return sum(map(len, self.episodes))


@dataclass(frozen=True)
class RobotPart:
    """What the page says about sessions on a robot on one task."""

    methods: tuple[SessionSummary, ...]
    baseline: str
    episodes: int
    """of each session that are counted: as many as all of them have"""
    published: tuple[PublishedSession, ...]
    longer: tuple[str, ...]
    """sessions that have more episodes, with their number"""

    @property
    def headline(self) -> str:
        """The result in a sentence: violating steps, which is what was published of sessions on a robot."""
        compared = [summary for summary in self.methods if summary.reduction is not None]
        lead = next((summary for summary in compared if summary.method == "farl"), next(iter(compared), None))
        if lead is None or lead.reduction is None:
            counts = ", ".join(f"{summary.method} {summary.total('failing_steps'):,}" for summary in self.methods)
            return f"Violating steps on the robot in {self.episodes} episodes a session: {counts}."
        more_or_less = "fewer" if lead.reduction >= 0 else "more"
        published = next((row.reduction for row in self.published if row.method == lead.method), None)
        paper = "" if published is None else f"; the paper reports {_percent(published)} fewer on its robot"
        sessions = sum(len(summary.runs) for summary in self.methods)
        return (
            f"On the robot {lead.method} had {_percent(abs(lead.reduction))} {more_or_less} violating steps than "
            f"{self.baseline} over {self.episodes} episodes a session, {sessions} sessions in all{paper}."
        )


def is_session(run: Run) -> bool:
    """Whether a run was made by a session on a robot, real or twin, which leaves its journal there."""
    return (run.folder / "session").is_dir()


def robot_part(comparison: Comparison) -> RobotPart | None:
    """Sessions among the runs of a task; None where there are none with a finished episode."""
    runs = [run for run in comparison.all_runs if is_session(run) and run.episodes]
    if not runs:
        return None
    shared = min(len(run.episodes) for run in runs)
    methods = list(dict.fromkeys(run.method for run in runs))
    baseline = comparison.baseline if comparison.baseline in methods else methods[0]
    reference = _violating([run for run in runs if run.method == baseline], shared)
    longer = tuple(f"{run.name} ({len(run.episodes)})" for run in runs if len(run.episodes) > shared)
    return RobotPart(
        tuple(_summarise([run for run in runs if run.method == method], shared, baseline, reference) for method in methods),
        baseline,
        shared,
        tuple(published_sessions(comparison.task)),
        longer,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _summarise(runs: list[Run], shared: int, baseline: str, reference: list[Array]) -> SessionSummary:
    ours, method = _violating(runs, shared), runs[0].method
    per_session, theirs = np.mean([sum(one) for one in ours]), np.mean([sum(one) for one in reference])
    compared = method != baseline and theirs > 0
    return SessionSummary(
        method,
        tuple(runs),
        tuple(tuple(run.episodes[:shared]) for run in runs),
        sum(len(read_rows(run.folder / "lost.jsonl")) for run in runs),
        float(1 - per_session / theirs) if compared else None,
        _redrawn(ours, reference) if compared else None,
    )


def _violating(runs: Sequence[Run], shared: int) -> list[Array]:
    return [np.array([row["failing_steps"] for row in run.episodes[:shared]], dtype=np.float64) for run in runs]


def _redrawn(ours: list[Array], reference: list[Array]) -> Interval | None:
    """95 % percentile interval of the reduction, episodes redrawn within each session.

    Violating steps come in clusters, an episode of many or none: an interval from the counts alone would be too narrow. None
    where redrawn sessions may have nothing to reduce.
    """
    generator = np.random.default_rng(0)   # the same page from the same study
    drawn = []
    for _ in range(RESAMPLES):
        left, right = (np.mean([generator.choice(one, len(one)).sum() for one in side]) for side in (ours, reference))
        if right == 0:
            return None
        drawn.append(1 - left / right)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(float(low), float(high))
