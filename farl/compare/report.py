"""The report of a study: one HTML page that stands alone, and its numbers as a table."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from farl.compare import clips
from farl.compare.diagnostic_figures import diagnostic_figures
from farl.compare.diagnostic_table import Diagnostics, diagnose_study
from farl.compare.drawing import Plot, short_count
from farl.compare.figures import figures
from farl.compare.palette import COLOURS, Colour, method_colours
from farl.compare.published import AGENT_STEPS, NOTE, ROBOT_EPISODES, ROBOT_NOTE, SEEDS, PublishedRow, published_rows
from farl.compare.records import Record, Run, find_runs, read_json, read_rows, read_yaml
from farl.compare.robot import RobotPart, robot_part
from farl.compare.robot_figures import robot_figures
from farl.compare.statistics import Interval, Reduction
from farl.compare.summary import CAUSES, Comparison, MethodSummary, compare_runs, gated_fraction
from farl.errors import UserError
from farl.files import write_text
from farl.progress import Progress

NOTABLE = 0.05
"""difference in success rate that the headline remarks on"""


@dataclass(frozen=True)
class Video:
    """A clip as it stands in the page."""

    clip: clips.Clip
    source: str


@dataclass(frozen=True)
class Acceptance:
    """One acceptance check of the offline stage, over the bundles of all seeds."""

    name: str
    target: str
    note: str
    by_seed: dict[int, Record]


@dataclass(frozen=True)
class Section:
    """All that the page says about one task."""

    comparison: Comparison
    headline: str
    plots: dict[str, Plot]
    diagnostics: Diagnostics
    robot: RobotPart | None
    published: list[PublishedRow]
    acceptance: list[Acceptance]
    videos: list[Video]
    clip_note: str


def write_report(study: Path, render_clips: bool = True) -> Path:
    """Write ``report.html`` and ``report.csv`` into the study and return the page's path.

    Works on studies that are still running. Raises UserError where ``study`` is none.
    """
    runs = find_runs(study)
    config = read_yaml(study / "config.yaml")
    colours = method_colours(dict.fromkeys(run.method for run in runs))
    sections = [
        _section(study, [run for run in runs if run.task == task], config, colours, render_clips)
        for task in dict.fromkeys(run.task for run in runs)
    ]
    write_text(study / "report.csv", _csv(runs))
    page = _template().render(
        study=study,
        title=study.resolve().name,
        sections=sections,
        runs=runs,
        colours=colours,
        palette=COLOURS,
        config_text=_text(study / "config.yaml"),
        machines=_distinct(runs, _machine),
        note=NOTE,
        robot_note=ROBOT_NOTE,
        robot_episodes=ROBOT_EPISODES,
        published_steps=AGENT_STEPS,
        published_seeds=SEEDS,
        command=f"farl compare {study / 'config.yaml'}",
    )
    write_text(study / "report.html", page)
    return study / "report.html"


def _section(study: Path, runs: list[Run], config: Record, colours: dict[str, Colour], render_clips: bool) -> Section:
    task = runs[0].task
    comparison = compare_runs(task, runs, config.get("methods") or ())
    diagnostics = diagnose_study(comparison)
    plots = figures(comparison, colours) | diagnostic_figures(task, diagnostics, colours) if comparison.methods else {}
    robot = robot_part(comparison)
    if robot is not None:
        plots |= robot_figures(task, robot, colours)
    videos, clip_note = _videos(runs) if render_clips else ([], "Clips were left out of this page.")
    return Section(
        comparison=comparison,
        headline=_headline(comparison) if robot is None else robot.headline,
        plots=plots,
        diagnostics=diagnostics,
        robot=robot,
        published=published_rows(task),
        acceptance=_acceptance(study / "bundles" / task),
        videos=videos,
        clip_note=clip_note,
    )


# ---------------------------------------------------------------- words


def _headline(comparison: Comparison) -> str:
    """The result in a sentence or two."""
    method, baseline = comparison.headline, comparison.of(comparison.baseline)
    if not comparison.methods:
        return "No run has finished an iteration yet."
    if method is None or baseline is None:
        only = comparison.methods[0]
        return f"Only {only.method} has run so far; a second method is needed for a comparison."
    if method.reduction is None:
        shared = {run.seed for run in method.runs} & {run.seed for run in baseline.runs}
        why = f"{baseline.method} had no failure" if shared else "the two share no seed yet"
        return f"No reduction can be given: {why} in {comparison.steps:,} agent steps."
    change = abs(method.reduction.value)
    more_or_less = "fewer" if method.reduction.value >= 0 else "more"
    return (
        f"{method.method} had {percent(change)} {more_or_less} failure episodes than {baseline.method} "
        f"({method.reduction.total} against {method.reduction.baseline_total}) in {comparison.steps:,} agent steps on "
        f"{_plural(len(method.reduction.per_seed), 'seed')}, {_certainty(method.reduction)}. "
        f"{_success_sentence(method, baseline)}"
    )


def _certainty(reduction: Reduction) -> str:
    if reduction.interval is None:
        return "which says nothing yet about other seeds"
    if not reduction.informative:
        each = " and ".join(percent(value) for value in reduction.per_seed)
        return f"but that is too uncertain for a useful interval (by seed {each}): it needs more seeds or more steps"
    return f"95\u00a0% interval {percent(reduction.interval.low)} to {percent(reduction.interval.high)}"


def _success_sentence(method: MethodSummary, baseline: MethodSummary) -> str:
    if method.success_rate.value is None or baseline.success_rate.value is None:
        return ""
    ours, theirs = method.success_rate.value, baseline.success_rate.value
    lower = "only " if ours < theirs - NOTABLE else ""   # fewer failures by succeeding less is no result
    return (
        f"Over the last fifth of training it succeeded in {lower}{percent(ours)} of its episodes, "
        f"{baseline.method} in {percent(theirs)}."
    )


def _verdict(reduction: Reduction) -> str:
    """The colour of the headline number: good or bad only where the interval is on one side of zero."""
    if reduction.interval is None or reduction.interval.low <= 0 <= reduction.interval.high:
        return ""
    return "good" if reduction.value > 0 else "bad"


def percent(value: float | None, digits: int = 0) -> str:
    """``0.374`` as ``37 %``, small values with a digit more."""
    if value is None:
        return "\u2013"
    digits = max(digits, 1) if 0 < abs(value) < 0.0995 else digits
    return f"{100 * value:.{digits}f}\u00a0%".replace("-", "\u2212")


def signed(value: float) -> str:
    """A change: ``+25 %`` or ``\u221240 %``."""
    return f"+{percent(value)}" if value > 0 else percent(value)


def number(value: float | None, digits: int | None = None) -> str:
    """A number with three significant places, thousands apart."""
    if value is None:
        return "\u2013"
    if digits is None:
        digits = 0 if abs(value) >= 100 or float(value).is_integer() else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "\u2212")


def _range(interval: Interval | None, form: Callable[[float], str] = number) -> str:
    """The second line of a table cell."""
    if interval is None:
        return ""
    label = "range " if interval.kind == "range" else ""
    return f"{label}{form(interval.low)}\u2009\u2013\u2009{form(interval.high)}"


def _reduction_range(reduction: Reduction | None) -> str:
    if reduction is None or reduction.interval is None:
        return ""
    if not reduction.informative:
        return "too uncertain; by seed: " + ", ".join(percent(value) for value in reduction.per_seed)
    return _range(reduction.interval, percent)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- parts of the page


def _videos(runs: list[Run]) -> tuple[list[Video], str]:
    """The clips that can be shown, and what to say where some cannot."""
    videos: list[Video] = []
    chosen = clips.pick(runs)
    progress = Progress(None, "report")
    progress.stage("clips", len(chosen))
    for run, recording in chosen:
        progress.at(len(videos), str(recording), force=True)
        try:
            clip = clips.render(run, recording)
        except UserError as error:
            return videos, f"No {'more ' if videos else ''}clips: {error}"
        data = base64.b64encode(clip.video.read_bytes()).decode("ascii")
        videos.append(Video(clip, f"data:video/mp4;base64,{data}"))
    return videos, "" if videos else "No episode has been recorded yet."


def _acceptance(bundles: Path) -> list[Acceptance]:
    """The checks of all bundles, by name, in the order of the first bundle."""
    checks: dict[str, Acceptance] = {}
    for path in sorted(bundles.glob("seed-*/acceptance.json")):
        seed = int(path.parent.name.removeprefix("seed-"))
        for row in read_json(path):
            check = checks.setdefault(
                row["name"], Acceptance(row["name"], str(row["target"]), row.get("note") or "", {})
            )
            check.by_seed[seed] = row
    return list(checks.values())


def _machine(run: Run) -> str:
    """What results may depend on; the same for all runs of one machine and checkout."""
    facts = [(key, run.meta[key]) for key in ("versions", "git_commit", "hardware") if run.meta.get(key)]
    return "\n".join(f"{key}: {_flat(value)}" for key, value in facts)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)


def _distinct(runs: list[Run], describe: Callable[[Run], str]) -> list[tuple[str, str]]:
    """Descriptions with the runs they hold for; mostly all runs share one."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(describe(run), []).append(run.name)
    return [(", ".join(names), text) for text, names in groups.items() if text]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


# ---------------------------------------------------------------- table


def _csv(runs: list[Run]) -> str:
    """One row per run, at its full length."""
    buffer = io.StringIO()
    rows = [csv_row(run) for run in runs]
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def csv_row(run: Run) -> Record:
    """The counts of one run."""
    outcomes = [row["outcome"] for row in run.episodes]
    causes = [row["cause"] for row in run.episodes if row["failed"]]
    episodes = len(outcomes)
    return {
        "task": run.task,
        "method": run.method,
        "seed": run.seed,
        "finished": run.finished,
        "steps": run.steps,
        "episodes": episodes,
        "successes": outcomes.count("success"),
        "timeouts": outcomes.count("timeout"),
        "ended_by_failure": outcomes.count("failure"),
        "failures": run.failures,
        "violating_steps": sum(row["failing_steps"] for row in run.episodes),
        "human_steps": sum(row.get("human_steps") or 0 for row in run.episodes),
        "lost": len(read_rows(run.folder / "lost.jsonl")),
        "failures_per_episode": run.failures / episodes if episodes else "",
        "failures_per_10k_steps": 1e4 * run.failures / run.steps if run.steps else "",
        "success_rate": outcomes.count("success") / episodes if episodes else "",
        "return_mean": sum(row["return"] for row in run.episodes) / episodes if episodes else "",
        "gated_fraction": gated_fraction(run.episodes) if episodes else "",
        **{f"failures_{cause}": causes.count(cause) for cause in CAUSES},
        "wall_s": run.metrics[-1].get("wall_s", "") if run.metrics else "",
        "folder": run.folder,
    }


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("farl.compare"), autoescape=select_autoescape(["html", "jinja"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )   # fmt: skip
    environment.filters.update(
        percent=percent,
        number=number,
        interval=_range,
        reduction_range=_reduction_range,
        short=short_count,
        plural=_plural,
        verdict=_verdict,
        signed=signed,
    )
    environment.globals.update(speed=_speed, as_percent=percent)
    return environment.get_template("report.html.jinja")


def _speed(run: Run) -> float | None:
    """Agent steps a second over the whole run, updates included."""
    wall = run.metrics[-1].get("wall_s") if run.metrics else None
    return run.steps / wall if wall else None
