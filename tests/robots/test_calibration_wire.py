"""The whole calibration without hardware: the real driver moves the wire twin's arm, librealsense delivers what its camera sees."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from rich.console import Console

from failurebench.franka.push_wall import FrankaFragilePushWall
from robots.arm.config import ArmConfig
from robots.arm.franky_arm import FrankyArm
from robots.calibrate import CalibrateConfig, HandMarkerConfig, Places, calibrate, moved_by_arm
from robots.cameras.open import CameraConfig, rendered_camera
from robots.limits import Limits
from robots.perception.calibration import load
from robots.perception.flange import flange
from robots.rigid import angle_between
from robots.twin.camera import TwinCamera
from robots.twin.picture import TwinCameraConfig, on_flange
from robots.twin.process import TwinProcess

TASK = FrankaFragilePushWall()
NARROW = Limits(x_m=(0.40, 0.62), y_m=(-0.12, 0.16))
"""short ways"""

OTHER = Limits(x_m=(0.44, 0.66), y_m=(-0.09, 0.19))


def twice(arm: FrankyArm, config: CalibrateConfig) -> Places:
    """On a busy machine the twin is late, and the driver leaves a place out rather than hurry."""
    yield from moved_by_arm(arm, NARROW, config)
    yield from moved_by_arm(arm, OTHER, config)


@pytest.mark.realtime
def test_the_wire_twins_camera_is_found_where_it_was_put(tmp_path):
    said = io.StringIO()
    with TwinProcess(TASK) as twin:
        feed = TwinCamera(twin.host, TwinCameraConfig(hand_marker=True))
        arm, camera = FrankyArm(ArmConfig(twin.host), TASK, Limits()), rendered_camera(feed, CameraConfig())
        marker = HandMarkerConfig(at_m=on_flange())
        config = CalibrateConfig(
            "the twin",
            str(tmp_path / "twin.yaml"),
            marker=marker,
            poses=8,
            heights_m=(0.06, 0.14),
            speed_mps=0.1,
            settle_s=0.5,
        )
        with contextlib.closing(camera), contextlib.closing(arm):
            camera.start()
            arm.connect()
            places = twice(arm, config)
            region = ((0.36, 0.72), (-0.22, 0.22))
            found = calibrate(config, camera, arm.state, places, region, Console(file=said, width=150))
            state = arm.state()
            tip = flange(state.joints, config.base_height_m).apply((0.0, 0.0, 0.18))
    truth = feed.table_from_camera
    off = 1000.0 * np.linalg.norm(found.table_from_camera.translation - truth.translation)
    turned = math.degrees(angle_between(found.table_from_camera.rotation, truth.rotation))
    print(said.getvalue(), f"{off:.1f} mm, {turned:.2f} deg; {found.residuals}; {found.table}")
    np.testing.assert_allclose(tip, state.tip, atol=1e-6)
    assert off < 5.0
    assert turned < 0.5
    assert found.residuals.poses >= 6
    assert load(tmp_path / "twin.yaml", "the twin", "twin").residuals == found.residuals
