"""What is seen of a rendered table, against where everything really stands."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from rendered import Table, looking

from failurebench.franka.definition import FrankaTask
from failurebench.franka.disturbed_push import FrankaDisturbedPush
from failurebench.franka.push_wall import FrankaFragilePushWall
from failurebench.franka.soccer import FrankaBoundedSoccer
from robots.cameras.capture import Captured
from robots.cameras.clock import FrameClock
from robots.cameras.interface import Frame
from robots.cameras.software import Rendered, SoftwareLink
from robots.errors import RobotError
from robots.perception.colors import BallConfig, BoxConfig, ColorConfig, find_ball, find_box
from robots.perception.estimator import CameraEstimator, Eyes, PerceptionConfig
from robots.perception.markers import MarkedConfig, MarkerConfig
from robots.perception.tasks import ORANGE, hazard_of, usual
from robots.perception.tracker import Sighting, Tracker, TrackerConfig
from robots.rigid import identity

WALL = FrankaFragilePushWall()
FULL = usual(WALL)
BOX_ONLY = PerceptionConfig(marked=FULL.marked[:1])
RED = BoxConfig("object", (0.06, 0.06), 0.06, ColorConfig(hue=(170, 8)))
BALL = BallConfig("object", 0.03, ORANGE)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table(WALL, FULL.marked)
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Table]:
    """Without markers, the wall out of the way."""
    made = Table(WALL)
    made.put_hazard(0.55, -0.9)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pitch() -> Iterator[Table]:
    made = Table(FrankaBoundedSoccer(), ball_rgb=(1.0, 0.45, 0.05))
    yield made
    made.close()


def places(count: int, seed: int = 0) -> list[tuple[float, float, float]]:
    """Where a box may stand without touching a wall that stands at (0.55, -0.25)."""
    rng = np.random.default_rng(seed)
    low, high = (0.40, -0.08, -0.8), (0.70, 0.24, 0.8)
    return [(x, y, yaw) for x, y, yaw in rng.uniform(low, high, (count, 3)).tolist()]


def noisy(frame: Frame, seed: int) -> Frame:
    """Noise of a colour sensor: three grey levels."""
    shaken = frame.color + np.random.default_rng(seed).normal(0.0, 3.0, frame.color.shape)
    return frame._replace(color=np.clip(np.rint(shaken), 0, 255).astype(np.uint8))


def off_by(found: tuple[float, float, float], truth: tuple[float, float, float]) -> tuple[float, float]:
    """Millimetres, and degrees up to quarter turns."""
    turn = (found[2] - truth[2] + math.pi / 4) % (math.pi / 2) - math.pi / 4
    return 1000.0 * math.dist(found[:2], truth[:2]), abs(math.degrees(turn))


def test_a_marked_box_and_wall_are_found_to_half_a_millimetre_in_a_noisy_picture(table):
    table.put_hazard(0.55, -0.25)
    eyes, errors, walls = Eyes(FULL, table.camera), [], []
    for k, truth in enumerate(places(12)):
        table.put(*truth)
        look = eyes.look(noisy(table.frame(), k))
        errors.append(off_by(look.fits["object"].pose, truth))
        walls.append(off_by(look.fits["hazard"].pose, (0.55, -0.25, 0.0)))
        assert look.sightings()["object"].confidence > 0.6
    position, turn = np.array(errors).T
    print(
        f"box: median {np.median(position):.2f} mm {np.median(turn):.2f} deg, worst {position.max():.2f} mm {turn.max():.2f} deg"
    )
    position_of_wall, turn_of_wall = np.array(walls).T
    print(f"wall: worst {position_of_wall.max():.2f} mm {turn_of_wall.max():.2f} deg")
    assert position.max() < 0.6
    assert turn.max() < 0.6
    assert position_of_wall.max() < 0.6
    assert turn_of_wall.max() < 0.3


@pytest.mark.parametrize("dictionary", ["4X4_50", "APRILTAG_36H11"])
def test_both_families_of_markers_are_found(dictionary, monkeypatch):
    monkeypatch.setattr("rendered.DICTIONARY", dictionary)
    made = Table(WALL, BOX_ONLY.marked, camera=looking((0.80, 0.25, 0.55), (0.54, 0.0, 0.02)))
    made.put_hazard(0.55, -0.9)
    made.put(0.5, 0.05, 0.4)
    look = Eyes(PerceptionConfig(dictionary, BOX_ONLY.marked), made.camera).look(made.frame())
    made.close()
    millimetres, degrees = off_by(look.fits["object"].pose, (0.5, 0.05, 0.4))
    assert millimetres < 0.5
    assert degrees < 0.5


def test_a_single_marker_is_enough_and_worth_less_and_none_is_not_seen(table):
    table.put_hazard(0.55, -0.25)
    table.put(0.5, 0.1, 0.2)
    eyes, frame = Eyes(BOX_ONLY, table.camera), table.frame()
    whole = eyes.look(frame)
    seen = whole.fits["object"].markers
    assert len(seen) >= 2
    for hidden in range(len(seen)):
        image = frame.color.copy()
        for marker in whole.detected:
            if marker.id in seen[: hidden + 1]:
                cv2.fillConvexPoly(image, np.rint(marker.corners).astype(np.int32), (90, 70, 60))  # a hand
        part = eyes.look(frame._replace(color=image))
        left_over = len(seen) - hidden - 1
        if not left_over:
            assert "object" not in part.fits
            assert part.sightings() == {}
            continue
        assert part.sightings()["object"].confidence < whole.sightings()["object"].confidence
        assert off_by(part.fits["object"].pose, (0.5, 0.1, 0.2))[0] < 1.0


def test_a_finger_before_the_box_hides_markers_but_moves_nothing(table):
    """The arm between camera and box, as in every push from the left."""
    table.put_hazard(0.55, -0.25)
    table.put(0.5, 0.05, 0.3)
    eyes, worst, hidden = Eyes(BOX_ONLY, table.camera), 0.0, 0
    for side in np.linspace(-0.08, 0.08, 17):
        table.put_finger(0.56 + side * 0.7, 0.11 - side)
        look = eyes.look(table.frame())
        if "object" not in look.fits:
            hidden += 1
            continue
        worst = max(worst, off_by(look.fits["object"].pose, (0.5, 0.05, 0.3))[0])
    table.put_finger(0.0, 0.0, 2.0)
    assert hidden < 12
    assert worst < 1.5


@pytest.mark.parametrize(("light", "found"), [(0.3, True), (0.5, True), (1.6, True), (30.0, True), (0.03, False)])
def test_in_dim_and_glaring_light_markers_are_right_or_not_seen(table, light, found):
    table.put_hazard(0.55, -0.25)
    table.put(0.5, 0.1, 0.2)
    look = Eyes(BOX_ONLY, table.camera).look(table.frame(light))
    assert ("object" in look.fits) == found
    if found:
        assert off_by(look.fits["object"].pose, (0.5, 0.1, 0.2))[0] < 1.0


def test_a_look_leaves_the_control_loop_its_time(table):
    """CPU time of this process: four markers in 640x480 pixels."""
    table.put_hazard(0.55, -0.25)
    table.put(0.5, 0.1, 0.2)
    eyes, frame = Eyes(FULL, table.camera), table.frame()
    assert len(eyes.look(frame).detected) == 4
    began = time.process_time()
    for _ in range(20):
        eyes.look(frame)
    cost = 1000.0 * (time.process_time() - began) / 20
    print(f"a look at four markers: {cost:.1f} ms of CPU")
    assert cost < 40.0


def moved(marker: MarkerConfig, by: float) -> MarkerConfig:
    x, y, z = marker.at_m
    return MarkerConfig(marker.id, marker.size_m, (x, y + by, z), marker.facing)


def test_a_marker_that_slipped_is_outvoted_two_that_disagree_and_a_toppled_box_are_not_seen():
    high = looking((0.95, 0.05, 0.75), (0.54, 0.0, 0.02))
    box = BOX_ONLY.marked[0].markers
    three = MarkedConfig(
        "object", (*box, MarkerConfig(5, 0.02, (0.0, 0.06, 0.06)), MarkerConfig(6, 0.02, (0.0, -0.06, 0.06)))
    )
    made = Table(WALL, (three,), camera=high)
    made.put_hazard(0.55, -0.9)
    made.put(0.5, 0.02, 0.1)
    frame = made.frame()
    honest = Eyes(PerceptionConfig(marked=(three,)), high).look(frame).fits["object"]
    assert {0, 5, 6} <= set(honest.markers)
    slipped = MarkedConfig("object", tuple(moved(marker, 0.03 * (marker.id == 0)) for marker in three.markers))
    fit = Eyes(PerceptionConfig(marked=(slipped,)), high).look(frame).fits["object"]
    assert 0 not in fit.markers
    assert off_by(fit.pose, (0.5, 0.02, 0.1))[0] < 1.0
    pair = tuple(marker for marker in three.markers if marker.id in (0, 5))
    apart = MarkedConfig("object", (moved(pair[0], 0.03), pair[1]))
    assert "object" not in Eyes(PerceptionConfig(marked=(apart,)), high).look(frame).fits
    made.data.joint("object").qpos[3:] = (math.cos(math.pi / 4), math.sin(math.pi / 4), 0, 0)
    assert "object" not in Eyes(BOX_ONLY, high).look(made.frame()).fits
    made.close()


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.005])
def test_a_red_box_is_found_by_colour_and_noisy_depth(plain, noise):
    errors = []
    for k, truth in enumerate(places(12, seed=1)):
        plain.put(*truth)
        blob = find_box(plain.frame(depth_noise_m=noise, seed=k), plain.camera, RED)
        assert blob is not None
        errors.append(off_by((blob.x, blob.y, blob.yaw), truth))
        assert blob.confidence > 0.7
    position, turn = np.array(errors).T
    print(f"red box, depth noise {1000 * noise:g} mm: worst {position.max():.2f} mm {turn.max():.2f} deg")
    assert position.max() < 1.5
    assert turn.max() < 1.5


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_ball_is_found_wherever_it_lies_on_the_turf(pitch, noise):
    rng, errors = np.random.default_rng(2), []
    for k in range(12):
        x, y, up = rng.uniform((0.40, -0.12, 0.0), (0.70, 0.12, 0.005)).tolist()
        pitch.put(x, y, z=0.03 + up)
        blob = find_ball(pitch.frame(depth_noise_m=noise, seed=k), pitch.camera, BALL)
        assert blob is not None
        errors.append(1000.0 * math.dist((blob.x, blob.y), (x, y)))
        assert blob.confidence > 0.9
    print(f"ball, depth noise {1000 * noise:g} mm: worst {max(errors):.2f} mm")
    assert max(errors) < 1.5


def test_half_a_ball_is_found_with_less_confidence_and_a_sliver_is_not_seen(pitch):
    pitch.put(0.5, 0.0, z=0.031)
    frame = pitch.frame()
    whole = find_ball(frame, pitch.camera, BALL)
    assert whole is not None
    rows, columns = np.nonzero((frame.color[..., 0] > 150) & (frame.color[..., 2] < 60))
    half, sliver = frame.depth.copy(), frame.depth.copy()
    half[:, : int(columns.mean())] = 0
    sliver[:, : columns.max() - 1] = 0
    seen = find_ball(frame._replace(depth=half), pitch.camera, BALL)
    assert seen is not None
    assert seen.confidence == pytest.approx(whole.confidence / 2, abs=0.1)
    assert math.dist((seen.x, seen.y), (0.5, 0.0)) < 0.002
    assert find_ball(frame._replace(depth=sliver), pitch.camera, BALL) is None
    assert len(rows) > 200


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_depth_that_was_not_measured_is_not_made_up(pitch, share):
    pitch.put(0.5, 0.0, z=0.031)
    picture = pitch.rendered()
    holes = np.random.default_rng(0).random(picture.depth_m.shape) < share
    picture.depth_m[holes] = np.nan
    frame = _through_the_library(picture, pitch)
    blob = find_ball(frame, pitch.camera, BALL)
    if share == 1.0:
        assert blob is None
        return
    assert blob is not None
    assert math.dist((blob.x, blob.y), (0.5, 0.0)) < 0.002
    assert 0.4 < blob.confidence < 0.8


@pytest.mark.parametrize("light", [0.05, 12.0])
def test_a_colour_that_the_light_has_changed_is_not_seen(pitch, light):
    pitch.put(0.5, 0.0, z=0.031)
    assert find_ball(pitch.frame(light), pitch.camera, BALL) is None


def test_the_same_colour_elsewhere_is_not_the_object(pitch):
    pitch.put(0.5, 0.4, z=0.031)
    assert find_ball(pitch.frame(), pitch.camera, BALL) is None


def _through_the_library(picture: Rendered, table: Table) -> Frame:
    class Once:
        def open(self) -> None: ...

        def close(self) -> None: ...

        def intrinsics(self):
            return table.intrinsics

        def serial(self) -> str:
            return "rendered"

        def next(self, timeout_s: float) -> Rendered:
            time.sleep(0.03)
            return picture._replace(taken=time.monotonic())

    camera = Captured(SoftwareLink(Once()), FrameClock())
    camera.start()
    until = time.monotonic() + 6.0
    while camera.newest() is None and time.monotonic() < until:
        time.sleep(0.01)
    frame = camera.newest()
    camera.close()
    assert frame is not None
    return frame


class Film:
    """A camera whose frames a test shows one by one."""

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.said = ""

    def start(self) -> None: ...

    def newest(self) -> Frame | None:
        return self.frame

    def fault(self) -> str:
        return self.said

    def close(self) -> None: ...


def test_an_estimate_follows_a_box_that_moves_keeps_the_last_one_ageing_and_says_where_the_wall_is(table):
    table.put_hazard(0.56, -0.20)
    estimator = CameraEstimator(Film(), FULL, table.camera, hazard_of(WALL))
    assert estimator.newest() is None
    for k in range(8):
        table.taken = 100.0 + k / 30
        table.put(0.45 + 0.1 * k / 30, 0.1 - 0.05 * k / 30, 0.2)
        estimator.see(table.frame())
    seen = estimator.newest()
    assert seen is not None
    assert math.dist(seen.object, (0.45 + 0.1 * 7 / 30, 0.1 - 0.05 * 7 / 30)) < 0.001
    assert math.dist(seen.object_velocity, (0.1, -0.05)) < 0.01
    assert seen.seen == table.taken
    assert seen.confidence > 0.6
    x, y, half_x, half_y, clearance = seen.hazard
    assert math.dist((x, y), (0.56, -0.20)) < 0.001
    assert half_x == pytest.approx(WALL.wall_half[0], abs=0.001)
    assert half_y == pytest.approx(WALL.wall_half[1], abs=0.001)
    assert clearance == WALL.clearance
    last = table.taken
    table.taken += 1.0
    dark = table.frame(0.0)
    estimator.see(dark)
    kept = estimator.newest()
    assert kept is not None
    assert kept.seen == last
    assert kept.object == seen.object
    table.taken = 0.0


def test_a_person_with_a_flower_is_the_obstacle_and_both_must_be_seen_before_anything_is_said():
    task = FrankaDisturbedPush()
    config = usual(task)
    made = Table(task, config.marked)
    estimator = CameraEstimator(Film(), config, made.camera, hazard_of(task))
    made.put(0.45, 0.0, 0.1)
    made.put_hazard(3.0, 3.0)
    estimator.see(made.frame())
    assert estimator.newest() is None
    for k in range(5):
        made.taken = 10.0 + k / 30
        made.put_hazard(0.55, 0.1 - 0.12 * k / 30)
        estimator.see(made.frame())
    seen = estimator.newest()
    made.close()
    assert seen is not None
    assert math.dist(seen.obstacle, (0.55, 0.1 - 0.12 * 4 / 30)) < 0.001
    assert math.dist(seen.obstacle_velocity, (0.0, -0.12)) < 0.015
    assert math.dist(seen.object, (0.45, 0.0)) < 0.001
    assert seen.hazard == ()


def test_the_thread_looks_at_new_frames_and_tells_when_it_cannot_go_on(table):
    table.put_hazard(0.55, -0.25)
    table.put(0.5, 0.1, 0.2)
    film = Film()
    estimator = CameraEstimator(film, FULL, table.camera, hazard_of(WALL))
    film.frame = table.frame()
    estimator.start()
    until = time.monotonic() + 6.0
    while estimator.newest() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert estimator.newest() is not None
    film.said = "stalled"
    assert estimator.fault() == "stalled"
    film.said, film.frame = "", film.frame._replace(color=np.zeros((2, 2), np.uint8))
    while not estimator.fault() and time.monotonic() < until:
        time.sleep(0.01)
    assert "perception failed" in estimator.fault()
    estimator.close()
    estimator.close()


def sighting(x: float, taken: float, confidence: float = 0.9) -> Sighting:
    return Sighting(x, 0.0, 0.0, confidence, taken)


def test_a_jump_is_believed_only_when_it_is_seen_twice():
    tracker = Tracker(TrackerConfig())
    for k in range(4):
        assert tracker.add(sighting(0.4, k / 30))
    assert not tracker.add(sighting(0.8, 4 / 30))
    assert tracker.track.last.x == 0.4
    assert tracker.add(sighting(0.4, 5 / 30))
    assert not tracker.add(sighting(0.8, 6 / 30))
    assert tracker.add(sighting(0.8, 7 / 30))
    assert tracker.track.last.x == 0.8
    assert tracker.track.velocity == (0.0, 0.0)  # it was carried there, it did not fly


@pytest.mark.parametrize(
    "bad", [sighting(float("nan"), 1.0), sighting(0.4, 1.0, float("nan")), sighting(0.4, 1.0, 0.1), sighting(0.4, 0.0)]
)
def test_what_is_no_number_or_unsure_or_old_is_no_sighting(bad):
    tracker = Tracker(TrackerConfig())
    tracker.add(sighting(0.4, 0.0))
    assert not tracker.add(bad)
    assert tracker.track.last == sighting(0.4, 0.0)


def test_a_velocity_is_the_slope_of_the_last_sightings():
    tracker, rng = Tracker(TrackerConfig(window_s=0.12)), np.random.default_rng(0)
    for k in range(30):
        tracker.add(sighting(0.4 + 0.1 * k / 30 + rng.normal(0, 1e-4), k / 30))
    assert tracker.track.velocity[0] == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize(
    "task", [WALL, FrankaDisturbedPush(), FrankaBoundedSoccer(), FrankaFragilePushWall(box_half_m=0.02)]
)
def test_every_task_can_be_seen(task: FrankaTask):
    config = usual(task)
    assert "object" in config.names()
    Eyes(config, looking((0.9, 0.3, 0.7), (0.5, 0.0, 0.0)))
    assert (hazard_of(task) is None) == ("hazard" not in config.names())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PerceptionConfig(), "nothing is the object"),
        (lambda: PerceptionConfig(balls=(BALL, BALL)), "given 2 times"),
        (lambda: PerceptionConfig(balls=(BALL, BallConfig("cat", 0.1, ORANGE))), "'cat' is no part"),
        (lambda: MarkedConfig("object", ()), "no markers"),
        (lambda: MarkerConfig(1, 0.04, (0, 0, 0), "down"), "'down'"),
        (lambda: MarkerConfig(1, 40.0, (0, 0, 0)), "size_m is 40.0"),
        (lambda: ColorConfig(hue=(0, 200)), r"hue is \(0, 200\)"),
        (lambda: TrackerConfig(window_s=0.0), "window_s 0.0"),
        (
            lambda: Eyes(PerceptionConfig("4X4_51", BOX_ONLY.marked), identity()),
            "no marker dictionary '4X4_51'",
        ),
        (
            lambda: Eyes(
                PerceptionConfig(marked=(MarkedConfig("object", (MarkerConfig(50, 0.04, (0, 0, 0)),)),)),
                identity(),
            ),
            "has 0 to 49",
        ),
        (
            lambda: Eyes(
                PerceptionConfig(marked=(MarkedConfig("object", (MarkerConfig(5, 0.04, (0, 0, 0)),) * 2),)),
                identity(),
            ),
            "marker 5 is given twice",
        ),
    ],
)
def test_what_cannot_be_seen_is_refused_before_anything_starts(make, said):
    with pytest.raises(RobotError, match=said):
        make()
