"""Configurations: YAML, flags and dataclasses are one thing, and a mistake is answered with the right spelling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from farl.configuration import Options, dump, load, read
from farl.errors import UserError


@dataclass(frozen=True)
class Gate:
    threshold: float = 0.3
    """risk above which recovery acts"""

    min_dwell: int = 1
    """agent steps that recovery keeps control"""

    enabled: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"gate.threshold is {self.threshold}; it must be in (0, 1]")


@dataclass(frozen=True)
class Task:
    id: str = "a"
    options: Options = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """Train something."""

    out: Path
    """where the run goes"""

    task: Task = field(default_factory=Task)
    gate: Gate = field(default_factory=lambda: Gate(threshold=0.4))
    critic: Literal["world-model", "simple"] = "simple"
    seeds: tuple[int, ...] = (0, 1)
    box: tuple[float, float] = (0.0, 1.0)
    pairs: tuple[tuple[float, float], ...] = ()
    limit: float | None = None
    note: str | None = None
    weights: dict[str, float] = field(default_factory=dict)


def run_with(*argv: str) -> Run:
    return load(Run, argv, "farl test")


def written(folder: Path, text: str) -> str:
    file = folder / "run.yaml"
    file.write_text(text)
    return str(file)


def message(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        run_with(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "out: runs/x\ngate:\n  threshold: 3e-1\n  min-dwell: 3\nseeds: [1, 2, 3]\n")
    run = run_with(file, "--gate.min-dwell", "5", "--seeds", "7")
    assert run == Run(Path("runs/x"), gate=Gate(threshold=0.3, min_dwell=5), seeds=(7,))


def test_a_group_keeps_its_own_default_where_only_a_member_is_given() -> None:
    assert run_with("--out", "x", "--gate.min-dwell", "2").gate == Gate(threshold=0.4, min_dwell=2)


@pytest.mark.parametrize("flags", [["--gate.no-enabled"], ["--gate.enabled", "false"], ["--gate.enabled=False"]])
def test_a_boolean_can_be_switched_off_in_each_usual_way(flags: list[str]) -> None:
    assert not run_with("--out", "x", *flags).gate.enabled


def test_options_are_a_mapping_in_the_file_and_pairs_after_the_flag_merged_by_key(tmp_path: Path) -> None:
    file = written(tmp_path, "out: x\ntask: {options: {max_episode_steps: 100, boundary: [-0.13, 3e-1], name: '1e3'}}")
    run = run_with(file, "--task.options", "max_episode_steps=50", "start=full", "--task.options.stop", "true")
    assert run.task.options == {
        "max_episode_steps": 50, "boundary": [-0.13, 0.3], "name": "1e3", "start": "full", "stop": True,
    }   # fmt: skip


def test_negative_numbers_and_infinity_are_values(tmp_path: Path) -> None:
    run = run_with(written(tmp_path, "out: x\nlimit: .inf\nbox: [-1, -2e-3]\n"))
    assert run.limit == math.inf
    assert run.box == (-1.0, -0.002)
    assert run_with("--out", "x", "--box", "-1", "-2e-3").box == run.box


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"limit": 1e-05, "note": "on: # 'tricky'", "pairs": ((0.0, 1.0), (2.0, 3.5)), "seeds": ()},
        {"limit": math.inf, "weights": {"a": 1e-9, "b": -2.0}, "note": "1:30"},
        {"task": Task("m:N/T-v0", {"x": [1, 2.5, None], "y": "3e-4", "z": {"deep": True}, "big": 1e20})},
    ],
)
def test_what_is_dumped_reads_back_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = Run(Path("runs/x y"), **changes)
    assert read(Run, Path(written(tmp_path, dump(run)))) == run


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(Gate, Path(written(tmp_path, "# nothing\n"))) == Gate()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--gate.treshold 1", "unknown flag '--gate.treshold'; perhaps you meant '--gate.threshold'"),
        ("--seed 1", "unknown flag '--seed'; perhaps you meant '--seeds'"),
        ("--tresh 1", "unknown flag '--tresh'; perhaps you meant '--gate.threshold'"),
        ("--min_dwell 1", "unknown flag '--min_dwell'; perhaps you meant '--gate.min-dwell'"),
        ("--qqqq 1", "unknown flag '--qqqq'; `farl test --help` lists the flags"),
        ("--gate 1", "'--gate' is a group of settings; set its members as --gate.NAME: threshold, min_dwell, enabled"),
        ("--gate.min-dwell two", "--gate.min_dwell is 'two'; it must be a whole number"),
        ("--gate.min-dwell 1e3", "--gate.min_dwell is '1e3'; it must be a whole number; perhaps you meant 1000"),
        ("--gate.min-dwell", "--gate.min_dwell has no value; it must be a whole number"),
        ("--limit x", "--limit is 'x'; it must be a number or None"),
        ("--seeds 1 b", "--seeds is '1 b'; it must be any number of values, each a whole number"),
        ("--box 1", "--box is '1'; it must be 2 values, each a number"),
        ("--critic simpel", "--critic is 'simpel'; it must be one of world-model, simple; perhaps you meant simple"),
        ("--gate.enabled maybe", "--gate.enabled is 'maybe'; it must be true or false"),
        ("--gate.threshold 4", "gate.threshold is 4.0; it must be in (0, 1] (given: --gate.threshold)"),
        ("--limit 3 run.yaml", "--limit is '3 run.yaml'; it must be a number or None (the configuration file"),
        ("--task.options steps", "--task.options is 'steps'; it must be KEY=VALUE pairs (each is KEY=VALUE)"),
        ("--task.options a=[1", "it must be KEY=VALUE pairs (each is KEY=VALUE, and '[1' is not YAML)"),
        ("-seeds 3", "unexpected argument '-seeds'; flags look like --name value (see `farl test --help`)"),
        ("--seeds 3", "'out' is not given: set it in the configuration file, or as --out"),
    ],
)
def test_a_mistake_in_a_flag_is_answered_with_what_is_right(flags: str, expected: str) -> None:
    out = [] if "'out'" in expected else ["--out", "x"]
    assert expected in message(*flags.split(), *out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gate:\n  treshold: 1\n", ":2: unknown key 'gate.treshold'; perhaps you meant 'gate.threshold'"),
        ("zzzz: 1\n", ":1: unknown key 'zzzz'; the keys here are out, task, gate, critic"),
        ("gate: 3\n", ":1: 'gate' is a group of settings (threshold, min_dwell, enabled), not '3'"),
        ("critic: simpl\n", ":1: critic is 'simpl'; it must be one of world-model, simple; perhaps you meant simple"),
        ("\nseeds: [1, b]\n", ":2: seeds is '1 b'; it must be any number of values, each a whole number"),
        ("seeds: {a: 1}\n", ":1: seeds must be any number of values, each a whole number, not a mapping"),
        ("out:\n", ":1: out is empty; it must be a path"),
        ("task: {options: 3}\n", ":1: task.options must be a mapping such as 'max_episode_steps: 100', not '3'"),
        ("critic: simple\ncritic: simple\n", ":2: 'critic' is given twice, first at "),
        ("out: x\ngate: {threshold: 7}\n", "gate.threshold is 7.0; it must be in (0, 1] (given: "),
        ("out: [\n", ":2: not valid YAML: "),
        ("- out\n", ": expected 'key: value' lines, found a list"),
    ],
)
def test_a_mistake_in_a_file_is_answered_with_file_line_and_what_is_right(
    tmp_path: Path, text: str, expected: str
) -> None:
    file = written(tmp_path, text)
    said = message(file)
    assert expected in said
    assert file in said


def test_a_missing_file_is_answered_with_the_nearest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").touch()
    assert "perhaps you meant configs/quickstart.yaml" in message("configs/quikstart.yaml")
    assert message("configs").startswith("cannot read the configuration file 'configs'")


def test_help_shows_the_field_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_with("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "risk above which recovery acts" in shown
    assert "farl test [CONFIG.yaml]" in shown
