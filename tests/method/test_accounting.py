"""Failure accounting: every episode counted once, every failure attributed to one cause."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from farl.online.accounting import LOOKBACK, EpisodeRecord, Ledger, cause_of

ACTION = np.zeros(2, np.float32)


def record(failing: tuple[int, ...] = (), gated: tuple[int, ...] = (), length: int = 12) -> EpisodeRecord:
    episode = EpisodeRecord(seed=7)
    for step in range(length):
        kind = "over_the_cliff" if step in failing else ""
        episode.add(1.5, step in failing, kind, step in gated, 0.1 * step, ACTION)
    return episode


@pytest.mark.parametrize(
    ("gated", "cause"),
    [
        ((), "ungated"),
        ((0,), "ungated"),  # eleven steps before: no warning of this failure
        ((2,), "late"),  # within the look-back, but the task policy had control again
        ((11,), "late"),  # took over on the very step that violated
        ((10, 11), "during_recovery"),
        (tuple(range(12)), "during_recovery"),
    ],
)
def test_a_failure_is_attributed_to_what_the_gate_had_done(gated, cause):
    assert record(failing=(11,), gated=gated).cause == cause


def test_every_failure_has_exactly_one_cause_whatever_the_gate_did():
    """All 2^12 gate histories before one failing step, told apart by the definition written out again."""
    counts = Counter()
    for history in itertools.product((False, True), repeat=12):
        cause = cause_of(list(history))
        counts[cause] += 1
        during = history[-1] and history[-2]
        late = not during and any(history[-LOOKBACK:])
        assert cause == ("during_recovery" if during else "late" if late else "ungated")
    assert sum(counts.values()) == 2**12
    assert set(counts) == {"ungated", "late", "during_recovery"}


def test_only_the_first_failing_step_is_attributed():
    episode = record(failing=(3, 4, 9), gated=(8, 9, 10))
    assert (episode.first_failure, episode.failing_steps, episode.cause) == (3, 3, "ungated")
    assert episode.failure_type == "over_the_cliff"


def test_bursts_add_up_to_the_gated_steps():
    episode = record(gated=(0, 1, 4, 7, 8, 9, 11))
    assert episode.bursts == [2, 1, 3, 1]
    assert record().bursts == []


def test_an_episode_that_fails_many_times_is_one_failure():
    ledger = Ledger()
    line = ledger.close(record(failing=(2, 3, 4, 8)), terminated=False, success=False)
    assert ledger.failures == 1
    assert (line["failed"], line["failing_steps"], line["first_failure"]) == (True, 4, 2)


def test_failure_and_success_at_the_same_step_count_as_both():
    ledger = Ledger()
    line = ledger.close(record(failing=(11,)), terminated=False, success=True)
    assert (line["outcome"], line["failed"]) == ("success", True)
    assert (ledger.successes, ledger.failures) == (1, 1)


def test_a_terminal_failure_is_a_failure_even_where_the_goal_is_reached():
    ledger = Ledger()
    line = ledger.close(record(failing=(11,)), terminated=True, success=True)
    assert line["outcome"] == "failure"
    assert (ledger.successes, ledger.terminal_failures, ledger.failures) == (0, 1, 1)


def test_episodes_are_conserved_over_every_way_to_end():
    ledger = Ledger()
    ways = itertools.product((False, True), (False, True), ((), (2,), (11,), (2, 11)))
    for count, (terminated, success, failing) in enumerate(ways, start=1):
        ledger.close(record(failing=failing), terminated, success)
        assert ledger.episodes == count
        assert ledger.successes + ledger.timeouts + ledger.terminal_failures == count
    assert ledger.failures == 4 * 3


def test_rates_are_those_of_the_last_hundred_episodes():
    ledger = Ledger()
    for _ in range(50):
        ledger.close(record(failing=(1,)), terminated=False, success=False)
    for number in range(100):
        ledger.close(record(failing=(1,) if number < 10 else ()), terminated=False, success=number < 70)
    summary = ledger.summary()
    assert (summary["episodes"], summary["failures"], summary["successes"]) == (150, 60, 70)
    assert summary["failure_rate"] == pytest.approx(0.1)
    assert summary["success_rate"] == pytest.approx(0.7)
    assert summary["return_mean"] == pytest.approx(18.0)
    assert summary["length_mean"] == pytest.approx(12.0)


def test_an_unknown_risk_does_not_spoil_an_episodes_line():
    episode = record()
    episode.add(0.0, False, "", True, float("nan"), ACTION)
    episode.add(0.0, False, "", True, float("inf"), ACTION)
    line = Ledger().close(episode, terminated=False, success=False)
    assert line["risk_max"] == pytest.approx(1.1)
    assert line["risk_mean"] == pytest.approx(np.mean(0.1 * np.arange(12)))


def test_a_half_finished_episode_and_the_totals_survive_a_checkpoint():
    first, ledger = record(failing=(3,), gated=(1, 2), length=6), Ledger()
    ledger.close(record(), terminated=False, success=True)
    second = EpisodeRecord.from_state(first.state_dict())
    totals = Ledger()
    totals.load_state_dict(ledger.state_dict())
    for episode in (first, second):
        episode.add(1.5, True, "again", True, 0.2, ACTION)
    assert totals.close(second, False, False) == ledger.close(first, False, False)
    assert totals.summary() == ledger.summary()
