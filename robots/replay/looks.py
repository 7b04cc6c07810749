"""Colours and pen strokes that pictures of a session share."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw, ImageFont

from failurebench.franka.geometry import Vec2

GROUND, PALE, FAINT = "#14171c", "#c9cfd8", "#333a45"
ACTORS = {"task": "#58b0e8", "recovery": "#e11d2e", "human": "#e9b949", "reset": "#9ca3af"}
"""who acts: red is the closed gate, as in clips of simulated runs"""
FAILURE, SUCCESS, OUTLINE = "#f28a4b", "#3ecfa3", "#f28a4b"
OVERSAMPLED = 3
"""drawn this many times larger and reduced, so that lines come out smooth"""


def actor_colour(source: str) -> str:
    """Grey for a source that this version does not know."""
    return ACTORS.get(source, PALE)


def font(size: float) -> Any:
    """The one that comes with Pillow."""
    return ImageFont.load_default(size)


def label(pen: ImageDraw.ImageDraw, at: Vec2, text: str, ground: str, size: float, ink: str = "white") -> float:
    """Text on a ground of its own, its top left corner at ``at``; how wide that came out."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font(size))
    width, height = right - left + 10, max(bottom - top, 0.75 * size) + 8
    pen.rectangle((at[0], at[1], at[0] + width, at[1] + height), fill=ground)
    pen.text((at[0] + 5 - left, at[1] + 4 - top), text, fill=ink, font=font(size))
    return float(width)


def reduced(image: Image.Image) -> Image.Image:
    """What was drawn ``OVERSAMPLED`` times too large."""
    return image.resize((image.width // OVERSAMPLED, image.height // OVERSAMPLED), Image.Resampling.LANCZOS)
