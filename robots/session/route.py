"""A way for the finger over the table that touches neither object nor hazard, for going back to the start."""

from __future__ import annotations

import heapq
import itertools
import math

from failurebench.franka.definition import FINGER_RADIUS_M, FrankaTask
from failurebench.franka.geometry import Vec2
from failurebench.franka.scene import Layout, Scene

GRID_M = 0.02
CLEAR_M = 0.02
"""kept between the finger and whatever stands there"""

Cell = tuple[int, int]


def route(task: FrankaTask, scene: Scene, layout: Layout, target: Vec2) -> list[Vec2] | None:
    """Corners of a shortest way on a grid from where the finger is to ``target``; None where there is none.

    Where the finger touches something already, the way leads off it: with every centimetre the room must grow by half of one
    until there is enough. What stands on the table is taken to stay there.
    """
    (x_low, x_high), (y_low, y_high) = task.workspace
    columns, rows = round((x_high - x_low) / GRID_M), round((y_high - y_low) / GRID_M)
    begun, starts = _room(task, scene, layout, scene.tcp), scene.tcp

    def place(cell: Cell) -> Vec2:
        return x_low + cell[0] * GRID_M, y_low + cell[1] * GRID_M

    def free(at: Vec2) -> bool:
        return _room(task, scene, layout, at) >= min(CLEAR_M, begun + 0.5 * math.dist(starts, at))

    if not free(target):
        return None
    queue: list[tuple[float, float, Cell, Cell]] = []
    for cell in itertools.product(range(columns + 1), range(rows + 1)):
        gone = math.dist(place(cell), starts)
        if gone < 2 * GRID_M and free(place(cell)):
            heapq.heappush(queue, (gone + math.dist(place(cell), target), gone, cell, cell))
    came: dict[Cell, Cell] = {}
    while queue:
        _, gone, cell, before = heapq.heappop(queue)
        if cell in came:
            continue
        came[cell] = before
        if math.dist(place(cell), target) < 1.5 * GRID_M:
            return _corners([*map(place, _traced(came, cell)), target])
        for dx, dy in itertools.product((-1, 0, 1), repeat=2):
            other = cell[0] + dx, cell[1] + dy
            inside = 0 <= other[0] <= columns and 0 <= other[1] <= rows
            if inside and other not in came and free(place(other)):
                far = gone + GRID_M * math.hypot(dx, dy)
                heapq.heappush(queue, (far + math.dist(place(other), target), far, other, cell))
    return None


def _room(task: FrankaTask, scene: Scene, layout: Layout, at: Vec2) -> float:
    """Metres from the finger at ``at`` to the nearest of object and hazard."""
    half = getattr(task, "box_half_m", None)
    reach = math.sqrt(2.0) * half if half is not None else float(getattr(task, "ball_radius_m", 0.0))
    to_object = math.dist(at, scene.object) - reach - FINGER_RADIUS_M
    # The object's own trouble with the hazard is not the finger's: it is judged as if it stood where episodes begin.
    alone = Scene(at, (0.0, 0.0), layout.object, layout.yaw, obstacle=scene.obstacle)
    return min(to_object, task.margin(alone, layout)) if half is not None else to_object


def _traced(came: dict[Cell, Cell], cell: Cell) -> list[Cell]:
    path = [cell]
    while came[cell] != cell:
        cell = came[cell]
        path.append(cell)
    return path[::-1]


def _corners(path: list[Vec2]) -> list[Vec2]:
    """Without the points between which nothing turns."""
    kept = [
        point
        for before, point, after in zip(path, path[1:], path[2:], strict=False)
        if abs((point[0] - before[0]) * (after[1] - point[1]) - (point[1] - before[1]) * (after[0] - point[0])) > 1e-9
    ]
    return [path[0], *kept, path[-1]]
