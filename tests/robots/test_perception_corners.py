"""Corners of small markers: ours against those of OpenCV's refinements, measured by where they really are in rendered pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from rendered import DICTIONARY, Table

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.cameras.interface import Frame
from robots.perception.edges import refined
from robots.perception.markers import Detected, Detector, MarkerConfig, poses, project
from robots.perception.planar import Planar, stand
from robots.perception.tasks import usual
from robots.rigid import Array

TASK = FrankaFragilePushWall()
BOX = usual(TASK).marked[0]
Scene = tuple[Frame, Planar]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table(TASK, (BOX,))
    made.put_hazard(0.55, -0.9)
    yield made
    made.close()


@pytest.fixture(scope="module")
def scenes(table: Table) -> list[Scene]:
    """Markers of 40 mm, about 25 px large, at 20 places, with noise of three grey levels."""
    rng, made = np.random.default_rng(4), []
    for _ in range(20):
        x, y, yaw = rng.uniform((0.40, -0.2, -0.8), (0.70, 0.24, 0.8)).tolist()
        table.put(x, y, yaw)
        frame = table.frame()
        noisy = np.clip(np.rint(frame.color + rng.normal(0.0, 3.0, frame.color.shape)), 0, 255).astype(np.uint8)
        made.append((frame._replace(color=noisy), Planar(x, y, yaw)))
    return made


def opencv(method: int, shift: float = 0.0) -> Callable[[Frame], list[Detected]]:
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod, parameters.minMarkerDistanceRate = method, 0.05
    detector = cv2.aruco.ArucoDetector(
        cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{DICTIONARY}")), parameters
    )

    def detect(frame: Frame) -> list[Detected]:
        corners, ids, _ = detector.detectMarkers(cv2.cvtColor(frame.color, cv2.COLOR_RGB2GRAY))
        found = zip([] if ids is None else ids.ravel(), corners, strict=True)
        return [Detected(int(id), four.reshape(4, 2).astype(float) + shift) for id, four in found]

    return detect


def true_corners(table: Table, marker: MarkerConfig, pose: Planar) -> Array:
    return project(table.camera.inverse().apply(pose.placed().apply(marker.corners())), table.intrinsics)


def measured(
    table: Table, scenes: list[Scene], detect: Callable[[Frame], list[Detected]]
) -> tuple[float, float, float, float, int]:
    """Medians: px of corners, mm and degrees of the box standing on the table, mm of a marker left free; and markers found."""
    pixels, places, turns, free, count = [], [], [], [], 0
    for frame, truth in scenes:
        by_id = {found.id: found for found in detect(frame)}
        seen = [(marker, by_id[marker.id]) for marker in BOX.markers if marker.id in by_id]
        count += len(seen)
        for marker, found in seen:
            pixels.append(np.linalg.norm(found.corners - true_corners(table, marker, truth), axis=1).mean())
            ways = [
                (table.camera @ pose @ marker.placed().inverse()).translation
                for pose, _ in poses(found, marker.size_m, frame.intrinsics)
            ]
            free.append(min(np.linalg.norm(way - [truth.x, truth.y, 0.0]) for way in ways))
        fit = stand(seen, table.camera, frame.intrinsics, 5.0)
        if fit is not None:
            places.append(np.hypot(fit.pose.x - truth.x, fit.pose.y - truth.y))
            turns.append(abs(fit.pose.yaw - truth.yaw))
    middle = [float(np.median(values)) for values in (pixels, places, turns, free)]
    return middle[0], 1000 * middle[1], np.degrees(middle[2]), 1000 * middle[3], count


def test_corners_where_the_edges_meet_are_several_times_nearer_than_opencvs(table, scenes):
    aruco = cv2.aruco
    others = {
        "OpenCV, none": opencv(aruco.CORNER_REFINE_NONE),
        "OpenCV, SUBPIX": opencv(aruco.CORNER_REFINE_SUBPIX),
        "OpenCV, CONTOUR": opencv(aruco.CORNER_REFINE_CONTOUR),
        "OpenCV, APRILTAG, half a pixel taken off": opencv(aruco.CORNER_REFINE_APRILTAG, -0.5),
    }
    ours = measured(table, scenes, lambda frame: Detector(DICTIONARY).detect(frame.color))
    print(f"\n{'':42s} corners px   on the table mm   deg   free mm   markers")
    print(f"{'lines through the edges':42s} {ours[0]:10.2f} {ours[1]:17.2f} {ours[2]:5.2f} {ours[3]:9.1f} {ours[4]:9d}")
    for name, detect in others.items():
        theirs = measured(table, scenes, detect)
        print(f"{name:42s} {theirs[0]:10.2f} {theirs[1]:17.2f} {theirs[2]:5.2f} {theirs[3]:9.1f} {theirs[4]:9d}")
        assert ours[0] < 0.6 * theirs[0]
        assert ours[1] < theirs[1]
        assert ours[3] < 0.5 * theirs[3]
    assert ours[0] < 0.15
    assert ours[1] < 0.15


def square(middle: tuple[float, float], side: float, turned: float) -> Array:
    cos, sin = np.cos(turned), np.sin(turned)
    half = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]]) * side / 2
    return half @ np.array([[cos, sin], [-sin, cos]]) + middle


def drawn(corners: Array, black: int = 20, white: int = 220) -> np.ndarray:
    """A dark square, every pixel the share of it that is covered, looked at in 16 times 16 places."""
    places = (np.arange(80 * 16) + 0.5) / 16 - 0.5
    x, y = np.meshgrid(places, places)
    middle, inside = corners.mean(axis=0), np.ones(x.shape, bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        out = np.array([end[1] - start[1], start[0] - end[0]])
        out *= np.sign(out @ (start - middle))
        inside &= out[0] * (x - start[0]) + out[1] * (y - start[1]) <= 0.0
    covered = inside.reshape(80, 16, 80, 16).mean(axis=(1, 3))
    return np.rint(white + (black - white) * covered).astype(np.uint8)


@pytest.mark.parametrize("turned", [0.0, 0.1, 0.5, 0.785])
def test_a_square_is_found_to_a_twentieth_of_a_pixel_from_a_guess_that_is_a_pixel_off(turned):
    truth = square((40.3, 39.6), 30.0, turned)
    guess = truth + np.random.default_rng(0).uniform(-1.0, 1.0, (4, 2))
    assert np.abs(refined(drawn(truth), guess, 6) - truth).max() < 0.06


def test_a_finger_over_part_of_a_side_moves_no_corner():
    truth = square((40.3, 39.6), 30.0, 0.2)
    image = drawn(truth)
    cv2.circle(image, (55, 40), 4, 120, -1)
    assert np.abs(refined(image, truth + 0.5, 6) - truth).max() < 0.15


@pytest.mark.parametrize("image", [np.full((80, 80), 128, np.uint8), drawn(square((40, 40), 30, 0.2), 100, 103)])
def test_where_there_is_no_edge_corners_stay(image):
    guess = square((40, 40), 30, 0.2)
    np.testing.assert_array_equal(refined(image, guess, 6), guess)


def test_corners_at_the_pictures_border_do_not_break_it():
    truth = square((8.0, 8.0), 22.0, 0.1)  # partly outside
    assert np.isfinite(refined(drawn(truth), truth, 6)).all()
