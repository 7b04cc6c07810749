"""The report's diagnostics: counts against the files they come from, and what is said where something was not recorded."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from study_folder import TASK, make_run, make_study, write_rows
from test_report import Page, cells, rows

from farl.compare.diagnostics import DiagnosedMethod, DiagnosedRun
from farl.compare.records import find_runs
from farl.compare.report import write_report
from farl.diagnosis.record import Diagnosis, Examined

NONE = "\N{EN DASH}"
NEW = ("lead", "warning", "failure_detail")


def farl(study: Path) -> Path:
    return study / "runs" / TASK / "farl" / "seed-0"


def failing(run: Path) -> list[dict]:
    return [row for row in rows(run) if row["failed"]]


def age(run: Path) -> None:
    """As a run was recorded before there were lead times and histograms."""
    episodes, metrics = rows(run), rows(run, "metrics")
    write_rows(run / "episodes.jsonl", [{k: v for k, v in row.items() if k not in NEW} for row in episodes])
    write_rows(run / "metrics.jsonl", [{k: v for k, v in row.items() if k != "reliability"} for row in metrics])


def calibrate(study: Path, run: Path, set_to: float, **calibration: object) -> None:
    """Give the run a threshold, and a bundle that was calibrated so."""
    bundle = study / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.yaml").write_text(yaml.safe_dump({"calibration": calibration}))
    (bundle / "manifest.json").write_text(
        json.dumps({"calibration": {"reliability": [[0.01, 0.02, 50], [0.3, 0.2, 9]], **calibration}})
    )
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"bundle": str(bundle)}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    meta = json.loads((run / "meta.json").read_text()) | {"threshold": set_to}
    (run / "meta.json").write_text(json.dumps(meta))


@pytest.fixture
def without_figures(monkeypatch):
    """For tests of the words alone."""
    monkeypatch.setattr("farl.compare.report.figures", lambda comparison, colours: {})
    monkeypatch.setattr("farl.compare.report.diagnostic_figures", lambda task, found, colours: {})


@pytest.mark.usefixtures("without_figures")
def test_the_table_counts_what_the_episodes_say(tmp_path):
    study = make_study(tmp_path, seeds=(0,))
    calibrate(study, farl(study), 0.6, min_lead=4, miss_rate=0.05, threshold=0.6, miss_bound=0.7)
    page, failures = Page(write_report(study)), failing(farl(study))
    causes = Counter(row["cause"] for row in failures)
    assert len(causes) == 3
    assert cells(page, "Failure episodes") == [
        str(len(failing(study / "runs" / TASK / "uni-o4" / "seed-0"))),
        str(len(failures)),
    ]
    assert cells(page, "No gate")[1] == "0"
    assert cells(page, "Critic missed it")[1] == str(causes["ungated"])
    assert cells(page, "Gate too late")[1] == str(causes["late"])  # all with a lead of 2, where 4 are needed
    assert cells(page, "Recovery failed")[1] == str(causes["during_recovery"])
    assert cells(page, "Detail: tipped")[1] == str(sum(row["failure_detail"] == "tipped" for row in failures))
    missed = sum(row["warning"] <= 0.6 for row in failures)
    assert cells(page, "Realised miss rate")[1].startswith(f"{100 * missed / len(failures):.0f}")
    assert f"{missed} of {len(failures)}" in page.words
    assert "promised 5.0 %" in page.words
    hits = sum(row["cap_hits"] for row in rows(farl(study)))
    assert f"{hits} in all" in page.words
    assert cells(page, "z-score of gated steps") == [NONE, "4"]


@pytest.mark.usefixtures("without_figures")
def test_what_recovery_needs_decides_what_is_late(tmp_path):
    """The same failures, of a bundle that was calibrated for two steps of lead instead of four."""
    study = make_study(tmp_path, ("farl",), (0,))
    calibrate(study, farl(study), 0.6, min_lead=2)
    page, causes = Page(write_report(study)), Counter(row["cause"] for row in failing(farl(study)))
    assert cells(page, "Handed back too early") == [str(causes["late"])]
    assert "Gate too late" not in page.words


@pytest.mark.usefixtures("without_figures")
def test_the_simulators_verdicts_reach_the_page(tmp_path):
    study = make_study(tmp_path, ("farl",), (0,))
    failures = failing(farl(study))
    hopeless, hopeful = failures[0], failures[1]
    examined = [
        Examined(hopeless["episode"], hopeless["seed"], 7, True, {5: [], 7: [], 10: []}),
        Examined(hopeful["episode"], hopeful["seed"], 7, True, {5: ["holding still"], 7: [], 10: []}),
    ]
    settings = {"steps": 30, "seed": 0, "leads": [5, 10, 20]}
    Diagnosis(100, settings, None, None, {one.episode: one for one in examined}).write(farl(study))
    page = Page(write_report(study))
    assert cells(page, "Unavoidable") == ["1"]
    assert f"judged by their record alone: farl seed 0 (2 of {len(failures)})." in page.words
    write_rows(farl(study) / "episodes.jsonl", [{**row, "seed": row["seed"] + 1} for row in rows(farl(study))])
    assert "Unavoidable" not in Page(write_report(study)).words  # a diagnosis of other episodes counts for nothing


def test_every_figure_is_there_and_a_bare_study_has_those_it_can_have(tmp_path, monkeypatch):
    monkeypatch.setattr("farl.compare.report.figures", lambda comparison, colours: {})  # the page's other figures
    study = make_study(tmp_path / "new", seeds=(0,))
    calibrate(study, farl(study), 0.6, min_lead=4)
    one = failing(farl(study))[0]
    found = {one["episode"]: Examined(one["episode"], one["seed"], 7, True, {5: ["holding still"]})}
    Diagnosis(1, {"leads": [5]}, None, None, found).write(farl(study))
    keys = ("parts", "fifths", "avoidable", "lead", "reliability", "drift", "credit")
    drawn = [f"{TASK}-diagnosis-{key}" for key in keys]
    source = write_report(study).read_text()
    assert [key in source for key in drawn] == [True] * 7
    age(make_run(tmp_path / "bare", "uni-o4", 0))
    source = write_report(tmp_path / "bare").read_text()
    assert [key in source for key in drawn] == [True, False, False, False, False, True, False]


@pytest.mark.usefixtures("without_figures")
def test_older_runs_are_shown_and_what_they_lack_is_said(tmp_path):
    study = make_study(tmp_path, seeds=(0,))
    age(farl(study))
    page, causes = Page(write_report(study)), Counter(row["cause"] for row in failing(farl(study)))
    assert "Recorded before lead times, warnings and failure details were: farl seed 0." in page.words
    assert "Not examined in the simulator: uni-o4 seed 0, farl seed 0." in page.words
    assert "farl diagnose" in page.words
    assert cells(page, "Recovery failed")[1] == str(causes["during_recovery"])
    assert cells(page, "Lead time")[1] == NONE


@pytest.mark.usefixtures("without_figures")
def test_without_failures_there_is_nothing_to_explain(tmp_path):
    make_run(tmp_path, "farl", 0, failure_rate=0.0)
    assert "There are no failures to explain" in Page(write_report(tmp_path)).words


def test_rates_drift_by_the_fifth_of_the_run_in_which_episodes_ended(tmp_path):
    study = make_study(tmp_path, ("farl",), (0,), steps=20_000)
    run = find_runs(study)[0]
    method = DiagnosedMethod("farl", (DiagnosedRun(run, Diagnosis()),), 20_000)
    fifths = [[row for row in run.episodes if 4000 * n < row["end_step"] <= 4000 * (n + 1)] for n in range(5)]
    failures = [sum(row["failed"] for row in rows) for rows in fifths]
    assert len(set(failures)) > 1
    assert method.drift("failures") == pytest.approx([count / 0.4 for count in failures])
    assert [len(fifth) for fifth in method.by_fifth()] == failures
    share = [sum(row["gated_steps"] for row in rows) / sum(row["length"] for row in rows) for rows in fifths]
    assert method.drift("gated") == pytest.approx(share)
    off = method.drift("off")
    evaluated = {row["step"] for row in run.evaluations}
    assert [value == value for value in off] == [
        any(4000 * n < step <= 4000 * (n + 1) for step in evaluated) for n in range(5)
    ]


@pytest.mark.usefixtures("without_figures")
def test_the_page_links_to_its_diagnostics(tmp_path):
    source = write_report(make_study(tmp_path, ("farl",), (0,))).read_text()
    (target,) = re.findall(r'href="#(\w+-failures)"', source)
    assert f'id="{target}"' in source


def test_a_miss_is_judged_by_the_threshold_of_its_time(tmp_path):
    """An adaptive gate that begins at 0.6, and is at 0.2 from step 4000 on."""
    study = make_study(tmp_path, ("farl",), (0,))
    calibrate(study, farl(study), 0.6)
    metrics = [{**row, "threshold": 0.2} if row["step"] >= 4000 else row for row in rows(farl(study), "metrics")]
    write_rows(farl(study) / "metrics.jsonl", metrics)
    run = DiagnosedRun(find_runs(study)[0], Diagnosis())
    given = [{"warning": 0.4, "end_step": step} for step in (500, 4000, 4001, 9000)] + [
        {"warning": None, "end_step": 9}
    ]
    assert run.missed(given) == (2, 4)


@pytest.mark.parametrize(
    ("gate", "searched", "promised"),
    [
        ({}, 0.6, 0.05),
        ({}, 0.8, None),  # tried in closed loop, above the bound: nothing is promised
        ({"miss_rate": 0.1}, 0.8, 0.1),
        ({"threshold": 0.3}, 0.6, None),
        ({"threshold": None}, 0.6, 0.05),
    ],
)
def test_what_was_promised_is_what_the_gate_was_set_for_else_the_bundle(gate, searched, promised, tmp_path):
    study = make_study(tmp_path, ("farl",), (0,))
    calibrate(study, farl(study), searched, miss_rate=0.05, threshold=searched, miss_bound=0.7)
    config = yaml.safe_load((farl(study) / "config.yaml").read_text()) | {"gate": gate}
    (farl(study) / "config.yaml").write_text(yaml.safe_dump(config))
    assert DiagnosedRun(find_runs(study)[0], Diagnosis()).promised == promised
