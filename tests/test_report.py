"""The report: its numbers against the files they come from, and every state a study can be in."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from study_folder import TASK, make_acceptance, make_run, make_study

from farl.compare import clips
from farl.compare.records import find_runs, inconsistencies
from farl.compare.report import write_report
from farl.compare.summary import compare_runs
from farl.errors import UserError

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "line", "circle", "stop"}


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects what a test wants to see."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self._seen(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._seen(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.text += data

    def _seen(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "poster") and not value.startswith(("#", "data:")):
                self.fetched.append(value)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text.replace("\u00a0", " "))


def rows(run: Path, name: str = "episodes") -> list[dict]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def cells(page: Page, label: str) -> list[str]:
    """The main figures of a table row, one a method."""
    line = re.search(rf"<tr><th scope=\"row\"[^>]*>{re.escape(label)}</th>(.*?)</tr>", page.source, re.DOTALL).group(1)
    return [re.sub(r"\s+", " ", cell).strip() for cell in re.findall(r"<td[^>]*>([^<]*)", line)]


@pytest.fixture
def without_figures(monkeypatch):
    """For tests of the words alone: drawing is most of a page's time."""
    monkeypatch.setattr("farl.compare.report.figures", lambda comparison, colours: {})
    monkeypatch.setattr("farl.compare.report.diagnostic_figures", lambda task, found, colours: {})


def test_the_page_parses_stands_alone_and_has_its_figures(tmp_path):
    study = make_study(tmp_path)
    make_acceptance(study, 0)
    page = Page(write_report(study))
    assert page.count["svg"] >= 10
    assert page.fetched == []
    assert "url(http" not in page.source
    assert "@import" not in page.source
    assert len(page.ids) == len(set(page.ids))
    assert "gate: onset recall, lead 3" in page.words
    assert "farl compare" in page.words


@pytest.mark.usefixtures("without_figures")
def test_the_numbers_are_those_of_the_episodes(tmp_path):
    study = make_study(tmp_path, seeds=(0, 1, 2))
    page = Page(write_report(study))
    runs = {m: [rows(tmp_path / "runs" / TASK / m / f"seed-{s}") for s in (0, 1, 2)] for m in ("uni-o4", "farl")}
    failures = {m: [sum(row["failed"] for row in run) for run in found] for m, found in runs.items()}
    episodes = {m: sum(len(run) for run in found) for m, found in runs.items()}
    assert cells(page, "Episodes, all runs") == [f"{episodes[m]:,}" for m in runs]
    means = [float(text) for text in cells(page, "Failure episodes a run")]
    assert means == pytest.approx([np.mean(failures[m]) for m in runs], rel=0.01)
    rates = [float(text.split()[0]) / 100 for text in cells(page, "Failures per episode")]
    assert rates == pytest.approx([sum(failures[m]) / episodes[m] for m in runs], abs=0.005)
    expected = 1 - sum(failures["farl"]) / sum(failures["uni-o4"])
    assert f"farl had {100 * expected:.0f} % fewer failure episodes than uni-o4" in page.words
    gated = [row for run in runs["farl"] for row in run]
    share = sum(row["gated_steps"] for row in gated) / sum(row["length"] for row in gated)
    assert float(cells(page, "Steps under recovery")[1].split()[0]) / 100 == pytest.approx(share, abs=0.002)


@pytest.mark.usefixtures("without_figures")
def test_the_table_has_a_row_per_run(tmp_path):
    study = make_study(tmp_path)
    write_report(study)
    with (study / "report.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["method"], row["seed"]) for row in table] == [
        ("farl", "0"),
        ("farl", "1"),
        ("uni-o4", "0"),
        ("uni-o4", "1"),
    ]
    for row in table:
        found = rows(tmp_path / "runs" / TASK / row["method"] / f"seed-{row['seed']}")
        assert int(row["failures"]) == sum(episode["failed"] for episode in found)
        assert int(row["episodes"]) == int(row["successes"]) + int(row["timeouts"]) + int(row["ended_by_failure"])
        assert int(row["failures"]) == sum(
            int(row[f"failures_{cause}"]) for cause in ("ungated", "late", "during_recovery")
        )


def test_the_same_study_gives_the_same_page(tmp_path):
    study = make_study(tmp_path)
    assert write_report(study).read_bytes() == write_report(study).read_bytes()


def test_one_seed_gets_no_interval(tmp_path):
    page = Page(write_report(make_study(tmp_path, seeds=(0,))))
    assert "which says nothing yet about other seeds" in page.words
    assert "one seed: no interval" in page.words


def test_without_failures_there_is_no_reduction_to_give(tmp_path):
    study = tmp_path
    for method in ("uni-o4", "farl"):
        make_run(study, method, 0, failure_rate=0.0)
    page = Page(write_report(study))
    assert "No reduction can be given: uni-o4 had no failure" in page.words


def test_three_methods_and_more_share_the_page(tmp_path):
    page = Page(write_report(make_study(tmp_path, ("uni-o4", "farl", "simple-critic", "gate-hold"), (0, 1, 2))))
    assert cells(page, "Runs") == ["3"] * 4
    assert cells(page, "Reduction against uni-o4")[0] == "baseline"


@pytest.mark.usefixtures("without_figures")
def test_a_run_under_way_is_named_and_does_not_shorten_the_others(tmp_path):
    study = make_study(tmp_path, seeds=(0, 1), steps=20_000)
    make_run(study, "farl", 2, steps=3000, finished=False)
    page = Page(write_report(study))
    assert "left out of the tables and drawn faintly: farl seed 2 at 3,000 of 6,000 steps" in page.words
    assert cells(page, "Agent steps a run") == ["20,000"] * 2


@pytest.mark.usefixtures("without_figures")
def test_a_study_of_runs_under_way_is_compared_as_far_as_all_have_come(tmp_path):
    make_run(tmp_path, "uni-o4", 0, steps=8000, finished=False)
    make_run(tmp_path, "farl", 0, steps=5000, finished=False)
    page = Page(write_report(tmp_path))
    assert "compared as far as they got" in page.words
    assert cells(page, "Agent steps a run") == ["5,000"] * 2


@pytest.mark.usefixtures("without_figures")
def test_runs_of_unequal_length_are_compared_at_the_common_number_of_steps(tmp_path):
    long = make_run(tmp_path, "uni-o4", 0, steps=20_000)
    make_run(tmp_path, "farl", 0, steps=10_000)
    page = Page(write_report(tmp_path))
    early = sum(row["failed"] for row in rows(long) if row["end_step"] <= 10_000)
    assert early < sum(row["failed"] for row in rows(long))
    assert float(cells(page, "Failure episodes a run")[0]) == early
    assert "all numbers are taken at 10,000 agent steps" in page.words


@pytest.mark.usefixtures("without_figures")
def test_a_single_method_is_shown_without_a_comparison(tmp_path):
    page = Page(write_report(make_study(tmp_path, ("farl",))))
    assert "a second method is needed" in page.words


def test_a_run_that_has_just_begun_is_no_obstacle(tmp_path):
    (tmp_path / "runs" / TASK / "farl" / "seed-0").mkdir(parents=True)
    page = Page(write_report(tmp_path))
    assert "No run has finished an iteration yet" in page.words


def test_a_study_without_any_run_says_so(tmp_path):
    (tmp_path / "runs").mkdir()
    assert "No run has begun" in Page(write_report(tmp_path)).words


@pytest.mark.usefixtures("without_figures")
def test_books_that_do_not_balance_are_shown_before_any_number(tmp_path):
    study = make_study(tmp_path)
    file = study / "runs" / TASK / "farl" / "seed-0" / "episodes.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3] + lines[4:]))
    page = Page(write_report(study))
    assert "do not balance" in page.words
    assert f"counts {len(lines)} episodes, episodes.jsonl {len(lines) - 1}" in page.words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": "vanished"}, "neither in success"),
        ({"episode": 1}, "recorded twice"),
        ({"outcome": "failure", "failed": False}, "not marked"),
    ],
)
def test_each_kind_of_imbalance_is_found(tmp_path, change, said):
    folder = make_run(tmp_path, "farl", 0)
    found = rows(folder)
    (folder / "episodes.jsonl").write_text(
        "".join(json.dumps({**row, **change} if n == 0 else row) + "\n" for n, row in enumerate(found))
    )
    assert any(said in line for line in inconsistencies(find_runs(tmp_path)[0]))


def test_balanced_books_raise_no_warning(tmp_path):
    make_study(tmp_path)
    assert [line for run in find_runs(tmp_path) for line in inconsistencies(run)] == []


def test_a_folder_that_is_no_study_is_answered_with_the_nearest_ones(tmp_path):
    make_study(tmp_path / "mine")
    with pytest.raises(UserError, match=r"is not a study.*Perhaps you meant .*mine"):
        write_report(tmp_path / "yours")


def test_a_broken_line_names_its_file(tmp_path):
    folder = make_run(tmp_path, "farl", 0)
    with (folder / "episodes.jsonl").open("a") as file:
        file.write("{broken}\n")
    with pytest.raises(UserError, match=r"episodes\.jsonl holds a broken line"):
        write_report(tmp_path)


def test_methods_are_compared_on_shared_seeds_only(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "uni-o4", seed, failure_rate=0.12)
    make_run(tmp_path, "farl", 1, failure_rate=0.03)
    comparison = compare_runs(TASK, find_runs(tmp_path))
    baseline = rows(tmp_path / "runs" / TASK / "uni-o4" / "seed-1")
    assert comparison.of("farl").reduction.baseline_total == sum(row["failed"] for row in baseline)


# ---------------------------------------------------------------- clips


class Sliding(gym.Env):
    """A dot that slides; it fails beyond 0.5."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}   # noqa: RUF012
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return np.array([self.x], np.float32), self.info()

    def step(self, action):
        self.x += 0.1 * float(action[0])
        return np.array([self.x], np.float32), 0.0, False, False, self.info()

    def info(self):
        return {"failure": bool(self.x > 0.5)}

    def render(self):
        picture = np.full((96, 128, 3), 200, np.uint8)
        column = int(np.clip(64 + 60 * self.x, 2, 125))
        picture[40:50, column - 2 : column + 2] = 0
        return picture


gym.register("Sliding-v0", lambda **options: Sliding(**options))
MODULE = "test_report:Sliding-v0"


def make_recording(folder: Path, honest: bool = True) -> Path:
    env = Sliding()
    env.reset(seed=3)
    actions = np.full((120, 1), 0.06, np.float32)
    failure = np.array([env.step(action)[-1]["failure"] for action in actions])
    assert failure.any()
    (folder / "clips").mkdir()
    risk = np.linspace(0, 1, 120, dtype=np.float32)
    risk[5] = np.nan
    path = folder / "clips" / "7.npz"
    np.savez(path, seed=3, actions=actions, risk=risk, gated=risk > 0.6, failure=failure if honest else ~failure, threshold=0.6,
             kind="failure", end_step=900)   # fmt: skip
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"task": {"id": MODULE, "options": {}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return path


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("honest", [True, False])
def test_a_clip_is_replayed_and_says_whether_it_matches(tmp_path, monkeypatch, honest):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))   # rendering has a process of its own
    make_recording(make_run(tmp_path, "farl", 0), honest)
    page = Page(write_report(tmp_path))
    video = tmp_path / "runs" / TASK / "farl" / "seed-0" / "videos" / "7.mp4"
    assert page.count["video"] == 1
    assert 1000 < video.stat().st_size < 500_000
    assert ("does not match the recorded episode" in page.words) is not honest
    before = video.stat().st_mtime_ns
    write_report(tmp_path)
    assert video.stat().st_mtime_ns == before, "a finished video is made only once"


def test_a_clip_that_cannot_be_drawn_is_explained_and_the_page_goes_on(tmp_path):
    folder = make_run(tmp_path, "farl", 0)
    make_recording(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"task": {"id": "no_such_module:Sliding-v0"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    page = Page(write_report(tmp_path))
    assert "No clips: cannot import module 'no_such_module'" in page.words
    assert page.count["svg"] >= 5


def test_a_window_holds_the_failure_or_the_longest_recovery():
    def recording(failure=(), gated=()):
        flags = {name: np.isin(np.arange(200), list(steps)) for name, steps in (("failure", failure), ("gated", gated))}
        return clips.Recording(
            0, np.zeros((200, 2), np.float32), np.zeros(200, np.float32), **flags, threshold=0.1, kind="", end_step=0
        )

    assert 150 in range(200)[recording(failure=[150, 151]).window(80)]
    assert {100, 101, 102, 103} <= set(range(200)[recording(gated=[5, 100, 101, 102, 103]).window(80)])
    window = recording(failure=[199]).window(80)
    assert (window.start, window.stop) == (120, 200)


def test_frames_can_be_drawn_without_a_gate():
    flags = np.zeros(10, bool)
    record = clips.Recording(
        0, np.zeros((10, 2), np.float32), np.full(10, np.nan, np.float32), flags, flags, np.inf, "failure", 0
    )
    frame = clips.draw(np.zeros((64, 64, 3), np.uint8), record, 4, slice(0, 10))
    assert frame.shape == (clips.SIDE + clips.CURVE, clips.SIDE, 3)


@pytest.mark.usefixtures("without_figures")
def test_more_failures_than_the_baseline_are_said_to_be_more(tmp_path):
    for seed in (0, 1, 2):
        make_run(tmp_path, "uni-o4", seed, failure_rate=0.05)
        make_run(tmp_path, "farl", seed, failure_rate=0.2)
    page = Page(write_report(tmp_path))
    assert "more failure episodes than uni-o4" in page.words
    assert re.search(r'class="big bad">\+\d+', page.source)
