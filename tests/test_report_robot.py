"""The report on sessions with a robot: its numbers against the episodes they come from, the published ones against the paper."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_folder import make_run, make_study, write_rows

from farl.compare import published
from farl.compare.records import find_runs
from farl.compare.report import write_report
from farl.compare.robot import robot_part
from farl.compare.summary import compare_runs

TASK = "FrankaBoundedSoccer-v0"


def make_session(study: Path, method: str, seed: int, episodes: int = 50, lost: int = 2) -> list[dict[str, Any]]:
    """A run by a session on a robot, with its journal's folder and more columns; gives the lines of its episodes."""
    folder = make_run(study, method, seed, task=TASK, failure_rate={"uni-o4": 0.4}.get(method, 0.08), steps=8000)
    rng = np.random.default_rng([seed, 7])
    rows = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    kept = [
        {
            **row,
            "failing_steps": int(rng.integers(1, 60)) if row["failed"] else 0,
            **_acted(row, by_person=place % 9 == 0),
        }
        for place, row in enumerate(rows[:episodes])
    ]
    write_rows(folder / "episodes.jsonl", kept)
    write_rows(folder / "metrics.jsonl", [])
    write_rows(
        folder / "lost.jsonl", [{"seed": n, "length": 3, "failed": False, "reason": "camera_lost"} for n in range(lost)]
    )
    (folder / "session").mkdir()
    return kept


def _acted(row: dict[str, Any], by_person: bool) -> dict[str, int]:
    """Who acted instead of the task policy; in ``gated_steps`` both are one."""
    steps = 5 * by_person
    return {"takeovers": int(by_person), "human_steps": steps, "recoveries": len(row["bursts"]),
            "recovery_steps": row["gated_steps"], "gated_steps": row["gated_steps"] + steps}  # fmt: skip


@pytest.fixture
def words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the other figures is most of a page's time."""
    monkeypatch.setattr("farl.compare.report.figures", lambda comparison, colours: {})
    monkeypatch.setattr("farl.compare.report.diagnostic_figures", lambda task, found, colours: {})


def row(page: str, label: str) -> list[str]:
    """The main figures of a line of the robot's table, one a method."""
    part = page[page.index(">On the robot</h2>") :]
    line = re.search(rf"<tr><th scope=\"row\"[^>]*>{re.escape(label)}</th>(.*?)</tr>", part, re.DOTALL)
    assert line is not None, label
    return [text.replace("\u00a0", " ").strip() for text in re.findall(r"<td[^>]*>([^<]*)", line[1])]


def test_the_published_reductions_are_those_of_the_paper() -> None:
    shares = [1 - counts["farl"] / counts["uni-o4"] for counts in published.VIOLATING_STEPS.values()]
    assert np.mean(shares) == pytest.approx(published.ROBOT_REDUCTION, abs=0.0005)
    assert [round(100 * share, 1) for share in shares] == [80.6, 78.9, 59.7]
    assert not set(published.VIOLATING_STEPS) & set(published.FAILURE_EPISODES)


@pytest.mark.usefixtures("words_alone")
def test_the_tables_numbers_are_sums_over_the_episodes(tmp_path: Path) -> None:
    rows = {method: make_session(tmp_path, method, 0) for method in ("uni-o4", "farl")}
    page = write_report(tmp_path, render_clips=False).read_text(encoding="utf-8")
    for label, key in (("Violating steps", "failing_steps"), ("Failure episodes", "failed"), ("Steps by a person", "human_steps"),
                       ("Take-overs by a person", "takeovers"), ("Steps under recovery", "recovery_steps"),
        ("Recoveries", "recoveries")):  # fmt: skip
        assert row(page, label) == [f"{sum(one[key] for one in rows[method]):,}" for method in rows], label
    assert row(page, "Episodes lost") == ["2", "2"]
    ours, theirs = (sum(one["failing_steps"] for one in rows[method]) for method in ("farl", "uni-o4"))
    assert row(page, "Reduction of violating steps") == ["baseline", f"{100 * (1 - ours / theirs):.1f} %"]
    assert row(page, "Published, 50 episodes") == ["2,172", "875"]
    sentence = (
        f"farl had {100 * (1 - ours / theirs):.1f} % fewer violating steps than uni-o4 over 50 episodes a session"
    )
    assert sentence in page.replace("\u00a0", " ")
    with (tmp_path / "report.csv").open() as file:
        table = {line["method"]: line for line in csv.DictReader(file)}
    assert {method: int(line["violating_steps"]) for method, line in table.items()} == {"farl": ours, "uni-o4": theirs}
    assert (table["farl"]["lost"], table["farl"]["human_steps"]) == (
        "2",
        str(sum(one["human_steps"] for one in rows["farl"])),
    )


def test_sessions_of_unequal_length_are_counted_to_the_same_episode(tmp_path: Path) -> None:
    short = make_session(tmp_path, "farl", 0, episodes=20)
    long = make_session(tmp_path, "uni-o4", 0)
    part = robot_part(compare_runs(TASK, find_runs(tmp_path)))
    assert part is not None
    assert part.episodes == 20
    assert part.longer == ("uni-o4 seed 0 (50)",)
    counts = {summary.method: summary.total("failing_steps") for summary in part.methods}
    assert counts == {
        "farl": sum(one["failing_steps"] for one in short),
        "uni-o4": sum(one["failing_steps"] for one in long[:20]),
    }


def test_the_interval_holds_the_reduction_and_narrows_with_more_sessions(tmp_path: Path) -> None:
    widths = []
    for seeds in (1, 4):
        study = tmp_path / str(seeds)
        for method in ("uni-o4", "farl"):
            for seed in range(seeds):
                make_session(study, method, seed)
        part = robot_part(compare_runs(TASK, find_runs(study)))
        assert part is not None
        summary = next(one for one in part.methods if one.method == "farl")
        assert summary.interval is not None
        assert summary.reduction is not None
        assert summary.interval.low < summary.reduction < summary.interval.high
        widths.append(summary.interval.high - summary.interval.low)
    assert widths[1] < 0.75 * widths[0]


@pytest.mark.usefixtures("words_alone")
def test_where_nothing_fails_there_is_no_reduction(tmp_path: Path) -> None:
    for method in ("uni-o4", "farl"):
        make_session(tmp_path, method, 0)
    clean = tmp_path / "runs" / TASK / "uni-o4" / "seed-0" / "episodes.jsonl"
    rows = [json.loads(line) for line in clean.read_text().splitlines()]
    write_rows(clean, [{**one, "failed": False, "failing_steps": 0, "outcome": "success"} for one in rows])
    page = write_report(tmp_path, render_clips=False).read_text(encoding="utf-8")
    assert row(page, "Reduction of violating steps") == ["baseline", "\u2013"]


@pytest.mark.usefixtures("words_alone")
def test_a_study_without_a_robot_says_nothing_of_one(tmp_path: Path) -> None:
    study = make_study(tmp_path, seeds=(0,))
    page = write_report(study, render_clips=False).read_text(encoding="utf-8")
    assert "On the robot" not in page
