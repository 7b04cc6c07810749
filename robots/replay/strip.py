"""The strip under the picture: predicted risk against its threshold, with who acted, up to one step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from robots.replay.looks import ACTORS, FAILURE, GROUND, OVERSAMPLED, PALE, font, reduced
from robots.session.record import StepRecord

CURVE, THRESHOLD = "#58b0e8", "#e9b949"
GROUNDS = {"recovery": "#4a1a20", "human": "#463a17", "reset": "#2a2f37"}
PAD, HEADING = 6, 22
WIDEST = 250
"""steps shown at most; of a longer episode the newest"""


def strip(episode: Sequence[StepRecord], step: int, size: tuple[int, int]) -> Image.Image:
    """Steps up to ``step`` (an index), on axes that hold the whole episode; a risk that is no number is drawn at the top."""
    first = max(0, step + 1 - WIDEST)
    shown = episode[first : first + WIDEST]
    image = Image.new("RGB", (size[0] * OVERSAMPLED, size[1] * OVERSAMPLED), GROUND)
    pen = ImageDraw.Draw(image)
    axes = _Axes(shown, image.size)
    past = shown[: step + 1 - first]
    for index, record in enumerate(past):
        _ground(pen, axes, index, record)
    for index in range(0, len(shown) - 1, 2):  # every other step: dashed
        if math.isfinite(shown[index].threshold):
            y = axes.y(shown[index].threshold)
            pen.line((axes.x(index), y, axes.x(index + 1), y), fill=THRESHOLD, width=OVERSAMPLED)
    points = [(axes.x(index), axes.y(record.risk)) for index, record in enumerate(past)]
    pen.line([points[0], *points], fill=CURVE, width=2 * OVERSAMPLED, joint="curve")
    (x, y), r = points[-1], 3 * OVERSAMPLED
    pen.ellipse((x - r, y - r, x + r, y + r), fill="white")
    _heading(pen, past[-1], image.width)
    return reduced(image)


def _ground(pen: ImageDraw.ImageDraw, axes: _Axes, index: int, record: StepRecord) -> None:
    left, right = axes.x(index - 0.5), axes.x(index + 0.5)
    if record.source in GROUNDS:
        pen.rectangle((left, axes.y(math.inf), right, axes.bottom), fill=GROUNDS[record.source])
    if record.failure:
        pen.rectangle((left, axes.bottom - 5 * OVERSAMPLED, right, axes.bottom), fill=FAILURE)


def _heading(pen: ImageDraw.ImageDraw, record: StepRecord, width: int) -> None:
    risk = f"{record.risk:.2g}" if math.isfinite(record.risk) else "no number"
    gate = f"threshold {record.threshold:.2g}" if math.isfinite(record.threshold) else "no gate"
    said = f"predicted risk {risk}, {gate}"
    force = math.hypot(*record.force)
    timing = f"force {force:.1f} N   period {1e3 * record.period:.0f} ms   decision {1e3 * record.decision:.0f} ms"
    size, top = font(12 * OVERSAMPLED), 4 * OVERSAMPLED
    over = record.source == "recovery" or (math.isfinite(record.threshold) and not record.risk <= record.threshold)
    pen.text((PAD * OVERSAMPLED, top), said, fill=ACTORS["recovery"] if over else PALE, font=size)
    pen.text((width - PAD * OVERSAMPLED - pen.textlength(timing, font=size), top), timing, fill=PALE, font=size)


class _Axes:
    """Where steps and risks lie on the oversampled strip."""

    def __init__(self, shown: Sequence[StepRecord], size: tuple[int, int]) -> None:
        self.count, self.width = len(shown), size[0]
        self.bottom = size[1] - PAD * OVERSAMPLED
        finite = [value for record in shown for value in (record.risk, 2 * record.threshold) if math.isfinite(value)]
        self.highest = max([*finite, 1e-6])

    def x(self, index: float) -> float:
        pad = PAD * OVERSAMPLED
        return pad + (self.width - 2 * pad) * max(0.0, min(index / max(1, self.count - 1), 1.0))

    def y(self, risk: float) -> float:
        top = HEADING * OVERSAMPLED
        share = min(risk / self.highest, 1.0) if math.isfinite(risk) else 1.0
        return self.bottom - (self.bottom - top) * max(share, 0.0)
