"""`farl robot calibrate`: find out where the camera stands over a robot's table, step by step.

The hand carries a marker. It is brought to many places, by the arm inside its limits or by a person who guides it; at each it
stands still and the camera looks. From these poses follow camera and marker, from the depth of the empty table its top.
Nothing is written when the poses do not agree.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from rich.console import Console
from rich.table import Table

from failurebench.franka.geometry import Vec2
from robots.arm.interface import ArmState
from robots.cameras.interface import Frame, FrameSource
from robots.drawing import Canvas
from robots.errors import RobotError
from robots.limits import Limits
from robots.perception.calibration import Calibration, Quality, TableFit, now, save
from robots.perception.flange import flange
from robots.perception.hand_eye import HandEye, Sample, solve
from robots.perception.markers import Detector, require_ids
from robots.perception.table_plane import find_plane
from robots.rigid import Array, Rigid, angle_between

LOOKS = 5
"""pictures at each place, whose corners are averaged"""

STILL_PX = 0.7
"""corners that move more than this between pictures are those of a hand that moves"""

STILL_M, STILL_RAD = 0.0005, 0.002
"""the same for the arm's own joints"""

LONGEST_SETTLE_S = 5.0

NEARBY_M, NEARBY_RAD = 0.01, 0.03
"""a place that is no further than this from one before teaches nothing"""


@dataclass(frozen=True)
class HandMarkerConfig:
    """The marker that the hand carries while the camera is calibrated."""

    dictionary: str = "4X4_50"
    id: int = 40
    size_m: float = 0.06
    """side of the black square, measured on paper"""

    at_m: tuple[float, float, float] | None = None
    """its middle in the flange's frame, measured; needed where the arm moves by itself, since it never turns its hand then"""


@dataclass(frozen=True)
class CalibrateConfig:
    """How a camera is calibrated."""

    robot: str
    """which arm, as the calibration will name it, such as ``fr3 at 172.16.0.2``"""

    output: str
    """the file to write, such as ``calibrations/lab.yaml``; pictures go into a folder beside it"""

    base_height_m: float = 0.112
    """of the arm's base over the table's top, as in the arm's configuration"""

    marker: HandMarkerConfig = field(default_factory=HandMarkerConfig)

    poses: int = 15
    """places to look at; more and further apart is better"""

    heights_m: tuple[float, ...] = (0.10, 0.20, 0.28)
    """of the finger's tip, where the arm moves by itself"""

    speed_mps: float = 0.05
    settle_s: float = 0.7
    """after each move of the arm: it has to stand for as long, at most 5 s are waited"""

    quality: Quality = field(default_factory=Quality)

    overwrite: bool = False
    """replace a calibration of that name"""

    def __post_init__(self) -> None:
        if self.poses < 8:
            raise RobotError(f"calibration: poses is {self.poses!r}; give at least 8, better 15")
        if not self.robot.strip():
            raise RobotError("calibration: robot is empty; name the arm that it is for, such as 'fr3 at 172.16.0.2'")
        if not 0.0 < self.speed_mps <= 0.1:
            raise RobotError(f"calibration: speed_mps is {self.speed_mps!r}; give up to 0.1 m/s: somebody stands beside the arm")


class ArmLike(Protocol):
    """What is needed of an arm that moves by itself; any ``Arm`` fits."""

    def state(self) -> ArmState:
        """The newest reading."""
        ...

    def move_to(self, target: Vec2, speed_mps: float, height_m: float = ...) -> bool:
        """In a straight line inside the arm's limits; whether it arrived."""
        ...

    def hold(self, reason: str) -> None:
        """Stand where the finger is now."""
        ...


Places = Generator[str, None, None]
"""brings the hand from place to place; each says where it is, and the end is the end of the places"""


class Sighted(NamedTuple):
    """What became of one place."""

    sample: Sample | None
    frame: Frame | None
    said: str


def moved_by_arm(arm: ArmLike, limits: Limits, config: CalibrateConfig) -> Places:
    """Places on a grid inside the limits, one after the other; a place that the arm cannot reach is left out.

    Raises:
        RobotError: the marker's place on the hand is not known, or no height is inside the limits.
    """
    if config.marker.at_m is None:
        raise RobotError(
            "the arm moves without turning its hand: give marker.at_m, the marker's place on the flange, or guide the arm by hand"
        )
    try:
        for x, y, height in grid(limits, config.heights_m, config.poses):
            if arm.move_to((x, y), config.speed_mps, height):
                _settle(arm, config)
                yield f"finger at {x:.2f}, {y:.2f}, {height:.2f} m"
    finally:
        arm.hold("calibration is over")


def _settle(arm: ArmLike, config: CalibrateConfig) -> None:
    """Wait until an arm that yields has stopped creeping."""
    until, before = time.monotonic() + LONGEST_SETTLE_S, flange(arm.state().joints, config.base_height_m)
    while time.monotonic() < until:
        time.sleep(config.settle_s)
        after = flange(arm.state().joints, config.base_height_m)
        if not _apart(before, after, STILL_M / 2, STILL_RAD / 2):
            return
        before = after


def guided_by_hand(ask: Callable[[str], str], config: CalibrateConfig) -> Places:
    """A person guides the arm and says when it stands; an empty answer looks, ``done`` ends early."""
    for number in range(4 * config.poses):
        tip = "turn the hand by 20 degrees and more, in all directions" if number < 3 else "somewhere new"
        answer = ask(f"place {number + 1}: bring the hand {tip}, let go, then press Enter ('done' to end): ")
        if answer.strip().lower() in ("done", "d", "q"):
            return
        yield f"place {number + 1}"


def grid(limits: Limits, heights_m: Sequence[float], count: int) -> list[tuple[float, float, float]]:
    """``count`` places or more well inside the limits, spread over x, y and the allowed heights, in an order of short ways."""
    heights = [height for height in heights_m if limits.z_m[0] <= height <= limits.z_m[1]]
    if len(heights) < 2:
        raise RobotError(
            f"calibration: of heights_m {tuple(heights_m)} fewer than two are inside the arm's limits "
            f"{limits.z_m[0]:g} to {limits.z_m[1]:g} m: give others"
        )
    per_layer = -(-count // len(heights))
    rows = max(2, round(per_layer**0.5))
    columns = max(2, -(-per_layer // rows))
    found: list[tuple[float, float, float]] = []
    for layer, height in enumerate(heights):
        xs, ys = _inner(limits.x_m, rows), _inner(limits.y_m, columns)
        places = [(float(x), float(y), height) for k, x in enumerate(xs) for y in (ys if (k + layer) % 2 == 0 else ys[::-1])]
        found += [place for place in places if limits.inside(place) and not limits.forbidden(place)]
    return found


def _inner(sides: tuple[float, float], count: int) -> Array:
    """Evenly between the sides, a tenth away from them."""
    low, high = sides
    return np.linspace(low + 0.1 * (high - low), high - 0.1 * (high - low), count)


def calibrate(
    config: CalibrateConfig,
    camera: FrameSource,
    state: Callable[[], ArmState],
    places: Places,
    region: tuple[Vec2, Vec2] = ((0.35, 0.75), (-0.25, 0.25)),
    console: Console | None = None,
) -> Calibration:
    """Look at every place, solve, and write the file.

    Args:
        config: what and how.
        camera: started already.
        state: reads the arm.
        places: ``moved_by_arm`` or ``guided_by_hand``.
        region: x and y of the table whose top is looked for.
        console: where progress goes.

    Raises:
        RobotError: the output exists, too few places showed the marker, or the result is too poor to be used; nothing is written.
    """
    out, path = console or Console(), Path(config.output)
    if path.exists() and not config.overwrite:
        raise RobotError(f"{path} exists: give another name, or --overwrite to replace that calibration")
    require_ids(config.marker.dictionary, [config.marker.id])
    detector, samples, last = Detector(config.marker.dictionary), list[Sample](), None
    with contextlib.closing(places):
        for place in places:
            seen = sight(config, detector, camera, state, samples)
            out.print(f"{len(samples) + (seen.sample is not None):3d} of {config.poses}  {place}: {seen.said}")
            if seen.sample is not None and seen.frame is not None:
                samples.append(seen.sample)
                last = seen.frame
                _draw(config, seen.frame, seen.sample, len(samples))
            if len(samples) >= config.poses:
                break
    if last is None:
        raise RobotError(
            f"marker {config.marker.id} of {config.marker.dictionary} was never seen on the hand: is it the printed one, wholly in "
            "view, flat, with a white margin, and lit?"
        )
    return _conclude(config, camera, samples, last, region, out)


def sight(
    config: CalibrateConfig, detector: Detector, camera: FrameSource, state: Callable[[], ArmState], before: Sequence[Sample]
) -> Sighted:
    """Look at the hand where it stands."""
    began = flange(state().joints, config.base_height_m)
    frames = _frames(camera, LOOKS)
    hand = flange(state().joints, config.base_height_m)
    if not frames:
        return Sighted(None, None, f"no new picture ({camera.fault() or 'the camera is slow'})")
    if _apart(began, hand, STILL_M, STILL_RAD):
        return Sighted(None, frames[-1], "the arm was still moving, left out")
    if any(not _apart(hand, sample.hand, NEARBY_M, NEARBY_RAD) for sample in before):
        return Sighted(None, frames[-1], "as before, left out: go somewhere new")
    found = [marker.corners for frame in frames for marker in detector.detect(frame.color) if marker.id == config.marker.id]
    if len(found) < (LOOKS + 1) // 2:
        return Sighted(None, frames[-1], f"marker {config.marker.id} not seen")
    spread = float(np.ptp(np.array(found), axis=0).max())
    if spread > STILL_PX:
        return Sighted(None, frames[-1], f"the marker moved by {spread:.1f} px, left out")
    corners: Array = np.mean(found, axis=0)
    side = float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).mean())
    said = f"marker {config.marker.id} seen, {side:.0f} px large, {spread:.2f} px of noise"
    return Sighted(Sample(hand, corners), frames[-1], said)


def report(calibration: Calibration, quality: Quality) -> Table:
    """What came out, beside what is allowed."""
    table = Table("", "found", "allowed", title=f"camera {calibration.camera} over {calibration.robot}")
    seen, top = calibration.residuals, calibration.table
    table.add_row("poses", str(seen.poses), "")
    table.add_row("corners to fit, px", f"{seen.corners_px:.2f}", f"{quality.corners_px:g}")
    table.add_row("marker in poses left out, mm", f"{seen.translation_mm:.2f}", f"{quality.translation_mm:g}")
    table.add_row("worst of them, mm", f"{seen.worst_mm:.2f}", "")
    table.add_row("marker's rotation, deg", f"{seen.rotation_deg:.2f}", f"{quality.rotation_deg:g}")
    table.add_row("table over its configured height, mm", f"{top.height_mm:.1f}", f"{quality.table_height_mm:g}")
    table.add_row("tilt of the table, deg", f"{top.tilt_deg:.2f}", f"{quality.table_tilt_deg:g}")
    table.add_row("noise of the table's depth, mm", f"{top.error_mm:.2f}", f"{quality.table_error_mm:g}")
    x, y, z = calibration.table_from_camera.translation.tolist()
    table.add_row("camera stands at x, y, z, m", f"{x:.3f}, {y:.3f}, {z:.3f}", "")
    return table


def _conclude(
    config: CalibrateConfig, camera: FrameSource, samples: list[Sample], frame: Frame, region: tuple[Vec2, Vec2], out: Console
) -> Calibration:
    found: HandEye = solve(samples, config.marker.size_m, frame.intrinsics, config.marker.at_m)
    for number in found.misread:
        out.print(f"place {number + 1} contradicts the others and was left out: look at {_pictures(config)}/{number + 1:02d}.png")
    plane = find_plane(frame, found.table_from_camera, region)
    calibration = Calibration(
        config.robot,
        camera.serial(),
        now(),
        plane.level @ found.table_from_camera,
        found.flange_from_marker,
        found.residuals,
        TableFit(1000.0 * plane.height_m, float(np.degrees(plane.tilt_rad)), plane.error_mm),
    )
    out.print(report(calibration, config.quality))
    if faults := calibration.faults(config.quality):
        raise RobotError("this calibration is too poor to be used and was not written: " + "; ".join(faults))
    canvas = Canvas(frame, calibration.table_from_camera)
    canvas.region(region)
    canvas.axes(Rigid(np.eye(3), np.array([region[0][0], 0.0, 0.0])))
    canvas.save(_pictures(config) / "result.png")
    save(calibration, Path(config.output), config.overwrite)
    out.print(f"written: {config.output}; look at {_pictures(config) / 'result.png'}: does the grid lie on the table?")
    return calibration


def _draw(config: CalibrateConfig, frame: Frame, sample: Sample, number: int) -> None:
    canvas = Canvas(frame, None)
    canvas.square(sample.corners, f"marker {config.marker.id}")
    canvas.save(_pictures(config) / f"{number:02d}.png")


def _pictures(config: CalibrateConfig) -> Path:
    output = Path(config.output)
    return output.with_name(f"{output.stem}_pictures")


def _frames(camera: FrameSource, count: int, patience_s: float = 3.0) -> list[Frame]:
    """The next frames, all exposed from now on."""
    began, found = time.monotonic(), list[Frame]()
    while len(found) < count and time.monotonic() < began + patience_s:
        frame = camera.newest()
        if frame is not None and frame.taken > began and (not found or frame.taken > found[-1].taken):
            found.append(frame)
        time.sleep(0.005)
    return found


def _apart(one: Rigid, other: Rigid, metres: float, radians: float) -> bool:
    far = float(np.linalg.norm(one.translation - other.translation)) > metres
    return far or angle_between(one.rotation, other.rotation) > radians
