"""The facts in words: every view shows these lines, in this order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from robots.operator.interface import Word
from robots.session import words
from robots.session.looking import StalenessConfig
from robots.session.record import EventRecord, StepRecord
from robots.watch.facts import Facts, Timing

ACTS = {"task": "task policy", "recovery": "recovery", "human": "a person", "reset": "reset", "": "nobody"}
PERIOD_S, DECISION_S = 0.105, 0.030
"""99th percentiles above which a time is marked"""
STRONG_N = 10.0
"""force that is marked: the finger pushes light objects"""
CALM = ("running", "idle")
"""states of the arm that are not marked"""
UNKNOWN = "\u2013"


class Line(NamedTuple):
    """One fact."""

    key: str
    label: str
    value: str
    detail: str = ""
    marked: bool = False
    """worth a look"""


def sheet(facts: Facts) -> list[Line]:
    """Everything but the banner, the curve and the picture."""
    return [*_progress(facts), *_now(facts), *_times(facts)]


def _progress(facts: Facts) -> list[Line]:
    totals, step = facts.totals, facts.step
    violating = _plural(totals.violating_steps, "violating step")
    where = "slow, not counted" if facts.slow else f"step {step.step + 1}" if step else ""
    return [
        Line("episode", "Episode", f"{facts.episode} of {facts.budget}", where),
        Line("successes", "Successes", str(totals.successes), f"{_plural(totals.episodes, 'episode')} over"),
        Line("failures", "Failing episodes", str(totals.failures), violating, facts.failing),
        Line("recoveries", "Recoveries", str(totals.recoveries), _plural(totals.recovery_steps, "step")),
        Line("takeovers", "Take-overs", str(totals.takeovers), _plural(totals.human_steps, "step")),
        Line("lost", "Lost episodes", str(totals.lost), "not counted", totals.lost > 0),
    ]


def _now(facts: Facts) -> list[Line]:
    step = facts.step
    if step is None:
        return [
            Line(key, label, UNKNOWN)
            for key, label in (("acts", "Acts"), ("risk", "Risk"), ("arm", "Arm"), ("force", "Force"))
        ]
    risk = f"{step.risk:.2f}" if math.isfinite(step.risk) else "no number"
    gated = math.isfinite(step.threshold)
    over = gated and not step.risk <= step.threshold
    limited = f"limited: {', '.join(step.clipped)}" if step.clipped else ""
    status = step.status.replace("_", " ") or UNKNOWN
    return [
        Line(
            "acts",
            "Acts",
            ACTS.get(step.source, step.source),
            f"policy version {step.policy_version}",
            step.source != "task",
        ),
        Line("risk", "Risk", risk, f"threshold {step.threshold:.2f}" if gated else "no gate", over),
        Line(
            "arm",
            "Arm" if facts.live else "Arm, last step",
            status,
            step.fault or limited,
            bool(step.fault) or status not in CALM,
        ),
        Line("force", "Force", f"{facts.force_n:.1f} N", _place(step), not facts.force_n <= STRONG_N),
    ]


def _times(facts: Facts) -> list[Line]:
    ages = facts.step.ages if facts.step is not None else {}
    stale = StalenessConfig()
    limits = {name: stale.camera_s if name.startswith("camera") else stale.estimate_s for name in ages}
    oldest = max(ages, key=lambda name: ages[name] / limits[name], default="")
    others = ", ".join(f"{name.replace('_', ' ')} {_ms(age)}" for name, age in sorted(ages.items()) if name != oldest)
    late = bool(oldest) and not ages[oldest] <= limits[oldest]
    return [
        Line(
            "sight",
            f"Age: {oldest.replace('_', ' ') or 'sight'}",
            _ms(ages[oldest]) if oldest else UNKNOWN,
            others,
            late,
        ),
        _timing("period", "Period", facts.period, PERIOD_S),
        _timing("decision", "Decision", facts.decision, DECISION_S),
        Line("written", "Last written", "just now" if facts.quiet_s < 2 else f"{lasting(facts.quiet_s)} ago"),
    ]


def _timing(key: str, label: str, timing: Timing, limit_s: float) -> Line:
    if not math.isfinite(timing.newest):
        return Line(key, label, UNKNOWN)
    return Line(key, label, _ms(timing.newest), f"p99 {_ms(timing.p99)}", timing.p99 > limit_s)


_SAYINGS = {
    words.SESSION: "session at work",
    words.EPISODE: "episode begins",
    words.ENDED: "episode over",
    words.NEEDS_RESET: "needs a reset",
    words.RESET: "table put back",
    words.CHECKPOINT: "checkpoint written",
    words.RESUMED: "resumed from a checkpoint",
    words.STOPPED: "session ended",
    Word.RESET_DONE.value: "a person: reset done",
    Word.SUCCESS.value: "a person: success",
    Word.FAILURE.value: "a person: failure",
    Word.RETRACT.value: "a person: takes the last label back",
    Word.PAUSE.value: "a person: pause",
    Word.RESUME.value: "a person: go on",
    Word.ABORT.value: "a person: abort this episode",
    Word.QUIT.value: "a person: end the session",
    Word.UNPLUGGED.value: "the operator's device is unplugged",
}
_SPEAKING = {
    words.ENDED,
    words.NEEDS_RESET,
    words.FAULT,
    words.RECOVERED,
    words.STOPPED,
    Word.FAILURE.value,
    words.RESET,
}
"""those whose detail is for people"""


def sayings(events: Sequence[EventRecord]) -> list[tuple[str, str]]:
    """Time of day and words of events, newest first."""
    return [(_clock(event.time), _saying(event)) for event in reversed(events)]


def _saying(event: EventRecord) -> str:
    said = _SAYINGS.get(event.word, event.word.replace("_", " "))
    where = f" {event.episode}" if event.word in (words.EPISODE, words.ENDED) else ""
    detail = f": {event.detail}" if event.detail and event.word in _SPEAKING else ""
    return said.replace("episode", f"episode{where}", 1) + detail


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S")


def _place(step: StepRecord) -> str:
    return f"at {step.tip[0]:.2f}, {step.tip[1]:.2f} m" if len(step.tip) > 1 else ""


def _ms(seconds: float) -> str:
    if not math.isfinite(seconds) or seconds >= 1e6:
        return "never seen"
    return f"{1e3 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def lasting(seconds: float) -> str:
    """``40 s``, ``5 min``."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
