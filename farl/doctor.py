"""``farl doctor``: what on this machine would go wrong later, each with its cure."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

DISTRIBUTION = "failure-aware-rl"
MUJOCO = "3.3.0"   # metaworld's pin: another version settles the arm elsewhere, so results are no longer comparable
RENDERING_PACKAGES = {"egl": "libegl1 libegl-mesa0 libgl1-mesa-dri libglvnd0", "osmesa": "libosmesa6"}
_FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    state: Literal["ok", "note", "broken"]
    """``note``: works, with a limit; ``broken``: something required does not work"""
    found: str
    cure: str = ""


def show(findings: list[Finding]) -> int:
    """Print one table; 1 if something required is broken, else 0."""
    marks = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "broken": "[red]broken[/red]"}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", "what", "found", "cure"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        table.add_row(marks[finding.state], finding.what, finding.found, finding.cure)
    console = Console()
    console.print(table)
    broken = sum(finding.state == "broken" for finding in findings)
    console.print(f"{broken} broken" if broken else "everything required works")
    return 1 if broken else 0


def check_machine() -> list[Finding]:
    """Python, packages, simulator, rendering, and room to work."""
    return [_python(), *_packages(), _torch(), _mujoco(), _assets(), _rendering(), _cores(), *_folder(Path.cwd())]


def _python() -> Finding:
    return Finding("Python", "ok", ".".join(map(str, sys.version_info[:3])))   # an older one cannot read this file


def _packages() -> list[Finding]:
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("packages", "broken", f"{DISTRIBUTION} is not installed", "`make setup`")]
    problems, count = [], 0
    for requirement in required:
        matched = re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)$", requirement)
        if matched:   # lines with a marker belong to extras
            count += 1
            problems += _package(*matched.groups())
    return problems or [Finding("packages", "ok", f"{count} installed, none older than asked for")]


def _package(name: str, floor: str) -> list[Finding]:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return [Finding(name, "broken", "not installed", "`make setup`")]
    if _numbers(version) < _numbers(floor):
        return [Finding(name, "broken", f"{version}, {floor} or newer is needed", "`make setup`")]
    return []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _torch() -> Finding:
    try:
        import torch
    except Exception as error:   # a broken wheel fails in many ways
        return Finding("torch", "broken", f"cannot be imported: {error}", "`make setup`")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return Finding("torch", "ok", f"{torch.__version__}, {device}, {torch.get_num_threads()} threads")


def _mujoco() -> Finding:
    try:
        version = importlib.metadata.version("mujoco")
    except importlib.metadata.PackageNotFoundError:
        return Finding("mujoco", "broken", "not installed", "`make setup`")
    if version != MUJOCO:
        cure = f"`make setup` installs {MUJOCO}; results of different versions cannot be compared"
        return Finding("mujoco", "note", version, cure)
    return Finding("mujoco", "ok", version)


def _assets() -> Finding:
    spec = importlib.util.find_spec("metaworld")
    places = [Path(place) / "assets" for place in (spec.submodule_search_locations or [])] if spec else []
    scenes = [scene for place in places for scene in place.rglob("sawyer_push_v3.xml")]
    if not scenes:
        return Finding("scenes", "broken", "MetaWorld's scene files are not there", "`make setup` reinstalls metaworld")
    return Finding("scenes", "ok", "MetaWorld's scene files are there")


def _rendering() -> Finding:
    backend = rendering_backend()
    if backend is None:
        packages = " ".join(RENDERING_PACKAGES.values())
        cure = f"without it there are no videos and clips; on Debian or Ubuntu: apt-get install {packages}"
        chosen = os.environ.get("MUJOCO_GL")
        return Finding("rendering", "note", f"MUJOCO_GL={chosen} does not work" if chosen else "no OpenGL works", cure)
    return Finding("rendering", "ok", f"{backend} drew a picture")


_DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
assert renderer.render().any()
"""


@functools.cache
def rendering_backend() -> str | None:
    """The first OpenGL backend that really draws a picture here, ``MUJOCO_GL`` alone where that is set."""
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    candidates = [chosen] if chosen else [*(["glfw"] if os.environ.get("DISPLAY") else []), "egl", "osmesa"]
    return next((backend for backend in candidates if _draws(backend)), None)


def _draws(backend: str) -> bool:
    # A process of its own: mujoco picks its backend once, and some drivers end the process.
    try:
        command = [sys.executable, "-c", _DRAW]
        environment = {**os.environ, "MUJOCO_GL": backend}
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("CPU cores", "ok", str(count))


def _folder(folder: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Finding("this folder", "ok", "can be written")
    except OSError as error:
        yield Finding("this folder", "broken", f"cannot be written: {error.strerror}", "run farl from another folder")
    free = shutil.disk_usage(folder).free / 1e9
    if free < _FREE_GB:
        cure = f"free some: a study of the quick start needs about {_FREE_GB:.0f} GB"
        yield Finding("disk", "broken" if free < 0.1 else "note", f"{free:.1f} GB free", cure)
    else:
        yield Finding("disk", "ok", f"{free:.0f} GB free")
