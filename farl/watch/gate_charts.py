"""The gate of one run: what it says in numbers, the risk of the newest episodes, and risk against what came of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from farl.compare.palette import AMBER, BLUE, FAINT, GREY, VERMILLION
from farl.following.run import RunView
from farl.watch.charts import FONT, SHORT, Options, axes
from farl.watch.rows import percent, significant, whole

NEWEST = 300
"""episodes whose risk is shown"""
NONE = "\u2013"
_TIP = {"trigger": "item", "confine": True, "textStyle": {"fontFamily": FONT, "fontSize": 12}}


def figures(view: RunView) -> list[tuple[str, str, str]]:
    """Label, number and small print of the tiles above the charts."""
    episodes, metrics = view.episodes, view.metrics.last
    recent = episodes["failed"][-100:]
    steps, gated = np.nansum(episodes["length"]), np.nansum(episodes["gated_steps"])
    threshold, share = view.threshold, percent(gated / steps if steps else math.nan)
    takeovers, caps = np.nansum(episodes["bursts"]), np.nansum(episodes["cap_hits"])
    missed = sum(int((episodes.equals("cause", cause) & (episodes["failed"] == 1)).sum()) for cause in ("ungated", "late"))
    rule = "riskier: recovery acts" if threshold is not None else "another rule decides" if gated else "it never closes"
    in_vain = whole(missed) if threshold is not None or gated else NONE
    unknown = np.nansum(view.metrics["unknown_risks"])
    return [
        ("Failing episodes", whole(view.failures), f"of {len(episodes):,}; {np.nansum(recent):.0f} of the last {len(recent)}"),
        ("Success", percent(metrics.get("success_rate")) or NONE, "of the last 100 episodes"),
        ("Gate threshold", significant(threshold) or "none", rule),
        ("Steps under recovery", share or NONE, f"newest iteration {percent(metrics.get('gated_fraction')) or NONE}"),
        ("Not caught in time", in_vain, "there is no gate" if in_vain == NONE else "failures with the gate open, or closed late"),
        ("Takeovers", whole(takeovers), f"{gated / takeovers:.1f} steps each" if takeovers else "recovery never acted"),
        ("Cap hits", whole(caps), "recovery had to hand back"),
        ("Unknown risks", whole(unknown), "steps; recovery acted" if unknown else "every risk was a number"),
    ]


# ---------------------------------------------------------------- risk of the newest episodes


def risk_options() -> Options:
    """Largest risk of each episode over agent steps."""
    options = axes("agent steps at the episode's end", "")
    options["xAxis"] |= {"scale": True}
    options["xAxis"]["axisLabel"] |= {":formatter": SHORT, "hideOverlap": True}
    options["yAxis"] |= {"min": 0}
    options["tooltip"] = {**_TIP, ":formatter": _EPISODE}
    options["legend"] = {
        "top": 0, "left": 0, "itemWidth": 9, "itemHeight": 9, "itemGap": 16, "selectedMode": False,
        "textStyle": {"color": GREY.light, "fontFamily": FONT, "fontSize": 11},
    }   # fmt: skip
    options["grid"] |= {"top": 34, "right": 58}
    return options


def risk_series(view: RunView) -> list[Options]:
    """Episodes without failure, those in which recovery acted, and those that failed; the threshold as a line."""
    table = view.episodes
    recent = slice(max(0, len(table) - NEWEST), len(table))
    steps, risk, number = table["end_step"][recent], table["risk_max"][recent], table["episode"][recent]
    failed, gated = table["failed"][recent] == 1, table["gated_steps"][recent] > 0
    groups = (
        ("no failure", ~failed & ~gated, BLUE.light, 5),
        ("recovery acted", ~failed & gated, AMBER.light, 6),
        ("failed", failed, VERMILLION.light, 8),
    )
    drawn = [_dots(name, steps[where], risk[where], number[where], colour, size) for name, where, colour, size in groups]
    drawn[0]["markLine"] = _threshold(view.threshold)
    return drawn


def _dots(name: str, x: Any, y: Any, number: Any, colour: str, size: int) -> Options:
    known = np.isfinite(x) & np.isfinite(y)
    rows = zip(x[known].tolist(), y[known].tolist(), number[known].tolist(), strict=True)
    return {
        "type": "scatter", "name": name, "symbolSize": size, "itemStyle": {"color": colour, "opacity": 0.75},
        "data": [[int(step), float(f"{risk:.4g}"), int(episode)] for step, risk, episode in rows],
    }   # fmt: skip


def _threshold(threshold: float | None) -> Options:
    return {
        "silent": True, "symbol": "none", "data": [] if threshold is None else [{"yAxis": threshold}],
        "lineStyle": {"color": GREY.light, "type": "dashed", "width": 1.2},
        "label": {"formatter": "threshold", "color": GREY.light, "fontFamily": FONT, "fontSize": 11, "position": "end"},
    }   # fmt: skip


# ---------------------------------------------------------------- reliability


def reliability_options() -> Options:
    """Predicted risk against the share of steps that failed, both in per cent on logarithmic axes."""
    options = axes("predicted risk (%)", "")
    for axis in ("xAxis", "yAxis"):
        options[axis] |= {"type": "log", "min": 0.01, "max": 100}
    options["tooltip"] = {**_TIP, ":formatter": _BIN}
    return options


def reliability_series(view: RunView) -> list[Options]:
    """A dot per bin of risk, its area growing with the number of steps; bins without a failure lie on the lower edge."""
    dots = []
    for row in _bins(view.metrics.last.get("reliability")):
        steps, failed, taken_over, risk = row
        watched = steps - taken_over
        if watched <= 0 or steps <= 0:
            continue
        share, mean = failed / watched, risk / steps
        dots.append(
            {
                "value": [max(0.01, 100 * mean), max(0.01, 100 * share), int(failed), int(watched), 100 * mean],
                "symbolSize": 6 + 3 * math.log10(watched),
                "itemStyle": {"color": BLUE.light, "opacity": 0.8 if failed else 0.3},
            }
        )
    as_predicted = {
        "type": "line", "data": [[0.01, 0.01], [100, 100]], "symbol": "none", "silent": True, "tooltip": {"show": False},
        "lineStyle": {"color": FAINT.light, "width": 2},
    }   # fmt: skip
    return [as_predicted, {"type": "scatter", "name": "steps of the task policy", "data": dots}]


def _bins(value: Any) -> list[list[float]]:
    """Rows of (steps, failed, taken over, sum of risks); none where the run is older than they are, or they are damaged."""
    if not isinstance(value, list):
        return []
    return [row for row in value if isinstance(row, list) and len(row) == 4 and all(isinstance(n, int | float) for n in row)]


_EPISODE = (
    "dot => dot.componentType !== 'series' ? '' : `<b>episode ${dot.value[2].toLocaleString('en')}</b><br>"
    "${dot.seriesName}, step ${dot.value[0].toLocaleString('en')}<br>largest risk <b>${+dot.value[1].toPrecision(3)}</b>`"
)
_BIN = (
    "dot => `predicted <b>${+dot.value[4].toPrecision(2)} %</b>, came true "
    "<b>${+(100 * dot.value[2] / dot.value[3]).toPrecision(2)} %</b><br>"
    "${dot.value[2].toLocaleString('en')} of ${dot.value[3].toLocaleString('en')} steps failed within ten`"
)
