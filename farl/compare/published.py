"""The published figures that a comparison is read against (arXiv 2601.07821 v1 and its project page)."""

from __future__ import annotations

from dataclasses import dataclass

AGENT_STEPS = 1_000_000
SEEDS = 3

FAILURE_EPISODES: dict[str, dict[str, float]] = {
    "BoundedPush": {"uni-o4": 1518.3, "farl": 951.0},
    "BoundedSoccer": {"uni-o4": 1744.7, "farl": 878.7},
    "FragilePushWall": {"uni-o4": 4320.3, "farl": 3393.0},
    "ObstructedPush": {"uni-o4": 5601.3, "farl": 1914.7},
}
"""failure episodes of one run of 1M agent steps, mean of 3 seeds"""

RETURN: dict[str, dict[str, tuple[float, float]]] = {
    "BoundedPush": {
        "uni-o4": (20.30, 98.54),
        "farl": (26.01, 100.19),
        "simple-critic": (2.34, 98.66),
        "mppi": (19.68, 99.18),
    },
    "BoundedSoccer": {
        "uni-o4": (12.70, 107.27),
        "farl": (15.01, 122.98),
        "simple-critic": (21.35, 86.98),
        "mppi": (22.07, 80.16),
    },
    "FragilePushWall": {
        "uni-o4": (-15.85, 74.26),
        "farl": (0.06, 78.51),
        "simple-critic": (-21.05, 71.29),
        "mppi": (8.05, 41.09),
    },
    "ObstructedPush": {
        "uni-o4": (12.76, 121.28),
        "farl": (10.84, 122.36),
        "simple-critic": (12.12, 122.99),
        "mppi": (14.61, 123.19),
    },
}
"""normalised return (scripted expert about 100) before and after post-training"""

ROBOT_EPISODES = 50
VIOLATING_STEPS: dict[str, dict[str, int]] = {
    "FrankaFragilePushWall": {"uni-o4": 186, "farl": 36},
    "FrankaDisturbedPush": {"uni-o4": 1524, "farl": 322},
    "FrankaBoundedSoccer": {"uni-o4": 2172, "farl": 875},
}
"""on the real robot, over the episodes of one session each; the counts exceed the episodes, so they are taken as steps"""

ROBOT_REDUCTION = 0.731
"""published for the real robot; it is the mean of the three tasks' reductions of these counts"""

ROBOT_NOTE = (
    "The published counts are larger than the number of episodes, so they are read as violating steps; their mean reduction over "
    "the three tasks, 73.1 %, agrees with that. Each is one session of 50 episodes on a robot, a table and objects whose sizes are "
    "not public: compare the reductions, not the counts."
)

NOTE = (
    "What can be compared is the direction and the rough size of the reduction. Counts cannot: the published runs are 1,000,000 "
    "agent steps on 3 seeds, and neither the exact boundary and starting positions, nor the demonstrations and the initial policy "
    "made from them are public, and all of these decide how often a run fails. Failures per 10,000 steps take out the budget, but "
    "not that early steps fail more often than late ones. Published returns are normalised by a scripted expert and are given for "
    "orientation only."
)


@dataclass(frozen=True)
class PublishedRow:
    """One method's published result on one task."""

    method: str
    failures: float | None
    per_10k: float | None
    reduction: float | None
    returns: tuple[float, float] | None


def published_rows(task: str) -> list[PublishedRow]:
    """The published results on a task named like ours (``BoundedPush-v0``); empty where there are none."""
    name = task.partition("-")[0]
    counts, returns = FAILURE_EPISODES.get(name, {}), RETURN.get(name, {})
    return [_row(method, counts, returns) for method in returns]


@dataclass(frozen=True)
class PublishedSession:
    """One method's published count on the real robot."""

    method: str
    violating: int
    reduction: float | None


def published_sessions(task: str) -> list[PublishedSession]:
    """The published real-robot counts on a task named like ours (``FrankaBoundedSoccer-v0``); empty where there are none."""
    counts = VIOLATING_STEPS.get(task.partition("-")[0], {})
    base = counts.get("uni-o4", 0)
    return [PublishedSession(method, count, None if method == "uni-o4" else 1 - count / base) for method, count in counts.items()]


def _row(method: str, counts: dict[str, float], returns: dict[str, tuple[float, float]]) -> PublishedRow:
    failures = counts.get(method)
    reduction = None if failures is None or method == "uni-o4" else 1 - failures / counts["uni-o4"]
    per_10k = None if failures is None else 1e4 * failures / AGENT_STEPS
    return PublishedRow(method, failures, per_10k, reduction, returns.get(method))
