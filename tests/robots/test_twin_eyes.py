"""The twin's own knowledge as an estimate: exact, and as late, noisy and patchy as it is asked to be."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from failurebench.franka.disturbed_push import FrankaDisturbedPush
from robots.errors import RobotError
from robots.twin.estimator import TwinEstimator, TwinEyesConfig


@pytest.fixture(scope="module")
def walked(start_twin):
    """A table with a person on it."""
    return start_twin(FrankaDisturbedPush(person_speed=2.0, reaction_s=0.0), seed=1)


def watched(host, config, seconds):
    """Every estimate of a while, each once, beside when it could first be read."""
    eyes = TwinEstimator(host, config)
    eyes.start()
    seen = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        estimate = eyes.newest()
        if estimate is not None:
            seen.setdefault(estimate.seen, (estimate, time.monotonic()))
        time.sleep(0.002)
    eyes.close()
    return list(seen.values())


def test_without_options_it_is_the_truth_and_fresh(walked):
    eyes = TwinEstimator(walked.host)
    assert eyes.newest() is None
    eyes.start()
    time.sleep(0.5)
    estimate, truth = eyes.newest(), walked.look()
    eyes.close()
    assert estimate.hazard == truth.layout.hazard
    assert math.dist(estimate.object, truth.scene.object) < 1e-4
    assert estimate.yaw == pytest.approx(truth.scene.yaw, abs=1e-3)
    assert math.dist(estimate.obstacle, truth.scene.obstacle) < 0.36 * 3 / 30 + 1e-3, (
        "the fastest person, three periods ago"
    )
    assert truth.time - estimate.seen < 3 / 30
    assert estimate.confidence == 1.0


def test_a_velocity_is_what_positions_do(walked):
    """The person walks straight at a steady pace most of the time: the median of |velocity| is that of the truth."""
    seen = [estimate for estimate, _ in watched(walked.host, TwinEyesConfig(rate_hz=60), 3.0)]
    pairs = [(one, other) for one, other in itertools.pairwise(seen) if math.hypot(*other.obstacle_velocity) > 0.05]
    assert len(pairs) > 10
    ratios = [
        math.hypot(*two.obstacle_velocity) * (two.seen - one.seen) / max(math.dist(one.obstacle, two.obstacle), 1e-9)
        for one, two in pairs
    ]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.3)


def test_noise_has_the_asked_for_size_and_sometimes_nothing_is_seen(walked):
    noisy = watched(walked.host, TwinEyesConfig(rate_hz=100, noise_m=0.004, dropout=0.4), 2.5)
    truth = walked.scene()[0].object
    errors = np.array([estimate.object for estimate, _ in noisy]) - truth
    assert 0.6 * 0.004 < errors.std() < 1.5 * 0.004
    whole = watched(walked.host, TwinEyesConfig(rate_hz=100), 1.0)
    assert len(noisy) / 2.5 < 0.8 * len(whole)


def test_latency_delays_what_can_be_read(walked):
    late = watched(walked.host, TwinEyesConfig(latency_s=0.15), 1.0)
    assert len(late) > 5
    assert min(read - estimate.seen for estimate, read in late) > 0.149


def test_a_twin_that_stops_answering_is_a_fault_until_it_answers_again(start_twin):
    process = start_twin()
    eyes = TwinEstimator(process.host)
    eyes.start()
    assert eyes.fault() == ""
    process.freeze()
    until = time.monotonic() + 5.0
    while not eyes.fault() and time.monotonic() < until:
        time.sleep(0.02)
    assert eyes.fault() == "lost"
    process.thaw()
    until = time.monotonic() + 5.0
    while eyes.fault() and time.monotonic() < until:
        time.sleep(0.02)
    assert eyes.fault() == ""
    eyes.close()
    process.close()


def test_eyes_without_a_twin_say_so():
    with pytest.raises(RobotError, match=r"no twin answers at 127\.9\.9\.9"):
        TwinEstimator("127.9.9.9").start()


@pytest.mark.parametrize("wrong", [{"rate_hz": 0.0}, {"noise_m": -1.0}, {"latency_s": 9.0}, {"dropout": float("nan")}])
def test_nonsense_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(RobotError, match=f"{name} is"):
        TwinEyesConfig(**wrong)
