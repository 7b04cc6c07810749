"""Distances on the table top between what cannot tip over: points, circles, upright boxes. Metres, radians."""

from __future__ import annotations

import math

Vec2 = tuple[float, float]


def point_to_box(x: float, y: float, half_x: float, half_y: float) -> float:
    """Signed distance of a point to an axis-aligned rectangle around the origin, negative inside."""
    dx, dy = abs(x) - half_x, abs(y) - half_y
    if dx <= 0.0 and dy <= 0.0:
        return max(dx, dy)
    return math.hypot(max(dx, 0.0), max(dy, 0.0))


def square_to_box(centre: Vec2, yaw: float, half: float, box_centre: Vec2, box_half: Vec2) -> float:
    """Signed distance of a turned square to an axis-aligned rectangle, negative where they overlap.

    Apart, two convex shapes are nearest at a corner of one of them; overlapping, they are as deep in each other as the best
    of the directions normal to their sides separates them (separating axis theorem).
    """
    x, y = centre[0] - box_centre[0], centre[1] - box_centre[1]
    cos, sin = math.cos(yaw), math.sin(yaw)
    along, across = x * cos + y * sin, -x * sin + y * cos
    reach = half * (abs(cos) + abs(sin))
    box_along = box_half[0] * abs(cos) + box_half[1] * abs(sin)
    box_across = box_half[0] * abs(sin) + box_half[1] * abs(cos)
    apart = max(
        abs(x) - reach - box_half[0],
        abs(y) - reach - box_half[1],
        abs(along) - half - box_along,
        abs(across) - half - box_across,
    )
    if apart <= 0.0:
        return apart
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    corners = ((x + half * (i * cos - j * sin), y + half * (i * sin + j * cos)) for i, j in signs)
    nearest = min(point_to_box(cx, cy, *box_half) for cx, cy in corners)
    for i, j in signs:
        dx, dy = i * box_half[0] - x, j * box_half[1] - y
        nearest = min(nearest, point_to_box(dx * cos + dy * sin, -dx * sin + dy * cos, half, half))
    return nearest


def point_to_square(x: float, y: float, centre: Vec2, yaw: float, half: float) -> float:
    """Signed distance of a point to a turned square, negative inside."""
    dx, dy, cos, sin = x - centre[0], y - centre[1], math.cos(yaw), math.sin(yaw)
    return point_to_box(dx * cos + dy * sin, -dx * sin + dy * cos, half, half)
