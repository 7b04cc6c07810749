"""The documentation says what the code does: its commands parse, its examples run, its links and settings exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from farl import cli, configuration
from farl.compare.published import FAILURE_EPISODES
from farl.compare.study import StudyConfig
from farl.contract import CheckConfig
from farl.datasets import ImportConfig
from farl.diagnosis.causes import WORDS
from farl.diagnosis.diagnose import DiagnoseConfig
from farl.methods import METHODS
from farl.offline.demos import DemosConfig
from farl.offline.pipeline import OfflineConfig
from farl.online.run import OnlineConfig
from farl.play import PlayConfig
from farl.predict import PredictConfig
from farl.robot.config import RobotSessionConfig
from farl.robot.looking import RobotCalibrateConfig, RobotCheckConfig, RobotMarkersConfig
from farl.robot.verbs import VERBS as ROBOT_VERBS
from farl.watch.server import WatchConfig
from robots.replay.player import ReplayConfig
from robots.twin.serve import ServeConfig
from robots.watch.server import WatchConfig as RobotWatchConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(page for part in (".", "tasks", "robots") for page in sorted((ROOT / "docs" / part).glob("*.md")))]
CONFIGS: dict[str, type[Any]] = {
    "check": CheckConfig,
    "play": PlayConfig,
    "demos": DemosConfig,
    "offline": OfflineConfig,
    "online": OnlineConfig,
    "predict": PredictConfig,
    "compare": StudyConfig,
    "diagnose": DiagnoseConfig,
    "watch": WatchConfig,
}
ROBOT_CONFIGS: dict[str, type[Any]] = {
    "session": RobotSessionConfig,
    "check": RobotCheckConfig,
    "calibrate": RobotCalibrateConfig,
    "markers": RobotMarkersConfig,
    "watch": RobotWatchConfig,
    "replay": ReplayConfig,
    "twin": ServeConfig,
}
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"\b(VERB|CONFIG|STUDY|STUDY_DIR|RUN|ID|MODULE|NAME)\b")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> Iterator[str]:
    """Every ``farl ...`` in a fence of shell, and every one in backticks."""
    for block in blocks(page, "sh", "bash", "console", ""):
        yield from (line.strip() for line in block.splitlines() if line.strip().startswith("farl "))
    yield from (code for code in INLINE.findall(prose(page)) if code.startswith("farl "))


ALL_COMMANDS = sorted({(relative(page), command) for page in PAGES for command in commands(page)})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the one a reader works in: the configurations, and the examples of docs/own_task.md under their names."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    for block in blocks(ROOT / "docs" / "own_task.md", "python"):
        (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    for block in blocks(ROOT / "docs" / "own_task.md", "yaml"):
        (folder / block.partition("\n")[0].split()[-1]).write_text(block, encoding="utf-8")
    return folder


# ---- commands


def test_there_are_commands_to_check() -> None:
    assert len(ALL_COMMANDS) > 20


def _robot_command_is_understood(rest: list[str]) -> None:
    verb, *flags = rest or [""]
    assert not verb or verb in ROBOT_VERBS
    if flags and (flags[0] == "serve" or not flags[0].endswith(".yaml") or PLACEHOLDER.search(flags[0])):
        flags = list(dropwhile(lambda word: not word.startswith("-"), flags))
    if verb in ROBOT_CONFIGS:
        configuration.load(ROBOT_CONFIGS[verb], flags, f"farl robot {verb}")


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS, ids=[f"{page}: {command}" for page, command in ALL_COMMANDS])
def test_every_command_is_understood(
    page: str, command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    _, verb, *rest = shlex.split(command.partition("  #")[0])
    if verb == "VERB":
        return
    assert verb in cli._VERBS
    if verb in ("doctor", "list", "report"):
        assert len(rest) <= (verb == "report")
        return
    if verb == "robot":
        _robot_command_is_understood(rest)
        return
    if verb == "datasets":
        if rest[:1] == ["import"]:
            configuration.load(ImportConfig, ["--source", rest[1], "--out", *rest[2:]], "farl datasets import")
        return
    if rest and rest[0].endswith(".yaml") and PLACEHOLDER.search(rest[0]):
        rest = rest[1:]
    if verb in ("play", "check") and rest and not rest[0].startswith("-"):
        rest = ["--env", *rest]
    if verb == "predict":
        rest = cli._with_bundle(rest)
    if verb in ("diagnose", "watch"):
        rest = list(dropwhile(lambda word: not word.startswith("-"), rest))
    if "--help" not in rest:
        configuration.load(CONFIGS[verb], rest, f"farl {verb}")


def test_the_readme_plays_a_run_that_the_quick_start_makes() -> None:
    study = configuration.read(StudyConfig, ROOT / "configs" / "quickstart.yaml")
    seed = study.seeds[0]
    assert f"--agent {study.out}/runs/{study.task.name}/farl/seed-{seed}" in (ROOT / "README.md").read_text()


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make (\w+)`", page.read_text(encoding="utf-8"))}
    assert named <= targets


# ---- links and paths


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{relative(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
            assert anchor in map(slug, headings), f"{relative(page)} links to {target}"
        if anchor and page.is_relative_to(ROOT / "docs"):
            # Built, a page outside docs/ is a file to download, and the documentation does not build with an anchor into one.
            assert file.is_relative_to(ROOT / "docs"), f"{relative(page)} links into {target}; leave the anchor out"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_source_file_that_is_named_exists(page: Path) -> None:
    named = [code for code in INLINE.findall(prose(page)) if re.fullmatch(r"[\w./-]+/[\w-]+\.(py|yaml|png)", code)]
    missing = [name for name in named if not PLACEHOLDER.search(name) and not (ROOT / name).exists()]
    assert not missing


def test_a_picture_that_is_shown_exists() -> None:
    shown = re.findall(r"^```\{image\} (\S+)", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert shown
    assert all((ROOT / "docs" / name).exists() for name in shown)


# ---- facts


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}.{key}" if prefix else key).items()}


def settings(page: str) -> list[tuple[str, str]]:
    """Name and default of each setting in the tables of a page."""
    text = prose(ROOT / "docs" / page)
    return re.findall(r"^\| `([a-z_.0-9]+\.[a-z_.0-9]+)` \| ([^|]+) \|", text, re.MULTILINE)


@pytest.mark.parametrize(("page", "least"), [("method.md", 30), ("baselines.md", 25), ("actor_learner.md", 5)])
def test_settings_and_their_defaults_are_those_of_the_code(page: str, least: int) -> None:
    defaults = flat(yaml.safe_load(configuration.dump(StudyConfig())))
    rows = settings(page)
    assert len(rows) > least
    wrong = {name: (said, defaults.get(name)) for name, said in rows if not _same(said.strip(), defaults.get(name, ...))}
    assert not wrong


def test_the_page_of_diagnostics_has_every_part_and_flag_and_their_defaults() -> None:
    page = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    flags = re.findall(r"^\| `--(\w+)` \| (\d+) \|", page, re.MULTILINE)
    assert {name: int(value) for name, value in flags} == vars(DiagnoseConfig())
    parts = page.partition("## Which part")[2].partition("\n\nTakeover")[0]
    assert set(re.findall(r"^\| ([a-z ]+) \|", parts, re.MULTILINE)) - {"part"} == set(WORDS.values())


def test_the_page_of_the_live_page_has_every_flag_and_its_default() -> None:
    page = (ROOT / "docs" / "watch.md").read_text(encoding="utf-8")
    flags = re.findall(r"^\| `--(\w+)` \| (\S+) \|", page, re.MULTILINE)
    assert dict(flags) == {name: str(value) for name, value in vars(WatchConfig()).items()}


def _same(said: str, default: Any) -> bool:
    if isinstance(default, float | int) and not isinstance(default, bool):
        return float(said) == float(default)
    try:
        return float(said) == float(default)   # YAML 1.1 reads 1e-4 as text
    except (TypeError, ValueError):
        return said == str(default)


def test_every_setting_of_a_baseline_is_listed() -> None:
    parts = ("offline.q_risk.", "online.mppi.", "online.constraint.", "online.controls.")
    names = {name for name in flat(yaml.safe_load(configuration.dump(StudyConfig()))) if name.startswith(parts)}
    assert names <= {name for name, _ in settings("baselines.md")}


def test_the_baselines_page_lists_the_methods_and_their_credit() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|(.+)\|$", (ROOT / "docs" / "baselines.md").read_text(), re.MULTILINE)
    credit = {name: cells.split("|")[4].strip() for name, cells in rows}
    assert list(credit.items()) == [(name, method.credit) for name, method in METHODS.items()]


def test_the_readme_lists_the_methods() -> None:
    section = (ROOT / "README.md").read_text().partition("## Methods")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == list(METHODS)


def test_published_counts_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    for task, counts in FAILURE_EPISODES.items():
        name = re.sub(r"(?<!^)(?=[A-Z])", " ", task)
        reduction = 100 * (1 - counts["farl"] / counts["uni-o4"])
        assert f"| {name} | {counts['uni-o4']} | {counts['farl']} | {reduction:.1f} % |" in text


def test_the_distribution_is_never_called_by_another_projects_name() -> None:
    for page in PAGES:
        assert "pip install farl" not in page.read_text(encoding="utf-8")


# ---- examples

_TINY = """
import runpy
from farl.cli import main
TASK = ["--task.id", "my_tasks:Shelf-v0"]
def do(*arguments):
    assert main(arguments) == 0, arguments
do("check", "my_tasks:Shelf-v0")
do("play", "my_tasks:Shelf-v0", "--agent", "pusher", "--episodes", "1")
do("demos", *TASK, "--out", "demos/shelf", "--expert-steps", "400", "--clumsy-steps", "1500", "--failure-steps", "1200",
   "--clone-steps", "1000", "--recovery.episodes", "20", "--recovery.rounds", "1", "--recovery.round-episodes", "16",
   "--calibration-episodes", "5", "--bc.updates", "300")
do("offline", *TASK, "--data", "demos/shelf", "--out", "bundles/shelf", "--bc.updates", "200", "--recovery-bc.updates", "100",
   "--iql.updates", "100", "--offline-ppo.updates", "20", "--offline-ppo.check-every", "10", "--state-model.updates", "60",
   "--acceptance.rescues", "4", "--acceptance.episodes", "16", "--acceptance.limit", "3000")
runpy.run_path("my_demonstrations.py", run_name="__main__")
runpy.run_path("my_method.py", run_name="__main__")
"""


def test_the_examples_of_an_own_task_run(workplace: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", _TINY], cwd=workplace, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "everything required works" in done.stdout
    assert "closed loop: fewer failures" in done.stdout
    assert "episodes=20" in done.stdout
    assert done.stdout.splitlines()[-1] == "runs/braking"
    assert (workplace / "runs" / "braking" / "episodes.jsonl").exists()


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    options = ["-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
