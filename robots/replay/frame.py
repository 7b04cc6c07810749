"""One frame of a replay: camera and table side by side, a border in the colour of who acts, the risk underneath."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from failurebench.franka.definition import FrankaTask
from robots.replay.looks import ACTORS, FAILURE, GROUND, PALE, SUCCESS, actor_colour, font, label
from robots.replay.strip import strip
from robots.replay.table import TablePicture
from robots.session.record import StepRecord

BORDER, TEXT = 6, 13
CAMERA, BESIDE, ALONE, CURVE = (512, 384), (496, 384), (640, 496), 112
"""width and height in pixels; all add up to multiples of 16, which video encoders want"""
ACTS = {
    "task": "task policy acts",
    "recovery": "recovery acts",
    "human": "a person acts",
    "reset": "reset",
    "": "nobody acts",
}
ARROWS = (("proposed", ACTORS["task"]), ("recovery", ACTORS["recovery"]), ("executed", "white"))


class Painter:
    """Draws the steps of one session; ``images`` is where the session keeps its pictures.

    Args:
        camera: whose pictures are shown; empty shows the table alone.
    """

    def __init__(self, task: FrankaTask, images: Path, camera: str = "") -> None:
        self.images, self.camera = images, camera
        self.table = TablePicture(task, BESIDE if camera else ALONE)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every frame, pixels."""
        width, height = (CAMERA[0] + BESIDE[0], CAMERA[1]) if self.camera else ALONE
        return width, height + CURVE

    def draw(self, episode: Sequence[StepRecord], step: int) -> Image.Image:
        """The frame of ``episode[step]``."""
        record, (width, height) = episode[step], self.size
        canvas = Image.new("RGB", (width, height), GROUND)
        left = CAMERA[0] if self.camera else 0
        if self.camera:
            canvas.paste(self._photograph(record), (0, 0))
        canvas.paste(self.table.draw(episode[: step + 1]), (left, 0))
        pen = ImageDraw.Draw(canvas)
        bottom = height - CURVE
        self._legend(pen, left + 12, bottom - 28)
        colour = actor_colour(record.source)
        pen.rectangle((0, 0, width - 1, bottom - 1), outline=colour, width=BORDER)
        label(
            pen,
            (12, 12),
            ACTS.get(record.source, record.source),
            colour,
            TEXT,
            "black" if record.source == "human" else "white",
        )
        where = f"episode {record.episode}, step {record.step + 1} of {len(episode)}"
        label(pen, (width - 22 - pen.textlength(where, font=font(TEXT)), 12), where, GROUND, TEXT)
        self._marks(pen, record, 40)
        canvas.paste(strip(episode, step, (width, CURVE)), (0, bottom))
        return canvas

    def _marks(self, pen: ImageDraw.ImageDraw, record: StepRecord, top: int) -> None:
        """What is special about the step, below who acts."""
        failing = f"failure: {record.failure_type}" if record.failure_type else "failure"
        marks = [(failing, FAILURE)] if record.failure else []
        marks += [("success", SUCCESS)] if record.success else []
        marks += [(f"fault: {record.fault}", PALE)] if record.fault else []
        marks += [(f"limited: {', '.join(record.clipped)}", PALE)] if record.clipped else []
        marks += [(record.status, PALE)] if record.status not in ("running", "idle", "") else []
        for place, (text, colour) in enumerate(marks):
            label(pen, (12, top + 28 * place), text, colour, TEXT, "black")

    def _legend(self, pen: ImageDraw.ImageDraw, left: float, top: float) -> None:
        for text, colour in ARROWS:
            pen.line((left, top + 9, left + 18, top + 9), fill=colour, width=5 if text == "executed" else 2)
            pen.text((left + 24, top), text, fill=PALE, font=font(TEXT))
            left += 40 + pen.textlength(text, font=font(TEXT))

    def _photograph(self, record: StepRecord) -> Image.Image:
        """The camera's picture, fitted; what is missing or broken is said in its place."""
        canvas = Image.new("RGB", CAMERA, GROUND)
        name = record.images.get(self.camera)
        problem = "" if name else f"no picture by {self.camera} at this step"
        if name:
            try:
                with Image.open(self.images / name) as picture:
                    fitted = picture.convert("RGB")
                    fitted.thumbnail(CAMERA, Image.Resampling.LANCZOS)
                    if fitted.width < CAMERA[0] and fitted.height < CAMERA[1]:
                        share = min(CAMERA[0] / fitted.width, CAMERA[1] / fitted.height)
                        fitted = fitted.resize(
                            (round(share * fitted.width), round(share * fitted.height)), Image.Resampling.BICUBIC
                        )
                    canvas.paste(fitted, ((CAMERA[0] - fitted.width) // 2, (CAMERA[1] - fitted.height) // 2))
            except OSError as error:
                problem = f"{name} cannot be shown ({type(error).__name__})"
        if problem:
            ImageDraw.Draw(canvas).text((16, CAMERA[1] // 2), problem, fill=PALE, font=font(TEXT))
        return canvas
