"""Set-up: works first run and again, and says in one line what a machine lacks; Python and apt-get are stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "cat", "cmp", "head", "id", "dirname", "rm", "touch", "mkdir", "cp", "chmod")

PYTHON = """#!/bin/sh
# A Python that only writes down what it is asked for; `-m venv` makes a .venv of the same kind.
echo "$*" >> "{log}"
case "$*" in
    *version_info\\[:2\\]\\)) echo 3.11 ;;
    *"import ensurepip"*) exit {ensurepip} ;;
    *rendering_backend*) exit {drawing} ;;
    "-m venv .venv")
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        cp "$0" .venv/bin/farl ;;
esac
"""


@dataclass
class Machine:
    """A folder with the project's set-up files, and a PATH with little on it."""

    project: Path
    tools: Path
    log: Path

    def python(self, ensurepip: int = 0, drawing: int = 0) -> None:
        self.tool("python3.11", PYTHON.format(log=self.log, ensurepip=ensurepip, drawing=drawing))

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def set_up(self, *also: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        command = [str(self.project / "scripts" / "setup"), *also]
        return subprocess.run(command, env={"PATH": str(self.tools)}, capture_output=True, text=True, check=False)

    @property
    def asked(self) -> str:
        return self.log.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    project, tools = tmp_path / "project", tmp_path / "bin"
    (project / "scripts").mkdir(parents=True)
    tools.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup"):
        shutil.copy(ROOT / name, project / name)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    return Machine(project, tools, tmp_path / "log")


def test_set_up_installs_once_and_again_only_after_a_change(machine: Machine) -> None:
    machine.python()
    first = machine.set_up()
    assert first.returncode == 0, first.stderr
    assert "-m venv .venv" in machine.asked
    assert "-m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[dev," in machine.asked

    assert machine.set_up().returncode == 0
    assert "venv" not in machine.asked
    assert "pip install" not in machine.asked

    with (machine.project / "constraints.txt").open("a") as file:
        file.write("zipp==9\n")
    assert machine.set_up().returncode == 0
    assert "pip install" in machine.asked
    assert "-m venv" not in machine.asked


@pytest.mark.parametrize("damage", ["python", "moved", "farl"])
def test_a_damaged_or_moved_venv_is_mended(machine: Machine, damage: str) -> None:
    machine.python()
    machine.set_up()
    if damage == "moved":
        machine.project = machine.project.rename(machine.project.with_name("elsewhere"))
    else:
        (machine.project / ".venv" / "bin" / damage).unlink()
    assert machine.set_up().returncode == 0
    assert "pip install" in machine.asked
    assert ("-m venv .venv" in machine.asked) == (damage != "farl")


def test_without_a_fitting_python_set_up_says_which_one_to_install(machine: Machine) -> None:
    machine.tool("python3", "#!/bin/sh\nexit 1\n")
    done = machine.set_up()
    assert done.returncode == 1
    assert done.stderr.startswith("set-up: Python 3.11, 3.12 or 3.13 is needed and none was found. On Debian or Ubuntu")
    assert done.stderr.count("\n") == 1


def test_without_ensurepip_set_up_names_the_package(machine: Machine) -> None:
    machine.python(ensurepip=1)
    done = machine.set_up()
    assert done.returncode == 1
    assert "(ensurepip is missing). On Debian or Ubuntu: apt-get install python3.11-venv" in done.stderr
    assert not (machine.project / ".venv").exists()


def test_without_rendering_set_up_installs_opengl_where_it_may(machine: Machine) -> None:
    machine.python(drawing=1)
    machine.tool("apt-get", f'#!/bin/sh\necho "apt-get $*" >> "{machine.log}"\n')
    machine.tool("sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    packages = "libegl1 libegl-mesa0 libgl1-mesa-dri libglvnd0 libosmesa6"
    assert f"apt-get install -y -qq {packages}" in machine.asked
    machine.set_up()
    assert "apt-get" not in machine.asked   # tried once


def test_a_browser_is_installed_only_for_the_tests(machine: Machine) -> None:
    machine.python()
    machine.tool("apt-get", f'#!/bin/sh\necho "apt-get $*" >> "{machine.log}"\n')
    machine.tool("sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    assert machine.set_up().returncode == 0
    assert "apt-get" not in machine.asked
    done = machine.set_up("browser")
    assert done.returncode == 0, done.stderr
    assert "apt-get install -y -qq chromium chromium-driver" in machine.asked
    assert "the tests of the page of farl watch are skipped" in done.stdout   # this apt-get brings nothing
    machine.set_up("browser")
    assert "apt-get" not in machine.asked   # tried once
    planned = {target: _plan(target) for target in ("test", "demo")}
    assert "scripts/setup browser" in planned["test"]
    assert "browser" not in planned["demo"]


def _plan(target: str) -> str:
    line = ["make", "--no-print-directory", "-n", target]   # make test runs this under a make of its own
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_without_rendering_and_without_apt_set_up_says_so_and_goes_on(machine: Machine) -> None:
    machine.python(drawing=1)
    done = machine.set_up()
    assert done.returncode == 0
    assert "there are no videos and clips. On Debian or Ubuntu: apt-get install libegl1" in done.stdout


def test_ci_and_make_run_what_they_promise() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"
    for target, command in (
        ("demo", ".venv/bin/farl compare configs/quickstart.yaml"),
        ("test", '.venv/bin/python -m pytest -n 2 -m "not realtime"\n.venv/bin/python -m pytest -m realtime\n'),
        ("check", "lint-imports"),
        ("docs", "sphinx"),
    ):
        planned = _plan(target)
        assert "scripts/setup" in planned.splitlines()[0]
        assert command in planned


# ---- constraints


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    assert lines == sorted(lines, key=str.lower)
    matched = [re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", line) for line in lines]
    assert all(matched), "a pin is name==version: no local builds, paths or addresses"
    return {canonical(match[1]): match[2] for match in matched if match}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_every_requirement_is_pinned_at_or_above_its_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins()
    for requirement in project["dependencies"] + sum(project["optional-dependencies"].values(), []):   # noqa: RUF017
        name, *bounds = re.split(r"[><=!,]+", re.sub(r"\[.*?\]", "", requirement))   # the floor comes first
        assert numbers(pinned[canonical(name)]) >= numbers("".join(bounds[:1])), requirement


def test_the_simulator_is_the_one_metaworld_was_made_with() -> None:
    assert pins()["mujoco"] == "3.3.0"


def test_this_environment_has_the_pinned_versions() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        return   # someone's own environment is theirs to choose
    from importlib.metadata import distributions

    pinned = pins()
    found = {canonical(d.metadata["Name"]): d.version.partition("+")[0] for d in distributions()}
    assert {name: version for name, version in found.items() if pinned.get(name, version) != version} == {}
