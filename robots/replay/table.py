"""The table from above, drawn from an observation: goal, hazard, object, finger, and the actions as arrows.

The view is the robot's own: x ahead is up, y to its left is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from failurebench.franka.definition import ALL_AROUND, ARM, FINGER_RADIUS_M, SIGHT, YAW, FrankaTask
from failurebench.franka.geometry import Vec2
from failurebench.franka.scene import Layout
from robots.replay.looks import (
    ACTORS,
    FAILURE,
    FAINT,
    GROUND,
    OUTLINE,
    OVERSAMPLED,
    PALE,
    SUCCESS,
    actor_colour,
    reduced,
)
from robots.session.record import StepRecord

ROOM_M = 0.03
"""shown around what the finger can reach"""
GRID_M, GRID = 0.1, "#1e232b"
ARROW_M = 0.06
"""length of an arrow for a full command; four times the command itself, which would be too short to see"""
GOAL = ("goal x", "goal y")
TRAIL = 25
"""steps of the finger's way that stay visible"""


@dataclass(frozen=True)
class View:
    """What one observation says of the table, metres and radians."""

    finger: Vec2
    object: Vec2 = (math.nan, math.nan)
    yaw: float = 0.0
    goal: Vec2 = (math.nan, math.nan)
    hazard: tuple[float, ...] = ()
    """``Layout.hazard`` where it stands still, else empty"""
    obstacle: tuple[float, float, float] | None = None
    """x, y and radius with its clearance, of a hazard that moves"""

    @classmethod
    def of(cls, task: FrankaTask, record: StepRecord) -> View:
        """Read an observation by the names of its numbers; where it has others, such as points, only the finger is known."""
        if len(record.obs) != len(task.fields):
            return cls((record.tip[0], record.tip[1]))
        said = dict(zip(task.fields, record.obs, strict=True))
        yaw = (
            math.atan2(said["sine of 4 yaw"], said["cosine of 4 yaw"]) / ALL_AROUND if "sine of 4 yaw" in said else 0.0
        )
        moves = "flower x" in said
        rest = [name for name in said if name not in ARM | SIGHT | YAW and name not in GOAL]
        return cls(
            (said["finger x"], said["finger y"]),
            (said["object x"], said["object y"]),
            yaw,
            (said["goal x"], said["goal y"]),
            () if moves else tuple(said[name] for name in rest),
            (said["flower x"], said["flower y"], said["radius and clearance"]) if moves else None,
        )


class TablePicture:
    """Pictures of one task's table; ``size`` is width and height in pixels."""

    def __init__(self, task: FrankaTask, size: tuple[int, int]) -> None:
        self.task = task
        self.width, self.height = OVERSAMPLED * size[0], OVERSAMPLED * size[1]
        (x_low, x_high), (y_low, y_high) = task.workspace
        self.middle = (x_low + x_high) / 2, (y_low + y_high) / 2
        across, along = y_high - y_low + 2 * ROOM_M, x_high - x_low + 2 * ROOM_M
        self.scale = min(self.width / across, self.height / along)

    def draw(self, way: Sequence[StepRecord]) -> Image.Image:
        """The last of ``way``, with the finger's way up to there; at least one record."""
        record, view = way[-1], View.of(self.task, way[-1])
        image = Image.new("RGB", (self.width, self.height), GROUND)
        pen = ImageDraw.Draw(image, "RGBA")
        self._table(pen)
        self._hazard(pen, view)
        self._goal(pen, view)
        self._trail(pen, way[-TRAIL:])
        self._object(pen, view, record.failure)
        self._circle(pen, view.finger, FINGER_RADIUS_M, fill="#e4e7ec")
        self._cross(pen, (record.reference[0], record.reference[1]), 0.006, PALE)
        self._arrows(pen, record, view.finger)
        return reduced(image)

    # ------------------------------------------------------------ parts

    def _table(self, pen: ImageDraw.ImageDraw) -> None:
        (x_low, x_high), (y_low, y_high) = self.task.workspace
        for tick in range(round(2 / GRID_M)):
            at = GRID_M * tick
            self._line(pen, [(at, -1.0), (at, 1.0)], GRID, OVERSAMPLED)
            for side in (-at, at):
                self._line(pen, [(0.0, side), (2.0, side)], GRID, OVERSAMPLED)
        corners = [(x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high), (x_low, y_low)]
        self._line(pen, corners, FAINT, OVERSAMPLED)

    def _hazard(self, pen: ImageDraw.ImageDraw, view: View) -> None:
        if view.obstacle is not None:
            x, y, radius = view.obstacle
            self._circle(pen, (x, y), radius, fill=(242, 138, 75, 70), outline=OUTLINE)
        if view.hazard and all(map(math.isfinite, view.hazard)):
            layout = Layout(view.object, view.yaw, view.goal, view.hazard)
            for start, end in self.task.outline(layout):
                self._line(pen, [start[:2], end[:2]], OUTLINE, 2 * OVERSAMPLED)

    def _goal(self, pen: ImageDraw.ImageDraw, view: View) -> None:
        self._cross(pen, view.goal, 0.01, SUCCESS)
        radius = getattr(self.task, "success_radius_m", 0.0)  # a goal line has none
        if radius:
            self._circle(pen, view.goal, radius, outline=SUCCESS)

    def _trail(self, pen: ImageDraw.ImageDraw, way: Sequence[StepRecord]) -> None:
        fingers = [View.of(self.task, record).finger for record in way]
        for before, after, record in zip(fingers, fingers[1:], way, strict=False):
            self._line(pen, [before, after], actor_colour(record.source), OVERSAMPLED)

    def _object(self, pen: ImageDraw.ImageDraw, view: View, failing: bool) -> None:
        fill = FAILURE if failing else "#8b94a3"
        half = getattr(self.task, "box_half_m", 0.0)
        if not half:
            self._circle(pen, view.object, getattr(self.task, "ball_radius_m", 0.03), fill=fill)
            return
        cos, sin = half * math.cos(view.yaw), half * math.sin(view.yaw)
        (x, y) = view.object
        corners = [(x + i * cos - j * sin, y + i * sin + j * cos) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
        if all(map(math.isfinite, (*view.object, view.yaw))):
            pen.polygon([self._at(corner) for corner in corners], fill=fill)

    def _arrows(self, pen: ImageDraw.ImageDraw, record: StepRecord, origin: Vec2) -> None:
        """What was executed thick and white, on it proposed and recovery in the colours of who proposes them."""
        self._arrow(pen, origin, record.executed, "white", 5 * OVERSAMPLED)
        self._arrow(pen, origin, record.proposed, ACTORS["task"], 2 * OVERSAMPLED)
        self._arrow(pen, origin, record.recovery, ACTORS["recovery"], 2 * OVERSAMPLED)

    # ------------------------------------------------------------ strokes

    def _at(self, point: Sequence[float]) -> Vec2:
        left, up = self.scale * (point[1] - self.middle[1]), self.scale * (point[0] - self.middle[0])
        return self.width / 2 - left, self.height / 2 - up

    def _line(self, pen: ImageDraw.ImageDraw, points: Sequence[Sequence[float]], colour: str, width: int) -> None:
        if all(math.isfinite(value) for point in points for value in point):
            pen.line([self._at(point) for point in points], fill=colour, width=width)

    def _circle(
        self, pen: ImageDraw.ImageDraw, centre: Vec2, radius: float,
        fill: str | tuple[int, int, int, int] | None = None, outline: str | None = None,
    ) -> None:  # fmt: skip
        if not all(map(math.isfinite, (*centre, radius))):
            return
        (x, y), r = self._at(centre), self.scale * radius
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=2 * OVERSAMPLED)

    def _cross(self, pen: ImageDraw.ImageDraw, centre: Vec2, arm: float, colour: str) -> None:
        if not all(map(math.isfinite, centre)):
            return
        (x, y), r = self._at(centre), self.scale * arm
        for line in ((x - r, y, x + r, y), (x, y - r, x, y + r)):
            pen.line(line, fill=colour, width=2 * OVERSAMPLED)

    def _arrow(self, pen: ImageDraw.ImageDraw, origin: Vec2, action: Sequence[float], colour: str, width: int) -> None:
        size = math.hypot(action[0], action[1])
        if not math.isfinite(size + origin[0] + origin[1]) or size < 0.02:
            return
        start, tip = self._at(origin), self._at((origin[0] + ARROW_M * action[0], origin[1] + ARROW_M * action[1]))
        length, head = self.scale * ARROW_M * size, 5.0 * OVERSAMPLED + 1.5 * width
        dx, dy = (tip[0] - start[0]) / length, (tip[1] - start[1]) / length
        (x, y), wing = (tip[0] - head * dx, tip[1] - head * dy), 0.5 * head
        pen.line([start, (x, y)], fill=colour, width=width)
        pen.polygon([tip, (x - wing * dy, y + wing * dx), (x + wing * dy, y - wing * dx)], fill=colour)
