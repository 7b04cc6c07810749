"""Curves of several runs over agent steps, as options of Apache ECharts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farl.compare.palette import FAINT, GREY, INK
from farl.following.run import RunView
from farl.following.thinning import counted, thinned
from farl.watch.faces import Face

Array = NDArray[np.float64]
Options = dict[str, Any]

FONT = "Roboto, sans-serif"
_OVER_EPISODES = ("success_rate", "failure_rate", "return_mean", "length_mean")
_SETTLED = 20
"""episodes before a mean over episodes is shown: the first to end are the quick successes"""


@dataclass(frozen=True)
class Curve:
    """Something that can be drawn over agent steps."""

    title: str
    column: str
    """of ``metrics.jsonl``; ``failures`` and ``evaluated ...`` are read from the episodes instead"""
    share: bool = False
    """a number between 0 and 1 that is shown in per cent"""


FAILURES = Curve("Failing episodes so far", "failures")
SUCCESS = Curve("Success, last 100 episodes (%)", "success_rate", share=True)
GATED = Curve("Steps under recovery, each iteration (%)", "gated_fraction", share=True)
CHOICES = {
    curve.title: curve
    for curve in (
        Curve("Return, mean of the last 100 episodes", "return_mean"),
        Curve("Length, mean of the last 100 episodes (steps)", "length_mean"),
        Curve("Failing, last 100 episodes (%)", "failure_rate", share=True),
        Curve("Success in evaluation, gate off (%)", "evaluated off", share=True),
        Curve("Success in evaluation, gate on (%)", "evaluated on", share=True),
        Curve("Predicted risk, mean", "risk_mean"),
        Curve("Predicted risk, 95th percentile", "risk_p95"),
        Curve("Threshold of the gate", "threshold"),
        Curve("Risks that are no number (steps per iteration)", "unknown_risks"),
        Curve("Policy loss", "policy_loss"),
        Curve("Value loss", "value_loss"),
        Curve("KL divergence of an update (nats)", "kl"),
        Curve("Clipped samples (%)", "clip_fraction", share=True),
        Curve("Explained variance of the value function", "explained_variance"),
        Curve("Exploration, standard deviation of actions", "std"),
        Curve("Recovery's actions, distance from the policy (std)", "z_median"),
        Curve("Gated steps' part in the gradient (%)", "gated_grad_share", share=True),
        Curve("Updates that the acting policy is behind", "lag"),
        Curve("Episodes lost to the environment", "lost"),
    )
}


def points(view: RunView, curve: Curve) -> tuple[Array, Array]:
    """A curve of one run, thinned: agent steps and values."""
    if curve == FAILURES:
        failing = view.episodes["failed"] == 1
        return counted(view.episodes["end_step"][failing], view.steps) if view.steps else (np.empty(0), np.empty(0))
    kind, _, gate = curve.column.partition(" ")
    steps, values = _evaluated(view, gate) if kind == "evaluated" else _recorded(view, curve.column)
    return thinned(steps, 100 * values if curve.share else values)


def _recorded(view: RunView, column: str) -> tuple[Array, Array]:
    steps, values = view.metrics["step"], view.metrics[column]
    settled = ~(view.metrics["episodes"] < _SETTLED)
    if column in _OVER_EPISODES and settled.any():
        return steps[settled], values[settled]
    return steps, values


def _evaluated(view: RunView, gate: str) -> tuple[Array, Array]:
    """Share of successful evaluation episodes, at each evaluation."""
    chosen = view.evaluations.equals("gate", gate)
    success = view.evaluations.equals("outcome", "success")[chosen]
    steps, which = np.unique(view.evaluations["step"][chosen], return_inverse=True)
    count = len(steps)
    return steps, np.bincount(which, weights=success, minlength=count) / np.bincount(which, minlength=count)


def series(views: Sequence[RunView], looks: Mapping[Path, Face], curve: Curve) -> list[Options]:
    """One line per run."""
    return [_line(looks[view.folder], *points(view, curve)) for view in views]


def _line(face: Face, x: Array, y: Array) -> Options:
    return {
        "type": "line",
        "name": face.name,
        "data": [[int(step), float(f"{value:.5g}")] for step, value in zip(x.tolist(), y.tolist(), strict=True)],
        "showSymbol": len(x) == 1,
        "symbolSize": 5,
        "itemStyle": {"color": face.colour},
        "lineStyle": {"color": face.colour, "width": 1.8, "type": list(face.dash) or "solid", "opacity": face.opacity},
    }


def curve_options(share: bool = False) -> Options:
    """Axes of a chart over agent steps, without lines yet."""
    options = axes("agent steps", "")
    options["xAxis"] |= {"min": 0, ":max": "range => range.max"}
    options["xAxis"]["axisLabel"] |= {":formatter": SHORT, "hideOverlap": True}
    options["tooltip"] = {
        "trigger": "axis",
        "confine": True,
        "textStyle": {"fontFamily": FONT, "fontSize": 12, "color": INK.light},
        ":formatter": _TOOLTIP,
    }
    options["yAxis"] |= scale(share)
    return options


def scale(share: bool) -> Options:
    """The range of values: from 0 for shares, to 100 where they come near it; else what the data need."""
    if share:
        return {":min": "0", ":max": "range => range.max > 50 ? 100 : null", "scale": False}
    return {":min": "null", ":max": "null", "scale": True}


def axes(x: str, y: str) -> Options:
    """Two axes of numbers in the page's quiet style, nothing on them."""
    label = {"color": GREY.light, "fontFamily": FONT, "fontSize": 11}
    axis = {
        "type": "value",
        "nameTextStyle": label,
        "axisLabel": {**label, ":formatter": _PLAIN},
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "splitNumber": 5,
    }
    grid = {"lineStyle": {"color": FAINT.light}}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 18, "top": 14 if not y else 30, "bottom": 24, "containLabel": True},
        "xAxis": {
            **axis, "name": x, "nameLocation": "middle", "nameGap": 24, "splitLine": {"show": False},
            "axisLine": {"show": True, "onZero": False, **grid}, "axisLabel": dict(axis["axisLabel"]),   # type: ignore[call-overload]
        },
        "yAxis": {
            **axis, "name": y, "nameLocation": "end", "nameGap": 10, "splitLine": grid, "axisLabel": dict(axis["axisLabel"]),   # type: ignore[call-overload]
            "nameTextStyle": {**label, "align": "left"},
        },
        "series": [],
    }   # fmt: skip


# JavaScript, because ECharts writes ticks and tooltips in the browser.
SHORT = "v => Math.abs(v) >= 1e6 ? +(v / 1e6).toFixed(2) + 'M' : Math.abs(v) >= 1e3 ? +(v / 1e3).toFixed(1) + 'k' : '' + v"
_PLAIN = "v => Math.abs(v) >= 1e5 ? +(v / 1e3).toFixed(1) + 'k' : '' + +v.toPrecision(6)"
_TOOLTIP = (
    "rows => `<b>step ${Math.round(rows[0].axisValue).toLocaleString('en')}</b><br>` + rows.map(row => "
    "`<span class='farl-dot' style='background:${row.color}'></span>${row.seriesName.replace(/[<>&]/g, ' ')}"
    "<b class='farl-value'>${+row.value[1].toPrecision(4)}</b>`).join('<br>')"
)
