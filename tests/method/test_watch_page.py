"""The page of `farl watch` in a real headless browser, on real runs of the point mass and on studies that grow."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from study_folder import make_run, make_study

from experiments import headless_browser as headless
from experiments.headless_browser import chart_series, retry, run_cells, served, wait_for
from farl import configuration
from farl.files import read_jsonl
from method import cliff

pytest.importorskip("nicegui", reason="the extra 'watch' is not installed")
# Not an omission: `make test` installs the browser where it may (scripts/setup browser); a machine without apt-get or without
# root's rights has none, and what the page reads is tested without one in tests/test_watch.py.
if lacking := headless.missing():
    pytest.skip(lacking, allow_module_level=True)

ROWS = "[...document.querySelectorAll('.farl-card:not(.farl-runs) tbody tr')]"
STATUS, FAILING, EPISODES = 4, 6, 7
"""columns of the table of runs"""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with headless.browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def opened(driver: Any, address: str) -> None:
    """Open the page and wait until its curves are there."""
    driver.get("about:blank")  # the page before this one, whose server may be gone, is silent from here on
    driver.get_log("browser")
    driver.get(address)
    wait_for(driver, "document.querySelectorAll('[data-chart] canvas').length >= 6 && window.did_handshake")


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    states = {str(path): path.stat() for path in [folder, *folder.rglob("*")]}
    return {path: (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for path, state in states.items()}


def test_a_real_run_is_followed_to_its_end_and_its_failures_are_played_again(
    driver: Any, bundle_folder: Path, tmp_path: Path, cache: Path
) -> None:
    config = cliff.online(bundle_folder, tmp_path / "run", method="uni-o4", steps=12_000, checkpoint_every=100)
    (tmp_path / "online.yaml").write_text(configuration.dump(config))
    learning = subprocess.Popen([sys.executable, "-m", "farl", "online", str(tmp_path / "online.yaml")])
    try:
        retry(lambda: (config.out / "metrics.jsonl").exists(), 60)
        with served(config.out, cache=cache) as address:
            opened(driver, address)
            first = retry(lambda: int(run_cells(driver, config.out)[EPISODES].replace(",", "")))
            retry(lambda: int(run_cells(driver, config.out)[EPISODES].replace(",", "")) > first)
            assert learning.wait(120) == 0
            retry(lambda: run_cells(driver, config.out)[STATUS] == "finished")
            episodes = list(read_jsonl(config.out / "episodes.jsonl"))
            failures = sum(row["failed"] for row in episodes)
            retry(lambda: run_cells(driver, config.out)[EPISODES] == f"{len(episodes):,}")
            assert run_cells(driver, config.out)[FAILING] == f"{failures:,}"
            steps = cliff.lines(config.out, "metrics")[-1]["step"]
            retry(lambda: chart_series(driver, "failures")[0]["data"][-1] == [steps, failures])
            _play_the_newest(driver, config.out, [row["episode"] for row in episodes if row["failed"]])
    finally:
        learning.kill()
        learning.wait()


def _play_the_newest(driver: Any, run: Path, failing: list[int]) -> None:
    """Ask for two clips; the page answers while they are drawn, and nothing is written into the run."""
    before = tree(run)
    card = f"document.querySelector('[data-episode=\"{failing[-1]}\"]')"
    wait_for(driver, f"{card} && {card}.querySelector('svg polyline, svg path')")
    driver.execute_script(f"{card}.querySelector('button').click()")
    wait_for(driver, f"{card}.innerText.includes('playing it again')")
    start = time.monotonic()
    driver.execute_script("document.querySelectorAll('.farl-toggle button')[1].click()")
    wait_for(driver, f"{ROWS}.length && {ROWS}.every(row => row.innerText.includes('at step'))", 5)
    assert time.monotonic() - start < 5
    wait_for(driver, f"{card}.querySelector('video')?.readyState >= 2", 120)
    assert driver.execute_script(f"return {card}.querySelector('video').duration") > 0.2
    assert "did not fail at the recorded step" not in driver.execute_script(f"return {card}.innerText")
    assert tree(run) == before


def test_runs_stand_side_by_side_and_one_chooses_which(driver: Any, tmp_path: Path, cache: Path) -> None:
    study = make_study(tmp_path / "study", seeds=(0,))
    farl, baseline = (study / "runs" / "BoundedPush-v0" / method / "seed-0" for method in ("farl", "uni-o4"))
    with served(study, cache=cache) as address:
        opened(driver, address)
        assert [line["name"] for line in chart_series(driver, "failures")] == ["farl, seed 0", "uni-o4, seed 0"]
        for run, line in zip((farl, baseline), chart_series(driver, "failures"), strict=True):
            assert line["data"][-1][1] == sum(row["failed"] for row in read_jsonl(run / "episodes.jsonl"))
        driver.execute_script(f"document.querySelector('tr[data-run=\"{baseline}\"] input').click()")
        retry(lambda: len(chart_series(driver, "success")) == 1)
        opened(driver, wait_for(driver, "location.search && location.href"))  # loaded again it is as it was
        assert len(chart_series(driver, "success")) == 1
        driver.execute_script(f"document.querySelector('tr[data-run=\"{baseline}\"]').click()")
        wait_for(driver, "document.querySelector('.farl-which').innerText.includes('uni-o4') ")
        episodes = list(read_jsonl(baseline / "episodes.jsonl"))
        wait_for(driver, f"{ROWS}[0].innerText.startsWith('{episodes[-1]['episode']:,}')")
        later = make_run(study, "farl", 1)
        retry(lambda: run_cells(driver, later))
        retry(lambda: "farl, seed 1" in [line["name"] for line in chart_series(driver, "gated")])
        _append(baseline, {"episode": 7777, "end_step": 20_001, "failed": True, "outcome": "failure", "length": 1})
        wait_for(driver, f"{ROWS}[0].innerText.startsWith('7,777')")
        assert driver.get_log("browser") == []


def _append(run: Path, row: dict[str, Any]) -> None:
    with (run / "episodes.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_the_table_is_filtered_turned_and_sorted(driver: Any, tmp_path: Path, cache: Path) -> None:
    run = make_run(tmp_path, "farl", 0)
    episodes = list(read_jsonl(run / "episodes.jsonl"))
    with served(run, cache=cache) as address:
        opened(driver, address)
        first = f"Number({ROWS}[0].cells[0].innerText.replace(',', ''))"
        assert wait_for(driver, first) == len(episodes) - 1
        driver.execute_script("document.querySelector('.q-table__bottom [aria-label=\"Next page\"]').click()")
        wait_for(driver, f"{first} === {len(episodes) - 13}")
        driver.execute_script("document.querySelectorAll('.farl-toggle button')[1].click()")
        failing = [row["episode"] for row in episodes if row["failed"]]
        wait_for(driver, f"{first} === {failing[-1]}")
        assert driver.execute_script(f"return {ROWS}.map(row => Number(row.cells[0].innerText))") == failing[-1:-13:-1]
        header = "[...document.querySelectorAll('th')].find(head => head.innerText.includes('Largest risk'))"
        driver.execute_script(f"{header}.click()")
        by_risk = sorted((row for row in episodes if row["failed"]), key=lambda row: row["risk_max"])
        wait_for(driver, f"{first} === {by_risk[0]['episode']}")


def test_damage_is_said_on_the_page_and_the_rest_is_shown(driver: Any, tmp_path: Path, cache: Path) -> None:
    run = make_run(tmp_path, "farl", 0)
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join([*lines[:5], "{'not': json}\n", *lines[5:]]))
    with served(run, cache=cache) as address:
        opened(driver, address)
        said = wait_for(driver, "document.querySelector('.farl-problem').innerText")
        assert said == f"{run / 'episodes.jsonl'} has a damaged line at 6; left out"
        retry(lambda: run_cells(driver, run)[EPISODES] == f"{len(lines):,}")


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (1024, 768), (800, 1200)])
def test_the_page_fits_its_window_and_needs_nothing_from_elsewhere(
    driver: Any, tmp_path: Path, cache: Path, width: int, height: int
) -> None:
    study = make_study(tmp_path / "study", seeds=(0, 1))
    with served(study, cache=cache) as address:
        headless.resize(driver, width, height)
        opened(driver, address)
        retry(lambda: len(chart_series(driver, "failures")) == 4)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        asked = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert asked
        assert [name for name in asked if not name.startswith((address, "data:"))] == []
        assert driver.get_log("browser") == []


def test_only_names_of_this_machine_are_answered(tmp_path: Path, cache: Path) -> None:
    """A page from elsewhere could otherwise read this one through a name that it lets point here."""
    with served(make_run(tmp_path, "farl", 0), cache=cache) as address:
        port = int(address.rpartition(":")[2])
        for host, status in (("127.0.0.1", 200), (f"localhost:{port}", 200), ("elsewhere.example", 400)):
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/", headers={"Host": host})
            assert connection.getresponse().status == status
            connection.close()


def test_a_study_without_runs_waits_for_the_first(driver: Any, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "study" / "jobs").mkdir(parents=True)
    with served(tmp_path / "study", cache=cache) as address:
        opened(driver, address)
        wait_for(driver, "document.body.innerText.includes('No run has begun yet')")
        run = make_run(tmp_path / "study", "farl", 0)
        retry(lambda: run_cells(driver, run))
        wait_for(driver, f"{ROWS}.length === 12")
