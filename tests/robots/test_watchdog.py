"""Deadlines: what must keep coming, and what happens when it does not."""

from __future__ import annotations

import math
import time

import pytest

from robots.limits import Limits
from robots.watchdog import Deadlines, Verdict, Watchdog

LIMITS = Limits(stall_periods=3.0, stop_periods=10.0, object_age_s=0.4, camera_age_s=0.2)


def deadlines(**ages: float) -> Deadlines:
    return Deadlines(LIMITS, {name: (lambda age=age: age) for name, age in ages.items()})


@pytest.mark.parametrize(
    ("silent_s", "verdict"), [(0.1, Verdict.FINE), (0.29, Verdict.FINE), (0.31, Verdict.HOLD), (1.01, Verdict.STOP)]
)
def test_a_stalled_policy_makes_the_arm_hold_and_then_stop(silent_s, verdict):
    watched = deadlines()
    watched.feed(50.0)
    assert watched.judge(50.0 + silent_s)[0] is verdict


def test_nothing_is_expected_before_the_first_command_and_after_a_hold_that_was_asked_for():
    watched = deadlines(object=99.0)
    assert watched.judge(1e9) == (Verdict.FINE, "")
    watched.feed(0.0)
    watched.disarm()
    assert watched.judge(1e9) == (Verdict.FINE, "")


@pytest.mark.parametrize(
    ("ages", "reason"),
    [
        ({"object": 0.39, "camera": 0.19}, ""),
        ({"object": 0.41}, "stale_object"),
        ({"camera_left": 0.3, "object": 0.3}, "stale_camera_left"),
        ({"object": math.nan}, "stale_object"),
    ],
)
def test_what_is_seen_must_be_fresh_and_known_to_be(ages, reason):
    watched = deadlines(**ages)
    watched.feed(0.0)
    assert watched.judge(0.05) == ((Verdict.HOLD if reason else Verdict.FINE), reason)


def test_a_source_that_raises_is_stale():
    def broken() -> float:
        raise OSError("unplugged")

    assert Deadlines(LIMITS, {"object": broken}).stale() == "stale_object"


def test_a_reset_goes_on_without_sight_but_not_without_commands():
    watched = deadlines(object=9.0)
    watched.feed(0.0, seeing=False)
    assert watched.judge(0.1) == (Verdict.FINE, "")
    assert watched.judge(0.5) == (Verdict.HOLD, "stalled")


def test_the_thread_holds_once_then_stops_once_and_watches_on_after_an_error():
    said: list[tuple[str, str]] = []

    def hold(reason: str) -> None:
        said.append(("hold", reason))
        raise RuntimeError("the arm is gone")

    watchdog = Watchdog(deadlines(), hold, lambda reason: said.append(("stop", reason)))
    watchdog.start()
    try:
        watchdog.feed()
        begun = time.monotonic()
        while len(said) < 2 and time.monotonic() - begun < 4.0:
            time.sleep(0.01)
        time.sleep(0.1)
    finally:
        watchdog.close()
    assert said == [("hold", "stalled"), ("stop", "stalled")]
    assert [str(error) for error in watchdog.failed] == ["the arm is gone"]


def test_each_miss_is_told_once_and_a_later_one_again():
    said: list[str] = []
    watchdog = Watchdog(deadlines(), said.append, said.append)
    for fed in (0.0, 5.0):
        watchdog.deadlines.feed(fed)
        for look in (0.1, 0.35, 0.4, 0.5):
            watchdog.look(fed + look)
    assert said == ["stalled", "stalled"]
