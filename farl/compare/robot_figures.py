"""Figures of sessions on a robot: over episodes, because that is what a session's budget is."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from farl.compare.drawing import SIZE, STYLE, Array, Colours, Plot, legend, new_axes, percent_tick, svg_text
from farl.compare.published import ROBOT_EPISODES
from farl.compare.robot import RobotPart

SMOOTHED = 5
"""episodes that the shares of who acted are averaged over"""


def robot_figures(task: str, part: RobotPart, colours: Colours) -> dict[str, Plot]:
    """By key, as the page's other figures."""
    with matplotlib.rc_context(STYLE):
        violating = _so_far(task, part, colours, "failing_steps", "violating steps", "robot-violating")
        plots = [violating, _so_far(task, part, colours, "failed", "failure episodes", "robot-failures")]
        plots += [_actors(task, part, colours)] if _stand_ins(part) else []
        plots += [_published(task, part, colours)] if part.published else []
        return {plot.key: plot for plot in plots}


def _so_far(task: str, part: RobotPart, colours: Colours, key: str, what: str, name: str) -> Plot:
    figure, axes = new_axes()
    ends = np.arange(part.episodes + 1)
    for summary in part.methods:
        colour = colours[summary.method].light
        for session in summary.episodes if len(summary.runs) > 1 else ():
            counts = np.cumsum([0.0, *(float(row[key]) for row in session)])
            axes.plot(ends, counts, color=colour, lw=0.8, alpha=0.45, drawstyle="steps-post")
        mean = np.r_[0.0, np.cumsum(summary.curve(key))]
        axes.plot(ends, mean, color=colour, lw=2.0, drawstyle="steps-post", label=summary.method)
    _episodes_axis(axes)
    axes.set_ylabel(what)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    legend(axes)
    caption = f"{what.capitalize()} so far, without lost episodes. Thin: single sessions; thick: their mean."
    return Plot(name, f"{what.capitalize()} over episodes", svg_text(figure, name, task), caption)


def _stand_ins(part: RobotPart) -> bool:
    """Whether anybody but the task policy acted."""
    return any(summary.total(key) for summary in part.methods for key in ("recovery_steps", "human_steps"))


def _actors(task: str, part: RobotPart, colours: Colours) -> Plot:
    figure, axes = new_axes()
    ends = np.arange(1, part.episodes + 1)
    for summary in part.methods:
        colour, lengths = colours[summary.method].light, summary.curve("length")
        for key, style, words in (("recovery_steps", "-", "recovery"), ("human_steps", ":", "a person")):
            steps = summary.curve(key)
            if steps.any():
                shares = _moving(steps) / np.maximum(_moving(lengths), 1.0)
                axes.plot(ends, shares, color=colour, ls=style, lw=1.8, label=f"{summary.method}: {words}")
    _episodes_axis(axes)
    axes.set_ylabel("share of steps")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    legend(axes)
    caption = f"Steps that recovery or a person acted on instead of the task policy, over the last {SMOOTHED} episodes."
    return Plot("robot-actors", "Who acted instead of the task policy", svg_text(figure, "robot-actors", task), caption)


def _moving(values: Array) -> Array:
    """Sum over the last few entries; at the beginning over as many as there are."""
    total = np.r_[0.0, np.cumsum(values)]
    first = np.maximum(np.arange(1, len(total)) - SMOOTHED, 0)
    sums: Array = total[1:] - total[first]
    return sums


def _published(task: str, part: RobotPart, colours: Colours) -> Plot:
    """Published counts and ours, each per episode, so that sessions of another length stand beside them."""
    figure, axes = new_axes((SIZE[0], 2.7))
    bars = [(row.method, row.violating / ROBOT_EPISODES, row.reduction, 0.45) for row in part.published]
    gap = len(bars)
    for summary in part.methods:
        bars += [(summary.method, summary.total("failing_steps") / max(1, summary.counted), summary.reduction, 0.85)]
    for place, (method, height, reduction, strength) in enumerate(bars):
        at = 0.9 * place + 0.6 * (place >= gap)
        axes.bar(at, height, width=0.72, color=colours[method].light, alpha=strength)
        change = "" if reduction is None else f"\n{-100 * reduction:+.0f} %".replace("-", "\u2212")
        axes.annotate(
            method + change, (at, height), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8
        )
    middles = [0.45 * (gap - 1), 0.9 * gap + 0.6 + 0.45 * (len(bars) - gap - 1)]
    axes.set_xticks(middles, [f"published ({ROBOT_EPISODES} episodes)", f"these sessions ({part.episodes} episodes)"])
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("violating steps per episode")
    axes.set_ylim(0, max(axes.get_ylim()[1] * 1.15, 0.1))
    caption = "Compare the reduction within each group, not the heights across groups."
    return Plot("robot-published", "Beside the published real-robot figures", svg_text(figure, "robot-published", task), caption)


def _episodes_axis(axes: Axes) -> None:
    axes.set_xlabel("episodes")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
