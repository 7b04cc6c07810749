"""The program: it answers at once, and whatever a person does wrong gets one line with the cure."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest

import farl
from farl import cli, doctor
from farl.contract import check_environment
from farl.doctor import Finding, check_machine, show
from farl.errors import UserError

PUSH = "FailureBench/BoundedPush-v0"
HEAVY = ("torch", "tyro", "gymnasium", "numpy", "rich", "mujoco", "h5py", "yaml")

Verb = Callable[[list[str]], int]


def with_verb(monkeypatch: pytest.MonkeyPatch, verb: Verb) -> None:
    monkeypatch.setitem(cli._VERBS, "online", ("a stand-in", verb))


def raising(error: BaseException) -> Verb:
    def verb(_: list[str]) -> int:
        raise error

    return verb


# ---- the program


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["onlin"]])
def test_an_answer_that_needs_no_work_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = f"[name for name in {HEAVY} if name in sys.modules]"
    code = f"import sys; from farl.cli import main; main({arguments!r}); print({loaded})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in ("doctor", "check", "list", "play", "demos", "datasets", "offline", "online", "predict", "compare", "report"):
        assert f"\n  {verb} " in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_the_version_is_the_distributions() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert farl.__version__ == project["project"]["version"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["onlin"], "unknown verb 'onlin'; perhaps you meant `farl online`"),
        (["frobnicate"], "unknown verb 'frobnicate'; the verbs are doctor, check, list, play"),
        (["play", "--agnet", "zero"], "unknown flag '--agnet'; perhaps you meant '--agent'"),
        (["play", PUSH, "--episodes", "0"], "episodes is 0; play at least 1 (given: --env, --episodes)"),
        (["play", PUSH, "--video", "a.avi"], "video is 'a.avi'; its name must end in .mp4"),
        (["play", "FailureBench/BoundedPsh-v0"], "perhaps you meant failurebench:FailureBench/BoundedPush-v0"),
        (["play", "nomodule:A/B-v0"], "cannot import module 'nomodule' named in the task id nomodule:A/B-v0"),
        (["play", PUSH, "--agent", "scriptd"], "unknown agent 'scriptd'; perhaps you meant scripted"),
        (["play", "nothere.yaml"], "there is no configuration file 'nothere.yaml'"),
        (["doctor", "--env", "x"], "'--env x' was not expected; usage: farl doctor"),
        (["check"], "something is missing; usage: farl check ENV_ID"),
        (["check", "--envv", "x"], "unknown flag '--envv'; perhaps you meant '--env'"),
        (["check", "FailureBench/BoundedPsh-v0"], "perhaps you meant failurebench:FailureBench/BoundedPush-v0"),
        (["list", "tasks"], "'tasks' was not expected; usage: farl list"),
        (["report"], "something is missing; usage: farl report STUDY_DIR"),
        (["report", "nothere"], "there is no study folder 'nothere'"),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("farl: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert said.out == ""


def test_ctrl_c_says_that_the_same_command_continues(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_verb(monkeypatch, raising(KeyboardInterrupt()))
    assert cli.main(["online"]) == 130
    assert capsys.readouterr().err == "farl: stopped; running the same command again continues where it was\n"


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fill_the_disk(_: list[str]) -> int:
        with open("/dev/full", "w") as file:   # noqa: PTH123 (the device that is always full)
            file.write("x")
        return 0

    with_verb(monkeypatch, fill_the_disk)
    assert cli.main(["online"]) == 2
    assert "the disk is full; free space and run the same command again" in capsys.readouterr().err
    with_verb(monkeypatch, raising(OSError(errno.ENOSPC, "No space left on device", "runs/a/metrics.jsonl")))
    assert cli.main(["online"]) == 2
    assert "full while writing runs/a/metrics.jsonl" in capsys.readouterr().err


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with_verb(monkeypatch, raising(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        cli.main(["online"])


def test_a_reader_that_stops_reading_is_no_error() -> None:
    command = f"set -o pipefail; {sys.executable} -m farl list | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_rendering_choice_that_does_not_work_is_one_line() -> None:
    command = [sys.executable, "-m", "farl", "play", PUSH]
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("farl: rendering with MUJOCO_GL=nonsense does not work here")


# ---- list


def test_list_shows_tasks_and_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "paper").mkdir(parents=True)
    (tmp_path / "configs" / "paper" / "figure.yaml").write_text("# The figure.\nsteps: 3\n")
    assert cli.main(["list"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"failurebench:{PUSH}" in shown
    assert "configs/paper/figure.yaml The figure." in shown


# ---- play


@pytest.mark.parametrize("agent", ["zero", "random", "scripted", "failure"])
def test_every_kind_of_agent_plays(agent: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["play", PUSH, "--agent", agent, "--episodes", "2", "--seed", "5", "--options", "max_episode_steps=40"]
    assert cli.main(arguments) == 0
    first = capsys.readouterr().out
    assert [line.split()[:2] for line in first.splitlines()] == [["seed", "5"], ["seed", "6"]]
    cli.main(arguments)
    assert capsys.readouterr().out == first
    assert ("success " in first) == (agent == "scripted") or "no success" in first


class Patch(gym.Env[Any, Any]):
    """An environment of one's own: honours the contract, and can be told to break it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}   # noqa: RUF012 (as in the base)
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, breach: str = "", render_mode: str | None = None) -> None:
        self.breach, self.render_mode = breach, render_mode
        high = 2 if breach == "bounds" else 1
        self.action_space = gym.spaces.Box(-high, high, (1,), np.float64 if breach == "dtype" else np.float32)
        if breach == "discrete":
            self.action_space = gym.spaces.Discrete(3)   # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0.5 * (np.random.random() if self.breach == "seed" else self.np_random.random())   # noqa: NPY002
        self.steps = 0
        return self._seen(), {} if self.breach == "reset info" else {"failure": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.breach == "raises":
            raise ZeroDivisionError("oops")
        self.steps += 1
        self.place = float(np.clip(self.place + 0.3 * action[0], -1, 1))
        flag: Any = "yes" if self.breach == "flag" else self.place > 0.8
        info: dict[str, Any] = {} if self.breach == "step info" else {"failure": flag}
        info |= {"extra": 1} if self.breach == "keys" else {}
        return self._seen(), -self.place, False, self.steps == 30, info

    def _seen(self) -> Any:
        place = 7.0 if self.breach == "outside" else self.place
        return np.array([place, 0.0], np.float64 if self.breach == "obs" else np.float32)

    def get_state(self) -> dict[str, Any]:
        return {"steps": self.steps} if self.breach == "state" else {"steps": self.steps, "place": self.place}

    def set_state(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    @property
    def expert_kinds(self) -> tuple[str, ...]:
        return ("task",)

    def expert(self, kind: str) -> Any:
        return Pusher(np.float64 if self.breach == "expert" else np.float32)

    def render(self) -> Any:
        if self.breach == "render":
            raise RuntimeError("rendering needs off-screen OpenGL; install libegl1")
        return np.full((64, 96, 3), 128, np.uint8)


class Pusher:
    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def reset(self, rng: np.random.Generator) -> None: ...

    def act(self, obs: Any) -> Any:
        return np.ones(1, self.dtype)


@pytest.fixture
def patch_id() -> Any:
    gym.register("Test/Patch-v0", entry_point=Patch)
    yield "Test/Patch-v0"
    del gym.registry["Test/Patch-v0"]


def test_a_video_has_a_red_border_exactly_on_failing_steps(
    patch_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "videos" / "out.mp4"
    assert cli.main(["play", patch_id, "--episodes", "1", "--video", str(video)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(video)
    assert list(video.parent.iterdir()) == [video]
    frames = [np.asarray(frame) for frame in imageio.mimread(video)]
    assert len(frames) == 31
    red = [bool(frame[3, 40, 0] > 180 and frame[3, 40, 1] < 80) for frame in frames]
    assert not red[0]
    assert red[-1]
    assert red == sorted(red)   # this task fails from some step on


def test_without_rendering_a_video_says_what_is_missing_and_leaves_nothing(
    patch_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["play", patch_id, "--video", str(tmp_path / "out.mp4"), "--options", "breach=render"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "cannot make the video: rendering needs off-screen OpenGL; install libegl1; `farl doctor` shows" in said
    assert list(tmp_path.iterdir()) == []


def test_a_video_where_nothing_can_be_written_says_so(
    patch_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["play", patch_id, "--video", str(tmp_path / "file" / "out.mp4")]) == 2
    assert "cannot write " in capsys.readouterr().err


# ---- doctor


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.state for finding in findings}


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str]) -> None:
    findings = check_machine()
    assert show(findings) == 0
    shown = capsys.readouterr().out
    for what in ("Python", "packages", "torch", "mujoco", "scenes", "rendering", "CPU cores", "this folder", "disk"):
        assert what in states(findings)
        assert what in shown


def test_no_rendering_backend_is_a_note_that_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "rendering_backend", lambda: None)
    finding = next(finding for finding in check_machine() if finding.what == "rendering")
    assert finding.state == "note"
    assert "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libglvnd0 libosmesa6" in finding.cure


def test_a_backend_counts_only_if_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    doctor.rendering_backend.cache_clear()
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert doctor.rendering_backend() is None
    doctor.rendering_backend.cache_clear()


def test_old_and_missing_packages_and_another_mujoco_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.4.0+cpu", "rich": "13.6.9", "mujoco": "3.4.0"}
    requires = ["torch>=2.4", "rich>=13.7", "imageio[ffmpeg]>=2.35", "mujoco>=3.3.0", 'pytest>=8; extra == "dev"']

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: requires)
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert [(finding.what, finding.found) for finding in doctor._packages()] == [
        ("rich", "13.6.9, 13.7 or newer is needed"),
        ("imageio", "not installed"),
    ]
    assert doctor._mujoco().state == "note"


def test_a_broken_finding_gives_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert show([Finding("a", "note", "b"), Finding("torch", "broken", "cannot be imported", "`make setup`")]) == 1
    assert "make setup" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert next(doctor._folder(tmp_path)).state == "broken"


def test_the_shipped_task_honours_the_contract() -> None:
    assert set(states(check_environment(f"failurebench:{PUSH}", {})).values()) == {"ok"}


def test_check_is_a_command_with_a_status(patch_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", patch_id]) == 0
    assert "everything required works" in capsys.readouterr().out
    assert cli.main(["check", patch_id, "--options", "breach=bounds"]) == 1
    assert "1 broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("breach", "what", "state"),
    [
        ("bounds", "action space", "broken"),
        ("dtype", "action space", "broken"),
        ("discrete", "action space", "broken"),
        ("obs", "observations", "broken"),
        ("outside", "observations", "broken"),
        ("reset info", 'info["failure"]', "broken"),
        ("step info", 'info["failure"]', "broken"),
        ("flag", 'info["failure"]', "broken"),
        ("keys", "info keys", "note"),
        ("seed", "seeding", "broken"),
        ("state", "get_state, set_state", "broken"),
        ("expert", "scripted experts", "broken"),
        ("raises", "observations", "broken"),
    ],
)
def test_each_breach_of_the_contract_is_found_with_its_cure(patch_id: str, breach: str, what: str, state: str) -> None:
    found = [f for f in check_environment(patch_id, {"breach": breach}) if f.what == what and f.state == state]
    assert found
    assert found[0].cure


def test_an_environment_that_cannot_be_made_is_a_user_error() -> None:
    with pytest.raises(UserError, match="unknown task 'Test/Nothing-v0'"):
        check_environment("Test/Nothing-v0", {})
