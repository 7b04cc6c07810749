"""The tables, figures and ablations of the results: counted again by hand, and the same however often they are made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from study_folder import TASK, TASK_ID, make_run, make_study

from experiments import ablations, paper_figures, paper_results, paper_tables
from experiments.paper_rows import main_rows, read_tasks
from experiments.tables import read_table, write_table
from experiments.variants import paper_configuration, variant_of
from failurebench.references import load_references
from farl import configuration
from farl.compare.records import read_run
from farl.compare.statistics import reduction
from farl.compare.study import StudyConfig
from farl.errors import UserError


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study")


def record(study: Path, results: Path) -> list[dict[str, str]]:
    paper_results.record([study], results, which="none")
    return read_table(results / f"{TASK}.csv")


def episodes(study: Path, method: str, seed: int) -> list[dict]:
    path = study / "runs" / TASK / method / f"seed-{seed}" / "episodes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---------------------------------------------------------------- rows


def test_the_expert_scores_a_hundred_and_random_actions_nothing():
    reference = load_references()["FailureBench/BoundedPush-v0"]
    expert, random = (reference[name]["full_length_return"] for name in ("expert", "random"))
    assert paper_results.score(TASK_ID, expert) == pytest.approx(100)
    assert paper_results.score(TASK_ID, random) == pytest.approx(0)
    assert paper_results.score(TASK_ID, (expert + random) / 2) == pytest.approx(50)
    assert paper_results.score("failurebench:FailureBench/PointMassCliff-v0", 1.0) == ""


def test_a_row_says_what_the_episodes_say(study, tmp_path):
    rows = record(study, tmp_path)
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("farl", "0"),
        ("farl", "1"),
        ("uni-o4", "0"),
        ("uni-o4", "1"),
    ]
    for row in rows:
        known = episodes(study, row["method"], int(row["seed"]))
        late = [e for e in known if e["end_step"] > 16_000]
        done = [e["length"] for e in late if e["outcome"] == "success"]
        assert int(row["agent_steps"]) == 20_000
        assert int(row["episodes"]) == len(known)
        assert int(row["failure_episodes"]) == sum(e["failed"] for e in known)
        assert sum(int(row[cause]) for cause in ("ungated", "late", "during_recovery")) == int(row["failure_episodes"])
        assert float(row["late_success_rate"]) == pytest.approx(len(done) / len(late), rel=1e-4)
        assert float(row["late_steps_to_success"]) == pytest.approx(np.mean(done), rel=1e-4)
        assert row["commit"] == "abc1234"
        assert row["variant"] == ""


def test_recording_again_changes_nothing_and_a_run_that_went_on_has_one_row(study, tmp_path):
    record(study, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    record(study, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == before
    make_run(study, "farl", 1, steps=40_000)  # also with another target, which is part of a row's key
    rows = record(study, tmp_path)
    steps = {(row["method"], row["seed"]): row["agent_steps"] for row in rows}
    assert steps == {("uni-o4", "0"): "20000", ("uni-o4", "1"): "20000", ("farl", "0"): "20000", ("farl", "1"): "40000"}
    assert len(rows) == 4
    assert len(read_table(tmp_path / "curves.csv")) == 4


def test_an_evaluation_is_kept_until_the_run_goes_on(study, tmp_path):
    rows = record(study, tmp_path)
    rows[0] |= {"evaluated_at": "20000", "return_gate_on": "123.5"}
    write_table(tmp_path / f"{TASK}.csv", paper_results.COLUMNS, rows)
    assert record(study, tmp_path)[0]["return_gate_on"] == "123.5"
    make_run(study, rows[0]["method"], int(rows[0]["seed"]), steps=30_000)
    assert {row["return_gate_on"] for row in record(study, tmp_path)} == {""}


def test_an_unfinished_run_has_a_row_with_its_steps_so_far(tmp_path):
    make_run(tmp_path / "study", "farl", 0, finished=False)
    (row,) = record(tmp_path / "study", tmp_path)
    assert (row["status"], row["agent_steps"], row["target_steps"]) == ("unfinished", "20000", "40000")


def test_a_study_without_runs_is_passed_over_and_none_at_all_refused(study, tmp_path):
    (tmp_path / "begun" / "bundles").mkdir(parents=True)
    paper_results.record([tmp_path / "begun", study], tmp_path, which="none")
    assert len(read_table(tmp_path / f"{TASK}.csv")) == 4
    with pytest.raises(UserError, match="is not a study"):
        paper_results.record([tmp_path / "mistyped"], tmp_path, which="none")


def test_episodes_beyond_the_last_update_are_not_counted_yet(study, tmp_path):
    """A run that was killed goes back to its last checkpoint, and plays them again."""
    path = study / "runs" / TASK / "farl" / "seed-0" / "episodes.jsonl"
    before = record(study, tmp_path)
    last = json.loads(path.read_text().splitlines()[-1])
    with path.open("a") as file:
        file.write(json.dumps({**last, "episode": 9999, "end_step": 20_050, "failed": True}) + "\n")
    assert record(study, tmp_path) == before


def test_a_curve_counts_the_failures_until_each_step(study, tmp_path):
    record(study, tmp_path)
    for group in read_tasks(tmp_path)[0].groups:
        for run in group.runs:
            known = episodes(study, group.method, run.seed)
            for steps in (5_000, 10_000, 20_000):
                assert run.failures_at(steps) == sum(e["failed"] and e["end_step"] <= steps for e in known)


def test_a_run_is_told_by_what_differs_from_the_paper_configuration(tmp_path):
    folder = make_run(tmp_path, "farl", 0)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    paper = paper_configuration(TASK)
    assert paper["online"]["ppo"]["lr"] == 2e-5
    online = {**paper["online"], **settings, "steps": 5, "bundle": str(tmp_path / "bundle"), "credit": "mask"}
    online["gate"] = {**paper["online"]["gate"], "threshold": 0.25}
    online["ppo"] = {**paper["online"]["ppo"], "clip": 0.3}
    (folder / "config.yaml").write_text(yaml.safe_dump(online))
    (tmp_path / "bundle").mkdir()
    offline = {**paper["offline"], "out": "elsewhere", "seed": 3, "risk": {**paper["offline"]["risk"], "horizon": 4}}
    (tmp_path / "bundle" / "config.yaml").write_text(yaml.safe_dump(offline))
    assert variant_of(read_run(folder)) == "credit=mask gate.threshold=0.25 offline.risk.horizon=4 ppo.clip=0.3"
    ungated = folder.parent.parent / "uni-o4" / "seed-0"
    ungated.parent.mkdir()
    folder.rename(ungated)  # what no gate is there to heed makes no variant
    assert variant_of(read_run(ungated)) == "ppo.clip=0.3"


# ---------------------------------------------------------------- figures and tables


def test_reductions_are_paired_by_seed(study, tmp_path):
    record(study, tmp_path)
    make_run(study, "uni-o4", 7)  # without a partner: must not count
    record(study, tmp_path)
    (one,) = main_rows(read_tasks(tmp_path))
    counts = {m: [sum(e["failed"] for e in episodes(study, m, seed)) for seed in (0, 1)] for m in ("farl", "uni-o4")}
    assert one.reduction(one.of("farl"), 20_000) == reduction(counts["farl"], counts["uni-o4"])
    assert f"{100 * (1 - sum(counts['farl']) / sum(counts['uni-o4'])):.1f} %" in paper_tables.failures([one])


def test_methods_are_compared_where_the_shortest_run_ends(study, tmp_path):
    make_run(study, "farl", 0, steps=10_000)
    folder = study / "runs" / TASK / "farl" / "seed-0" / "config.yaml"
    folder.write_text(folder.read_text().replace("steps: 10000", "steps: 20000"))
    record(study, tmp_path)
    (one,) = main_rows(read_tasks(tmp_path))
    assert one.common_steps(one.shown()) == 10_000
    early = sum(e["failed"] and e["end_step"] <= 10_000 for e in episodes(study, "uni-o4", 0))
    assert one.of("uni-o4").failures(10_000)[0] == early


def test_figures_are_drawn_from_whatever_rows_there_are(study, tmp_path):
    images = tmp_path / "images"
    assert paper_figures.draw(tmp_path / "nothing", images) == []
    record(study, tmp_path)
    assert {path.name for path in paper_figures.draw(tmp_path, images)} == {
        "results_failures.png",
        "results_curves.png",
    }
    rows = read_table(tmp_path / f"{TASK}.csv")
    for row in rows:
        gate = "off" if row["method"] == "uni-o4" else "on"
        row |= {f"{when}{name}_gate_{gate}": "1.5" for when in ("", "start_") for name in paper_results.MEASURES}
    changed = [
        {**row, "variant": "gate.threshold=0.5", "run": f"other {row['seed']}"}
        for row in rows
        if row["method"] == "farl"
    ]
    write_table(tmp_path / f"{TASK}.csv", paper_results.COLUMNS, [*rows, *changed])
    drawn = paper_figures.draw(tmp_path, images)
    assert {path.stem for path in drawn} == {
        f"results_{name}" for name in ("failures", "curves", "returns", "ablations")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_figures_and_tables_stand_between_their_markers_and_the_rest_of_the_page_stays(study, tmp_path):
    record(study, tmp_path)
    page, images, names = tmp_path / "page.md", tmp_path / "images", [block.name for block in paper_tables.BLOCKS]
    page.write_text("\n".join(f"{name} before\n{paper_tables.begin(name)}\nold\n{paper_tables.END}" for name in names))
    paper_figures.draw(tmp_path, images)
    paper_tables.fill(page, read_tasks(tmp_path), images)
    text = page.read_text()
    assert "old" not in text
    assert all(f"{name} before" in text for name in names)
    assert f"| {TASK} | 20,000 | 2 |" in text
    assert "(images/results_curves.png)" in text
    assert "results_returns.png" not in text  # nothing was evaluated
    paper_tables.fill(page, read_tasks(tmp_path), images)
    assert page.read_text() == text
    page.write_text("nothing here")
    with pytest.raises(UserError, match="failures: made by"):
        paper_tables.fill(page, [], images)


def test_the_page_has_every_marker(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(paper_figures.PAGE.read_text())
    paper_tables.fill(page, [], tmp_path)
    assert page.read_text().count("No runs yet.") == len(paper_tables.BLOCKS)


# ---------------------------------------------------------------- ablations


@pytest.fixture
def base(tmp_path: Path) -> StudyConfig:
    return dataclasses.replace(configuration.read(StudyConfig, ablations.CONFIG), out=tmp_path / "ablations")


def test_the_ablations_differ_from_the_paper_only_in_budget(base):
    paper = paper_configuration(base.task.name)
    ours = yaml.safe_load(configuration.dump(base))
    assert ours["offline"] == paper["offline"]
    assert {**ours["online"], "steps": 1_000_000} == paper["online"]


def test_every_variant_changes_what_is_run_and_every_job_has_what_it_needs(base):
    methods, variants = ablations.chosen([], base)
    made = list(ablations.jobs(base, methods, variants, None))
    names = [one.name for one in made]
    assert len(set(names)) == len(names)
    assert len({one.folder for one in made}) == len(made)
    for place, one in enumerate(made):
        assert set(one.needs) <= set(names[:place])
    changed = {
        configuration.dump(dataclasses.replace(ablations.variant_study(name, base), out=base.out)) for name in variants
    }
    assert len(changed) == len(variants)


def test_a_variant_of_the_look_ahead_takes_over_the_common_weights_and_one_of_the_model_is_trained(base):
    made = {
        one.name: one
        for one in ablations.jobs(base, ["farl"], ["horizon-2", "model-without-recovery", "threshold-0.1"], None)
    }

    def settings(name: str) -> dict:
        return yaml.safe_load(Path(made[name].command[-1]).read_text())

    common = settings("bundle seed 1")["out"]
    assert settings("horizon-2: bundle seed 1")["weights"] == common
    assert settings("horizon-2: bundle seed 1")["risk"]["horizon"] == 2
    assert settings("horizon-2: farl seed 1")["bundle"] == settings("horizon-2: bundle seed 1")["out"]
    assert settings("model-without-recovery: bundle seed 1")["weights"] is None
    assert settings("threshold-0.1: farl seed 1")["bundle"] == common


def test_the_random_gate_is_as_frequent_as_farls_on_the_same_seed(base):
    made = {one.name: one for one in ablations.jobs(base, ["farl", "random-gate"], [], None)}
    assert "farl seed 1" in made["random-gate seed 1"].needs
    controls = yaml.safe_load(Path(made["random-gate seed 1"].command[-1]).read_text())["controls"]
    assert controls["random_like"] == str(made["farl seed 1"].folder)


def test_an_unknown_name_and_a_study_without_bundles_are_refused(base, tmp_path):
    with pytest.raises(UserError, match="no method or variant horizon-99"):
        ablations.run(base, ["horizon-99"], None)
    with pytest.raises(UserError, match="no finished bundle"):
        ablations.run(base, ["farl"], tmp_path)
    assert not base.out.exists()
