"""`farl robot check`: everything that must be right before anything moves, in one table and one picture. Nothing moves here."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from failurebench.franka.definition import FrankaTask
from robots.arm.interface import Arm, ArmState, ArmStatus
from robots.cameras.interface import Frame, FrameSource, Statistics
from robots.drawing import BLUE, RED, YELLOW, Canvas
from robots.errors import RobotError
from robots.eyes import Sight
from robots.limits import Limits
from robots.perception.estimator import Look, PerceptionConfig
from robots.perception.planar import Planar
from robots.perception.table_plane import find_plane
from robots.rigid import Array, Rigid

START_S = 20.0
"""that the first picture may take"""


@dataclass(frozen=True)
class CheckConfig:
    """What is looked at for how long, and what is good enough."""

    picture: str = "check.png"
    """where the picture goes, with detections, axes and the workspace drawn in"""

    seconds: float = 3.0
    fps: float = 30.0
    """what the camera should deliver"""

    rate_share: float = 0.8
    latency_s: float = 0.1
    """from exposure until a frame can be read, median"""

    age_s: float = 0.3
    """of the newest picture"""

    dropped_share: float = 0.05
    seen_share: float = 0.8
    """of the pictures in which each object must be seen"""

    jitter_mm: float = 1.0
    """standard deviation of an object that stands still"""

    table_mm: float = 5.0
    """by which the table's top may be off where the calibration has it, at the middle and at the edges"""

    force_n: float = 6.0
    """that an arm at rest may feel"""

    def __post_init__(self) -> None:
        if not self.seconds >= 1.0:
            raise RobotError(f"check: seconds is {self.seconds!r}; give 1 or more, rates need time")
        if Path(self.picture).suffix != ".png":
            raise RobotError(f"check: picture is {self.picture!r}; give the name of a .png")


class Fact(NamedTuple):
    """One line of the table."""

    what: str
    value: str
    allowed: str = ""
    cure: str = ""
    """what to do about it; empty where it is fit"""

    @property
    def fit(self) -> bool:
        """Whether a session may begin as far as this is concerned."""
        return not self.cure


@dataclass(frozen=True)
class Report:
    """What the check found."""

    facts: list[Fact] = field(default_factory=list)
    picture: Path | None = None

    @property
    def fit(self) -> bool:
        """Whether everything is."""
        return all(fact.fit for fact in self.facts)

    @property
    def faults(self) -> list[str]:
        """A line for each thing that is not fit, with its cure."""
        return [f"{fact.what}: {fact.value}" + f"; {fact.cure}" for fact in self.facts if not fact.fit]


def check(config: CheckConfig, task: FrankaTask, limits: Limits, sight: Sight, arm: Arm | None = None) -> Report:
    """Look for some seconds and judge.

    Args:
        config: how long and what is good enough.
        task: what is going to be played.
        limits: drawn and compared with what is seen.
        sight: eyes that are not open; they are opened and closed here.
        arm: connected already, or None to leave it out; it is read and never commanded.
    """
    limits.check(task)
    facts = [*_limits(limits), *(_arm(arm, limits, config) if arm is not None else [])]
    try:
        sight.estimator.start()
    except RobotError as error:
        sight.estimator.close()
        return Report([*facts, Fact("camera", "not usable", cure=str(error))])
    try:
        looks = _looked(config, sight)
        facts += _camera(config, sight.camera, looks)
        if not looks:
            return Report(facts)
        facts += [*_calibration(sight), *_table(config, sight, looks[-1].frame, limits)]
        facts += [*_markers(sight.perception, looks), *_objects(config, sight.perception, looks)]
        facts += _view(sight, looks[-1].frame, limits)
        state = arm.state() if arm is not None else None
        return Report(facts, _picture(config, sight, looks[-1], limits, state))
    finally:
        sight.estimator.close()


def main(
    config: CheckConfig, task: FrankaTask, limits: Limits, sight: Sight, arm: Arm | None = None, console: Console | None = None
) -> int:
    """Check and print; 0 when everything is fit, 1 otherwise."""
    out, report = console or Console(), check(config, task, limits, sight, arm)
    out.print(as_table(report))
    if report.picture is not None:
        out.print(f"picture: {report.picture}")
    for fault in report.faults:
        out.print(f"[bold red]not fit[/] {escape(fault)}", highlight=False, soft_wrap=True)
    verdict = f"{len(report.faults)} of {len(report.facts)} not fit: nothing should move yet"
    out.print("everything is fit" if report.fit else verdict)
    return 0 if report.fit else 1


def as_table(report: Report) -> Table:
    """For a terminal."""
    table = Table("", "", "allowed", "fit")
    for fact in report.facts:
        table.add_row(escape(fact.what), escape(fact.value), fact.allowed, "[green]yes[/]" if fact.fit else "[bold red]no[/]")
    return table


def _looked(config: CheckConfig, sight: Sight) -> list[Look]:
    """Every look of the estimator's for some seconds from the first; none where the first does not come."""
    looks: list[Look] = []
    began = time.monotonic()
    until = began + START_S
    while time.monotonic() < until:
        if not looks and sight.estimator.fault() and time.monotonic() > began + config.seconds:
            break
        look = sight.estimator.look()
        if look is not None and (not looks or look is not looks[-1]):
            if not looks:
                until = time.monotonic() + config.seconds
            looks.append(look)
        time.sleep(0.003)
    return looks


def _judged(what: str, value: float, most: float, unit: str, cure: str, digits: int = 1) -> Fact:
    """A number that must not be above another; NaN is above every one."""
    fit = value <= most
    return Fact(what, f"{value:.{digits}f} {unit}", f"up to {most:g} {unit}", "" if fit else cure)


def _camera(config: CheckConfig, camera: FrameSource, looks: Sequence[Look]) -> list[Fact]:
    said: Statistics = camera.statistics()
    name, fault = f"camera {camera.serial() or '(no serial)'}", camera.fault()
    if fault or not looks:
        problem = fault or "no picture came"
        cure = "check its cable and port, and whether another program holds it"
        return [Fact(name, f"{problem} after {said.frames} frames {said.last_error}".rstrip(), cure=cure)]
    least = config.rate_share * config.fps
    age = time.monotonic() - looks[-1].frame.taken
    slow = "a USB 3 port and cable of its own, a smaller picture, or a free core"
    lost = said.dropped / max(said.frames + said.dropped, 1)
    return [
        Fact(f"{name}: rate", f"{said.rate_hz:.1f} Hz", f"at least {least:g} Hz", "" if said.rate_hz >= least else slow),
        _judged("latency, median", 1000 * said.latency_s, 1000 * config.latency_s, "ms", slow),
        Fact("latency, worst", f"{1000 * said.worst_latency_s:.1f} ms"),
        _judged("age of the newest picture", 1000 * age, 1000 * config.age_s, "ms", "the camera is stale: plug it in again"),
        _judged("dropped", 100 * lost, 100 * config.dropped_share, "%", slow),
        Fact("without depth or colour", str(said.incomplete)),
        Fact("depth measured", f"{100 * float((looks[-1].frame.depth > 0).mean()):.0f} % of the picture"),
    ]


def _calibration(sight: Sight) -> list[Fact]:
    known = sight.calibration
    if known is None:
        return [Fact("calibration", "none needed, the camera is rendered")]
    seen = known.residuals
    return [Fact("calibration", f"{known.made}, {seen.poses} poses, {seen.translation_mm:.2f} mm, {seen.corners_px:.2f} px")]


def _table(config: CheckConfig, sight: Sight, frame: Frame, limits: Limits) -> list[Fact]:
    """A camera that was bumped is told by the table's top, which does not move."""
    cure = "the camera or the table was moved: `farl robot calibrate`"
    try:
        plane = find_plane(frame, sight.table_from_camera, (limits.x_m, limits.y_m))
    except RobotError as error:
        return [Fact("table's top", str(error), cure=cure)]
    (x_low, x_high), (y_low, y_high) = limits.x_m, limits.y_m
    edge = math.hypot(x_high - x_low, y_high - y_low) / 2 * math.tan(plane.tilt_rad)
    return [
        _judged("table's top, off its calibrated height", abs(1000 * plane.height_m), config.table_mm, "mm", cure),
        _judged("table's top, off at the edges by tilt", 1000 * edge, config.table_mm, "mm", cure),
    ]


def _markers(perception: PerceptionConfig, looks: Sequence[Look]) -> list[Fact]:
    """How often each marker was seen: some of an object's are always turned away."""
    facts = []
    for marked in perception.marked:
        for marker in marked.markers:
            sides = [_side_px(found.corners) for look in looks for found in look.detected if found.id == marker.id]
            often = 100 * len(sides) / len(looks)
            size = f", {np.mean(sides):.0f} px" if sides else ""
            facts.append(Fact(f"marker {marker.id} of the {marked.name}", f"in {often:.0f} % of the pictures{size}"))
    return facts


def _objects(config: CheckConfig, perception: PerceptionConfig, looks: Sequence[Look]) -> list[Fact]:
    facts = []
    for name in perception.names():
        seen = [sighting for look in looks if (sighting := look.sightings().get(name)) is not None]
        if len(seen) < config.seen_share * len(looks) or not seen:
            facts.append(_unseen(config, perception, name, len(seen) / len(looks), looks))
            continue
        where = np.array([(sighting.x, sighting.y) for sighting in seen])
        jitter = 1000.0 * float(np.sqrt(where.var(axis=0).sum()))
        x, y = where.mean(axis=0).tolist()
        sure = float(np.mean([sighting.confidence for sighting in seen]))
        facts.append(Fact(name, f"x {x:.3f}, y {y:.3f} m, {math.degrees(seen[-1].yaw):.1f} deg, confidence {sure:.2f}"))
        still = "light it better, use larger markers, or let go of it while this runs"
        facts.append(_judged(f"{name}, jitter", jitter, config.jitter_mm, "mm", still, 2))
    return facts


def _unseen(config: CheckConfig, perception: PerceptionConfig, name: str, share: float, looks: Sequence[Look]) -> Fact:
    value, allowed = f"seen in {100 * share:.0f} % of the pictures", f"at least {100 * config.seen_share:.0f} %"
    ids = [marker.id for marked in perception.marked if marked.name == name for marker in marked.markers]
    if not ids:
        return Fact(name, value, allowed, "adjust its colour's hue, saturation and value to this light, and its size")
    present = sorted({found.id for look in looks for found in look.detected})
    showing = sum(any(found.id in ids for found in look.detected) for look in looks) / len(looks)
    if showing >= config.seen_share:
        return Fact(name, value, allowed, "its markers contradict each other or the table: measure their sides and places again")
    others = f"other markers are seen: {', '.join(map(str, present))}" if present else "no marker at all is seen"
    wanted = ", ".join(map(str, ids))
    cure = f"none of its markers {wanted} of {perception.dictionary} was ever seen ({others}): put it in view, uncovered and lit"
    covered = "it is covered or badly lit most of the time: move lamp or camera"
    return Fact(name, value, allowed, covered if showing else cure)


def _view(sight: Sight, frame: Frame, limits: Limits) -> list[Fact]:
    """How much of the workspace the camera has in view."""
    eyes = sight.table_from_camera.inverse()
    grid = [(x, y, 0.0) for x in np.linspace(*limits.x_m, 9) for y in np.linspace(*limits.y_m, 9)]
    given = frame.intrinsics
    points = eyes.apply(grid)
    across = points[:, 0] / points[:, 2] * given.fx + given.cx
    down = points[:, 1] / points[:, 2] * given.fy + given.cy
    inside = (points[:, 2] > 0) & (across >= 0) & (across < given.width) & (down >= 0) & (down < given.height)
    share = 100.0 * float(inside.mean())
    cure = "" if share >= 95.0 else "turn or raise the camera, and calibrate again"
    return [Fact("workspace in view", f"{share:.0f} %", "at least 95 %", cure)]


def _limits(limits: Limits) -> list[Fact]:
    (x0, x1), (y0, y1), (z0, z1) = limits.box
    force = f"{limits.soft_force_n:g} / {limits.reaction_force_n:g} / {limits.reflex_force_n:g} N"
    return [
        Fact("limits: box", f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}, z {z0:g} to {z1:g} m"),
        Fact("limits: speed", f"{limits.speed_mps:g} m/s"),
        Fact("limits: force, soft / reaction / reflex", force),
        Fact("limits: keep-out", ", ".join(block.name for block in limits.keep_out) or "none"),
    ]


def _arm(arm: Arm, limits: Limits, config: CheckConfig) -> list[Fact]:
    state = arm.state()
    force, age = math.hypot(*state.force), time.monotonic() - state.time
    standing = state.status in (ArmStatus.IDLE, ArmStatus.HOLD)
    errors = f" ({', '.join(state.errors)})" if state.errors else ""
    x, y, z = state.tip
    return [
        Fact("arm", state.status.value + errors, "idle or hold", "" if standing else _CURES.get(state.status, "stop it first")),
        _judged("arm: age of its state", 1000 * age, 200.0, "ms", "the controller is silent: check the network"),
        Fact(
            "arm: finger's tip",
            f"x {x:.3f}, y {y:.3f}, z {z:.3f} m",
            "inside the box",
            "" if limits.inside(state.tip) else "guide the arm into the box by hand, the finger over the table",
        ),
        _judged("arm: force at rest", force, config.force_n, "N", "something touches it, or its load is not set: see Desk"),
    ]


_CURES = {
    ArmStatus.USER_STOP: "release the stop button",
    ArmStatus.LOST: "check address, network and whether the control interface is active in Desk",
    ArmStatus.CLOSED: "connect it first",
    ArmStatus.REFLEX: "free it and recover it",
    ArmStatus.REACTION_STOP: "free it and recover it",
}


def _picture(config: CheckConfig, sight: Sight, look: Look, limits: Limits, state: ArmState | None) -> Path:
    canvas = Canvas(look.frame, sight.table_from_camera)
    canvas.box((limits.x_m, limits.y_m), limits.z_m)
    canvas.label("workspace", (limits.x_m[0], limits.y_m[0], limits.z_m[0]))
    for block in limits.keep_out:
        sides = ((block.low[0], block.high[0]), (block.low[1], block.high[1]))
        canvas.box(sides, (block.low[2], block.high[2]), RED)
        canvas.label(f"keep out: {block.name}", block.high, RED)
    canvas.axes(Rigid(np.eye(3), np.array([limits.x_m[0], 0.0, 0.0])), 0.08)
    for found in look.detected:
        canvas.square(found.corners, str(found.id))
    for name, sighting in look.sightings().items():
        canvas.axes(Planar(sighting.x, sighting.y, sighting.yaw).placed(), 0.06)
        canvas.label(f"{name} {sighting.confidence:.2f}", (sighting.x, sighting.y, 0.0), YELLOW)
    if state is not None:
        canvas.axes(Rigid(np.eye(3), np.array(state.tip)), 0.04)
        canvas.label("finger", state.tip, BLUE)
    path = Path(config.picture)
    canvas.save(path)
    return path


def _side_px(corners: Array) -> float:
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).mean())
