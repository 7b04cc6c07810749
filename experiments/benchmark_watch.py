"""How fast the page of `farl watch` opens and answers, in a headless browser on this machine.

    python -m experiments.benchmark_watch [STUDY_OR_RUN ...] [--repeats 7] [--output results/benchmark_watch.md]

Runs of a million agent steps and more are made up line by line as `farl online` writes them; real ones may be named instead.
*Drawn* is the moment at which all four charts of curves hold coloured pixels, counted by a script in the page from the
start of the navigation. An interaction ends when what it asks for stands on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.headless_browser import browser, missing, retry, run_cells, served, wait_for
from experiments.tables import markdown
from farl.files import write_text
from farl.following.follower import Follower, runs_of

ITERATION = 2048
"""agent steps"""
_DRAWN = """
(() => {
  const coloured = canvas => {
    const data = canvas.width ? canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data : [];
    let count = 0;
    for (let i = 0; i < data.length; i += 4) count += data[i + 3] > 0 && Math.abs(data[i] - data[i + 2]) > 60;
    return count > 50;
  };
  const look = () => {
    const charts = ['failures', 'success', 'gated', 'choice'].map(name => document.querySelector(`[data-chart=${name}] canvas`));
    if (charts.every(chart => chart && coloured(chart))) window.drawnAt = performance.now();
    else setTimeout(look, 20);
  };
  look();
})();
"""
_ASK = """
const [act, done, finish] = [arguments[0], arguments[1], arguments[2]];
const start = performance.now();
eval(act);
const look = () => eval(done) ? finish(performance.now() - start) : setTimeout(look, 4);
look();
"""
_FIRST = (
    "Number(document.querySelectorAll('.farl-card:not(.farl-runs) tbody tr')[0].cells[0].innerText.replaceAll(',', ''))"
)


# ---------------------------------------------------------------- runs made up


def make_run(folder: Path, method: str, steps: int, seed: int) -> Path:
    """A finished run of ``steps`` agent steps with an episode every 24 of them, as in a task that is learnt."""
    rng = np.random.default_rng([seed, len(method)])
    folder.mkdir(parents=True)
    gated = method != "uni-o4"
    failed, risks = rng.random(steps // 24) < (0.002 if gated else 0.01), rng.beta(2, 20, steps // 24)
    with (folder / "episodes.jsonl").open("w") as file:
        for number, (fails, risk) in enumerate(zip(failed.tolist(), risks.tolist(), strict=True)):
            file.write(json.dumps(_episode(number, fails, risk, gated)) + "\n")
    with (folder / "metrics.jsonl").open("w") as file:
        for iteration in range(1, steps // ITERATION + 1):
            done = iteration * ITERATION
            file.write(json.dumps(_metrics(iteration, int(failed[: done // 24].sum()), gated, rng)) + "\n")
    task = {"id": "failurebench:FailureBench/BoundedPush-Hard-v0", "options": {}}
    write_text(folder / "config.yaml", json.dumps({"task": task, "method": method, "seed": seed, "steps": steps}))
    write_text(folder / "meta.json", json.dumps({"status": "finished", "threshold": 0.19 if gated else None}))
    return folder


def _episode(number: int, failed: bool, risk: float, gated: bool) -> dict[str, Any]:
    return {
        "episode": number, "seed": 5_000_000_000_000_000 + number, "length": 24, "return": 40 + risk, "outcome": "success",
        "failed": failed, "failing_steps": 3 * failed, "first_failure": 12 if failed else None,
        "failure_type": "out_of_bounds" if failed else "", "failure_detail": "tipped" if failed else None,
        "cause": "late" if failed and gated else None, "lead": None, "warning": None, "gated_steps": 2 * (risk > 0.19),
        "bursts": [2] if risk > 0.19 else [], "risk_max": risk, "risk_mean": risk / 2, "env": number % 16,
        "end_step": 24 * (number + 1), "cap_hits": 0, "policy_version": number // 85,
    }  # fmt: skip


def _metrics(iteration: int, failures: int, gated: bool, rng: np.random.Generator) -> dict[str, Any]:
    noise = rng.normal(size=8).round(6).tolist()
    step = iteration * ITERATION
    return {
        "step": step, "iteration": iteration, "wall_s": step / 1600, "episodes": step // 24, "successes": step // 24,
        "failures": failures, "success_rate": 0.97 + 0.01 * noise[0], "failure_rate": 0.01, "return_mean": 40 + noise[1],
        "length_mean": 24.0, "reliability": [[100.0 * b * iteration, b, b, 1.0 * b * iteration] for b in range(10)],
        "gated_fraction": 0.03 + 0.005 * noise[2] if gated else 0.0, "risk_mean": 0.09, "risk_p95": 0.17, "unknown_risks": 0,
        "policy_loss": noise[3], "value_loss": 500 + noise[4], "kl": 0.01, "clip_fraction": 0.1, "explained_variance": 0.2,
    }  # fmt: skip


# ---------------------------------------------------------------- measuring


def measure(folders: Sequence[Path], repeats: int) -> dict[str, Any]:
    """Seconds and milliseconds for one set of runs."""
    runs = [run for folder in folders for run in runs_of(folder)]
    wall, work = time.perf_counter(), time.process_time()
    Follower(folders).look()
    read = time.perf_counter() - wall, time.process_time() - work
    with tempfile.TemporaryDirectory() as cache, browser() as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _DRAWN})
        driver.set_script_timeout(60)
        begun = time.perf_counter()
        with served(*folders, cache=Path(cache)) as address:
            driver.get(address)
            wait_for(driver, "window.drawnAt")
            cold = time.perf_counter() - begun
            retry(lambda: all(_all_read(driver, run) for run in runs))
            opened = [_open(driver, address) for _ in range(repeats)]
            asked = {
                name: [_ask(driver, act, done) for act, done in steps * repeats]
                for name, steps in _questions(runs).items()
            }
            new_line = [_new_line(driver, runs[0]) for _ in range(3)] if _ours(runs[0]) else []
    return {"runs": len(runs), "read": read, "cold": cold, "opened": opened, "asked": asked, "new line": new_line}


def _all_read(driver: Any, run: Path) -> bool:
    cells = run_cells(driver, run)
    with (run / "episodes.jsonl").open("rb") as file:
        return bool(cells) and cells[7] == f"{sum(1 for _ in file):,}"


def _open(driver: Any, address: str) -> float:
    """Milliseconds from the start of the navigation to four drawn charts, nothing cached."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get(address)
    drawn = float(wait_for(driver, "window.drawnAt"))
    wait_for(driver, "window.did_handshake")
    return drawn


def _questions(runs: Sequence[Path]) -> dict[str, list[tuple[str, str]]]:
    """Interactions: what is done, and when it counts as answered; each leaves the page as it found it."""
    chart = "getElement(Number(document.querySelector('[data-chart=failures]').id.slice(1))).chart"
    count = f"{chart}.getOption().series.length"
    tick = f"document.querySelector('tr[data-run=\"{runs[0]}\"] input').click()"
    shown = min(len(runs), 8)
    button = "document.querySelector('.q-table__bottom [aria-label=\"%s page\"]').click()"
    kinds = "document.querySelectorAll('.farl-toggle button')[%d].click()"
    rows = "[...document.querySelectorAll('.farl-card:not(.farl-runs) tbody tr')]"
    questions = {
        "another page of episodes": [
            (f"window.before = {_FIRST}; {button % 'Next'}", f"{_FIRST} === window.before - 12"),
            (button % "Previous", f"{_FIRST} === window.before"),
        ],
        "failing episodes only": [
            (kinds % 1, f"{rows}.every(row => row.innerText.includes('at step'))"),
            (kinds % 0, f"{_FIRST} === window.before"),
        ],
    }
    if len(runs) > 1:
        questions["a run taken out and put back"] = [(tick, f"{count} === {shown - 1}"), (tick, f"{count} === {shown}")]
        look = "document.querySelector('tr[data-run=\"%s\"]').click()"
        focused = "document.querySelector('tr[data-run=\"%s\"]').classList.contains('focus')"
        questions["another run looked at"] = [(look % run, focused % run) for run in (runs[0], runs[1])]
    return questions


def _ask(driver: Any, act: str, done: str) -> float:
    return float(driver.execute_async_script(_ASK, act, done))


def _ours(run: Path) -> bool:
    return run.is_relative_to(tempfile.gettempdir()) and "farl-benchmark" in str(run)


def _new_line(driver: Any, run: Path) -> float:
    """Seconds from a line in the file to the number on the page."""
    before = int(run_cells(driver, run)[7].replace(",", ""))
    start = time.perf_counter()
    with (run / "episodes.jsonl").open("a") as file:
        file.write(json.dumps(_episode(before, False, 0.1, True)) + "\n")
    retry(lambda: run_cells(driver, run)[7] == f"{before + 1:,}")
    return time.perf_counter() - start


# ---------------------------------------------------------------- the report


def report(results: dict[str, dict[str, Any]]) -> str:
    """The measurements as Markdown."""
    names = list(dict.fromkeys(name for found in results.values() for name in found["asked"]))
    head = [
        "runs",
        "read, s (of the processor)",
        "command to drawn, s",
        "opens: drawn after, ms",
        *(f"{name}, ms" for name in names),
        "a new line, s",
    ]
    rows = []
    for title, found in results.items():
        rows.append(
            [
                title,
                f"{found['read'][0]:.2f} ({found['read'][1]:.2f})",
                f"{found['cold']:.1f}",
                _spread(found["opened"]),
                *(_spread(found["asked"].get(name, [])) for name in names),
                f"{median(found['new line']):.1f}" if found["new line"] else "",
            ]
        )
    return markdown(head, rows)


def _spread(values: list[float]) -> str:
    return f"{median(values):.0f} (at most {max(values):.0f})" if values else ""


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("nicegui", "selenium"))
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{packages}; Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, loads {loads}"
    )


_TEXT = """# Speed of the live page

`python -m experiments.benchmark_watch {arguments}`

{machine} (over the last 1, 5 and 15 minutes: others work on this machine too).

Target: a run of a million agent steps opens in under 2 s to drawn curves, and stays responsive. Medians, and the worst of all.

{table}

*Read*: all files from nothing, in a process that does nothing else. *Command to drawn*: from starting `farl watch`, Python's own
start included. *Opens*: from the start of the navigation to four charts with coloured pixels, the browser's cache emptied before
each. *A new line*: from the moment it is in the file until its number stands on the page; files are looked at once a second, and
the page is told once a second.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="real runs or studies, beside the made-up ones")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if lacking := missing():
        raise SystemExit(lacking)
    with tempfile.TemporaryDirectory(prefix="farl-benchmark-") as temporary:
        place = Path(temporary)
        sets = {
            "1 of 1M steps (41k episodes)": [make_run(place / "one", "farl", 1_000_000, 0)],
            "2 of 1M steps": [make_run(place / name, name, 1_000_000, 0) for name in ("farl", "uni-o4")],
            "1 of 2.4M steps (100k episodes)": [make_run(place / "long", "farl", 2_400_000, 0)],
            "8 of 1M steps": [
                make_run(place / f"{m}-{s}", m, 1_000_000, s) for m in ("farl", "uni-o4") for s in range(1, 5)
            ],
        }
        sets |= {str(folder): [folder] for folder in given.folders}
        results = {}
        for title, folders in sets.items():
            results[title] = measure(folders, given.repeats)
            print(report({title: results[title]}), flush=True)
    arguments = " ".join([*map(str, given.folders), f"--repeats {given.repeats}"])
    text = _TEXT.format(arguments=arguments, machine=machine(), table=report(results))
    print(text)
    if given.output is not None:
        write_text(given.output, text)


if __name__ == "__main__":
    main()
