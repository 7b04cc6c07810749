"""Following runs: what is read piece by piece is what is there, and what cannot be watched gets one line with the cure."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_folder import TASK, make_run, make_study, write_rows

from farl import cli
from farl.compare.records import read_run
from farl.files import read_jsonl
from farl.following.columns import Columns
from farl.following.follower import Follower
from farl.following.lines import Block, GrowingLines
from farl.following.recordings import read_recorded
from farl.following.run import FollowedRun, RunView
from farl.following.thinning import counted, thinned
from farl.online.recorder import Recorder, encode_floats
from farl.watch import gate_charts
from farl.watch.charts import CHOICES, FAILURES, SUCCESS, points
from farl.watch.clips import newest
from farl.watch.faces import faces
from farl.watch.preview import preview
from farl.watch.rows import Query, episode_rows, run_rows, short
from farl.watch.server import WatchConfig, watch


def gather(lines: GrowingLines, rows: list[Any]) -> list[Any]:
    """The records after one more look."""
    for block in lines.blocks():
        rows = ([] if block.anew else rows) + block.rows
    return rows


def looked(folder: Path) -> RunView:
    run = FollowedRun(folder)
    run.look()
    return run.view


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder with its times."""
    states = {str(path): path.stat() for path in [folder, *folder.rglob("*")]}
    return {path: (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for path, state in states.items()}


# ---- growing files


@pytest.mark.parametrize("block", [5, 64, 1 << 18])
@pytest.mark.parametrize("seed", range(4))
def test_a_file_read_as_it_grows_gives_what_reading_it_at_once_gives(tmp_path: Path, seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    records = [
        {"n": n, "text": "ü" * int(rng.integers(0, 40)), "x": [0.5] * int(rng.integers(0, 9))} for n in range(60)
    ]
    whole = "".join(json.dumps(record, ensure_ascii=bool(rng.integers(2))) + "\n" for record in records).encode()
    cuts = sorted(rng.integers(0, len(whole), 25).tolist())  # anywhere: within a line, within a letter
    path, rows = tmp_path / "x.jsonl", []
    lines = GrowingLines(path, block)
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        with path.open("ab") as file:
            file.write(whole[start:stop])
        rows = gather(lines, rows)
        assert rows == records[: whole[:stop].count(b"\n")]
    assert rows == list(read_jsonl(path))
    assert not lines.damaged


def test_where_each_line_begins_is_where_it_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\nbroken\n{"ä": 2}\n{"a": 3}\n', encoding="utf-8")
    blocks = list(GrowingLines(path, block=11).blocks())
    content = path.read_bytes()
    for block in blocks:
        for row, start in zip(block.rows, block.starts, strict=True):
            assert json.loads(content[start:].partition(b"\n")[0]) == row
    assert sum(len(block.rows) for block in blocks) == 3


def test_only_what_is_new_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_rows(path, [{"n": n} for n in range(1000)])
    lines = GrowingLines(path)
    assert len(gather(lines, [])) == 1000
    assert list(lines.blocks()) == []
    with path.open("r+b") as file:
        file.write(b"#")  # would be seen as damage if the beginning were read again
        file.seek(0, os.SEEK_END)
        file.write(b'{"n": 1000}\n{"n"')
    assert list(lines.blocks()) == [Block([{"n": 1000}], [path.stat().st_size - 16])]


@pytest.mark.parametrize("way", ["recorder", "in place", "grown past", "gone"])
def test_a_file_that_was_wound_back_is_read_anew(tmp_path: Path, way: str) -> None:
    path = tmp_path / "episodes.jsonl"
    write_rows(path, [{"n": n, "run": 1} for n in range(50)])
    lines = GrowingLines(path)
    rows = gather(lines, [])
    replaced = [{"n": n, "run": 2} for n in range(10, 90 if way == "grown past" else 30)]
    if way == "recorder":
        recorder = Recorder(tmp_path, 1.0)
        recorder.lines["episodes"] = 10
        recorder.rewind(10)
        for row in replaced:
            recorder.write("episodes", row)
        recorder.close_files()
    elif way == "gone":
        path.unlink()
        rows = gather(lines, rows)
        assert rows == []
        write_rows(path, replaced)
    else:
        with path.open("r+b") as file:  # the same file: neither its name nor its inode says anything
            file.truncate(0)
            file.write("".join(json.dumps(row) + "\n" for row in replaced).encode())
    assert gather(lines, rows) == list(read_jsonl(path))


def test_damaged_lines_are_left_out_and_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0)
    good = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    damaged = [*good[:3], b'{"step": 3000, "it\n', b"\xff\xfe\n", b"[1, 2]\n", *good[3:], good[0][:20]]
    (folder / "metrics.jsonl").write_bytes(b"".join(damaged))
    view = looked(folder)
    assert view.metrics["step"].tolist() == [json.loads(line)["step"] for line in good]
    assert view.problems == (f"{folder / 'metrics.jsonl'} has 3 damaged lines, the first at 4; left out",)


def test_values_of_a_wrong_kind_are_unknown_and_nothing_more(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": "many", "success_rate": null, "reliability": [[1], 2], "kl": [1, 2], "return_mean": 1e999}\n'
        )
    with (folder / "episodes.jsonl").open("a") as file:
        file.write('{"episode": "x", "outcome": 3, "failed": null, "end_step": {}}\n')
    view = looked(folder)
    assert np.isnan(view.metrics["step"][-1])
    assert view.status(view.changed) == "finished"
    rows, count = episode_rows(view, Query(size=10_000))
    assert count == len(view.episodes)
    assert rows[-1]["episode"] == ""  # without a number it comes last
    for curve in (FAILURES, SUCCESS, *CHOICES.values()):
        assert np.isfinite(points(view, curve)[1]).all()
    assert gate_charts.figures(view)
    assert gate_charts.reliability_series(view)[1]["data"] == []


# ---- tables and curves


def test_a_view_of_columns_never_changes() -> None:
    columns = Columns(words=("outcome",), counted=("bursts",))
    columns.append([{"n": 1, "outcome": "success", "bursts": [3, 4]}, {"n": None}])
    before = columns.view()
    columns.append([{"n": n, "late": True, "outcome": "timeout"} for n in range(3000)])
    assert len(before) == 2
    assert before["n"][0] == 1
    assert np.isnan(before["n"][1])
    assert before["bursts"][0] == 2
    assert np.isnan(before["late"]).all()
    after = columns.view()
    assert np.isnan(after["late"][:2]).all()
    assert (after["late"][2:] == 1).all()
    assert after.equals("outcome", "timeout").sum() == 3000
    assert not after.equals("outcome", "failure").any()
    assert [after.word("outcome", row) for row in (0, 1, 2)] == ["success", "", "timeout"]


@pytest.mark.parametrize("count", [3, 600, 601, 20_000])
def test_a_thinned_curve_keeps_its_ends_peaks_and_dips(count: int) -> None:
    rng = np.random.default_rng(count)
    x, y = np.arange(count) * 2.0, rng.normal(size=count)
    y[rng.integers(count)] = np.nan
    few_x, few_y = thinned(x, y)
    assert len(few_x) <= 600
    known = np.isfinite(y)
    assert (few_x[0], few_x[-1]) == (x[known][0], x[known][-1])
    assert (few_y.min(), few_y.max()) == (y[known].min(), y[known].max())
    assert (np.diff(few_x) > 0).all()
    assert (few_y == y[(few_x / 2).astype(int)]).all()


def test_counted_events_rise_one_by_one_and_end_at_their_number() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.integers(1, 1_000_000, 5000)).astype(float)
    steps, counts = counted(x, 1_000_000)
    assert (steps[0], counts[0]) == (0, 0)
    assert (steps[-1], counts[-1]) == (1_000_000, 5000)
    assert (np.diff(counts) >= 0).all()
    assert all((x < step).sum() <= count <= (x <= step).sum() for step, count in zip(steps, counts, strict=True))
    assert [values.tolist() for values in counted(np.array([4.0]), 10)] == [[0, 4, 4, 10], [0, 0, 1, 1]]


def test_the_page_counts_what_the_report_counts(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 1)
    view, run = looked(folder), read_run(folder)
    assert (view.task, view.method, view.seed) == (TASK, run.method, run.seed)
    assert view.failures == run.failures > 0
    assert view.steps == max(run.steps, run.episodes[-1]["end_step"])
    assert points(view, FAILURES)[1][-1] == run.failures
    steps, values = points(view, SUCCESS)
    assert steps.tolist() == run.curve("success_rate")[0].tolist()
    assert values == pytest.approx(100 * run.curve("success_rate")[1])
    evaluated = [
        row["outcome"] == "success" for row in run.evaluations if (row["step"], row["gate"]) == (run.steps, "on")
    ]
    assert points(view, CHOICES["Success in evaluation, gate on (%)"])[1][-1] == pytest.approx(100 * np.mean(evaluated))


def test_the_gates_figures_are_sums_over_the_episodes(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0)
    rows = list(read_jsonl(folder / "episodes.jsonl"))
    found = {label: number for label, number, _ in gate_charts.figures(looked(folder))}
    assert found["Takeovers"] == f"{sum(len(row['bursts']) for row in rows):,}"
    assert found["Cap hits"] == str(sum(row["cap_hits"] for row in rows))
    assert found["Not caught in time"] == str(sum(row["cause"] in ("ungated", "late") for row in rows))
    dots = gate_charts.risk_series(looked(folder))
    assert sum(len(group["data"]) for group in dots) == min(len(rows), gate_charts.NEWEST)


@pytest.mark.parametrize("kind", ["all", "failing", "success", "time-out"])
@pytest.mark.parametrize(("by", "descending"), [("episode", True), ("return", False), ("risk_max", True)])
def test_pages_of_episodes_are_the_sorted_list_cut_up(tmp_path: Path, kind: str, by: str, descending: bool) -> None:
    folder = make_run(tmp_path, "farl", 0)
    kept = {
        "all": lambda row: True,
        "failing": lambda row: row["failed"],
        "success": lambda row: row["outcome"] == "success",
        "time-out": lambda row: row["outcome"] == "timeout",
    }[kind]
    expected = [row for row in read_jsonl(folder / "episodes.jsonl") if kept(row)]
    expected.sort(key=lambda row: row[by], reverse=descending)
    view, seen = looked(folder), []
    for page in range(1, 2 + len(expected) // 7):
        rows, count = episode_rows(view, Query(kind, page, 7, by, descending))
        assert count == len(expected)
        seen += [row["number"] for row in rows]
    assert [view.episodes[by][number] for number in seen] == [row[by] for row in expected]
    assert sorted(seen) == sorted(row["episode"] for row in expected)


# ---- runs


def running(folder: Path, **meta: Any) -> None:
    (folder / "meta.json").write_text(json.dumps({"status": "running", **meta}))


@pytest.mark.parametrize(
    ("said", "quiet_s", "expected"),
    [
        ("running", 5, "running"),
        ("running", 90, "stalled"),
        ("finished", 90, "finished"),
        ("interrupted", 90, "interrupted"),
        ("failed", 90, "failed"),
    ],
)
def test_a_run_that_says_it_runs_and_writes_nothing_is_stalled(
    tmp_path: Path, said: str, quiet_s: float, expected: str
) -> None:
    folder = make_run(tmp_path, "farl", 0, finished=False)
    running(folder, status=said)
    view = looked(folder)
    assert view.status(view.changed + quiet_s) == expected


def test_slow_iterations_are_not_a_stall(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0, finished=False)
    rows = [{**row, "wall_s": 30.0 * row["iteration"]} for row in read_jsonl(folder / "metrics.jsonl")]
    write_rows(folder / "metrics.jsonl", rows)
    view = looked(folder)
    assert view.status(view.changed + 290) == "running"
    assert view.status(view.changed + 310) == "stalled"


def test_the_time_left_is_what_is_missing_at_the_speed_of_late(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0, steps=40_000, finished=False)  # asked for 80,000
    rows = list(read_jsonl(folder / "metrics.jsonl"))
    slow = [{**row, "wall_s": 1000.0 + row["step"] / 10} for row in rows]  # a slow start does not count for ever
    slow[0]["wall_s"] = 0.0
    write_rows(folder / "metrics.jsonl", slow)
    assert looked(folder).seconds_left() == pytest.approx((80_000 - 40_000) / 10)


def test_only_a_change_makes_a_new_view(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0, finished=False)
    run = FollowedRun(folder)
    assert run.look()
    first = run.view
    assert not run.look()
    assert run.view is first
    with (folder / "episodes.jsonl").open("a") as file:
        file.write('{"episode": 9999, "end_step": 20000, "failed": true}\n')
    assert run.look()
    assert run.view.version > first.version
    assert run.view.failures == first.failures + 1
    running(folder, threshold=0.25)
    assert run.look()
    assert run.view.threshold == 0.25


def test_a_study_grows_and_keeps_what_was_read(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", seeds=(0,))
    alone = make_run(tmp_path / "elsewhere", "farl", 7)
    follower = Follower([study, alone])
    follower.look()
    before = {view.folder: view for view in follower.views}
    assert [view.method for view in follower.views] == ["farl", "uni-o4", "farl"]
    make_run(study, "farl", 1)
    assert follower.look()
    assert [(view.method, view.seed) for view in follower.views] == [
        ("farl", 0),
        ("farl", 1),
        ("uni-o4", 0),
        ("farl", 7),
    ]
    assert all(follower.view(folder) is view for folder, view in before.items())


def test_runs_are_told_apart_by_name_colour_and_line(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, method, seed) for name, method, seed in
               (("a", "farl", 0), ("a", "farl", 1), ("b", "farl", 0), ("a", "uni-o4", 0))]  # fmt: skip
    shutil.copytree(folders[2], tmp_path / "b" / "copy")
    views = [looked(folder) for folder in [*folders, tmp_path / "b" / "copy"]]
    looks = faces(views)
    assert len({face.name for face in looks.values()}) == len(views)
    assert len({(face.colour, face.dash, face.opacity) for face in looks.values()}) == len(views)
    assert len({looks[view.folder].colour for view in views if view.method == "farl"}) == 1
    rows = run_rows(views, looks, {folders[0]}, folders[0], time.time())
    assert [row["shown"] for row in rows] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0"), (999, "999"), (1000, "1k"), (301_056, "301k"), (999_984, "1M"), (1_530_000, "1.53M")]
)
def test_counts_are_short(count: float, said: str) -> None:
    assert short(count) == said


def test_nothing_is_written_into_a_run(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    before = tree(study)
    follower = Follower([study])
    follower.look()
    for view in follower.views:
        episode_rows(view, Query())
        newest(view, 4)
    follower.look()
    assert tree(study) == before


def test_a_failure_that_was_kept_is_the_one_that_was_recorded(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "farl", 0)
    running(folder, threshold=0.5)
    failing = next(row["episode"] for row in read_jsonl(folder / "episodes.jsonl") if row["failed"])
    actions, risk = np.arange(10, dtype=np.float32).reshape(5, 2), np.linspace(0, 1, 5, dtype=np.float32)
    line = {"episode": failing, "seed": 3, "first_failure": 4, "gated": "00110", "shape": [5, 2],
            "actions": encode_floats(actions), "risk": encode_floats(risk)}  # fmt: skip
    write_rows(folder / "failures.jsonl", [{"episode": 1}, line])
    view = looked(folder)
    assert newest(view, 4) == [failing]
    recorded = read_recorded(view, failing)
    assert recorded is not None
    assert (recorded.actions == actions).all()
    assert (recorded.risk == risk).all()
    assert recorded.gated.tolist() == [False, False, True, True, False]
    assert (recorded.onset, recorded.seed, recorded.threshold) == (4, 3, 0.5)
    assert preview(recorded).count("<rect") == 1
    write_rows(folder / "failures.jsonl", [line])  # wound back behind the view's back
    assert read_recorded(view, failing) is None


# ---- the command


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "something is missing; usage: farl watch RUN_OR_STUDY"),
        (["nothere"], "there is no folder 'nothere'"),
        (["above"], "nor a study (it has no runs/); the nearest run below it is above/in. Usage: farl watch"),
        (["empty"], "and there is none below it"),
        (["file"], "file is a file, not the folder of a run"),
        (["above/in", "--prot", "1"], "unknown flag '--prot'; perhaps you meant '--port'"),
        (["above/in", "--port", "70000"], "port is 70000; give a number up to 65535"),
        (["above/in", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_answered_in_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    make_run(tmp_path / "made", "farl", 0).rename(tmp_path / "run")
    (tmp_path / "above").mkdir()
    (tmp_path / "run").rename(tmp_path / "above" / "in")
    assert cli.main(["watch", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("farl: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert said.out == ""


def test_an_occupied_port_and_a_missing_package_are_said_with_their_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(make_run(tmp_path, "farl", 0))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["watch", run, "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1, port {port}: " in said
    assert "choose another --port, or leave it out" in said
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert cli.main(["watch", run]) == 2
    assert "pip install -c constraints.txt -e '.[watch]'" in capsys.readouterr().err


def test_another_address_than_loopback_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Served:
        def run(self, sockets: list[socket.socket]) -> None:
            sockets[0].close()

    monkeypatch.setattr("farl.watch.server._server", lambda *_, **__: Served())
    run = make_run(tmp_path, "farl", 0)
    watch([run], WatchConfig(open=False))
    assert "warning" not in capsys.readouterr().err
    watch([run], WatchConfig(host="0.0.0.0", open=False))
    assert "warning: everybody who can reach 0.0.0.0 sees these runs" in capsys.readouterr().err


def test_reading_needs_neither_torch_nor_the_page() -> None:
    import subprocess

    code = (
        "import sys, farl.watch.charts, farl.watch.clips, farl.following.recordings, farl.following.follower;"
        "print([name for name in ('torch', 'nicegui', 'gymnasium', 'mujoco') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
