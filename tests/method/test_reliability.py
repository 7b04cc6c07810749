"""The risk histogram of a run, against its definition written out step by step."""

from __future__ import annotations

import itertools

import numpy as np

from farl.online.accounting import LOOKBACK, EpisodeRecord, Ledger, lead_of
from farl.online.reliability import EDGES, HORIZON, RiskHistogram

ACTION = np.zeros(2, np.float32)


def test_the_histogram_counts_what_its_definition_says():
    rng = np.random.default_rng(0)
    found, expected = RiskHistogram(), np.zeros((len(EDGES) + 1, 4))
    for episode in range(60):
        length = int(rng.integers(1, 60))
        risks, gated = rng.exponential(0.1, length), rng.random(length) < 0.1
        risks[rng.random(length) < 0.05] = np.nan
        onset = int(rng.integers(0, length)) if episode % 2 else None
        found.add(risks.tolist(), gated.tolist(), onset)
        last = length - 1 if onset is None else onset
        for step in range(last + 1):
            if gated[step] or np.isnan(risks[step]):
                continue
            place = sum(risks[step] > edge for edge in EDGES)
            ahead = range(step + 1, min(step + HORIZON, last) + 1)
            taken = any(gated[later] for later in ahead)
            failed = onset is not None and onset - step <= HORIZON
            expected[place] += [1, failed and not taken, taken, risks[step]]
    assert found.counts[:, 1].sum() > 20
    assert found.counts[:, 2].sum() > 20
    np.testing.assert_allclose(found.counts, expected)


def test_a_calibrated_critic_comes_out_on_the_diagonal():
    """Failures drawn at the very risk that is shown, in episodes of one step."""
    rng, histogram = np.random.default_rng(1), RiskHistogram()
    for risk in rng.uniform(0, 1, 20_000):
        histogram.add([risk], [False], 0 if rng.random() < risk else None)
    steps, failed, _, summed = histogram.counts[-3:].T
    np.testing.assert_allclose(failed / steps, summed / steps, atol=0.03)


def test_the_histogram_survives_a_checkpoint():
    ledger, again = Ledger(), Ledger()
    ledger.reliability.add([0.3, 0.7], [False, False], 1)
    again.load_state_dict(ledger.state_dict())
    assert np.array_equal(again.reliability.counts, ledger.reliability.counts)


def test_the_lead_is_that_of_the_last_burst_within_the_look_back():
    for history in itertools.product((False, True), repeat=13):
        gated = list(history)
        bursts = [
            (first, stop)
            for first, stop in itertools.combinations(range(14), 2)
            if all(gated[first:stop]) and not (first and gated[first - 1]) and not (stop < 13 and gated[stop])
        ]
        recent = [first for first, stop in bursts if stop > 13 - LOOKBACK]
        assert lead_of(gated) == (12 - max(recent) if recent else None)


def test_the_warning_is_the_largest_finite_risk_four_to_ten_steps_before():
    risks = [0.9, 0.8, 0.1, np.nan, 0.3, 0.2, 0.25, 0.7, 0.95, 0.99, 1.0, 0.0]
    for onset, expected in ((3, None), (4, 0.9), (10, 0.9), (11, 0.8)):
        episode = EpisodeRecord(seed=0)
        for step in range(onset + 1):
            episode.add(0.0, step == onset, "fell", False, risks[step], ACTION)
        assert episode.warning == expected
    clean = EpisodeRecord(seed=0)
    clean.add(0.0, False, "", False, 0.9, ACTION)
    assert clean.warning is None
