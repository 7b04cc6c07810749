"""Where a camera is said to stand, against where it was put."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from rendered import Table, looking
from rich.console import Console
from scipy.optimize import least_squares

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.interface import ArmState, ArmStatus
from robots.calibrate import CalibrateConfig, HandMarkerConfig, calibrate, grid, guided_by_hand, moved_by_arm
from robots.cameras.interface import Frame, Intrinsics, Statistics
from robots.errors import RobotError
from robots.limits import KeepOut, Limits
from robots.perception.calibration import Calibration, Quality, TableFit, load, save
from robots.perception.flange import flange
from robots.perception.hand_eye import Residuals, Sample, solve
from robots.perception.markers import CORNERS, MarkedConfig, MarkerConfig, project
from robots.perception.table_plane import find_plane
from robots.rigid import Rigid, angle_between, rotation

SEEN = Intrinsics(640, 480, 615.0, 615.0, 319.5, 239.5)
CAMERA = looking((1.05, 0.40, 0.75), (0.5, 0.0, 0.15))
ON_HAND = MarkerConfig(40, 0.06, (0.06, 0.0, 0.03), "back")
MARKER = ON_HAND.placed()
BASE_M = 0.112
HOME = np.array([0.0, -0.3, 0.0, -2.3, 0.0, 2.0, 0.785])


def joints_for(target: Rigid, start: np.ndarray = HOME) -> np.ndarray:
    """Seven angles that bring the flange there."""

    def off(joints):
        pose = flange(joints, BASE_M)
        return np.concatenate(
            [10.0 * (pose.translation - target.translation), (pose.rotation - target.rotation).ravel()]
        )

    found = least_squares(off, start)
    assert np.abs(off(found.x)).max() < 1e-5
    return found.x


def hands(count: int, turned: float, rng: np.random.Generator) -> Iterator[Rigid]:
    """Poses of the flange at which the camera sees the marker well."""
    while count:
        at = rng.uniform((0.40, -0.20, 0.20), (0.65, 0.20, 0.40))
        pose = Rigid(rotation((math.pi, 0.0, 0.0)) @ rotation(rng.uniform(-turned, turned, 3)), at)
        seen = CAMERA.inverse() @ pose @ MARKER
        pixels = project(seen.apply(CORNERS * 0.06), SEEN)
        if (
            np.all((pixels > 10) & (pixels < [630, 470]))
            and seen.rotation[:, 2] @ seen.translation < -0.5 * seen.translation[2]
        ):
            count -= 1
            yield pose


def samples(count: int, turned: float, seed: int, px: float = 0.0, mm: float = 0.0, deg: float = 0.0) -> list[Sample]:
    """What arm and camera report of such poses, with errors of both."""
    rng, made = np.random.default_rng(seed), []
    for pose in hands(count, turned, rng):
        corners = project((CAMERA.inverse() @ pose @ MARKER).apply(CORNERS * 0.06), SEEN)
        told = Rigid(
            pose.rotation @ rotation(rng.normal(0, math.radians(deg), 3)),
            pose.translation + rng.normal(0, mm / 1000, 3),
        )
        made.append(Sample(told, corners + rng.normal(0, px, (4, 2))))
    return made


def on_the_table(found: Rigid) -> float:
    """Millimetres, the worst over the table: what is seen at a place is taken to be at another."""
    worst = 0.0
    for x in np.linspace(0.35, 0.75, 5):
        for y in np.linspace(-0.25, 0.25, 5):
            ray = found.rotation @ CAMERA.inverse().apply((x, y, 0.0))
            hit = found.translation - ray * found.translation[2] / ray[2]
            worst = max(worst, 1000.0 * math.dist(hit[:2], (x, y)))
    return worst


@pytest.mark.parametrize(("turned", "known"), [(0.5, None), (0.5, ON_HAND.at_m), (0.0, ON_HAND.at_m)])
def test_without_noise_the_camera_is_found_exactly(turned, known):
    found = solve(samples(12, turned, 0), 0.06, SEEN, known)
    np.testing.assert_allclose(found.table_from_camera.translation, CAMERA.translation, atol=1e-6)
    assert angle_between(found.table_from_camera.rotation, CAMERA.rotation) < 1e-6
    np.testing.assert_allclose(found.flange_from_marker.translation, MARKER.translation, atol=1e-6)
    assert found.residuals.corners_px < 1e-4


@pytest.mark.parametrize(("turned", "known"), [(0.5, None), (0.0, ON_HAND.at_m)])
def test_with_an_arms_and_a_cameras_errors_the_table_is_known_to_millimetres(turned, known):
    """0.1 px, 0.5 mm and 0.05 degrees, all random."""
    errors = []
    for seed in range(6):
        found = solve(samples(20, turned, seed, 0.1, 0.5, 0.05), 0.06, SEEN, known)
        errors.append(on_the_table(found.table_from_camera))
        assert found.residuals.translation_mm < 1.5
    print(f"hand turned by up to {math.degrees(turned):.0f} deg: on the table up to {np.round(errors, 2)} mm off")
    assert np.median(errors) < 2.5
    assert max(errors) < 7.0


def test_a_misread_pose_is_left_out_and_named():
    given = samples(20, 0.5, 1, 0.1, 0.2, 0.02)
    honest = solve(given, 0.06, SEEN)
    assert honest.misread == ()
    given[7] = given[7]._replace(corners=given[7].corners + 25.0)
    found = solve(given, 0.06, SEEN)
    assert found.misread == (7,)
    assert found.residuals.poses == 19
    assert on_the_table(found.table_from_camera) < on_the_table(honest.table_from_camera) + 1.0


def test_many_misread_poses_are_not_explained_away():
    given = samples(20, 0.5, 1, 0.1, 0.2, 0.02)
    for k in range(0, 20, 3):
        given[k] = given[k]._replace(corners=given[k].corners + 25.0 * (-1) ** k)
    found = solve(given, 0.06, SEEN)
    assert found.misread == ()
    assert found.residuals.corners_px > 5.0


def test_a_wrong_marker_size_is_told_by_the_residuals():
    honest = solve(samples(15, 0.5, 2, 0.1, 0.2, 0.02), 0.06, SEEN).residuals
    wrong = solve(samples(15, 0.5, 2, 0.1, 0.2, 0.02), 0.055, SEEN).residuals
    assert wrong.corners_px > 3 * honest.corners_px
    assert wrong.corners_px > Quality().corners_px


@pytest.mark.parametrize(
    ("given", "known", "said"),
    [
        (samples(4, 0.5, 0), None, "4 poses of the hand are too few"),
        (samples(12, 0.0, 0), None, "turned too little"),
        (samples(12, 0.02, 0), None, "turned too little"),
        (
            [sample._replace(hand=samples(1, 0.5, 0)[0].hand) for sample in samples(8, 0.5, 0)],
            (0, 0, 0),
            "one plane, or on one line",
        ),
    ],
)
def test_poses_that_leave_the_answer_open_are_refused(given, known, said):
    with pytest.raises(RobotError, match=said):
        solve(given, 0.06, SEEN, known)


def test_the_flange_is_where_the_simulators_model_of_the_arm_has_it():
    pinocchio = pytest.importorskip("pinocchio", reason="the wire twin's model is what the flange is compared with")
    urdf = pytest.importorskip("franky_sim.urdf", reason="the wire twin's model is what the flange is compared with")
    model = pinocchio.buildModelFromXML(urdf.FR3_URDF)
    data, rng = model.createData(), np.random.default_rng(0)
    frame = next(model.getFrameId(name) for name in ("fr3_link8", "fr3_flange", "link8") if model.existFrame(name))
    for _ in range(20):
        joints = rng.uniform((-2, -1.5, -2, -2.8, -2, 0.6, -2), (2, 1.5, 2, -0.5, 2, 3.5, 2))
        given = np.zeros(model.nq)
        given[:7] = joints
        pinocchio.framesForwardKinematics(model, data, given)
        mine = flange(joints.tolist(), 0.0)
        np.testing.assert_allclose(mine.translation, data.oMf[frame].translation, atol=1e-6)
        np.testing.assert_allclose(mine.rotation, data.oMf[frame].rotation, atol=1e-6)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table(FrankaFragilePushWall(), camera=CAMERA, on_flange=MarkedConfig("hand", (ON_HAND,)))
    made.put_hazard(0.55, -0.9)
    made.put(0.45, -0.2, 0.2)
    yield made
    made.close()


@pytest.mark.parametrize(("up_mm", "tilt_deg"), [(0.0, 0.0), (4.0, 1.0), (-3.0, 0.5)])
def test_the_tables_top_is_found_in_noisy_depth_with_things_on_it(table, up_mm, tilt_deg):
    table.put_finger(0.5, 0.1)
    frame = table.frame(depth_noise_m=0.002)
    table.put_finger(0.0, 0.0, 2.0)
    axis = np.radians(tilt_deg) * np.array([0.6, 0.8, 0.0])
    middle = np.array([0.55, 0.0, 0.0])
    turn = rotation(axis)
    wrong = (
        Rigid(turn, middle - turn @ middle + np.array([0.0, 0.0, up_mm / 1000.0])) @ CAMERA
    )  # as if the top were there
    plane = find_plane(frame, wrong, ((0.35, 0.75), (-0.25, 0.25)))
    assert 1000.0 * plane.height_m == pytest.approx(up_mm, abs=0.8)
    assert math.degrees(plane.tilt_rad) == pytest.approx(tilt_deg, abs=0.15)
    levelled = plane.level @ wrong
    points = levelled.apply(CAMERA.inverse().apply([(0.4, -0.2, 0.0), (0.7, 0.2, 0.0), (0.55, 0.0, 0.0)]))
    assert np.abs(points[:, 2]).max() < 0.001


def test_no_table_where_one_should_be_is_one_message(table):
    high = Rigid(CAMERA.rotation, CAMERA.translation + np.array([0.0, 0.0, 0.2]))
    with pytest.raises(RobotError, match=r"lies 2\d\.\d cm over it"):
        find_plane(table.frame(), high, ((0.35, 0.75), (-0.25, 0.25)))


class Bench:
    """An arm that stands where it is told, and a camera that sees where it stands."""

    def __init__(self, table: Table, error_mm: float = 0.0) -> None:
        self.table, self.rng, self.error_m = table, np.random.default_rng(0), error_mm / 1000
        self.joints, self.number, self.hidden = HOME, 0, False
        self.went: list[tuple[float, float, float]] = []
        self.holds: list[str] = []
        self._last: Frame | None = None

    def state(self) -> ArmState:
        zero = (0.0, 0.0, 0.0)
        return ArmState(ArmStatus.IDLE, time.monotonic(), tuple(self.joints.tolist()), zero, zero, zero, (0.0, 0.0))

    def bring(self, pose: Rigid) -> None:
        self.joints = joints_for(pose)
        self._last = None

    def move_to(self, target, speed_mps, height_m=0.02) -> bool:
        self.went.append((*target, height_m))
        self.bring(Rigid(rotation((math.pi, 0.0, 0.0)), np.array([*target, height_m + 0.18])))
        return True

    def hold(self, reason: str) -> None:
        self.holds.append(reason)

    def newest(self) -> Frame:
        """The same picture with a new time: nothing moves between two poses."""
        if self._last is None:
            real = flange(self.joints, BASE_M)
            shaken = Rigid(real.rotation, real.translation + self.rng.normal(0, self.error_m, 3))
            self.table.put_flange(shaken if not self.hidden else Rigid(np.eye(3), np.array([0.0, 0.0, 5.0])))
            self._last = self.table.frame(depth_noise_m=0.001, seed=self.number)
        self.number += 1
        self._last = self._last._replace(taken=time.monotonic(), number=self.number)
        return self._last

    def serial(self) -> str:
        return "0001"

    def fault(self) -> str:
        return ""

    def statistics(self) -> Statistics:
        return Statistics()

    def start(self) -> None: ...

    def close(self) -> None: ...


def config(tmp_path: Path, **changes) -> CalibrateConfig:
    marker = HandMarkerConfig(at_m=ON_HAND.at_m)
    plain = {
        "robot": "fr3 at 10.0.0.1",
        "output": str(tmp_path / "lab.yaml"),
        "settle_s": 0.0,
        "poses": 9,
        "marker": marker,
    }
    return CalibrateConfig(**{**plain, **changes})


def test_an_arm_that_moves_itself_is_calibrated_inside_its_limits_and_the_file_is_the_robots_own(table, tmp_path):
    bench, limits, said = Bench(table, error_mm=0.2), Limits(), io.StringIO()
    given = config(tmp_path)
    found = calibrate(
        given, bench, bench.state, moved_by_arm(bench, limits, given), console=Console(file=said, width=120)
    )
    off = on_the_table(found.table_from_camera)
    print(
        f"moved by the arm, 9 places, 0.2 mm of error: on the table up to {off:.2f} mm off, {found.residuals}, {found.table}"
    )
    assert off < 2.5
    assert all(limits.inside(place) for place in bench.went)
    assert bench.holds == ["calibration is over"]
    read = load(tmp_path / "lab.yaml", "fr3 at 10.0.0.1", "0001")
    np.testing.assert_allclose(read.table_from_camera.rotation, found.table_from_camera.rotation, atol=1e-9)
    assert read.residuals == found.residuals
    assert (tmp_path / "lab_pictures" / "result.png").stat().st_size > 10_000
    assert len(list((tmp_path / "lab_pictures").glob("0*.png"))) == 9
    assert re.search(r"9 of 9 .*marker 40 seen", said.getvalue())
    with pytest.raises(RobotError, match="exists: give another name, or --overwrite"):
        calibrate(given, bench, bench.state, moved_by_arm(bench, limits, given))


def test_a_person_guides_the_hand_and_nothing_about_the_marker_need_be_known(table, tmp_path):
    bench, rng = Bench(table, error_mm=0.2), np.random.default_rng(5)
    poses, asked = hands(12, 0.45, rng), []

    def ask(question: str) -> str:
        asked.append(question)
        if len(asked) != 4:  # the fourth time nobody has moved it
            bench.bring(next(poses))
        return "" if len(asked) < 14 else "done"

    given, said = config(tmp_path, marker=HandMarkerConfig(), poses=12), io.StringIO()
    found = calibrate(given, bench, bench.state, guided_by_hand(ask, given), console=Console(file=said, width=120))
    off = on_the_table(found.table_from_camera)
    print(f"guided by hand, 12 places, 0.2 mm of error: on the table up to {off:.2f} mm off, {found.residuals}")
    assert off < 3.0
    assert "as before, left out" in said.getvalue()


def test_a_poor_calibration_is_not_written(table, tmp_path):
    bench = Bench(table, error_mm=6.0)
    given = config(tmp_path)
    with pytest.raises(RobotError, match=r"too poor to be used and was not written: .* px between corners and fit"):
        calibrate(given, bench, bench.state, moved_by_arm(bench, Limits(), given), console=Console(file=io.StringIO()))
    assert not (tmp_path / "lab.yaml").exists()


def test_a_marker_that_is_never_seen_is_one_message(table, tmp_path):
    bench = Bench(table)
    bench.hidden = True
    given = config(tmp_path, poses=8, heights_m=(0.1, 0.2))
    with pytest.raises(RobotError, match="marker 40 of 4X4_50 was never seen"):
        calibrate(given, bench, bench.state, moved_by_arm(bench, Limits(), given), console=Console(file=io.StringIO()))


def test_an_arm_of_another_base_height_is_told_to_be_measured(table, tmp_path):
    bench = Bench(table)
    given = config(tmp_path, base_height_m=BASE_M - 0.01)
    with pytest.raises(
        RobotError, match=r"mm from the table's top, 5 is allowed: add \+0\.0(09|10)\d m to the arm's base_height_m"
    ):
        calibrate(given, bench, bench.state, moved_by_arm(bench, Limits(), given), console=Console(file=io.StringIO()))


def test_the_arm_needs_the_markers_place_and_heights_inside_its_limits(tmp_path):
    bare = config(tmp_path, marker=HandMarkerConfig())
    with pytest.raises(RobotError, match=r"give marker\.at_m"):
        next(moved_by_arm(Bench.__new__(Bench), Limits(), bare))
    with pytest.raises(RobotError, match="fewer than two are inside"):
        grid(Limits(), (0.5, 0.6, 0.1), 12)


def test_places_avoid_what_the_finger_must_not_enter():
    wall = KeepOut("wall", (0.4, -0.1, 0.0), (0.6, 0.1, 0.25))
    places = grid(Limits(keep_out=(wall,)), (0.1, 0.2, 0.28), 30)
    assert all(not Limits(keep_out=(wall,)).forbidden(place) for place in places)
    assert len(places) > 15


def whole() -> Calibration:
    residuals = Residuals(12, 0.2, 0.5, 1.0, 0.2)
    return Calibration("a", "1", "now", CAMERA, MARKER, residuals, TableFit(0.1, 0.1, 1.0))


@pytest.mark.parametrize(
    ("robot", "camera", "said"),
    [("b", "1", "of robot 'a', but this is 'b'"), ("a", "2", "of camera '1', but this is '2'")],
)
def test_another_robots_or_cameras_calibration_is_refused(tmp_path, robot, camera, said):
    save(whole(), tmp_path / "c.yaml", overwrite=False)
    with pytest.raises(RobotError, match=said):
        load(tmp_path / "c.yaml", robot, camera)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c["table_from_camera"]["rotation"][0].__setitem__(0, 0.9), "no rotation"),
        (
            lambda c: c["table_from_camera"].__setitem__(
                "rotation", [[-r for r in row] for row in CAMERA.rotation.tolist()]
            ),
            "no rotation",
        ),
        (lambda c: c["table_from_camera"]["translation_m"].__setitem__(1, float("nan")), "not three numbers"),
        (lambda c: c["table_from_camera"]["translation_m"].__setitem__(1, "left"), "no number"),
        (lambda c: c.pop("residuals"), "not a whole calibration"),
        (lambda c: c["table"].__setitem__("colour", 3), "not a whole calibration"),
        (lambda c: c.__setitem__("format", 7), "no calibration of format 1"),
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path, damage, said):
    path = tmp_path / "c.yaml"
    save(whole(), path, overwrite=False)
    content = yaml.safe_load(path.read_text())
    damage(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RobotError, match=said):
        load(path, "a", "1")


@pytest.mark.parametrize("text", ["[1, 2", "just words", "\x00\x01"])
def test_what_is_no_calibration_at_all_is_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(RobotError, match=r"c\.yaml"):
        load(path, "a", "1")
    with pytest.raises(RobotError, match="there is no calibration"):
        load(tmp_path / "none.yaml", "a", "1")


def test_a_calibration_is_replaced_only_when_asked_and_whole(tmp_path):
    path = tmp_path / "c.yaml"
    save(whole(), path, overwrite=False)
    newer = dataclasses.replace(whole(), made="later")
    with pytest.raises(RobotError, match="--overwrite"):
        save(newer, path, overwrite=False)
    assert load(path, "a", "1").made == "now"
    save(newer, path, overwrite=True)
    assert load(path, "a", "1").made == "later"
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RobotError, match="cannot write"):
        save(newer, tmp_path / "file" / "c.yaml", overwrite=False)
