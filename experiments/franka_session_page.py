"""The page of the sessions on the Franka twins, made of their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.tables import Row, markdown
from farl.compare.published import ROBOT_NOTE, ROBOT_REDUCTION, VIOLATING_STEPS

COLUMNS = (
    "task", "method", "seed", "episodes", "agent_steps", "failing_steps", "failure_episodes", "return", "held_return",
    "success", "gated", "ungated", "late", "during_recovery", "commit",
)  # fmt: skip
MEANS = ("return", "held_return", "success", "gated")
"""what is shown with three figures; the other numbers are counts"""

BASELINE, OURS = "uni-o4", "farl"
COMMAND = "OMP_NUM_THREADS=1 python -m experiments.franka_sessions"


def reductions(pairs: Sequence[tuple[float, float]]) -> float:
    """By which part the second numbers' sum falls short of the first's; NaN where those are all zero."""
    before, after = (sum(side) for side in zip(*pairs, strict=True))
    return 1.0 - after / before if before else float("nan")


def paired(rows: list[Row], task: str) -> list[tuple[Row, Row]]:
    """The sessions of both methods on the same seed."""
    found = {(row["method"], row["seed"]): row for row in rows if row["task"] == task}
    seeds = sorted({seed for _, seed in found}, key=int)
    return [
        (found[BASELINE, seed], found[OURS, seed])
        for seed in seeds
        if (BASELINE, seed) in found and (OURS, seed) in found
    ]


def page(rows: list[Row], versions: str) -> str:
    """The whole page."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    parts = [
        "# Fifty episodes on the Franka twins",
        f"`{COMMAND}`",
        f"{versions}; the commit of every session stands in `franka_sessions.csv`. Sessions of one arm, 50 online episodes each, "
        "both methods from the same bundle and with the same episodes: one bundle for each task, so the seeds are of sessions, "
        "not of demonstrations and training. A failing step is an agent step that violates, a failure episode one that has any.",
        "## Against the published sessions",
        _against_published(rows, tasks),
        f"{ROBOT_NOTE} Published: {ROBOT_REDUCTION:.1%} in the mean.",
        "## Means of a session",
        _means(rows, tasks),
        "Return is the sum of rewards until an episode ends, and success ends it: a quicker success is a smaller return. The held "
        "return is that of episodes that go on at the goal, where a step is worth 1, to the time limit.",
        "FARL less Uni-O4, session by session: mean and its standard error.",
        _differences(rows, tasks),
        "## What the gate did before FARL's failures",
        _causes(rows, tasks),
        "*Ungated*: it stayed open. *Late*: it had closed, and opened again, or closed on the failing step. *In recovery*: "
        "recovery had taken over before, and failed.",
        "## Every session",
        _sessions(rows, tasks),
    ]
    return "\n\n".join(parts) + "\n"


def _against_published(rows: list[Row], tasks: list[str]) -> str:
    lines, fallen = [], list[tuple[float, float, float]]()
    for task in tasks:
        pairs = paired(rows, task)
        if not pairs:
            continue
        published = VIOLATING_STEPS[task.partition("-")[0]]
        steps, episodes = (
            reductions([(float(base[name]), float(ours[name])) for base, ours in pairs])
            for name in ("failing_steps", "failure_episodes")
        )
        fallen.append((1 - published[OURS] / published[BASELINE], steps, episodes))
        real, ours_steps, ours_episodes = fallen[-1]
        lines.append(
            [
                task,
                str(len(pairs)),
                f"{published[BASELINE]} -> {published[OURS]} (-{real:.0%})",
                f"{_mean(pairs, 0, 'failing_steps'):.0f} -> {_mean(pairs, 1, 'failing_steps'):.0f} ({-ours_steps:+.0%})",
                f"{_mean(pairs, 0, 'failure_episodes'):.1f} -> {_mean(pairs, 1, 'failure_episodes'):.1f} "
                f"({-ours_episodes:+.0%})",
            ]
        )
    if fallen:
        real, steps, episodes = np.mean(fallen, axis=0)
        lines.append(["mean of reductions", "", f"-{real:.1%}", f"{-steps:+.1%}", f"{-episodes:+.1%}"])
    head = ("task", "seeds", "published, failing steps", "here, failing steps", "here, failure episodes of 50")
    return markdown(head, lines)


def _mean(pairs: list[tuple[Row, Row]], side: int, name: str) -> float:
    return float(np.mean([float(pair[side][name]) for pair in pairs]))


def _means(rows: list[Row], tasks: list[str]) -> str:
    shown: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("failing_steps", "{:.1f}".format),
        ("failure_episodes", "{:.1f}".format),
        ("return", "{:.1f}".format),
        ("held_return", "{:.1f}".format),
        ("success", "{:.0%}".format),
        ("agent_steps", "{:.0f}".format),
        ("gated", "{:.1%}".format),
    )
    lines = []
    for task in tasks:
        for method in (BASELINE, OURS):
            own = [row for row in rows if (row["task"], row["method"]) == (task, method)]
            if own:
                values = [(say, [float(row[name]) for row in own]) for name, say in shown]
                lines.append(
                    [task, method, *(f"{say(float(np.mean(v)))} ({say(min(v))} to {say(max(v))})" for say, v in values)]
                )
    head = (
        "task",
        "method",
        "failing steps",
        "failure episodes",
        "return",
        "held return",
        "success",
        "agent steps",
        "gated",
    )
    return markdown(head, lines)


def _differences(rows: list[Row], tasks: list[str]) -> str:
    lines = []
    for task in tasks:
        pairs = paired(rows, task)
        cells = []
        for name, scale, unit in (("return", 1, ""), ("held_return", 1, ""), ("success", 100, " points")):
            gained = [scale * (float(ours[name]) - float(base[name])) for base, ours in pairs]
            error = f" ± {np.std(gained, ddof=1) / len(gained) ** 0.5:.1f}" if len(gained) > 1 else ""
            cells.append(f"{np.mean(gained):+.1f}{error}{unit}" if gained else "")
        lines.append([task, str(len(pairs)), *cells])
    return markdown(("task", "seeds", "return", "held return", "success"), lines)


def _causes(rows: list[Row], tasks: list[str]) -> str:
    lines = []
    for task in tasks:
        own = [row for row in rows if (row["task"], row["method"]) == (task, OURS)]
        lines.append(
            [task, *(str(sum(int(row[name]) for row in own)) for name in ("ungated", "late", "during_recovery"))]
        )
    return markdown(("task", "ungated", "late", "in recovery"), lines)


def _sessions(rows: list[Row], tasks: list[str]) -> str:
    names = COLUMNS[:-1]
    ordered = sorted(rows, key=lambda row: (tasks.index(row["task"]), int(row["seed"]), row["method"] != BASELINE))
    return markdown(
        [name.replace("_", " ") for name in names],
        [[f"{float(row[n]):.3g}" if n in MEANS else row[n] for n in names] for row in ordered],
    )
