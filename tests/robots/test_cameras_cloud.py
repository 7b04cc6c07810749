"""Point clouds: the same points as librealsense's, cropped in the table's frame, thinned without chance."""

from __future__ import annotations

import numpy as np
import pyrealsense2 as rs
import pytest

from robots.cameras.cloud import CloudConfig, cloud, deprojected, drawn, voxels
from robots.cameras.interface import Frame, Intrinsics
from robots.errors import RobotError
from robots.rigid import Rigid, identity, rotation

SEEN = Intrinsics(80, 60, 75.0, 76.0, 38.2, 30.4)


def frame(depth: np.ndarray, number: int = 0) -> Frame:
    color = np.zeros((*depth.shape, 3), np.uint8)
    color[..., 0] = np.arange(depth.shape[1])
    return Frame(color, depth.astype(np.uint16), 0.001, SEEN, 0.0, number)


def bumpy(number: int = 0) -> Frame:
    return frame(np.random.default_rng(3).integers(0, 1500, (60, 80)), number)


def test_points_are_those_of_librealsense():
    seen = bumpy()
    given = rs.intrinsics()
    given.width, given.height, given.fx, given.fy, given.ppx, given.ppy = SEEN
    given.model, given.coeffs = rs.distortion.none, [0.0] * 5
    rows, columns = np.nonzero(seen.depth)
    theirs = [
        rs.rs2_deproject_pixel_to_point(given, [float(x), float(y)], float(seen.depth[y, x]) * 0.001)
        for y, x in zip(rows, columns, strict=True)
    ]
    points, colors = deprojected(seen)
    np.testing.assert_allclose(points, theirs, atol=1e-6)
    np.testing.assert_array_equal(colors[:, 0], columns)


def test_a_cloud_has_its_number_of_points_all_of_them_in_the_box_and_in_the_tables_frame():
    above = Rigid(rotation((np.pi, 0.0, 0.0)), np.array([0.5, 0.0, 1.0]))  # looks straight down from a metre
    seen = frame(np.full((60, 80), 950))  # a board 5 cm over the table
    config = CloudConfig(box_m=((0.4, 0.6), (-0.1, 0.1), (0.01, 0.2)), voxel_m=0.0, points=300, stride=1)
    made = cloud(seen, above, config)
    assert made.points.shape == (300, 3)
    assert made.points.dtype == np.float32
    assert made.seen == min(300, len(np.unique(made.points, axis=0)))
    np.testing.assert_allclose(made.points[:, 2], 0.05, atol=1e-6)
    assert made.points[:, 0].min() >= 0.4
    assert made.points[:, 0].max() <= 0.6
    assert np.abs(made.points[:, 1]).max() <= 0.1
    # Picture columns run along the table's x: their colour must have come along.
    expected = (made.points[:, 0] - 0.5) / 0.95 * SEEN.fx + SEEN.cx
    np.testing.assert_allclose(made.colors[:, 0], expected, atol=1e-3)


def test_the_same_frame_gives_the_same_cloud_and_another_seed_another():
    config = CloudConfig(box_m=((-2, 2), (-2, 2), (0, 2)), points=64)
    one = cloud(bumpy(), identity(), config)
    np.testing.assert_array_equal(one.points, cloud(bumpy(), identity(), config).points)
    assert (one.points != cloud(bumpy(number=1), identity(), config).points).any()


def test_few_points_are_all_kept_and_repeated_and_none_are_zeros():
    depth = np.zeros((60, 80))
    depth[10, 10:15] = 500
    config = CloudConfig(box_m=((-2, 2), (-2, 2), (0, 2)), voxel_m=0.0, points=32, stride=1)
    made = cloud(frame(depth), identity(), config)
    assert made.seen == 5
    assert len(np.unique(made.points, axis=0)) == 5
    nothing = cloud(frame(np.zeros((60, 80))), identity(), config)
    assert nothing.seen == 0
    assert nothing.points.shape == (32, 3)
    assert not nothing.points.any()


def test_a_voxel_keeps_one_point():
    points = np.random.default_rng(0).uniform(-0.05, 0.05, (5000, 3))
    kept = points[voxels(points, 0.02)]
    occupied = {tuple(cell) for cell in np.floor(points / 0.02).astype(int).tolist()}
    cells = [tuple(cell) for cell in np.floor(kept / 0.02).astype(int).tolist()]
    assert len(cells) == len(occupied)
    assert set(cells) == occupied


def test_none_is_drawn_twice_while_there_are_enough():
    chosen = drawn(100, 100, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, np.arange(100))


@pytest.mark.parametrize(
    "given", [{"points": 0}, {"voxel_m": -1.0}, {"voxel_m": float("nan")}, {"box_m": ((1, 0), (0, 1), (0, 1))}]
)
def test_a_cloud_that_cannot_be_is_refused(given):
    with pytest.raises(RobotError, match="point cloud"):
        CloudConfig(**given)
