"""Frames through the real librealsense: a software device, its recordings, and what happens when they stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyrealsense2 as rs
import pytest

from robots.cameras.assembly import Rectified
from robots.cameras.capture import Captured, PatienceConfig
from robots.cameras.clock import FrameClock
from robots.cameras.interface import Frame, Intrinsics
from robots.cameras.links import RecordingLink
from robots.cameras.open import CameraConfig, open_camera
from robots.cameras.software import Rendered, SoftwareLink, quantised
from robots.errors import RobotError

SEEN = Intrinsics(160, 120, 150.0, 150.0, 79.5, 59.5)
HASTY = PatienceConfig(timeout_s=0.1, stalled_s=0.3, backoff_s=0.05, longest_backoff_s=0.2, reset_after=2)


class Numbered:
    """A renderer whose picture number k is of brightness k, k millimetres beyond half a metre away."""

    def __init__(self, fps: float = 30.0) -> None:
        self.period, self.count, self.silent, self.broken, self.unreachable = 1.0 / fps, 0, False, False, 0
        self.baseline = 0

    def open(self) -> None:
        if self.unreachable:
            self.unreachable -= 1
            raise RobotError("nobody is there")
        self.broken = False

    def intrinsics(self) -> Intrinsics:
        return SEEN

    def serial(self) -> str:
        return "numbered"

    def next(self, timeout_s: float) -> Rendered | None:
        time.sleep(timeout_s if self.silent else self.period)
        if self.broken:
            raise ConnectionResetError("gone")
        if self.silent:
            return None
        self.count += 1
        depth = np.full((SEEN.height, SEEN.width), 0.5 + self.count / 1000.0)
        return Rendered(np.full((SEEN.height, SEEN.width, 3), self.count % 200, np.uint8), depth, time.monotonic())

    def close(self) -> None:
        pass


def wait_for(true: Callable[[], bool], seconds: float = 12.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def feed() -> Numbered:
    return Numbered()


@pytest.fixture
def camera(feed: Numbered) -> Iterator[Captured]:
    source = Captured(SoftwareLink(feed), FrameClock(), HASTY)
    source.start()
    yield source
    source.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "table.db3"
    source = Captured(SoftwareLink(Numbered(60), record_to=path), FrameClock(), HASTY)
    source.start()
    wait_for(lambda: source.statistics().frames >= 40)
    source.close()
    return path


def first(source: Captured) -> Frame:
    wait_for(lambda: source.newest() is not None)
    frame = source.newest()
    assert frame is not None
    return frame


def assert_depth(frame: Frame, millimetres: int) -> None:
    """Right or not measured: librealsense's alignment leaves a few pixels out, even between two cameras that coincide."""
    assert np.isin(frame.depth, [0, millimetres]).all()
    assert (frame.depth == millimetres).mean() > 0.9


def test_colour_and_depth_of_a_frame_are_of_the_same_moment_and_its_age_is_that_of_the_picture(camera, feed):
    wait_for(lambda: camera.statistics().frames >= 10)
    frame = camera.newest()
    picture = int(frame.color[0, 0, 0])
    assert_depth(frame, 500 + picture)
    assert frame.depth_unit_m == pytest.approx(0.001)
    assert frame.intrinsics == SEEN
    assert frame.number == picture - 1
    assert 0.0 <= time.monotonic() - frame.taken < 1.0
    assert camera.serial() == "numbered"
    said = camera.statistics()
    assert said.dropped <= 3  # none, unless the machine is busy
    assert said.latency_s < 0.3
    assert 2.0 < said.rate_hz <= 40.0


def test_a_silent_camera_keeps_its_last_frame_and_says_so(camera, feed):
    first(camera)
    feed.silent = True
    wait_for(lambda: camera.fault() == "stalled")
    last = camera.newest()
    assert last is not None
    assert camera.statistics().timeouts >= 2
    feed.silent = False
    wait_for(lambda: camera.fault() == "")
    assert camera.newest().taken > last.taken
    assert camera.statistics().reopened >= 1


def test_a_camera_that_is_gone_is_opened_again_with_pauses_and_reset_as_a_last_resort(feed):
    resets = []

    class Resettable(SoftwareLink):
        def reset(self) -> None:
            resets.append(feed.unreachable)

    camera = Captured(Resettable(feed), FrameClock(), HASTY)
    camera.start()
    first(camera)
    feed.unreachable, feed.broken = 3, True
    wait_for(lambda: camera.statistics().reopened == 1)
    wait_for(lambda: camera.fault() == "")
    assert resets == [1]  # after the second failed opening, once
    assert camera.statistics().last_error == "nobody is there"
    camera.close()
    camera.close()
    assert camera.fault() == "closed"


def test_a_library_that_never_returns_is_noticed_and_holds_nobody_up(feed, monkeypatch):
    monkeypatch.setattr("robots.cameras.capture.JOIN_S", 0.2)
    camera = Captured(SoftwareLink(feed), FrameClock(), HASTY)
    camera.start()
    first(camera)
    feed.period = 3.0
    wait_for(lambda: camera.fault() == "stuck")
    began = time.monotonic()
    assert camera.newest() is not None
    camera.close()
    assert time.monotonic() - began < 2.0


def test_frames_that_the_camera_skips_are_counted(camera, feed):
    first(camera)
    link = camera._link
    link._number += 5
    wait_for(lambda: camera.statistics().dropped >= 5)


def test_a_frame_without_depth_is_no_frame(feed):
    class Blinded(SoftwareLink):
        def _push(self, picture: Rendered) -> None:
            if self._number < 5:
                super()._push(picture)
                return
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp, frame.stride = picture.color, 3, picture.color.strides[0]
            frame.timestamp, frame.domain = time.time() * 1000, rs.timestamp_domain.global_time
            frame.frame_number, frame.profile = self._number, self._profiles[1]
            self._number += 1
            self._sensors[1].on_video_frame(frame)

    camera = Captured(Blinded(feed), FrameClock(), PatienceConfig(timeout_s=0.1, stalled_s=1.0))
    camera.start()
    wait_for(lambda: camera.fault() == "stalled")
    assert camera.statistics().incomplete > 5
    assert camera.newest().number < 5
    camera.close()


def test_a_recording_plays_through_the_pipeline_with_the_same_pictures_and_ends_as_a_camera_that_is_lost(recording):
    assert recording.stat().st_size < 4_000_000
    camera = open_camera(CameraConfig(recording=str(recording), patience=HASTY))
    camera.start()
    frame = first(camera)
    assert_depth(frame, 500 + int(frame.color[0, 0, 0]))
    assert camera.serial() == "numbered"
    assert time.monotonic() - frame.taken < 1.5  # stamps of another day do not make it old
    wait_for(lambda: camera.fault() == "ended")
    assert camera.statistics().reopened == 0
    assert camera.statistics().frames >= 10
    camera.close()


def test_every_frame_of_a_recording_can_be_had(recording):
    link = RecordingLink(recording, real_time=False)
    link.open()
    numbers = []
    while (frames := link.wait(1.0)) is not None:
        numbers.append(frames.get_color_frame().frame_number)
    assert link.ended()
    link.close()
    assert len(set(numbers)) >= 38
    assert numbers == sorted(numbers)


def test_a_recording_that_begins_anew_keeps_its_ages(recording):
    camera = Captured(RecordingLink(recording, repeat=True), FrameClock(wall=frozenset()), HASTY)
    camera.start()
    first(camera)
    wraps, ages, last = 0, [], 0
    until = time.monotonic() + 15.0
    while wraps < 3 and time.monotonic() < until:
        frame = camera.newest()
        wraps, last = wraps + (frame.number < last), frame.number
        ages.append(time.monotonic() - frame.taken)
        time.sleep(0.005)
    camera.close()
    assert wraps == 3
    assert max(ages) < 1.5  # each time round would add the recording's length if stamps that jump back went unnoticed


def test_nothing_recorded_is_overwritten(tmp_path, feed):
    path = tmp_path / "a.db3"
    path.write_bytes(b"precious")
    camera = Captured(SoftwareLink(feed, record_to=path), FrameClock(), HASTY)
    camera.start()
    first(camera)
    camera.close()
    assert path.read_bytes() == b"precious"
    assert (tmp_path / "a-1.db3").stat().st_size > 10_000


def test_depth_of_another_viewpoint_is_aligned_to_the_colour_image():
    """A post 0.5 m away before a wall at 1 m, seen by a depth camera 5 cm to the right: there the post stands elsewhere."""

    class Post(Numbered):
        def next(self, timeout_s: float) -> Rendered | None:
            time.sleep(self.period)  # pictures that come faster than the streams claim are not paired
            depth = np.full((SEEN.height, SEEN.width), 1.0)
            depth[:, 70:80] = 0.5
            return Rendered(np.zeros((SEEN.height, SEEN.width, 3), np.uint8), depth, time.monotonic())

    camera = Captured(SoftwareLink(Post(), baseline_m=0.05), FrameClock(), HASTY)
    camera.start()
    wait_for(lambda: camera.statistics().frames > 3)
    row = camera.newest().depth[60]
    camera.close()
    columns = np.flatnonzero((row > 450) & (row < 550))
    expected = 74.5 + 150.0 * 0.05 / 0.5  # where the post's middle projects in the colour camera, 5 cm to its left
    assert abs(columns.mean() - expected) < 1.0


def test_what_was_not_measured_is_zero():
    given = np.array([[np.nan, np.inf, -np.inf, -1.0], [0.0, 70.0, 0.0004, 1.2344]])
    assert quantised(given).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1234]]


@pytest.mark.parametrize("model", [rs.distortion.brown_conrady, rs.distortion.inverse_brown_conrady])
def test_a_distorted_picture_is_rectified(model):
    """A checkerboard that OpenCV distorts comes back as it was; for the inverse model, straight lines are what is asked for."""
    given = rs.intrinsics()
    given.width, given.height, given.fx, given.fy, given.ppx, given.ppy = 320, 240, 300, 300, 159.5, 119.5
    given.model, given.coeffs = model, [0.12, -0.1, 0.001, 0.001, 0.02]
    rectified = Rectified(given)
    assert rectified.intrinsics == Intrinsics(320, 240, 300, 300, 159.5, 119.5)
    rays = np.array([[x, y, 1.0] for x in np.linspace(-0.4, 0.4, 9) for y in np.linspace(-0.3, 0.3, 7)])
    places = np.array([rs.rs2_project_point_to_pixel(given, ray.tolist()) for ray in rays])
    inside = np.all((places > 3) & (places < [316, 236]), axis=1)
    image = np.zeros((240, 320, 3), np.uint8)
    for x, y in places[inside]:
        cv2.circle(image, (round(x * 16), round(y * 16)), 2 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    straight = cv2.cvtColor(rectified.color(image), cv2.COLOR_RGB2GRAY)
    for ray in rays[inside]:
        x, y = 300 * ray[0] + 159.5, 300 * ray[1] + 119.5
        if not (6 < x < 313 and 6 < y < 233):
            continue
        left, top = round(x) - 5, round(y) - 5
        patch = straight[top : top + 11, left : left + 11].astype(float)
        rows, columns = np.mgrid[top : top + 11, left : left + 11]
        where = (patch * columns).sum() / patch.sum(), (patch * rows).sum() / patch.sum()
        assert np.hypot(where[0] - x, where[1] - y) < 0.35
    depth = np.arange(320 * 240, dtype=np.uint16).reshape(240, 320)
    assert np.isin(rectified.depth(depth), np.append(depth, 0)).all()


def test_a_wall_clock_stamp_becomes_the_moment_of_the_exposure_and_one_from_a_clock_that_was_set_is_not_believed():
    wall, now = [1_000_000.0], [50.0]
    clock = FrameClock(0.03, wall_clock=lambda: wall[0], monotonic=lambda: now[0])
    assert clock.taken("global_time", (1_000_000.0 - 0.05) * 1000, 50.0) == pytest.approx(49.95)
    assert clock.taken("system_time", (1_000_000.0 - 0.01) * 1000, 50.0) == pytest.approx(49.96)
    wall[0] += 3600.0  # daylight saving, or a time server
    assert 49.9 <= clock.taken("global_time", (1_000_000.0 - 0.05) * 1000, 50.0) <= 50.0


def test_a_foreign_clock_is_fitted_by_its_fastest_frames_follows_its_drift_and_survives_its_reset():
    clock, drift, rng = FrameClock(0.03), 1.0 + 50e-6, np.random.default_rng(0)
    errors = []
    for k in range(3000):
        exposed = 100.0 + k / 30
        arrived = exposed + 0.03 + rng.exponential(0.005)
        errors.append(clock.taken("hardware_clock", 1000 * (7.0 + drift * (exposed - 100.0)), arrived) - exposed)
    assert np.abs(errors[30:]).max() < 0.003
    assert clock.taken("hardware_clock", 5.0, 200.5) == pytest.approx(200.47)  # the counter went round


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"recording": "a.bag"}, "only"),
        ({"recording": "a.db3", "record_to": "b.db3"}, "recorded already"),
        ({"exposure_us": -1}, "exposure_us is -1"),
        ({"transit_s": float("nan")}, "transit_s is nan"),
    ],
)
def test_a_camera_that_cannot_be_is_refused_with_the_value(given, said):
    with pytest.raises(RobotError, match=said):
        CameraConfig(**given)


def test_a_camera_that_is_not_connected_is_one_message():
    with pytest.raises(RobotError, match=r"no RealSense camera 0123 is connected \(connected: .*udev"):
        open_camera(CameraConfig(serial="0123")).start()


def test_a_file_that_is_no_recording_is_one_message(tmp_path):
    path = tmp_path / "a.db3"
    with pytest.raises(RobotError, match="there is no recording"):
        open_camera(CameraConfig(recording=str(path))).start()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(RobotError, match="not a recording that librealsense can play"):
        open_camera(CameraConfig(recording=str(path))).start()
