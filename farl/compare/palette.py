"""The colours of the report: one per method on every figure, told apart by colour-blind readers, legible on light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """A colour with its counterpart for dark pages; figures are drawn with ``light``, the page swaps it for a CSS variable."""

    name: str
    light: str
    dark: str


BLUE = Colour("blue", "#0072b2", "#58b0e8")
VERMILLION = Colour("vermillion", "#d1570a", "#f28a4b")
GREEN = Colour("green", "#00916a", "#3ecfa3")
PURPLE = Colour("purple", "#a8538a", "#dd92bb")
AMBER = Colour("amber", "#b07d00", "#e9b949")
SKY = Colour("sky", "#3f93c9", "#8fcff7")
GREY = Colour("grey", "#6b7280", "#9ca3af")
INK = Colour("ink", "#1d2330", "#e4e7ec")
FAINT = Colour("faint", "#dfe3e8", "#333a45")
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, AMBER, SKY, GREY, INK, FAINT)

_METHODS = {"farl": BLUE, "uni-o4": VERMILLION, "simple-critic": GREEN, "mppi": PURPLE}
_SPARE = (AMBER, SKY, GREY)


def method_colours(methods: Iterable[str]) -> dict[str, Colour]:
    """A colour for each method, and for those with published figures; these always have the same ones."""
    others = [method for method in methods if method not in _METHODS]
    return {**_METHODS, **{method: _SPARE[place % len(_SPARE)] for place, method in enumerate(others)}}
