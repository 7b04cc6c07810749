"""No way to the robot's motion leads around the limits: looked for in the sources, and tried."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.limits import Limits
from robots.permit import Permit, Stance, admit

franky = pytest.importorskip("franky", reason="the driver is franky-control (extra 'robot')")

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("robots", "farl", "failurebench") for path in (ROOT / top).rglob("*.py"))
START = (0.36, 0.0, 0.02)


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            yield name, node


def files_that_use(*names: str) -> set[str]:
    """Where a name or an attribute of that name occurs."""
    return {
        file
        for file, node in nodes()
        if (isinstance(node, ast.Attribute) and node.attr in names) or (isinstance(node, ast.Name) and node.id in names)
    }


def files_that_call(name: str) -> set[str]:
    def called(node: ast.AST) -> str:
        if not isinstance(node, ast.Call):
            return ""
        function = node.func
        return getattr(function, "attr", getattr(function, "id", ""))

    return {file for file, node in nodes() if called(node) == name}


def motions() -> list[str]:
    """What in the library moves an arm: every motion and tracker, by name."""
    return [name for name in dir(franky) if name.endswith(("Motion", "Tracker")) and name != "Motion"]


def test_the_library_is_loaded_in_one_place():
    def imported(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(alias.name.split(".")[0] == "franky" for alias in node.names)
        return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "franky"

    assert {file for file, node in nodes() if imported(node)} == {"robots/arm/connection.py"}


def test_motions_are_made_and_started_by_the_trackers_alone():
    assert len(motions()) > 15
    assert files_that_use(*motions()) == {"robots/arm/tracking.py"}
    assert files_that_call("set_reference") == {"robots/arm/tracking.py"}
    moving = {
        file
        for file, node in nodes()
        if isinstance(node, ast.Call) and any(word.arg == "asynchronous" for word in node.keywords)
    }
    assert moving == {"robots/arm/tracking.py"}


def test_permits_are_made_by_the_limits_alone_and_trackers_are_driven_in_one_place():
    assert files_that_call("Permit") == {"robots/permit.py"}
    assert files_that_use("make_tracker") == {"robots/arm/tracking.py", "robots/arm/body.py"} - {
        "robots/arm/tracking.py"
    }
    assert files_that_use("_body") == {"robots/arm/franky_arm.py"}
    assert files_that_use("_tracker") == {"robots/arm/body.py"}


def test_what_the_arm_offers_is_what_the_interface_names():
    offered = {name for name, _ in inspect.getmembers(FrankyArm, callable) if not name.startswith("_")}
    assert offered == {"command", "connect", "state", "hold", "move_to", "recover", "new_episode", "close"}


@pytest.mark.parametrize("backend", ["impedance", "velocity"])
def test_a_tracker_follows_permits_and_nothing_that_looks_like_one(backend):
    from robots.arm.tracking import make_tracker

    class Forged(Permit):
        pass

    sent: list[object] = []
    robot = SimpleNamespace(move=lambda motion, asynchronous: sent.append(motion))
    connection = SimpleNamespace(
        robot=robot, config=ArmConfig("127.0.0.1", backend=backend), in_base=lambda point: point
    )
    tracker = make_tracker(connection, Limits(), 20.0)
    for false in (Forged(START, (0.0, 0.0), ()), SimpleNamespace(reference=START, clipped=()), START, None):
        with pytest.raises(TypeError, match="Permit"):
            tracker.begin(false)
        with pytest.raises(TypeError, match="Permit"):
            tracker.follow(false, START, 0.0)
    assert sent == []
    true = admit(Limits(), FrankaFragilePushWall(), Stance(START, START, (0.0, 0.0, 0.0)), (0.1, 0.0))
    assert true is not None
    tracker.begin(true)
    assert len(sent) == 1
