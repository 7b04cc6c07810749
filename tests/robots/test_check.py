"""What is told about eyes and arm before anything moves: rendered tables through the real library, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rendered import Table
from rich.console import Console

from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.arm.config import ArmConfig
from robots.arm.interface import ArmState, ArmStatus
from robots.cameras.capture import Captured
from robots.cameras.clock import FrameClock
from robots.cameras.interface import Intrinsics
from robots.cameras.software import Rendered, SoftwareLink
from robots.check import CheckConfig, check, main
from robots.errors import RobotError
from robots.eyes import EyesConfig, open_eyes, rendered_eyes, robot_name
from robots.files import read
from robots.limits import KeepOut, Limits
from robots.perception.calibration import Calibration, TableFit, save
from robots.perception.estimator import PerceptionConfig
from robots.perception.hand_eye import Residuals
from robots.perception.markers import Detector
from robots.perception.sheet import SheetConfig
from robots.perception.sheet import main as print_markers
from robots.perception.tasks import usual
from robots.rigid import Rigid, identity, rotation

TASK = FrankaFragilePushWall()
LIMITS = Limits(x_m=(0.34, 0.70), y_m=(-0.20, 0.20), keep_out=(KeepOut("wall", (0.54, -0.25, 0.0), (0.56, 0.0, 0.12)),))
QUICK = CheckConfig(seconds=1.5, fps=1.0, latency_s=2.0, age_s=3.0, dropped_share=1.0)
"""a busy machine is no fault here"""
ARM = ArmState(ArmStatus.IDLE, 0.0, (0.0,) * 7, (0.45, 0.1, 0.05), (0.0,) * 3, (0.0, 0.0, 1.0), (0.45, 0.1))


class Still:
    """One rendered picture, again and again."""

    def __init__(self, table: Table, picture: Rendered) -> None:
        self.table, self.pictures, self.gone = table, [picture], False
        self.count = 0

    def open(self) -> None:
        if self.gone:
            raise RobotError("no RealSense camera is connected (connected: none): check its cable")

    def intrinsics(self) -> Intrinsics:
        return self.table.intrinsics

    def serial(self) -> str:
        return "0001"

    def next(self, timeout_s: float) -> Rendered | None:
        time.sleep(0.04)
        self.count += 1
        return self.pictures[self.count % len(self.pictures)]._replace(taken=time.monotonic())

    def close(self) -> None: ...


class Resting:
    """An arm that nothing may command."""

    def __init__(self, **changes: Any) -> None:
        self.reading = ARM._replace(**changes)

    def state(self) -> ArmState:
        return self.reading._replace(time=time.monotonic() + self.reading.time)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the check used {name} of the arm")


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table(TASK, usual(TASK).marked)
    made.put(0.45, 0.05, 0.2)
    made.put_hazard(0.55, -0.12)
    yield made
    made.close()


@pytest.fixture(scope="module")
def picture(table: Table) -> Rendered:
    return table.rendered()


@pytest.fixture
def feed(table: Table, picture: Rendered) -> Still:
    return Still(table, picture)


def faults(report) -> str:
    return "\n".join(report.faults)


def quick(tmp_path: Path, **changes: Any) -> CheckConfig:
    return dataclasses.replace(QUICK, picture=str(tmp_path / "check.png"), **changes)


def test_a_good_table_is_fit_and_the_picture_shows_what_was_found_where_it_is(feed, table, picture, tmp_path):
    said = io.StringIO()
    sight = rendered_eyes(feed, table.camera, TASK)
    code = main(quick(tmp_path), TASK, LIMITS, sight, Resting(), Console(file=said, width=150))
    assert code == 0, said.getvalue()
    for word in (
        "camera 0001: rate",
        "latency",
        "keep-out",
        "wall",
        "marker 0 of the object",
        "table's top",
        "arm: force at rest",
    ):
        assert word in said.getvalue()
    drawn = cv2.imread(str(tmp_path / "check.png"))[:, :, ::-1]
    assert drawn.shape == (2 * table.height, 2 * table.width, 3)
    plain = cv2.resize(picture.color, (2 * table.width, 2 * table.height))
    changed = np.abs(drawn.astype(int) - plain).sum(axis=2) > 60
    assert 0.01 < changed.mean() < 0.3
    # The axes' origin is where the box stands: its own x axis is drawn in red from there.
    x, y = (2 * pixel for pixel in _pixel(table, (0.45 + 0.03 * math.cos(0.2), 0.05 + 0.03 * math.sin(0.2), 0.0)))
    near = drawn[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
    assert ((near[:, 0] > 180) & (near[:, 1] < 90)).any()


def _pixel(table: Table, point) -> tuple[int, int]:
    x, y, z = table.camera.inverse().apply(point).tolist()
    given = table.intrinsics
    return round(given.fx * x / z + given.cx), round(given.fy * y / z + given.cy)


def test_a_camera_that_is_missing_is_one_line(feed, table, tmp_path):
    feed.gone = True
    report = check(quick(tmp_path), TASK, LIMITS, rendered_eyes(feed, table.camera, TASK))
    assert report.faults == ["camera: not usable; no RealSense camera is connected (connected: none): check its cable"]
    assert not (tmp_path / "check.png").exists()


def test_a_camera_that_delivers_nothing_is_not_fit(feed, table, tmp_path):
    feed.next = lambda timeout_s: time.sleep(timeout_s)
    report = check(quick(tmp_path), TASK, LIMITS, rendered_eyes(feed, table.camera, TASK))
    assert re.search(r"camera 0001: (stalled|stuck) after 0 frames; check its cable", faults(report))


def test_a_slow_stale_and_late_camera_is_not_fit(feed, table, tmp_path):
    given = quick(tmp_path, fps=1000.0, age_s=1e-6, latency_s=1e-6)
    told = faults(check(given, TASK, LIMITS, rendered_eyes(feed, table.camera, TASK)))
    assert "camera 0001: rate:" in told
    assert "age of the newest picture" in told
    assert "stale: plug it in again" in told
    assert "latency, median" in told


def test_markers_that_are_never_seen_are_named_with_those_that_are(feed, table, tmp_path):
    feed.pictures = [Rendered(_without(feed.pictures[0], table, (0, 1, 2, 3, 4)), feed.pictures[0].depth_m, 0.0)]
    told = faults(check(quick(tmp_path), TASK, LIMITS, rendered_eyes(feed, table.camera, TASK)))
    assert "object: seen in 0 % of the pictures" in told
    assert "markers 0, 1, 2, 3, 4 of 4X4_50 was ever seen (other markers are seen: 10, 11)" in told


def test_an_object_that_is_seen_now_and_then_is_not_fit(feed, table, tmp_path):
    whole = feed.pictures[0]
    hidden = whole._replace(color=_without(whole, table, (0, 1, 2, 3, 4)))
    feed.pictures = [whole, hidden, hidden]
    told = faults(check(quick(tmp_path, seconds=2.5), TASK, LIMITS, rendered_eyes(feed, table.camera, TASK)))
    assert "covered or badly lit most of the time" in told


def _without(picture: Rendered, table: Table, ids: tuple[int, ...]) -> np.ndarray:
    image = picture.color.copy()
    for found in Detector("4X4_50").detect(picture.color):
        if found.id in ids:
            cv2.fillConvexPoly(image, np.rint(found.corners).astype(np.int32), (120, 100, 90))
    return image


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (Rigid(np.eye(3), np.array([0.0, 0.0, 0.012])), "off its calibrated height"),
        (Rigid(rotation((0.0, 0.04, 0.0)), np.zeros(3)), "table's top"),
    ],
)
def test_a_camera_that_was_bumped_after_its_calibration_is_told_by_the_table(feed, table, tmp_path, moved, said):
    told = faults(check(quick(tmp_path), TASK, LIMITS, rendered_eyes(feed, moved @ table.camera, TASK)))
    assert said in told
    assert "the camera or the table was moved: `farl robot calibrate`" in told


def test_a_workspace_that_is_out_of_view_is_not_fit(feed, table, tmp_path):
    wide = dataclasses.replace(LIMITS, y_m=(-0.26, 0.26), x_m=(0.34, 0.74))
    aside = Rigid(np.eye(3), np.array([0.0, 0.55, 0.0])) @ table.camera
    told = faults(check(quick(tmp_path), TASK, wide, rendered_eyes(feed, aside, TASK)))
    assert "workspace in view" in told


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": ArmStatus.USER_STOP}, "release the stop button"),
        ({"status": ArmStatus.LOST, "errors": ("a_flag",)}, r"arm: lost (a_flag)"),
        ({"tip": (0.9, 0.0, 0.05)}, "guide the arm into the box"),
        ({"tip": (math.nan, 0.0, 0.05)}, "guide the arm into the box"),
        ({"force": (0.0, 0.0, 9.0)}, "arm: force at rest: 9.0 N"),
        ({"force": (0.0, 0.0, math.nan)}, "arm: force at rest: nan N"),
        ({"time": -1.0}, "the controller is silent"),
    ],
)
def test_an_arm_that_is_not_fit_is_one_line(feed, table, tmp_path, changes, said):
    feed.gone = True  # the arm is read first
    told = faults(check(quick(tmp_path), TASK, LIMITS, rendered_eyes(feed, table.camera, TASK), Resting(**changes)))
    assert said in told


def test_limits_that_contradict_the_task_are_refused_before_anything_opens(feed, table, tmp_path):
    feed.open = lambda: pytest.fail("the camera was opened")
    with pytest.raises(RobotError):
        check(quick(tmp_path), TASK, Limits(x_m=(0.5, 0.6)), rendered_eyes(feed, table.camera, TASK))


def calibration(robot: str, camera: str, placed: Rigid) -> Calibration:
    return Calibration(
        robot, camera, "today", placed, identity(), Residuals(12, 0.2, 0.5, 1.0, 0.2), TableFit(0.1, 0.1, 1.0)
    )


@pytest.fixture(scope="module")
def recording(table: Table, picture: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "table.db3"
    camera = Captured(SoftwareLink(Still(table, picture), record_to=path), FrameClock())
    camera.start()
    until = time.monotonic() + 20.0
    while camera.statistics().frames < 25 and time.monotonic() < until:
        time.sleep(0.01)
    camera.close()
    return path


def test_eyes_from_a_file_look_through_a_recording_and_their_calibration(recording, table, tmp_path):
    name = robot_name(ArmConfig("10.0.0.1"))
    save(calibration(name, "0001", table.camera), tmp_path / "lab.yaml", overwrite=False)
    (tmp_path / "eyes.yaml").write_text(f"calibration: lab.yaml\ncamera:\n  recording: {recording}\n")
    sight = open_eyes(tmp_path / "eyes.yaml", TASK, name)
    sight.estimator.start()
    until = time.monotonic() + 6.0
    while sight.estimator.newest() is None and time.monotonic() < until:
        time.sleep(0.01)
    seen = sight.estimator.newest()
    sight.estimator.close()
    assert seen is not None
    assert math.dist(seen.object, (0.45, 0.05)) < 0.001
    assert math.dist(seen.hazard[:2], (0.55, -0.12)) < 0.001


@pytest.mark.parametrize(
    ("robot", "camera", "said"), [("fr3 at 10.0.0.2", "0001", "of robot"), ("fr3 at 10.0.0.1", "0002", "of camera")]
)
def test_eyes_with_another_robots_or_cameras_calibration_never_open(recording, table, tmp_path, robot, camera, said):
    save(calibration(robot, camera, table.camera), tmp_path / "lab.yaml", overwrite=False)
    (tmp_path / "eyes.yaml").write_text(f"calibration: lab.yaml\ncamera:\n  recording: {recording}\n")
    with pytest.raises(RobotError, match=said):  # noqa: PT012 - the robot is known before the camera is open, the camera only then
        sight = open_eyes(tmp_path / "eyes.yaml", TASK, "fr3 at 10.0.0.1")
        report = check(quick(tmp_path), TASK, LIMITS, sight)
        raise RobotError(faults(report))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("calibration: a.yaml\ncamra: {}", r"eyes\.yaml: there is no camra; did you mean 'camera'\?"),
        ("camera: {fps: fast}", r"camera\.fps is 'fast'; give a whole number"),
        ("camera: {fps: true}", r"camera\.fps is True; give a whole number"),
        ("camera: {fps: -3}", r"eyes\.yaml: camera: fps is -3"),
        ("camera: 7", r"camera is 7; give serial, recording"),
        ("perception: {balls: [{name: object, radius_m: 0.03}]}", r"perception\.balls\[0\]\.color is missing"),
        ("perception: {balls: [{name: object, radius_m: 0.03, color: {hue: [1]}}]}", r"hue is \[1\]; give 2 values"),
        ("perception: {marked: 3}", r"perception\.marked is 3; give a list"),
        ("[1, 2", "cannot be read as YAML"),
        ("", "calibration is missing"),
    ],
)
def test_a_wrong_eyes_file_is_one_message_with_the_place(tmp_path, text, said):
    path = tmp_path / "eyes.yaml"
    path.write_text(text)
    with pytest.raises(RobotError, match=said):
        open_eyes(path, TASK, "fr3 at 10.0.0.1")


def test_an_eyes_file_says_all_that_can_be_said(tmp_path):
    path = tmp_path / "eyes.yaml"
    path.write_text(
        """
        calibration: lab.yaml
        camera: {serial: "0123", width: 848, exposure_us: 5000, patience: {stalled_s: 2}}
        perception:
          dictionary: APRILTAG_36H11
          marked:
          - name: object
            markers:
            - {id: 3, size_m: 0.04, at_m: [0, 0, 0.06]}
            - {id: 4, size_m: 0.04, at_m: [0.03, 0, 0.03], facing: back}
          tracker: {window_s: 0.2}
        """
    )
    config = read(EyesConfig, path)
    assert config.camera.patience.stalled_s == 2.0
    assert config.perception is not None
    assert config.perception.marked[0].markers[1].facing == "back"
    assert config.perception.tracker.window_s == 0.2
    assert read(EyesConfig, _written(tmp_path, "perception: null")).perception is None


def test_the_documented_eyes_files_can_be_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "robots" / "cameras.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    configs = [read(EyesConfig, _written(tmp_path, block)) for block in blocks]
    assert [config.perception.names() for config in configs if config.perception] == [["object", "hazard"], ["object"]]
    assert configs[0].perception.marked[0].markers == (
        usual(TASK).marked[0].markers[0],
        usual(TASK).marked[0].markers[2],
    )
    assert configs[1].perception.balls == usual(FrankaBoundedSoccer()).balls


def _written(folder: Path, text: str) -> Path:
    path = folder / "other.yaml"
    path.write_text(text)
    return path


def test_printed_markers_have_their_size_on_paper(tmp_path):
    files = print_markers(SheetConfig(str(tmp_path / "m.png")), usual(TASK))
    sizes = {marker.id: marker.size_m for marked in usual(TASK).marked for marker in marked.markers}
    seen: set[int] = set()
    for file in files:
        sheet = cv2.imread(str(file))
        for found in Detector("4X4_50").detect(sheet):
            sides = np.linalg.norm(found.corners - np.roll(found.corners, 1, axis=0), axis=1)
            np.testing.assert_allclose(sides / 300 * 0.0254, sizes[found.id], atol=1.5e-4)
            seen.add(found.id)
    assert seen == set(sizes)
    (pdf,) = print_markers(SheetConfig(str(tmp_path / "m.pdf")), usual(TASK))
    assert b"/MediaBox [ 0 0 595.27" in pdf.read_bytes()  # A4, in points


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SheetConfig("m.doc"), "give the name of a .pdf or a .png"),
        (lambda: print_markers(SheetConfig("m.pdf"), usual(FrankaBoundedSoccer())), "seen by their colour"),
        (lambda: CheckConfig(seconds=0.1), "seconds is 0.1"),
        (lambda: CheckConfig(picture="a.jpg"), "'a.jpg'"),
    ],
)
def test_what_cannot_be_made_is_refused(make: Callable[[], object], said: str):
    with pytest.raises(RobotError, match=said):
        make()


def test_perception_defaults_are_the_tasks_own():
    assert isinstance(usual(TASK), PerceptionConfig)
